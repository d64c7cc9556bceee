"""The tables of `benchmarks/tiny.md`, and what can honestly be said of them."""

from __future__ import annotations

from collections.abc import Iterator

from simulating.cases import FEW, HELD_OUT, OTHER, REAL, WINDOWS
from simulating.figures import FIGURES
from simulating.gathered import CLEAR, TINY, TOLD_BY_WORDS, Comparison, Found
from simulating.targets import targets_of

from glossator.datasets.truth import LIBRARY
from glossator.types import Measure

TITLES = {
    HELD_OUT: "(a) Held-out families of concepts",
    REAL: "(c) Real features of the bundled subject, described by hand",
    OTHER: "(d) Neurons of another subject, described by hand",
}


def markdown(given: Found) -> str:
    """The page."""
    lines = [
        "# The simulator `tiny` beside the others",
        "",
        "Written by `benchmarks/tiny.py`, see `benchmarks/README.md`. Weights "
        f"{given.weights or 'none'} (SHA-256, first 16 digits).",
        "",
        *_notes(given),
        *_targets(given),
        "## What follows",
        "",
        *_sentences(given),
        "",
    ]
    for comparison in given.comparisons:
        lines += _comparison(comparison)
    lines += _truth(given)
    lines += _speed(given)
    lines += _features(given)
    return "\n".join(lines).rstrip() + "\n"


def _notes(given: Found) -> Iterator[str]:
    counts = given.written.get("looked_at", {})
    looked = "; ".join(f"{where}: {text}" for where, text in counts.items())
    yield (
        "- Means over features with 95% intervals by bootstrap over features; shares with Wilson's."
    )
    yield (
        f"- {WINDOWS} test windows of 32 tokens a feature, weighted to the pool, for simulators "
        f"that ask nobody; {FEW} of the same for those that ask a language model, and then for "
        "all."
    )
    yield (
        "- *Pearson* and *AUPRC of tokens* are over all tokens of all windows; AUPRC of windows "
        "ranks windows by the largest prediction. *Firing*: activations at or below the threshold "
        "count as 0. A constant prediction has no r and counts as 0; "
        "how many were constant is in the table."
    )
    yield (
        "- `symbolic` reads no description: it runs the tokens that `unigram` finds on train "
        "windows. It is what a list of 50 tokens reaches, not a rival."
    )
    yield (
        f"- *{TOLD_BY_WORDS.capitalize()}*: features on whose dev windows that list reaches a "
        f"Pearson of {CLEAR} or more. No description and no simulator had a part in the choice."
    )
    if looked:
        yield f"- Looked at for descriptions: {looked}"
    unfinished = list(_unfinished(given))
    if unfinished:
        yield f"- **Not finished**, so of these only the first in order: {'; '.join(unfinished)}."
    yield ""


def _unfinished(given: Found) -> Iterator[str]:
    for comparison in given.comparisons:
        most = max((row.n for row in comparison.rows), default=0)
        for row in comparison.rows:
            if row.n < most and not comparison.part:
                yield f"`{row.who}` on {row.n} of {most} ({comparison.ground})"
    for truth in given.truth:
        if truth.n < len(LIBRARY):
            yield f"`{truth.who}` on {truth.n} of {len(LIBRARY)} (`bench truth`, {truth.scorer})"


def _targets(given: Found) -> Iterator[str]:
    found = list(targets_of(given))
    if not found:
        return
    yield "## What was asked of it"
    yield ""
    yield "| asked | measured | met |"
    yield "|---|---|---|"
    words = {True: "yes", False: "no", None: "not finished"}
    for target in found:
        yield f"| {target.asked} | {target.measured} | {words[target.met]} |"
    yield ""


def _sentences(given: Found) -> Iterator[str]:
    for comparison in given.comparisons:
        own = next((row for row in comparison.rows if row.who == str(TINY)), None)
        if own is None:
            continue
        where = titled(comparison)
        yield (
            f"- {where}, {own.n} features, {comparison.windows} windows: Pearson "
            f"{shown(own.measures['Pearson'])}, AUPRC of tokens "
            f"{shown(own.measures['AUPRC of tokens'])} where chance is {own.base:.3f}."
        )
        for other in comparison.differences:
            verdicts = [
                f"{verdict(other.measures[name])} in {name} ({shown(other.measures[name], True)})"
                for name in ("Pearson", "AUPRC of tokens")
                if other.measures[name].value is not None
            ]
            if verdicts:
                yield f"  - Against `{other.who}`, {other.n} features: {', '.join(verdicts)}."
        behind = _behind(comparison)
        if behind and not comparison.part:
            yield f"  - Kinds where another that reads the description is ahead: {behind}."
    for row in given.truth:
        if row.who == str(TINY):
            yield (
                f"- (b) `bench truth`, {row.scorer}, {row.n} planted features: true above "
                f"unrelated {shown(row.over_unrelated)}, above near misses {shown(row.over_near)}."
            )


def titled(given: Comparison) -> str:
    """What was compared."""
    return TITLES[given.ground] + (f", {given.part}" if given.part else "")


def _behind(comparison: Comparison) -> str:
    found = []
    for group, whos in comparison.by_group.items():
        own = whos.get(str(TINY))
        for who, (n, pearson, _) in whos.items():
            if own and who not in (str(TINY), "symbolic") and pearson > own[1] + 0.005:
                found.append(f"{group} ({who} {pearson:.2f}, tiny {own[1]:.2f}, n = {n})")
    return "; ".join(found)


def verdict(difference: Measure) -> str:
    """What a paired difference shows."""
    low, high = difference.low, difference.high
    if low is None or high is None:
        return "nothing can be said"
    return "above" if low > 0 else "below" if high < 0 else "no difference shown"


def shown(measure: Measure, signed: bool = False) -> str:
    """A figure with its interval."""
    if measure.value is None:
        return "-"
    sign = "+" if signed else ""
    text = f"{measure.value:{sign}.3f}"
    if measure.low is None or measure.high is None:
        return text
    return f"{text} [{measure.low:{sign}.3f}, {measure.high:{sign}.3f}]"


def _comparison(given: Comparison) -> Iterator[str]:
    yield f"## {titled(given)}: {given.windows} windows a feature"
    yield ""
    names = [
        name for name in FIGURES if any(r.measures[name].value is not None for r in given.rows)
    ]
    yield f"| simulator | features | constant | {' | '.join(names)} |"
    yield "|---" * (3 + len(names)) + "|"
    for row in given.rows:
        cells = [shown(row.measures[name]) for name in names]
        yield f"| `{row.who}` | {row.n} | {row.constant} | {' | '.join(cells)} |"
    first = given.rows[0] if given.rows else None
    if first is not None:
        yield ""
        yield (
            f"Chance: AUPRC of tokens {first.base:.3f}, of windows {first.windows_base:.3f}; "
            "shares 0.5."
        )
    if given.differences:
        yield ""
        yield f"`tiny` less the other, paired over features ({given.windows} windows):"
        yield ""
        yield f"| other | features | {' | '.join(names)} |"
        yield "|---" * (2 + len(names)) + "|"
        for other in given.differences:
            cells = [shown(other.measures[name], True) for name in names]
            yield f"| `{other.who}` | {other.n} | {' | '.join(cells)} |"
    yield ""
    if given.part:
        return
    whos = [row.who for row in given.rows]
    yield f"Mean Pearson / AUPRC of tokens by {'family' if given.ground == HELD_OUT else 'kind'}:"
    yield ""
    yield f"| | features | {' | '.join(f'`{who}`' for who in whos)} |"
    yield "|---" * (2 + len(whos)) + "|"
    for group, found in given.by_group.items():
        n = max((of[0] for of in found.values()), default=0)
        cells = [
            f"{found[who][1]:.2f} / {found[who][2]:.2f}"
            + (f" (n = {found[who][0]})" if found[who][0] < n else "")
            if who in found
            else "-"
            for who in whos
        ]
        yield f"| {group} | {n} | {' | '.join(cells)} |"
    yield ""


def _truth(given: Found) -> Iterator[str]:
    if not given.truth:
        return
    yield "## (b) `bench truth`"
    yield ""
    head = ("simulator", "scorer", "features", "undefined", "true > unrelated", "true > near miss")
    yield f"| {' | '.join(head)} | true |"
    yield "|---" * 7 + "|"
    for row in given.truth:
        yield (
            f"| `{row.who}` | {row.scorer} | {row.n} | {row.undefined} | "
            f"{shown(row.over_unrelated)} | {shown(row.over_near)} | {shown(row.true)} |"
        )
    yield ""
    if given.truth_versus:
        yield "`tiny` less the other, paired over planted features:"
        yield ""
        yield "| other | score of the truth | true > unrelated | true > near miss |"
        yield "|---|---|---|---|"
        for name, measures in given.truth_versus.items():
            yield f"| {name} | {' | '.join(shown(m, True) for m in measures.values())} |"
        yield ""
    simulated = [row for row in given.truth if row.scorer == "simulation"]
    own = next((row for row in simulated if row.who == str(TINY)), None)
    if own is None:
        return
    yield "How often `simulation` puts the truth above near misses of each sort:"
    yield ""
    yield f"| near miss | {' | '.join(f'`{row.who}`' for row in simulated)} |"
    yield "|---" * (1 + len(simulated)) + "|"
    for miss in own.by_miss:
        cells = [shown(row.by_miss.get(miss, Measure(None))) for row in simulated]
        yield f"| {miss} | {' | '.join(cells)} |"
    yield ""
    yield "`tiny` by class of planted features (`simulation`):"
    yield ""
    yield "| class | features | Pearson of the truth | true > unrelated | true > near miss |"
    yield "|---|---|---|---|---|"
    for group, (n, true, unrelated, near) in own.by_group.items():
        yield (
            f"| {group} | {n} | {true:.2f} | {unrelated:.2f} | "
            f"{'-' if near is None else f'{near:.2f}'} |"
        )
    yield ""


def _speed(given: Found) -> Iterator[str]:
    if not given.speed:
        return
    facts, rows = given.speed["machine"], given.speed["rows"]
    yield "## Speed"
    yield ""
    yield (
        f"Ten windows of 128 tokens a feature, {facts['threads']} threads, one run one after the "
        f"other; {facts['processor']}, load before {facts['load_before']}."
    )
    yield ""
    yield "| simulator | features timed | seconds a feature (median) | range | features a second |"
    yield "|---|---|---|---|---|"
    for row in rows:
        yield (
            f"| `{row['who']}` | {row['features']} | {row['seconds']:.3f} | "
            f"{row['least']:.3f} to {row['most']:.3f} | {row['features_a_second']:.2f} |"
        )
    yield ""


def _features(given: Found) -> Iterator[str]:
    if not given.features:
        return
    whos = list(dict.fromkeys(who for row in given.features for who in row["pearson"]))
    yield "## Each described feature"
    yield ""
    yield "Pearson, weighted; language models on their few windows."
    yield ""
    yield f"| feature | kind | description | {' | '.join(f'`{who}`' for who in whos)} |"
    yield "|---" * (3 + len(whos)) + "|"
    for row in given.features:
        cells = [f"{row['pearson'][who]:.2f}" if who in row["pearson"] else "-" for who in whos]
        text = row["description"].replace("|", "\\|")
        name = row["feature"].partition("//")[2]
        yield f"| `{name}` | {row['kind']} | {text} | {' | '.join(cells)} |"
    yield ""

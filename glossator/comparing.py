"""Two runs, or two explainers of one, compared on the same windows of the same features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from glossator.errors import ConfigError
from glossator.scorers.compare import (
    Comparison,
    Difference,
    compared,
    figure_of,
    paired_difference,
)
from glossator.types import JSON, FeatureId, Score

if TYPE_CHECKING:
    from pandas import DataFrame

    from glossator.runs import Run
    from glossator.store import Store

_NOT_OF_WINDOWS = frozenset(
    {"explainers", "scorers", "simulator", "llm", "scorer_llm", "base_url", "scorer_base_url"}
    | {"n_shown", "n_shuffled", "features", "draft", "triage", "per_call", "n_hard"}
)
"""Options that do not decide which windows are scored."""

COLUMNS = {
    "scorer": "string",
    "run_a": "string",
    "explainer_a": "string",
    "run_b": "string",
    "explainer_b": "string",
    "difference": "float64",
    "low": "float64",
    "high": "float64",
    "p": "float64",
    "n": "int64",
    "better": "int64",
    "worse": "int64",
    "tied": "int64",
    "undefined": "int64",
    "unpaired": "int64",
    "note": "string",
}
FEATURE_COLUMNS = {
    **{name: COLUMNS[name] for name in list(COLUMNS)[:5]},
    "feature": "string",
    "difference": "float64",
    "low": "float64",
    "high": "float64",
    "n_windows": "Int64",
    "note": "string",
}


@dataclass(frozen=True, slots=True)
class Side:
    """One of two: what an explainer of a run said."""

    run: Run
    explainer: str

    def __str__(self) -> str:
        return f"{self.run.id} {self.explainer}"


@dataclass(frozen=True, slots=True)
class Compared:
    """How much higher the explanations of `a` are scored than those of `b`, by one scorer."""

    scorer: str
    a: Side
    b: Side
    comparison: Comparison
    differences: Mapping[FeatureId, Difference]
    """Of each feature that both scored."""
    unpaired: Mapping[FeatureId, str]
    """Features that only one of the two scored, and why."""
    notes: tuple[str, ...]
    """What else than the explainer differs."""

    def to_json(self) -> dict[str, JSON]:
        """What `--json` prints."""
        found = self.comparison
        features: list[JSON] = [
            {
                "feature": str(feature),
                "difference": d.value,
                "low": d.low,
                "high": d.high,
                "n_windows": d.n,
                "why": d.why,
            }
            for feature, d in self.differences.items()
        ]
        features += [
            {"feature": str(feature), "difference": None, "why": why}
            for feature, why in self.unpaired.items()
        ]
        return {
            "scorer": self.scorer,
            "a": {"run": self.a.run.id, "explainer": self.a.explainer},
            "b": {"run": self.b.run.id, "explainer": self.b.explainer},
            "difference": found.mean,
            "low": found.low,
            "high": found.high,
            "p": found.p,
            "n": found.n,
            "better": found.better,
            "worse": found.worse,
            "tied": found.tied,
            "undefined": {**found.undefined},
            "unpaired": {**Counter(self.unpaired.values())},
            "notes": [*self.notes],
            "features": features,
        }


def compare(
    store: Store,
    run_a: str,
    run_b: str | None = None,
    *,
    explainers: Sequence[str] = (),
    per_feature: bool = False,
) -> DataFrame:
    """How much higher `run_a` scores than `run_b`, paired by feature and window.

    Args:
        store: where the runs are.
        run_a: the first run, such as `r1`.
        run_b: the second; None for two explainers of the first.
        explainers: whose explanations: one name for both runs, or one for each. Without any, those
            that both runs have, or the only one of each.
        per_feature: one row for each feature, and not one for each scorer.

    Raises:
        StoreError: if there is no such run.
        ConfigError: if it is not clear what to compare, or the runs scored other windows.
    """
    import pandas as pd

    found = compare_runs(store, run_a, run_b, explainers)
    rows: list[list[object]] = []
    for one in found:
        named = [one.scorer, one.a.run.id, one.a.explainer, one.b.run.id, one.b.explainer]
        if per_feature:
            for feature, d in one.differences.items():
                rows.append([*named, str(feature), d.value, d.low, d.high, d.n, d.why])
            for feature, why in one.unpaired.items():
                rows.append([*named, str(feature), None, None, None, None, why])
            continue
        c = one.comparison
        counts = (c.n, c.better, c.worse, c.tied, sum(c.undefined.values()), len(one.unpaired))
        rows.append([*named, c.mean, c.low, c.high, c.p, *counts, "; ".join(one.notes)])
    types = FEATURE_COLUMNS if per_feature else COLUMNS
    return pd.DataFrame(rows, columns=list(types), dtype=object).astype(types)


def compare_runs(
    store: Store, run_a: str, run_b: str | None = None, explainers: Sequence[str] = ()
) -> list[Compared]:
    """One comparison for each scorer and pair of explainers.

    Raises:
        StoreError: if there is no such run.
        ConfigError: if it is not clear what to compare, or the runs scored other windows.
    """
    first = store.run(run_a)
    second = first if run_b is None else store.run(run_b)
    check_same_text(first, second)
    said = {r.id: store.explanations_of(r.id) for r in (first, second)}
    there = {run: list(dict.fromkeys(e.explainer for e in some)) for run, some in said.items()}
    pairs = sides(first, second, there, explainers)
    scores = {run: store.scores_of(run, predictions=True) for run in said}
    found = []
    for a, b in pairs:
        mine, theirs = (
            [s for s in scores[side.run.id] if s.explainer == side.explainer] for side in (a, b)
        )
        explained = {
            str(side): {e.feature for e in said[side.run.id] if e.explainer == side.explainer}
            for side in (a, b)
        }
        names = {s.scorer for s in mine} & {s.scorer for s in theirs}
        for scorer in sorted(names):
            own, other = (
                {s.feature: s for s in some if s.scorer == scorer} for some in (mine, theirs)
            )
            found.append(_compared(scorer, a, b, own, other, explained))
    if not found:
        both = " and ".join(str(side) for side in pairs[0])
        raise ConfigError(f"no scorer has scored both {both}; score them with `glossator score`")
    return found


def sides(
    a: Run, b: Run, there: Mapping[str, Sequence[str]], asked: Sequence[str]
) -> list[tuple[Side, Side]]:
    """Which explainers of the two runs are compared; `there` are those that each run has.

    Raises:
        ConfigError: if that is not clear, or one is missing.
    """
    first, second = there[a.id], there[b.id]
    if len(asked) > 2:
        raise ConfigError(f"two explainers are compared, not {len(asked)}: name two")
    if asked:
        chosen = [(asked[0], asked[-1])]
        for name, run in ((asked[0], a), (asked[-1], b)):
            if name not in there[run.id]:
                raise ConfigError(
                    f"run {run.id} has no explanations by {name!r}; by: {_listed(there[run.id])}"
                )
        if a.id == b.id and len(asked) == 1:
            raise ConfigError(f"name a second explainer of run {a.id}; by: {_listed(first)}")
    elif a.id == b.id:
        if len(first) != 2:
            raise ConfigError(
                f"run {a.id} has explanations by {_listed(first)}: name two of them with "
                "--explainer A --explainer B, or a second run"
            )
        chosen = [(first[0], first[1])]
    elif common := [name for name in first if name in second]:
        chosen = [(name, name) for name in common]
    elif len(first) == len(second) == 1:
        chosen = [(first[0], second[0])]
    else:
        raise ConfigError(
            f"run {a.id} has explanations by {_listed(first)}, {b.id} by {_listed(second)}: name "
            "one of each with --explainer A --explainer B"
        )
    return [(Side(a, x), Side(b, y)) for x, y in chosen]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nobody"


def check_same_text(a: Run, b: Run) -> None:
    """Refuses runs that did not read the same text in the same way.

    Raises:
        ConfigError: naming what differs.
    """
    if a.collection == b.collection:
        return
    what = differing(a, b) or ["the versions of subject, text or coder"]
    raise ConfigError(
        f"runs {a.id} and {b.id} did not read the same windows, so there is nothing to pair: they "
        f"differ in {', '.join(what)}"
    )


def differing(a: Run, b: Run) -> list[str]:
    """The options on which the windows depend and in which the runs differ, with both values."""
    names = [n for n in {**a.config, **b.config} if n not in _NOT_OF_WINDOWS]
    return [
        f"{name} ({_told(a.config.get(name))} and {_told(b.config.get(name))})"
        for name in names
        if a.config.get(name) != b.config.get(name)
    ]


def _told(option: JSON) -> str:
    """The value of an option as people type it."""
    if isinstance(option, list):
        return ", ".join(map(str, option))
    return "none" if option in (None, "") else str(option)


def _compared(
    scorer: str,
    a: Side,
    b: Side,
    own: Mapping[FeatureId, Score],
    other: Mapping[FeatureId, Score],
    explained: Mapping[str, set[FeatureId]],
) -> Compared:
    both = [f for f in own if f in other]
    if figure_of(scorer) is not None and not any(_stops(side.run) for side in (a, b)):
        for feature in both:
            _check_same_windows(own[feature], other[feature], a, b)
    seed = min(a.run.seed, b.run.seed)
    differences = {f: paired_difference(own[f], other[f], seed) for f in both}
    unpaired = {
        f: _why_missing(f, scorer, missing, explained)
        for some, others, missing in ((own, other, b), (other, own, a))
        for f in some
        if f not in others
    }
    return Compared(
        scorer,
        a,
        b,
        compared(list(differences.values()), seed),
        differences,
        unpaired,
        tuple(_notes(scorer, [own[f] for f in both], [other[f] for f in both])),
    )


def _stops(run: Run) -> bool:
    """Whether its scorers stop when they are precise, so that their windows may be fewer."""
    return bool(run.config.get("precision"))


def _check_same_windows(mine: Score, theirs: Score, a: Side, b: Side) -> None:
    keys = [{(p.example, p.stratum) for p in s.predictions} for s in (mine, theirs)]
    if not all(keys) or keys[0] == keys[1]:
        return
    what = differing(a.run, b.run)
    reason = f"they differ in {', '.join(what)}" if what else "their versions differ"
    raise ConfigError(
        f"{mine.scorer} read other windows of {mine.feature} in {a} and in {b} "
        f"({len(keys[0] & keys[1])} of {len(keys[0] | keys[1])} in common): {reason}"
    )


def _why_missing(
    feature: FeatureId, scorer: str, missing: Side, explained: Mapping[str, set[FeatureId]]
) -> str:
    if feature not in explained[str(missing)]:
        return f"no explanation of it in {missing}"
    return f"{scorer} has no score of it in {missing}"


def _notes(scorer: str, own: Iterable[Score], other: Iterable[Score]) -> list[str]:
    judges = [sorted({f"{s.simulator} {s.model}".strip() for s in some}) for some in (own, other)]
    notes = []
    if judges[0] != judges[1] and all(judges):
        said = " and ".join(", ".join(filter(None, names)) or "nobody" for names in judges)
        notes.append(f"not the same judge: {said}")
    if figure_of(scorer) is None:
        notes.append("differences of values; this scorer's windows cannot be paired")
    return notes

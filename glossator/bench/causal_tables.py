"""How often explanations are right about what features do, and an agent against others, as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glossator.bench.causal import Judged
from glossator.bench.equal import AGENT, calls_of
from glossator.bench.figures import mean_of, share_of
from glossator.bench.ranking import Reader
from glossator.bench.recovery import Recovered
from glossator.bench.sheet import Table, shown
from glossator.datasets.truth_causal import NO_RULE
from glossator.types import Measure

_Right = Callable[[Judged], bool | None]


@dataclass(frozen=True)
class CausalRow:
    """One explainer over the features of which it is known what they do."""

    explainer: str
    features: int
    failed: int
    undecided: int
    """Abstentions, those that are right among them."""
    output: Measure
    """How often it is right about the output: which words, or that there is none; features without
    a rule left out."""
    acts: Measure
    """Of features that act, how often it says that there is an effect."""
    words: Measure
    """Of those, how often it names the words."""
    spared: Measure
    """Of features that do nothing and have a trigger, how often it claims no effect."""
    identified: Measure
    """How often trigger and output are both right; features without a rule left out, and no value
    where nobody knows what triggers mean."""
    left_open: Measure
    """Of features without a rule, how often it says nothing."""
    groups: dict[str, Measure]
    """By group, how often all of it is right; without a rule, how often it says nothing."""
    calls: float
    """Of one explanation, on average."""

    @classmethod
    def of(cls, explainer: str, found: Sequence[Judged]) -> CausalRow:
        """The figures of `found`, each of another feature."""
        told = [one for one in found if one.feature.describable]
        acting = [one for one in told if one.feature.effect is not None]
        inert = [one for one in told if one.feature.effect is None]
        groups = dict.fromkeys(one.feature.group for one in found)
        return cls(
            explainer,
            len(found),
            sum(one.explanation is None for one in found),
            sum(one.undecided and one.explanation is not None for one in found),
            _share(told, lambda one: one.output),
            _share(acting, lambda one: one.acts and not one.undecided),
            _share(acting, lambda one: one.output),
            _share(inert, lambda one: one.output),
            _share(told, lambda one: one.identified),
            _share([o for o in found if o.feature.group == NO_RULE], lambda one: one.identified),
            {
                group: _share(
                    [o for o in found if o.feature.group == group], lambda one: one.identified
                )
                for group in groups
            },
            sum(calls_in(one) for one in found) / max(1, len(found)),
        )


@dataclass(frozen=True)
class PairedRow:
    """An agent against another explainer that had as many calls, feature by feature."""

    other: str
    what: str
    """What is compared."""
    n: int
    """Features."""
    agent: Measure
    value: Measure
    """Of the other."""
    difference: Measure
    """The agent's less the other's; the interval is by bootstrap over features."""
    calls: tuple[float, float]
    """Of one explanation, the agent's and the other's."""


def paired_causal(found: Sequence[Judged], rivals: Sequence[Judged]) -> list[PairedRow]:
    """Rows on features of which it is known what they do."""
    mine = {one.feature.name: one for one in found if one.explainer == AGENT}
    rows: list[PairedRow] = []
    for other in dict.fromkeys(one.explainer for one in rivals):
        pairs = [
            (mine[one.feature.name], one)
            for one in rivals
            if one.explainer == other and one.feature.name in mine
        ]
        told = [pair for pair in pairs if pair[0].feature.describable]
        open_ = [pair for pair in pairs if not pair[0].feature.describable]
        asked: list[tuple[str, Sequence[tuple[Judged, Judged]], _Right]] = [
            ("output part right", told, lambda one: one.output),
            ("all of it right", told, lambda one: one.identified),
            ("left open where there is no rule", open_, lambda one: one.identified),
        ]
        for what, some, right in asked:
            values = [(right(a), right(b), calls_in(a), calls_in(b)) for a, b in some]
            known = [
                (float(a), float(b), c, d)
                for a, b, c, d in values
                if a is not None and b is not None
            ]
            if known:
                rows.append(_paired(other, what, known))
    return rows


def paired_recovery(
    found: Sequence[Recovered], rivals: Sequence[Recovered], reader: Reader
) -> list[PairedRow]:
    """Rows on features that are functions of the text; no score counts as chance, 0."""
    mine = {one.feature.name: one for one in found if one.explainer == AGENT}

    def score(one: Recovered) -> float:
        return next((s.value or 0.0 for by, s in one.scores if by == reader), 0.0)

    def calls(one: Recovered) -> int:
        return 0 if one.explanation is None else calls_of(one.explanation.usage)

    rows = []
    for other in dict.fromkeys(one.explainer for one in rivals):
        values = [
            (score(mine[one.feature.name]), score(one), calls(mine[one.feature.name]), calls(one))
            for one in rivals
            if one.explainer == other and one.feature.name in mine
        ]
        if values:
            rows.append(_paired(other, f"score by {reader}", values))
    return rows


def output_table(rows: Sequence[CausalRow]) -> Table:
    """How often explanations are right about the output."""
    return Table(
        "Explainers: what they say of the output, where it is known",
        (
            *("explainer", "n", "failed", "undecided", "output right", "acts: said so"),
            *("acts: words right", "does nothing: said nothing", "no rule: left open", "calls"),
        ),
        tuple(
            (
                row.explainer,
                str(row.features),
                str(row.failed),
                str(row.undecided),
                *map(shown, (row.output, row.acts, row.words, row.spared, row.left_open)),
                f"{row.calls:.1f}",
            )
            for row in rows
        ),
    )


def groups_table(rows: Sequence[CausalRow]) -> Table:
    """How often all of an explanation is right, by what sort of feature it is of."""
    groups = tuple(dict.fromkeys(group for row in rows for group in row.groups))
    return Table(
        "Explainers: trigger and output both right, where it is known",
        ("explainer", "all with a rule", *groups),
        tuple(
            (
                row.explainer,
                shown(row.identified),
                *(shown(row.groups.get(group, Measure(None))) for group in groups),
            )
            for row in rows
        ),
    )


def paired_table(rows: Sequence[PairedRow]) -> Table:
    """The agent against others that had as many calls."""
    return Table(
        "The agent against others at equal budget",
        ("other", "what", "n", "agent", "other's", "difference", "calls", "other's calls"),
        tuple(
            (
                row.other,
                row.what,
                str(row.n),
                shown(row.agent),
                shown(row.value),
                shown(row.difference),
                *(f"{calls:.1f}" for calls in row.calls),
            )
            for row in rows
        ),
    )


def calls_in(one: Judged) -> int:
    """Calls that the explanation took."""
    return 0 if one.explanation is None else calls_of(one.explanation.usage)


def _paired(other: str, what: str, values: Sequence[tuple[float, float, int, int]]) -> PairedRow:
    n = len(values)
    return PairedRow(
        other,
        what,
        n,
        mean_of([a for a, *_ in values]),
        mean_of([b for _, b, *_ in values]),
        mean_of([a - b for a, b, *_ in values]),
        (sum(c for *_, c, _ in values) / n, sum(d for *_, d in values) / n),
    )


def _share(found: Sequence[Judged], of: _Right) -> Measure:
    values = [of(one) for one in found]
    return share_of([float(value) for value in values if value is not None])

"""What a bench found, as rows with intervals: for programs, for a terminal and for a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from glossator.bench.causal_tables import (
    CausalRow,
    PairedRow,
    groups_table,
    output_table,
    paired_table,
)
from glossator.bench.figures import above, gap_of_first, mean_of, share_of
from glossator.bench.ranking import BLIND, READS_NOTHING, Ranked, Reader, used_by
from glossator.bench.recovery import Recovered
from glossator.bench.sheet import Table, number, shown, written_row
from glossator.datasets.truth_claims import Miss
from glossator.types import JSON, Measure, Score, Usage, to_json

_Pair = tuple[float | None, float | None]


@dataclass(frozen=True)
class Cost:
    """What one explanation costs, on average."""

    calls: float
    """Asked of the language model, those from the cache among them."""
    tokens: float
    """Of prompts and replies; of calls from the cache none."""
    seconds: float
    """Spent waiting for replies, summed over calls; of calls from the cache none."""

    @classmethod
    def of(cls, used: Usage, n: int) -> Cost:
        """`used` over `n` explanations."""
        n = max(1, n)
        return cls(
            (used.calls + used.cached_calls) / n,
            (used.prompt_tokens + used.completion_tokens) / n,
            used.seconds / n,
        )


@dataclass(frozen=True)
class ScorerRow:
    """One scorer over all features."""

    scorer: str
    simulator: str
    features: int
    true_over_unrelated: Measure
    true_over_near: Measure
    """Of the near misses that the scorer can notice by what it asks."""
    near_over_unrelated: Measure
    by_miss: dict[str, Measure]
    """How often true is above near misses of each sort, those among them that it cannot notice."""
    true: Measure
    """Mean score of the true description."""
    unrelated: Measure
    shuffled: Measure
    """Mean score of a description of another feature, less that of others."""
    half_width: float | None
    """Mean half width of the interval of the true description's score."""
    undefined: int
    """True descriptions without a score."""
    failed: int
    """Examples that could not be judged."""
    cost: Cost

    @classmethod
    def of(cls, reader: Reader, found: Sequence[Ranked], n_readers: int = 1) -> ScorerRow:
        """The figures of `found`, each of another feature.

        Where `n_readers` are looked at, the interval of `shuffled` is one for all of them at once.
        """
        blind = BLIND.get(reader.scorer, frozenset())
        reads = reader.scorer not in READS_NOTHING
        return cls(
            reader.scorer,
            reader.simulator,
            len(found),
            _share(found, lambda r: [(r.true.value, u.value) for u in r.unrelated]),
            _share(found, lambda r: _near(r, set(Miss) - blind)),
            _share(
                found,
                lambda r: [(s.value, u.value) for _, s in r.near for u in r.unrelated],
            ),
            {miss.value: _share(found, lambda r, m=miss: _near(r, {m})) for miss in Miss}  # type: ignore[misc]
            if reads
            else {},
            _mean([r.true for r in found]),
            mean_of(
                [float(np.mean([s.value or 0.0 for s in r.unrelated])) for r in found if reads]
            ),
            gap_of_first([r.wrong_values for r in found], 1 - 0.05 / n_readers),
            _half_width([r.true for r in found]),
            sum(r.true.value is None for r in found),
            sum(s.n_failed for r in found for s in r.scores),
            Cost.of(
                used_by([s for r in found for s in r.scores]), sum(len(r.scores) for r in found)
            ),
        )


def _near(ranked: Ranked, misses: set[Miss]) -> list[_Pair]:
    return [(ranked.true.value, s.value) for miss, s in ranked.near if miss in misses]


def _share(found: Sequence[Ranked], pairs: Callable[[Ranked], list[_Pair]]) -> Measure:
    """How often the first of a pair is above the second: one mean for each feature that has any."""
    of_features = [[above(a, b) for a, b in pairs(ranked)] for ranked in found]
    return share_of([float(np.mean(some)) for some in of_features if some])


def _mean(scores: Sequence[Score]) -> Measure:
    return mean_of([s.value for s in scores if s.value is not None])


def _half_width(scores: Sequence[Score]) -> float | None:
    widths = [(s.high - s.low) / 2 for s in scores if s.high is not None and s.low is not None]
    return float(np.mean(widths)) if widths else None


@dataclass(frozen=True)
class Reading:
    """One explainer's explanations, read by one scorer."""

    scorer: str
    simulator: str
    n: int
    """Explanations that were read, abstentions and those that nobody can read left out."""
    value: Measure
    """Mean score on test."""
    lost: Measure
    """Mean score of the true descriptions of the same features, less that."""
    f1: Measure
    """Mean F1, where the scorer has one."""


@dataclass(frozen=True)
class ExplainerRow:
    """One explainer over all features."""

    explainer: str
    features: int
    abstained: int
    failed: int
    true: Measure | None
    """How often it gave the true description word for word; None where nobody knows the words."""
    readings: tuple[Reading, ...]
    cost: Cost

    @classmethod
    def of(
        cls, explainer: str, found: Sequence[Recovered], ranked: Sequence[Ranked], known: bool
    ) -> ExplainerRow:
        """The figures of `found`, beside what `ranked` says of the true descriptions."""
        truth = {(r.feature.name, str(r.reader)): r.true.value for r in ranked}
        readers = dict.fromkeys(reader for one in found for reader, _ in one.scores)
        explanations = [one.explanation for one in found if one.explanation is not None]
        return cls(
            explainer,
            len(found),
            sum(bool(e.abstained) for e in explanations),
            sum(one.explanation is None for one in found),
            share_of([float(one.named == "true") for one in found]) if known else None,
            tuple(_reading(reader, found, truth) for reader in readers),
            Cost.of(sum((e.usage for e in explanations), Usage()), len(found)),
        )


def _reading(
    reader: Reader, found: Sequence[Recovered], truth: dict[tuple[str, str], float | None]
) -> Reading:
    pairs = [(one, score) for one in found for by, score in one.scores if by == reader]
    lost = []
    for one, score in pairs:
        best = truth.get((one.feature.name, str(reader)))
        if best is not None and score.value is not None:
            lost.append(best - score.value)
    f1 = [m.value for _, s in pairs if (m := s.measures.get("F1")) and m.value is not None]
    return Reading(
        reader.scorer,
        reader.simulator,
        len(pairs),
        _mean([score for _, score in pairs]),
        mean_of(lost),
        mean_of(f1),
    )


@dataclass(frozen=True)
class TruthReport:
    """What `bench truth` found."""

    settings: dict[str, JSON]
    scorers: tuple[ScorerRow, ...]
    explainers: tuple[ExplainerRow, ...]
    notes: tuple[str, ...] = field(default=())
    causal: tuple[CausalRow, ...] = ()
    paired: tuple[PairedRow, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        """For programs."""
        plain = to_json(self)
        return plain if isinstance(plain, dict) else {}

    def tables(self) -> list[Table]:
        """For people."""
        of_scorers = (ranking_table, misses_table, scores_table)
        found = [] if not self.scorers else [table(self.scorers) for table in of_scorers]
        found += [recovery_table(self.explainers)] if self.explainers else []
        found += [output_table(self.causal), groups_table(self.causal)] if self.causal else []
        return found + ([paired_table(self.paired)] if self.paired else [])

    def markdown(self, command: str) -> str:
        """A page, with the command that makes it again."""
        lines = ["# Scorers and explainers against a ground truth", "", f"    {command}", ""]
        lines += [f"- {name}: {value}" for name, value in self.settings.items()]
        for table in self.tables():
            lines += ["", f"## {table.title}", ""]
            lines += [written_row(table.columns), written_row(["---"] * len(table.columns))]
            lines += [written_row(row) for row in table.rows]
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes)]) + "\n"


def ranking_table(rows: Sequence[ScorerRow]) -> Table:
    """How often each scorer ranks descriptions rightly."""
    return Table(
        "Scorers: true above near miss above unrelated",
        (
            *("scorer", "simulator", "n", "true > unrelated", "true > near", "near > unrelated"),
            "shuffled - null",
        ),
        tuple(
            (
                row.scorer,
                row.simulator,
                str(row.features),
                shown(row.true_over_unrelated),
                shown(row.true_over_near),
                shown(row.near_over_unrelated),
                shown(row.shuffled),
            )
            for row in rows
        ),
    )


def scores_table(rows: Sequence[ScorerRow]) -> Table:
    """What scorers give, how sure they are of it, and what one score costs."""
    return Table(
        "Scorers: mean scores, health, and what one score costs",
        (
            *("scorer", "simulator", "true", "unrelated", "half width", "undefined", "failed"),
            *("calls", "tokens", "seconds"),
        ),
        tuple(
            (
                row.scorer,
                row.simulator,
                shown(row.true),
                shown(row.unrelated),
                number(row.half_width),
                str(row.undefined),
                str(row.failed),
                *_cost(row.cost),
            )
            for row in rows
        ),
    )


def misses_table(rows: Sequence[ScorerRow]) -> Table:
    """How often each scorer ranks the true description above each sort of near miss."""
    return Table(
        "Scorers: true above a near miss, by what is wrong with it",
        ("scorer", "simulator", *(miss.value for miss in Miss)),
        tuple(
            (
                row.scorer,
                row.simulator,
                *(
                    shown(row.by_miss.get(miss.value, Measure(None)))
                    + (" *" if miss in BLIND.get(row.scorer, ()) else "")
                    for miss in Miss
                ),
            )
            for row in rows
        ),
    )


def recovery_table(rows: Sequence[ExplainerRow]) -> Table:
    """How well explanations are read, beside true descriptions, and what one costs."""
    return Table(
        "Explainers: their explanations read on held-out text",
        (
            *("explainer", "n", "abstained", "failed", "named it", "read by", "read", "score"),
            *("lost to the truth", "F1", "calls", "tokens", "seconds"),
        ),
        tuple(
            (
                row.explainer,
                str(row.features),
                str(row.abstained),
                str(row.failed),
                "" if row.true is None else shown(row.true),
                " by ".join(filter(None, [r.scorer, r.simulator.replace("auto", "")])),
                str(r.n),
                shown(r.value),
                shown(r.lost),
                shown(r.f1),
                *_cost(row.cost),
            )
            for row in rows
            for r in row.readings or (Reading("nobody", "auto", 0, *([Measure(None)] * 3)),)
        ),
    )


def _cost(cost: Cost) -> tuple[str, str, str]:
    return f"{cost.calls:.1f}", f"{cost.tokens:,.0f}", f"{cost.seconds:.2f}"

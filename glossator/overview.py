"""What a run amounts to, counted by the database: progress, scores, sites, failures, the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, and_, case, cast, func, select

from glossator import schema

if TYPE_CHECKING:
    from glossator.database import Database

BINS = 40
"""Bars of the distribution of a score, from -1 to 1; what is beyond is in the outermost."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How much there is of a run."""

    collected: int
    """Features whose text was kept, of the collection that the run reads."""
    listed: int
    """Features of the collection, those without text among them."""
    explained: int
    """Features of which somebody has said something."""
    explanations: int
    abstained: int
    scores: int
    undefined: int
    """Scores without a value."""
    failures: int


@dataclass(frozen=True, slots=True)
class Spread:
    """The values of a scorer beside those of their nulls, over the best explanations."""

    scorer: str
    n: int
    with_null: int
    above: int
    """Of those with a null, above it."""
    clear: int
    """Of those with a null, with the whole interval above it."""
    mean: float
    null_mean: float | None
    values: tuple[int, ...]
    """Shape (BINS,): scores in each bar."""
    nulls: tuple[int, ...]
    """Shape (BINS,): nulls in each bar."""


@dataclass(frozen=True, slots=True)
class SiteLine:
    """The features of one site in a run."""

    site: str
    coder: str
    n: int
    """Features with a best explanation."""
    means: dict[str, float]
    """Mean mark by scorer."""


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """Calls of one stage to one language model."""

    stage: str
    llm: str
    calls: int
    cached: int
    failed: int
    """Attempts that brought no reply."""
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    """US dollars; None where the price of a call is unknown."""
    assumed: float
    seconds: float


class Overview:
    """Counts what `database` holds of runs.

    Raises:
        StoreError: from every method, if the database cannot do it.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def counts(self, run: str, collection: str) -> Counts:
        """How much there is of `run`, which reads `collection`."""
        said, kept = schema.explanations.c, schema.scores.c

        def number(table: Any, *where: Any) -> Any:
            return select(func.count()).select_from(table).where(*where).scalar_subquery()

        of_run, of_scores = said.run == run, kept.run == run
        query = select(
            number(schema.records, schema.records.c.collection == collection),
            number(schema.summaries, schema.summaries.c.collection == collection),
            number(schema.bests, schema.bests.c.run == run),
            number(schema.explanations, of_run),
            number(schema.explanations, of_run, said.abstained != ""),
            number(schema.scores, of_scores),
            number(schema.scores, of_scores, kept.value.is_(None)),
            number(schema.failures, schema.failures.c.run == run),
        )
        with self._database.reading() as connection:
            return Counts(*connection.execute(query).one())

    def failures_by_kind(self, run: str) -> list[tuple[str, str, int]]:
        """Stage, kind and number of what was given up in `run`, the most frequent first."""
        kept = schema.failures.c
        n = func.count()
        query = select(kept.stage, kept.kind, n).where(kept.run == run)
        query = query.group_by(kept.stage, kept.kind).order_by(n.desc(), kept.stage, kept.kind)
        with self._database.reading() as connection:
            return [(row[0], row[1], row[2]) for row in connection.execute(query)]

    def errors_by_kind(self, run: str) -> list[tuple[str, int]]:
        """Kind and number of failed attempts at calls in `run`, the most frequent first."""
        kept = schema.calls.c
        n = func.count()
        query = select(kept.error_type, n).where(kept.run == run, kept.error_type != "")
        query = query.group_by(kept.error_type).order_by(n.desc(), kept.error_type)
        with self._database.reading() as connection:
            return [(row[0], row[1]) for row in connection.execute(query)]

    def spreads(self, run: str) -> list[Spread]:
        """How the marks of each scorer of `run` lie, by its name."""
        m = schema.marks.c
        n = func.count().label("n")
        bars = (_bar(m.value).label("bar"), _bar(m.null_value).label("null_bar"))
        query = (
            select(m.scorer, *bars, n, func.sum(m.value), func.sum(m.null_value))
            .add_columns(func.sum(case((m.value > m.null_value, 1), else_=0)))
            .add_columns(func.sum(case((m.low > m.null_value, 1), else_=0)))
            .where(m.run == run)
            .group_by(m.scorer, "bar", "null_bar")
        )
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        by_scorer: dict[str, list[Any]] = {}
        for scorer, *rest in rows:
            by_scorer.setdefault(scorer, []).append(rest)
        return [_spread(scorer, by_scorer[scorer]) for scorer in sorted(by_scorer)]

    def sites(self, run: str) -> list[SiteLine]:
        """The sites of `run` with the mean of each scorer, by name."""
        b, f, m = schema.bests.c, schema.features.c, schema.marks.c
        place = (f.site, f.coder)
        explained = (
            select(*place, func.count())
            .select_from(schema.bests)
            .join(schema.features, f.id == b.feature)
            .where(b.run == run)
            .group_by(*place)
            .order_by(*place)
        )
        scored = (
            select(*place, m.scorer, func.avg(m.value))
            .select_from(schema.marks)
            .join(schema.features, f.id == m.feature)
            .where(m.run == run)
            .group_by(*place, m.scorer)
        )
        with self._database.reading() as connection:
            means: dict[tuple[str, str | None], dict[str, float]] = {}
            for site, coder, scorer, mean in connection.execute(scored):
                means.setdefault((site, coder), {})[scorer] = mean
            return [
                SiteLine(site, coder or "", n, means.get((site, coder), {}))
                for site, coder, n in connection.execute(explained)
            ]

    def ledger(self, run: str) -> list[LedgerLine]:
        """What each language model was asked in `run`, by stage, the dearest first."""
        kept = schema.calls.c
        unknown = func.sum(case((and_(kept.cost.is_(None), kept.calls > 0), 1), else_=0))
        sums = [
            func.sum(kept[name])
            for name in ("calls", "cached_calls", "prompt_tokens", "completion_tokens")
        ]
        failed = func.sum(case((kept.error_type != "", 1), else_=0))
        amounts = [func.sum(kept[name]) for name in ("cost", "assumed", "seconds")]
        query = (
            select(kept.stage, kept.llm, unknown, failed, *sums, *amounts)
            .where(kept.run == run)
            .group_by(kept.stage, kept.llm)
        )
        with self._database.reading() as connection:
            lines = [
                LedgerLine(
                    *(row[0], row[1]),
                    calls=int(row[4] or 0),
                    cached=int(row[5] or 0),
                    failed=int(row[3] or 0),
                    prompt_tokens=int(row[6] or 0),
                    completion_tokens=int(row[7] or 0),
                    cost=None if row[2] else float(row[8] or 0.0),
                    assumed=float(row[9] or 0.0),
                    seconds=float(row[10] or 0.0),
                )
                for row in connection.execute(query)
            ]
        return sorted(lines, key=lambda line: (-(line.cost or 0.0), -line.calls, line.stage))


def _bar(value: Any) -> Any:
    """The bar of `value`, which the cast rounds to on any database."""
    place = (value + 1.0) * (BINS / 2) - 0.5
    within = case((place < 0.0, 0.0), (place > BINS - 1.0, BINS - 1.0), else_=place)
    # PostgreSQL rounds a cast to the nearest, SQLite towards 0.
    return cast(func.round(within), Integer)


def _spread(scorer: str, rows: list[Any]) -> Spread:
    values, nulls = [0] * BINS, [0] * BINS
    n = with_null = above = clear = 0
    total = null_total = 0.0
    for bar, null_bar, number, summed, null_summed, over, over_whole in rows:
        values[bar] += number
        n, total = n + number, total + summed
        if null_bar is not None:
            nulls[null_bar] += number
            with_null, null_total = with_null + number, null_total + null_summed
            above, clear = above + int(over), clear + int(over_whole)
    null_mean = null_total / with_null if with_null else None
    means = (total / n, null_mean)
    return Spread(scorer, n, with_null, above, clear, *means, tuple(values), tuple(nulls))

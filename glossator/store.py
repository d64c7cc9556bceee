"""All that is kept: runs, what was collected, explanations, scores, failures, calls, replies.

One database, SQLite unless told otherwise. Each write is one transaction and happens once: a second
explanation by the same explainer, or a second score by the same scorer, changes nothing. So a run
that was killed goes on where it stopped. What is read is checked as it was when it was built.

`features`, `collected`, `explanations`, `scores`, `predictions` and `calls` give tables for people
(pandas); `record`, `summaries`, `explanation_of`, `score_of` and `results` give the types of
`glossator.types`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from sqlalchemy import insert, select

from glossator import calls, export, listing, records, runs, schema, tables
from glossator.batches import Batches
from glossator.browsing import Browser
from glossator.config import RunConfig
from glossator.database import Database
from glossator.dossier import Dossiers
from glossator.errors import StoreError
from glossator.ledger import Assumed, Entry
from glossator.notebooks import Notebooks
from glossator.overview import Overview
from glossator.replies import Replies
from glossator.reviews import Reviews
from glossator.rows import (
    dump,
    feature_id,
    insert_once,
    load,
    now,
    packed,
    plain,
    read,
    unpacked,
    usage_columns,
)
from glossator.runs import Failure, Run, RunStatus
from glossator.types import (
    JSON,
    ExperimentResult,
    Explanation,
    FeatureId,
    FeatureRecord,
    FeatureSummary,
    Kind,
    Score,
    Usage,
)

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "Failure",
    "Replies",
    "Run",
    "RunStatus",
    "Store",
    "open_as_may_be",
    "open_store",
    "open_to_read",
    "part_of",
]

_CHUNK = 100
"""Records read at a time."""

_SUMMARIES = 5000
"""Summaries read or written at a time."""


def part_of(result: Explanation | Score) -> tuple[str, str]:
    """The stage and the part of a run that `result` finishes, as `done` lists them."""
    if isinstance(result, Explanation):
        return "explain", result.explainer
    names = (result.explainer, result.scorer, result.simulator)
    return "score", "/".join(name for name in names if name)


def open_store(url: str = "sqlite:///glossator.db") -> Store:
    """The store at `url`; made, or brought up to date, if need be.

    Raises:
        StoreError: if it cannot be opened for reading and writing, with the reason.
    """
    return Store(Database(url))


def open_as_may_be(url: str) -> Store:
    """The store at `url` for a command that only reads: opened so alone where it cannot be written.

    Raises:
        StoreError: if it cannot be read either, or holds nothing yet; says why it is not written.
    """
    try:
        return open_store(url)
    except StoreError as unwritable:
        try:
            found = open_to_read(url)
        except StoreError:
            raise unwritable from None
        if found is None:
            raise
        return found


def open_to_read(url: str) -> Store | None:
    """The store at `url`, of which nothing is changed; None if it holds nothing yet.

    Raises:
        StoreError: if it cannot be opened, or was written by another version.
    """
    database = Database(url, read_only=True)
    if database.empty:
        database.close()
        return None
    return Store(database)


class Store:
    """The results, for any number of threads. `open_store` makes one.

    `run` is always the id of a run. All writes are on disk when the method returns.

    Raises:
        StoreError: from every method, if the database cannot do it, or holds what cannot be read.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.url = database.shown
        """Where it is, without a password."""
        self.file = database.file
        """The file of a SQLite store; None for one that is no file."""
        self.notices = database.notices
        """What to know about the database, for `doctor`."""
        self.replies = Replies(database)
        """The replies of language models, by key."""
        self.batches = Batches(database)
        """Requests that are out at a provider."""
        self.notebooks = Notebooks(database)
        """Transcripts of inquiries and conversations."""
        self.browser = Browser(database)
        """Features sorted, filtered and searched, a page at a time."""
        self.dossiers = Dossiers(database)
        """One feature whole, as a run has it."""
        self.overview = Overview(database)
        """What a run amounts to, counted by the database."""
        self.reviews = Reviews(database, self.put_explanation)
        """What people say of explanations."""

    def close(self) -> None:
        """Gives back the file; the store cannot be used after."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written inside is stored whole, or not at all. Await nothing inside."""
        with self._database.writing():
            yield

    # Runs

    def begin_run(
        self,
        config: RunConfig,
        *,
        name: str = "",
        versions: Mapping[str, str] | None = None,
        collection: str = "",
        fresh: bool = False,
        budget: float | None = None,
    ) -> Run:
        """The newest run of the same config, to go on with; a new one if there is none.

        Args:
            config: What decides the results.
            name: What people call it; kept from the first start.
            versions: Of models and packages, by name.
            collection: Key of the records to read; `config.collection_digest` unless given.
            fresh: Begin a new run in any case.
            budget: US dollars that it may spend, to show beside what it spends; None for no bound.
        """
        given = (config, name, versions or {}, collection)
        with self._database.writing() as connection:
            return runs.begin(connection, *given, fresh=fresh, budget=budget)

    def has_run(self, config: RunConfig) -> bool:
        """Whether a run of `config` was begun before."""
        query = select(schema.runs.c.id).where(schema.runs.c.config_digest == config.digest)
        with self._database.reading() as connection:
            return connection.execute(query.limit(1)).first() is not None

    @contextmanager
    def working_on(self, run: str) -> Iterator[None]:
        """Holds `run` while this process works on it: two would pay for the same calls twice.

        Raises:
            StoreError: if another process is at work on it.
        """
        with self._database.claimed(run):
            yield

    def is_worked_on(self, run: str) -> bool:
        """Whether a process holds `run`, by `working_on`; True as well if nobody can tell."""
        return self._database.is_claimed(run)

    def finish_run(self, run: str, status: RunStatus | str = RunStatus.DONE) -> None:
        """Notes that `run` has ended, and how."""
        with self._database.writing() as connection:
            runs.finish(connection, run, status)

    def runs(self) -> list[Run]:
        """All runs, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(schema.runs).order_by(schema.runs.c.number))
            return [runs.read_run(row) for row in rows]

    def run(self, run: str) -> Run:
        """The run with that id."""
        with self._database.reading() as connection:
            return runs.read_run(runs.known(connection, run))

    # What was collected

    def put_record(self, key: str, record: FeatureRecord) -> None:
        """Keeps `record` under the collection `key`, in place of one of the same feature."""
        self.put_records(key, [record])

    def put_records(self, key: str, given: Iterable[FeatureRecord]) -> None:
        """Keeps all of `given` and their summaries under `key`, in one transaction."""
        with self._database.writing() as connection:
            for record in given:
                records.put(connection, key, record)

    def put_summaries(self, key: str, summaries: Iterable[FeatureSummary]) -> None:
        """Keeps all `summaries` under the collection `key`, in one transaction.

        Each takes the place of one of the same feature. What it does not know (None) stays as it
        was, so a record that is kept later takes nothing away.
        """
        left = iter(summaries)
        with self._database.writing() as connection:
            while some := list(itertools.islice(left, _SUMMARIES)):
                records.put_summaries(connection, key, some)

    def summaries(
        self, key: str, kinds: Collection[Kind] | None = None
    ) -> Iterator[FeatureSummary]:
        """Every feature collected under `key`, in the order first stored; few in memory at once.

        Args:
            key: of the collection.
            kinds: only those of one of these; None for all.
        """
        last = -1
        while True:
            with self._database.reading() as connection:
                some = records.some_summaries(connection, key, kinds, last, _SUMMARIES)
            yield from map(records.read_summary, some)
            if len(some) < _SUMMARIES:
                return
            last = some[-1].feature

    def record(self, key: str, feature: FeatureId) -> FeatureRecord | None:
        """What was collected of `feature` under `key`, if anything was."""
        with self._database.reading() as connection:
            return records.one(connection, key, feature)

    def recorded(self, key: str) -> frozenset[FeatureId]:
        """The features that were collected under `key`, without reading their records."""
        with self._database.reading() as connection:
            return records.known(connection, key)

    def records(self, key: str) -> Iterator[FeatureRecord]:
        """All that was collected under `key`, in the order first stored; few in memory at once."""
        last = -1
        while True:
            with self._database.reading() as connection:
                some = records.some(connection, key, last, _CHUNK)
            for row in some:
                yield records.read_record(row.payload)
            if len(some) < _CHUNK:
                return
            last = some[-1].feature

    # Explanations and scores

    def put_explanation(self, run: str, explanation: Explanation) -> bool:
        """Keeps `explanation` and marks its unit done; False if there was one already.

        Once: the first one by an explainer of a feature in a run stays.
        """
        with self._database.writing() as connection:
            runs.known(connection, run)
            feature = feature_id(connection, explanation.feature)
            key = insert_once(
                connection,
                schema.explanations,
                run=run,
                feature=feature,
                explainer=explanation.explainer,
                text=plain(explanation.text),
                abstained=plain(explanation.abstained),
                model=explanation.model,
                prompt_version=explanation.prompt_version,
                **usage_columns(explanation.usage),
                payload=dump(explanation.to_json()),
                made=now(),
            )
            if runs.finish_unit(connection, run, feature, *part_of(explanation)) or key is not None:
                listing.refresh(connection, run, feature)
            return key is not None

    def put_score(self, run: str, score: Score) -> bool:
        """Keeps `score`, its predictions and its cost at once; False if there was one already.

        Once: the first one of (feature, explainer, scorer, simulator) in a run stays.
        """
        with self._database.writing() as connection:
            runs.known(connection, run)
            feature = feature_id(connection, score.feature)
            payload = score.to_json()
            predictions = payload.pop("predictions")
            key = insert_once(
                connection,
                schema.scores,
                run=run,
                feature=feature,
                explainer=score.explainer,
                scorer=score.scorer,
                simulator=score.simulator,
                metric=score.metric,
                model=score.model,
                value=score.value,
                low=score.low,
                high=score.high,
                null_value=score.null,
                lift=score.lift,
                p=score.p,
                n=score.n,
                n_failed=score.n_failed,
                note=plain(score.note),
                **usage_columns(score.usage),
                payload=dump(payload),
                made=now(),
            )
            if key is not None:
                connection.execute(
                    insert(schema.predictions).values(score=key, payload=packed(predictions))
                )
            if runs.finish_unit(connection, run, feature, *part_of(score)) or key is not None:
                listing.refresh(connection, run, feature)
            return key is not None

    def explanation_of(self, run: str, feature: FeatureId, explainer: str) -> Explanation | None:
        """What `explainer` said of `feature` in `run`, if it did."""
        kept = schema.explanations.c
        with self._database.reading() as connection:
            payload = connection.execute(
                select(kept.payload)
                .join(schema.features)
                .where(kept.run == run, kept.explainer == explainer)
                .where(schema.features.c.name == str(feature))
            ).scalar()
        return None if payload is None else read(Explanation, load(payload))

    def explanations_of(self, run: str) -> list[Explanation]:
        """All explanations of `run`, in the order stored."""
        kept = schema.explanations.c
        with self._database.reading() as connection:
            runs.known(connection, run)
            payloads = connection.execute(
                select(kept.payload).where(kept.run == run).order_by(kept.id)
            ).scalars()
            return [read(Explanation, load(payload)) for payload in payloads]

    def score_of(
        self,
        run: str,
        feature: FeatureId,
        explainer: str,
        scorer: str,
        simulator: str | None = None,
    ) -> Score | None:
        """What `scorer` gave, with its predictions; of the first simulator if None is named."""
        kept = schema.scores.c
        query = (
            select(kept.payload, schema.predictions.c.payload.label("predictions"))
            .join(schema.features)
            .join(schema.predictions)
            .where(kept.run == run, kept.explainer == explainer, kept.scorer == scorer)
            .where(schema.features.c.name == str(feature))
            .order_by(kept.id)
            .limit(1)
        )
        if simulator is not None:
            query = query.where(kept.simulator == simulator)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        return _score(row.payload, unpacked(row.predictions))

    def scores_of(self, run: str, *, predictions: bool = False) -> list[Score]:
        """All scores of `run`, in the order stored; their predictions only if asked for."""
        kept = schema.scores.c
        query = select(kept.payload).where(kept.run == run).order_by(kept.id)
        if predictions:
            query = query.add_columns(schema.predictions.c.payload).join(schema.predictions)
        with self._database.reading() as connection:
            runs.known(connection, run)
            rows = connection.execute(query)
            return [_score(row[0], unpacked(row[1]) if predictions else []) for row in rows]

    def results(self, run: str, *, predictions: bool = False) -> list[ExperimentResult]:
        """Each explanation of `run` with its scores and what is needed to make them again."""
        with self._database.reading() as connection:
            begun = runs.read_run(runs.known(connection, run))
            scores: dict[tuple[FeatureId, str], list[Score]] = {}
            for score in self.scores_of(run, predictions=predictions):
                scores.setdefault((score.feature, score.explainer), []).append(score)
            explanations = self.explanations_of(run)
        results = []
        for explanation in explanations:
            own = scores.get((explanation.feature, explanation.explainer), [])
            usage = sum((score.usage for score in own), explanation.usage)
            results.append(
                ExperimentResult(
                    explanation,
                    tuple(own),
                    begun.config_digest,
                    begun.seed,
                    begun.versions,
                    usage.cost,
                    usage.seconds,
                )
            )
        return results

    # Units and failures

    def mark_done(self, run: str, feature: FeatureId, stage: str, part: str = "") -> None:
        """Notes that a unit is finished which leaves neither explanation nor score."""
        with self._database.writing() as connection:
            runs.known(connection, run)
            row = feature_id(connection, feature)
            if runs.finish_unit(connection, run, row, stage, part):
                listing.refresh(connection, run, row)

    def done(self, run: str, stage: str) -> frozenset[tuple[FeatureId, str]]:
        """The finished units of `stage`: each a feature and a part, as `part_of` names it."""
        with self._database.reading() as connection:
            rows = connection.execute(
                select(schema.features.c.name, schema.units.c.part)
                .join(schema.units)
                .where(schema.units.c.run == run, schema.units.c.stage == stage)
            )
            return frozenset((FeatureId.parse(row.name), row.part) for row in rows)

    def put_failure(
        self,
        run: str,
        feature: FeatureId | None,
        stage: str,
        part: str,
        kind: str,
        message: str,
        reply: str = "",
    ) -> None:
        """Keeps why a unit was given up, in place of an earlier reason of the same unit."""
        with self._database.writing() as connection:
            runs.known(connection, run)
            given = (stage, part, kind, message, reply)
            row = runs.put_failure(connection, run, feature, *given)
            if row is not None:
                listing.refresh(connection, run, row)

    def failures(self, run: str) -> list[Failure]:
        """What is given up in `run`, in the order it was."""
        with self._database.reading() as connection:
            runs.known(connection, run)
            return runs.failures(connection, run)

    # The ledger

    def put_calls(self, run: str, entries: Iterable[Entry]) -> list[int]:
        """Keeps calls to language models and the replies that came of them, in one transaction.

        Gives the line of the ledger that each has: a new one, or that which said it was out.
        """
        with self._database.writing() as connection:
            runs.known(connection, run)
            given = list(entries)
            if not given:
                return []
            lines = calls.put(connection, run, given)
            self.replies.put_all(entry for entry in given if entry.reply is not None)
            return lines

    def spent(self, run: str | None = None) -> tuple[float, int]:
        """US dollars and calls so far, in `run` or in all; cached calls count as none.

        Calls whose price is unknown add no dollars.
        """
        with self._database.reading() as connection:
            return calls.spent(connection, run)

    def assumed(self, run: str) -> Assumed:
        """How much of what was spent in `run` is assumed, for want of a bill."""
        with self._database.reading() as connection:
            return calls.assumed(connection, run)

    def used(self, run: str) -> Usage:
        """What the calls of `run` used together; the cost is None if that of any is unknown."""
        with self._database.reading() as connection:
            return calls.used(connection, run)

    def has_answered(self, run: str, llm: str) -> bool:
        """Whether the model called `llm` has answered any request that `run` sent."""
        with self._database.reading() as connection:
            return calls.has_answered(connection, run, llm)

    def asked(self, llm: str) -> dict[tuple[str, str], Usage]:
        """What the replies of the model called `llm` used, by stage and part, over all runs.

        What failed or did not say what it used is left out, and what went through a batch API,
        which took as long as it took.
        """
        with self._database.reading() as connection:
            return calls.asked(connection, llm)

    # Tables for people; `glossator.tables` documents their columns

    def features(self, run: str | None = None) -> DataFrame:
        """What was collected: one row for each feature and collection."""
        return self._table(tables.features, run)

    def collected(self, key: str | None = None) -> DataFrame:
        """Every feature of the collection `key`, or of all, those without a record among them."""
        with self._database.reading() as connection:
            return tables.collected(connection, key)

    def explanations(self, run: str | None = None) -> DataFrame:
        """One row for each explanation or abstention."""
        return self._table(tables.explanations, run)

    def scores(self, run: str | None = None) -> DataFrame:
        """One row for each score, beside its feature and explanation."""
        return self._table(tables.scores, run)

    def predictions(self, run: str | None = None) -> DataFrame:
        """One row for each predicted value: of a token, or of a whole window."""
        return self._table(tables.predictions, run)

    def calls(self, run: str | None = None) -> DataFrame:
        """The ledger: one row for each entry."""
        return self._table(tables.calls, run)

    def export(self, path: str, format: str | None = None, run: str | None = None) -> list[Path]:
        """Writes the results to `path`, and gives the files written.

        A name with a suffix is one file: the scores with their explanations, then explanations
        without a score, abstentions among them. Any other name is a folder with a file for each
        of `features`, `explanations`, `scores`, `predictions`, `calls`; it is made if need be.

        Args:
            path: Where to. A file that is there is replaced, whole or not at all.
            format: `parquet`, `csv` or `jsonl`; by the suffix, else parquet, unless given.
            run: Only what belongs to this run.

        Raises:
            ConfigError: if the format is unknown, or `path` holds `..` or control characters.
        """
        chosen, target = export.export_format(path, format), Path(path)
        if target.suffix and not os.path.isdir(target):
            export.write(self._table(tables.scores_and_abstentions, run), target, chosen)
            return [target]
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"cannot make {path!r}: {error.strerror}") from error
        written = []
        for name, read_table in tables.READERS.items():
            file = target / f"{name}.{chosen}"
            export.write(self._table(read_table, run), file, chosen)
            written.append(file)
        return written

    def _table(self, read_table: tables.Reader, run: str | None) -> DataFrame:
        with self._database.reading() as connection:
            if run is not None:
                runs.known(connection, run)
            return read_table(connection, run)


def _score(payload: str, predictions: list[JSON]) -> Score:
    return read(Score, {**load(payload), "predictions": predictions})

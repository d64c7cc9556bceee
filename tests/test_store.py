import dataclasses
import io
import json
import math
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import create_engine
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

import glossator.schema
from glossator.config import RunConfig
from glossator.database import wal_notices
from glossator.errors import ConfigError, StoreError
from glossator.ledger import Assumed, Batch, Call, Entry, Item
from glossator.llm import Message, Purpose, Reply, Request
from glossator.store import RunStatus, Store, open_store, part_of
from glossator.tables import TYPES
from glossator.types import (
    Example,
    Explanation,
    FeatureId,
    FeatureRecord,
    FeatureSummary,
    Kind,
    Measure,
    Null,
    Pool,
    Prediction,
    Score,
    Split,
    Stratum,
    Usage,
)

FEATURE = FeatureId("smollm2-135m", "layers.7.mlp.neurons", 3)
OTHER = FeatureId("a/b", "layers.1.mlp.neurons", 5, coder="mine", negative=True)
CONFIG = RunConfig()


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder / 'results.db'}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(url_of(tmp_path)) as opened:
        yield opened


def said(feature: FeatureId = FEATURE, text: str = "numbers", **more: Any) -> Explanation:
    return Explanation(feature, text, more.pop("explainer", "max-act"), **more)


def predicted(n: int = 2) -> tuple[Prediction, ...]:
    return (
        Prediction("d:0", "top", 1.5, "d", (0.0, 2.0)[:n], (1.0, 9.0)[:n], "tenths", ("a", "=b")),
        Prediction(
            "d:8", "silent", 3.0, "d", (0.0, 0.0)[:n], (), "tenths", ("c", "d"), "parse", "?"
        ),
    )


def scored(feature: FeatureId = FEATURE, **more: Any) -> Score:
    more = {"explainer": "max-act", "scorer": "simulation", "value": 0.5, "n": 1, **more}
    return Score(feature, **more)


def record_of(feature: FeatureId = FEATURE, density: float = 0.25) -> FeatureRecord:
    def split(pool: Pool) -> Split:
        firing = Example(("x", " y"), (0.5, 2.0), f"doc-{pool}", 0, "top", 1.0)
        return Split(pool, 1.0, (firing,), (), (Stratum("top", 1, 1),))

    return FeatureRecord(
        feature,
        split(Pool.TRAIN),
        split(Pool.DEV),
        split(Pool.TEST),
        density=density,
        threshold=1.0,
        threshold_rule="above 1",
        peak=2.0,
        mean=0.1,
        std=0.2,
        n_tokens=6,
        kind=Kind.TOKEN,
        histogram_edges=(0.0, 1.0, 2.0),
        histogram=(4, 2),
        provenance={"corpus": "default"},
    )


# Opening


def test_an_empty_folder_gets_the_tables_that_the_schema_describes(store: Store) -> None:
    with store._database.reading() as connection:
        context = MigrationContext.configure(connection)
        differences = compare_metadata(context, glossator.schema.metadata)
        # What SQLite's index of words keeps its own contents in; there is nothing else.
        parts = ("", "_config", "_data", "_docsize", "_idx")
        beyond = sorted((difference[0], difference[1].name) for difference in differences)
        assert beyond == [("remove_table", f"{glossator.schema.WORDS}{part}") for part in parts]
        assert context.get_current_revision() == glossator.schema.REVISIONS[-1]


def test_the_revisions_of_the_schema_are_the_scripts_there_are() -> None:
    config = Config()
    folder = Path(glossator.schema.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    scripts = ScriptDirectory.from_config(config).walk_revisions()
    assert tuple(script.revision for script in scripts)[::-1] == glossator.schema.REVISIONS


def test_opening_a_store_again_is_quick_and_takes_no_alembic(tmp_path: Path) -> None:
    open_store(url_of(tmp_path)).close()
    program = (
        "import sys, time; from glossator.store import open_store; start = time.perf_counter();"
        "open_store(sys.argv[1]).close(); print(time.perf_counter() - start);"
        "print([name for name in ('alembic', 'pandas', 'scipy', 'torch') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, url_of(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, loaded = done.stdout.splitlines()
    assert float(seconds) < 1
    assert loaded == "[]"


def test_sqlite_runs_as_it_must_not_to_lose_what_was_paid_for(store: Store) -> None:
    with store._database.reading() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    full = 2
    assert found == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "busy_timeout": 30_000,
    }


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    open_store(url_of(tmp_path)).close()
    with sqlite3.connect(tmp_path / "results.db") as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(StoreError, match=r"newer glossator .*'9999'.*update glossator"):
        open_store(url_of(tmp_path))


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "results.db") as raw:
        raw.execute("CREATE TABLE recipes (id INTEGER)")
    raw.close()
    with pytest.raises(StoreError, match=r"another program .*'recipes'"):
        open_store(url_of(tmp_path))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.db").write_text("notes on the feature\n" * 100)
    with pytest.raises(StoreError, match="not a SQLite database"):
        open_store(url_of(tmp_path))
    assert (tmp_path / "results.db").read_text().startswith("notes")


def test_a_damaged_file_is_told_in_a_sentence(tmp_path: Path) -> None:
    with open_store(url_of(tmp_path)) as opened:
        opened.begin_run(CONFIG)
    file = tmp_path / "results.db"
    whole = file.read_bytes()
    # The header stays, all pages behind the first are overwritten.
    file.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with pytest.raises(StoreError, match="damaged"), open_store(url_of(tmp_path)) as opened:
        opened.runs()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("missing/results.db", "there is no folder"),
        ("file/results.db", "there is no folder"),
        (".", "is a folder"),
        ("n" * 300, "cannot be written to"),
    ],
)
def test_a_place_that_cannot_hold_a_store_is_named(
    tmp_path: Path, place: str, message: str
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=message):
        open_store(f"sqlite:///{tmp_path / place}")


def test_a_folder_that_may_not_be_written_to_is_told() -> None:
    # /proc takes no file from anybody, root included.
    with pytest.raises(StoreError, match=r"cannot be written to"):
        open_store("sqlite:////proc/results.db")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("results.db", "not a URL such as"),
        ("sqlite://", "a store is a file"),
        ("sqlite:///:memory:", "a store is a file"),
        ("mysql://host/name", "there are: sqlite, postgresql"),
        ("sqlite:///a.db?mode=ro", "without options"),
    ],
)
def test_a_url_that_names_no_store_is_refused(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        open_store(url)


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    opened = open_store(url_of(tmp_path))
    opened.close()
    opened.close()
    for use in (opened.runs, lambda: opened.begin_run(CONFIG)):
        with pytest.raises(StoreError, match="was closed"):
            use()


def test_no_password_is_told() -> None:
    with pytest.raises(StoreError) as refused:
        open_store("postgresql://me:hunter2@127.0.0.1:1/results")
    assert "hunter2" not in str(refused.value)


def test_a_full_disk_is_told_and_what_was_there_stays(store: Store) -> None:
    run = store.begin_run(CONFIG).id
    store.put_explanation(run, said())
    with store._database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StoreError, match=r"disk is full.*Free space"):
        store.put_explanation(run, said(OTHER, "x" * 100_000))
    assert store.explanations_of(run) == [said()]
    with store._database.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    assert store.put_explanation(run, said(OTHER, "x" * 100_000))


def test_versions_of_sqlite_with_the_wal_race_are_known() -> None:
    assert "3.51.3" in wal_notices((3, 40, 1))[0]
    assert wal_notices((3, 51, 2))
    assert not wal_notices((3, 51, 3))
    assert not wal_notices((3, 6, 23))


# Runs


def test_the_same_config_goes_on_with_the_same_run(store: Store) -> None:
    first = store.begin_run(CONFIG, name="mine", versions={"torch": "1"})
    assert (first.id, first.status, first.finished) == ("r1", "running", None)
    store.finish_run("r1", RunStatus.INTERRUPTED)
    assert store.run("r1").status is RunStatus.INTERRUPTED
    again = store.begin_run(CONFIG, versions={"torch": "2", "numpy": "3"})
    assert (again.id, again.status, again.finished) == ("r1", "running", None)
    assert again.versions == {"torch": "1, 2", "numpy": "3"}
    assert again.name == "mine"
    assert RunConfig.from_mapping(again.config) == CONFIG
    assert again.config_digest == CONFIG.digest


def test_another_config_or_a_fresh_start_is_another_run(store: Store) -> None:
    ids = [
        store.begin_run(CONFIG).id,
        store.begin_run(RunConfig(seed=1)).id,
        store.begin_run(CONFIG, fresh=True).id,
        store.begin_run(CONFIG).id,
    ]
    assert ids == ["r1", "r2", "r3", "r3"]
    assert [run.id for run in store.runs()] == ["r1", "r2", "r3"]


def test_an_unknown_run_is_refused_and_the_known_ones_named(store: Store) -> None:
    with pytest.raises(StoreError, match="there are none yet"):
        store.put_score("r1", scored())
    store.begin_run(CONFIG)
    for use in (store.run, store.results, store.scores, store.failures, store.finish_run):
        with pytest.raises(StoreError, match="no run is called 'r7'; there are: r1"):
            use("r7")
    with pytest.raises(StoreError, match="did you mean done"):
        store.finish_run("r1", "donne")


# What goes in comes out


def test_a_record_comes_back_as_it_was(store: Store) -> None:
    store.put_records("key", [record_of(), record_of(OTHER)])
    assert store.record("key", FEATURE) == record_of()
    assert store.record("other key", FEATURE) is None
    assert list(store.records("key")) == [record_of(), record_of(OTHER)]
    assert store.recorded("key") == {FEATURE, OTHER}


def test_a_record_replaces_the_one_before(store: Store) -> None:
    store.put_record("key", record_of())
    store.put_record("key", record_of(density=0.5))
    assert list(store.records("key")) == [record_of(density=0.5)]


def test_many_records_are_read_in_pieces_and_none_is_lost(store: Store) -> None:
    features = [FeatureId("m", "layers.0.mlp.neurons", index) for index in range(201)]
    store.put_records("key", [record_of(feature) for feature in features])
    assert [record.feature for record in store.records("key")] == features


# Summaries


def summary_of(index: int, **more: Any) -> FeatureSummary:
    feature = FeatureId("m", "layers.0.mlp.neurons", index)
    plain = FeatureSummary.of(record_of(feature))
    return dataclasses.replace(plain, **{"lowest": -0.5, "evidence": {"density": 0.25}, **more})


def test_a_summary_comes_back_as_it_was(store: Store) -> None:
    given_ones = [summary_of(7, evidence={}), summary_of(3, lowest=None, n_windows=None)]
    store.put_summaries("key", [*given_ones, dataclasses.replace(given_ones[0], feature=OTHER)])
    found = list(store.summaries("key"))
    assert found[:2] == given_ones
    assert [one.feature for one in found] == [*(one.feature for one in given_ones), OTHER]
    assert list(store.summaries("other key")) == []
    assert store.recorded("key") == frozenset()


def test_a_summary_replaces_the_one_before_and_what_it_does_not_know_stays(store: Store) -> None:
    store.put_summaries("key", [summary_of(1), summary_of(1, peak=9.0)])
    (found,) = store.summaries("key")
    assert (found.peak, found.lowest) == (9.0, -0.5)
    store.put_summaries("key", [summary_of(1, lowest=None, kind=Kind.DENSE)])
    (found,) = store.summaries("key")
    assert (found.kind, found.lowest) == (Kind.DENSE, -0.5)


def test_every_record_has_a_summary(store: Store) -> None:
    record = dataclasses.replace(record_of(), kind_evidence={"token_share": 0.75})
    store.put_records("key", [record, record_of(OTHER)])
    found = list(store.summaries("key"))
    assert found == [FeatureSummary.of(record), FeatureSummary.of(record_of(OTHER))]
    assert store.record("key", FEATURE) == record


def test_summaries_are_told_apart_by_kind(store: Store) -> None:
    kinds = [Kind.TOKEN, Kind.POSITIONAL, Kind.OTHER, Kind.POSITIONAL]
    store.put_summaries("key", [summary_of(i, kind=kind) for i, kind in enumerate(kinds)])

    def found(*wanted: Kind) -> list[int]:
        return [one.feature.index for one in store.summaries("key", wanted)]

    assert found(Kind.POSITIONAL) == [1, 3]
    assert found(Kind.POSITIONAL, Kind.TOKEN) == [0, 1, 3]
    assert found(Kind.DEAD) == found() == []


def test_a_collection_that_fails_half_way_leaves_no_summary(store: Store) -> None:
    def broken() -> Iterator[FeatureSummary]:
        yield from map(summary_of, range(6000))
        raise ValueError("out of memory")

    with pytest.raises(ValueError, match="out of memory"):
        store.put_summaries("key", broken())
    assert list(store.summaries("key")) == []


def test_tens_of_thousands_of_summaries_are_stored_and_read_in_seconds(store: Store) -> None:
    n = 20_000
    one = summary_of(0)

    def all_neurons() -> Iterator[FeatureSummary]:
        for index in range(n):
            feature = FeatureId("m", "layers.0.mlp.neurons", index // 2, None, bool(index % 2))
            yield dataclasses.replace(one, feature=feature)

    start = time.process_time()
    store.put_summaries("key", all_neurons())
    stored = time.process_time()
    assert sum(1 for _ in store.summaries("key")) == n
    read = time.process_time()
    assert stored - start < 4
    assert read - stored < 4
    assert len(store.collected("key")) == n


def test_a_damaged_summary_is_an_error_and_no_value(store: Store) -> None:
    store.put_summaries("key", [summary_of(1)])
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE summaries SET kind = 'strange'")
    with pytest.raises(StoreError, match="stored summary cannot be read"):
        list(store.summaries("key"))


def test_the_table_of_what_was_collected_has_all_of_it(store: Store) -> None:
    store.put_record("key", record_of())
    store.put_summaries("key", [summary_of(1, kind=Kind.DEAD)])
    store.put_summaries("other", [summary_of(1)])
    table = store.collected("key")
    assert list(table["kind"]) == ["token", "dead"]
    assert table["lowest"].isna().to_list() == [True, False]
    assert [json.loads(text) for text in table["evidence"]] == [{}, {"density": 0.25}]
    assert len(store.collected()) == 3
    assert len(store.features()) == 1


def at_revision(url: str, revision: str) -> None:
    """Makes the tables that a version of that revision made."""
    config = Config()
    folder = Path(glossator.schema.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    engine = create_engine(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def test_records_of_an_older_store_get_their_summaries(tmp_path: Path) -> None:
    at_revision(url_of(tmp_path), "0001")
    old = record_of().to_json()
    del old["kind_evidence"]
    raw = sqlite3.connect(tmp_path / "results.db")
    raw.execute(
        "INSERT INTO features VALUES (1, ?, 'smollm2-135m', 'layers.7.mlp.neurons', NULL, 3, 0)",
        (str(FEATURE),),
    )
    raw.execute(
        "INSERT INTO records VALUES ('key', 1, 'token', 0.25, 1.0, 2.0, 0.1, 0.2, 6, ?, 'then')",
        (zlib.compress(json.dumps(old).encode()),),
    )
    raw.commit()
    raw.close()
    with open_store(url_of(tmp_path)) as store:
        assert store.record("key", FEATURE) == record_of()
        (found,) = store.summaries("key", [Kind.TOKEN])
        assert found == dataclasses.replace(FeatureSummary.of(record_of()), n_windows=None)
        store.put_record("key", record_of())
        assert list(store.summaries("key")) == [FeatureSummary.of(record_of())]


def test_the_ledger_of_an_older_store_is_kept(tmp_path: Path) -> None:
    at_revision(url_of(tmp_path), "0002")
    raw = sqlite3.connect(tmp_path / "results.db")
    raw.execute(
        "INSERT INTO runs VALUES ('r1', 1, '', 'd', 'c', '{}', 0, '{}', 'then', NULL, 'done')"
    )
    raw.execute(
        "INSERT INTO calls (run, stage, llm, request, attempt, error, error_type, calls, "
        "prompt_tokens, completion_tokens, cost, seconds, cached_calls, made) "
        "VALUES ('r1', 'score', 'a:b', 'x', 1, '', '', 1, 10, 5, 0.5, 1.0, 0, "
        "'2026-11-01T00:00:00+00:00')"
    )
    raw.commit()
    raw.close()
    with open_store(url_of(tmp_path)) as store:
        (line,) = store.calls("r1").to_dict("records")
        assert (line["llm"], line["cost"], line["prompt_tokens"]) == ("a:b", 0.5, 10)
        assert (line["part"], line["reasoning_tokens"], line["batched"]) == ("", 0, False)
        assert pd.isna(line["feature"])
        assert pd.isna(line["price"])
        assert store.spent("r1") == (0.5, 1)


def test_what_an_older_ledger_assumed_is_told_apart(tmp_path: Path) -> None:
    at_revision(url_of(tmp_path), "0003")
    raw = sqlite3.connect(tmp_path / "results.db")
    raw.execute(
        "INSERT INTO runs VALUES ('r1', 1, '', 'd', 'c', '{}', 0, '{}', 'then', NULL, 'done')"
    )
    for kind, tokens, cost in (("", 10, 0.5), ("Out", 0, 2.0), ("ProviderError", 0, 1.0)):
        raw.execute(
            "INSERT INTO calls (run, stage, llm, request, attempt, error, error_type, calls, "
            "prompt_tokens, completion_tokens, cost, seconds, cached_calls, made) "
            "VALUES ('r1', 'score', 'a:b', 'x', 1, ?, ?, 1, ?, 0, ?, 1.0, 0, "
            "'2026-11-01T00:00:00+00:00')",
            (kind, kind, tokens, cost),
        )
    raw.commit()
    raw.close()
    with open_store(url_of(tmp_path)) as store:
        assert list(store.calls("r1")["assumed"]) == [0.0, 2.0, 1.0]
        assert store.assumed("r1") == Assumed(3.0, 2.0, 1)


def test_the_statements_are_those_of_postgresql_too() -> None:
    """The table and the upgrade, as that dialect would be sent them."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    made = str(CreateTable(glossator.schema.summaries).compile(dialect=dialect))
    assert "PRIMARY KEY (collection, feature)" in made
    told = io.StringIO()
    config = Config(output_buffer=told)
    folder = Path(glossator.schema.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, context: Any) -> Any:
        return script._upgrade_revs("head", revision)

    with EnvironmentContext(config, script, fn=steps, as_sql=True) as environment:
        environment.configure(dialect_name="postgresql", output_buffer=told)
        with environment.begin_transaction():
            environment.run_migrations()
    assert "INSERT INTO summaries (collection, feature" in told.getvalue()
    assert "lowest FLOAT," in told.getvalue()


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
USAGE = st.builds(
    Usage, *[st.integers(0, 2**31)] * 4, st.none() | st.floats(0, 1e9), st.floats(0, 1e9)
)
EXPLANATIONS = st.builds(
    Explanation,
    feature=st.sampled_from([FEATURE, OTHER]),
    text=TEXT.filter(lambda text: bool(text.strip())),
    explainer=st.sampled_from(["max-act", "unigram"]),
    prompt_version=TEXT,
    senses=st.lists(TEXT, max_size=2).map(tuple),
    words=st.lists(st.tuples(TEXT, NUMBER), max_size=3).map(tuple),
    usage=USAGE,
)
PREDICTIONS = st.integers(1, 3).flatmap(
    lambda n: st.builds(
        Prediction,
        example=TEXT,
        stratum=TEXT,
        weight=NUMBER,
        document=TEXT,
        actual=st.tuples(*[NUMBER] * n),
        predicted=st.tuples(*[NUMBER] * n),
        scale=st.just("raw"),
        tokens=st.tuples(*[TEXT] * n),
    )
)
SCORES = st.builds(
    Score,
    feature=st.sampled_from([FEATURE, OTHER]),
    explainer=st.just("max-act"),
    scorer=st.sampled_from(["detection", "simulation"]),
    value=st.none() | NUMBER,
    null=st.none() | NUMBER,
    p=st.none() | st.floats(1e-9, 1),
    note=TEXT.map(lambda text: text + "why"),
    measures=st.dictionaries(TEXT, st.builds(Measure, st.none() | NUMBER), max_size=2),
    nulls=st.lists(
        st.builds(Null, st.just("shuffled"), st.none() | NUMBER, explanations=st.tuples(TEXT)),
        max_size=2,
    ).map(tuple),
    predictions=st.lists(PREDICTIONS, max_size=3).map(tuple),
    usage=USAGE,
)
SHARED = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(EXPLANATIONS)
@SHARED
def test_any_explanation_comes_back_as_it_was(store: Store, explanation: Explanation) -> None:
    run = store.begin_run(CONFIG, fresh=True).id
    store.put_explanation(run, explanation)
    found = store.explanation_of(run, explanation.feature, explanation.explainer)
    assert found == explanation
    assert len(store.explanations(run)) == 1


@given(SCORES)
@example(
    scored(predictions=(Prediction("\ud800", "q", 1.0, "\0", (1.0,), (1.0,), "raw", ("\udfff",)),))
)
@SHARED
def test_any_score_comes_back_as_it_was(store: Store, score: Score) -> None:
    run = store.begin_run(CONFIG, fresh=True).id
    store.put_score(run, score)
    assert store.score_of(run, score.feature, score.explainer, score.scorer) == score
    assert store.scores_of(run, predictions=True) == [score]
    assert len(store.scores(run)) == 1
    assert len(store.predictions(run)) == sum(len(p.actual) for p in score.predictions)


@given(TEXT, st.lists(st.floats(max_value=0, allow_nan=False), max_size=4), USAGE)
@SHARED
def test_any_reply_comes_back_as_it_was(
    store: Store, text: str, logprobs: list[float], usage: Usage
) -> None:
    request = Request((Message("user", text),), answers=("yes", "no"))
    reply = Reply(text, "length", tuple(logprobs), (tuple(logprobs),), usage, "m-1")
    key = request.digest + str(logprobs) + str(usage)
    store.replies.put_all([Entry(Call("local", request.digest, 1, Usage(1)), key, request, reply)])
    assert store.replies.get(key) == reply
    assert store.replies.get("no such key") is None


# Once


def test_the_first_explanation_and_the_first_score_stay(store: Store) -> None:
    run = store.begin_run(CONFIG).id
    assert store.put_explanation(run, said())
    assert not store.put_explanation(run, said(text="letters"))
    assert store.explanations_of(run) == [said()]
    assert store.put_score(run, scored())
    assert not store.put_score(run, scored(value=0.9, predictions=predicted()))
    assert store.put_score(run, scored(simulator="logprob", value=0.7))
    assert [score.value for score in store.scores_of(run)] == [0.5, 0.7]
    assert store.predictions(run).empty
    assert store.score_of(run, FEATURE, "max-act", "simulation", "logprob") == scored(
        simulator="logprob", value=0.7
    )


def test_what_is_finished_is_known_by_run_stage_and_part(store: Store) -> None:
    run = store.begin_run(CONFIG).id
    store.put_explanation(run, said())
    store.put_score(run, scored(simulator="logprob"))
    store.mark_done(run, OTHER, "collect")
    assert store.done(run, "explain") == {(FEATURE, "max-act")}
    assert store.done(run, "score") == {(FEATURE, "max-act/simulation/logprob")}
    assert store.done(run, "collect") == {(OTHER, "")}
    assert store.done(store.begin_run(CONFIG, fresh=True).id, "explain") == frozenset()


def test_a_failure_is_kept_until_the_work_succeeds(store: Store) -> None:
    run = store.begin_run(CONFIG).id
    stage, part = part_of(scored())
    store.put_failure(run, None, "collect", "", "corpus", "empty")
    store.put_failure(run, FEATURE, stage, part, "parse", "no number")
    store.put_failure(run, FEATURE, stage, part, "parse", "no number again", "r\0" * 5000)
    store.put_failure(run, OTHER, stage, part, "refused", "would not")
    kept = store.failures(run)
    assert [(f.feature, f.kind, f.message) for f in kept] == [
        (None, "corpus", "empty"),
        (FEATURE, "parse", "no number again"),
        (OTHER, "refused", "would not"),
    ]
    assert len(kept[1].reply) == 2000
    store.put_score(run, scored())
    assert [f.feature for f in store.failures(run)] == [None, OTHER]


def put_call(
    store: Store,
    run: str,
    stage: str,
    llm: str,
    usage: Usage,
    *,
    request: str = "",
    attempt: int = 1,
    error: str = "",
) -> None:
    call = Call(llm, request, attempt, usage, error, purpose=Purpose(stage))
    store.put_calls(run, [Entry(call)])


def test_a_call_says_what_it_was_for_and_is_kept_with_its_reply_or_not_at_all(
    store: Store,
) -> None:
    run = store.begin_run(CONFIG).id
    usage = Usage(1, 0, 100, 20, 0.25, 1.0, 60, 10, 5)
    price = '{"source":"genai-prices"}'
    request, reply = Request((Message("user", "hm"),)), Reply("yes", usage=usage)
    about = Purpose("score", FEATURE, "max-act/detection")
    lines = [
        Entry(Call("a:b", "d", 1, usage, purpose=about, price=price), "key", request, reply),
        Entry(Call("a:b", "e", 1, usage, "timeout", "ProviderError", about, price, True)),
    ]
    store.put_calls(run, lines)
    assert store.replies.get("key") == reply
    table = store.calls(run)
    assert list(table["feature"]) == [str(FEATURE)] * 2
    assert list(table["part"]) == ["max-act/detection"] * 2
    assert list(table["price"]) == [price] * 2
    assert list(table["batched"]) == [False, True]
    assert list(table["cache_read_tokens"]) == [60, 60]
    assert list(table["cache_write_tokens"]) == [10, 10]
    assert list(table["reasoning_tokens"]) == [5, 5]
    with pytest.raises(StoreError):
        store.put_calls("no such run", [Entry(lines[0].call, "other", request, reply)])
    assert store.replies.get("other") is None


def test_spending_adds_up_and_an_unknown_price_adds_no_dollars(store: Store) -> None:
    run = store.begin_run(CONFIG).id
    assert store.spent(run) == (0.0, 0)
    put_call(store, run, "explain", "openai:x", Usage(1, 0, 10, 5, 0.25, 1.0), request="abc")
    put_call(store, run, "explain", "openai:x", Usage(1, cost=None), error="timeout")
    put_call(store, run, "score", "openai:x", Usage(0, cached_calls=1), attempt=0)
    other = store.begin_run(CONFIG, fresh=True).id
    put_call(store, other, "score", "openai:x", Usage(1, cost=0.5))
    assert store.spent(run) == (0.25, 2)
    assert store.spent() == (0.75, 3)
    assert list(store.calls(run)["n_cached"]) == [0, 0, 1]


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    run = store.begin_run(CONFIG).id

    def both() -> None:
        with store.transaction():
            store.put_explanation(run, said())
            assert store.explanations_of(run) == [said()]
            put_call(store, run, "explain", "local", Usage(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        both()
    assert store.explanations_of(run) == []
    assert store.spent() == (0.0, 0)


def test_a_result_has_its_scores_and_what_made_it(store: Store) -> None:
    run = store.begin_run(CONFIG, versions={"model": "abc"}).id
    store.put_explanation(run, said(usage=Usage(1, cost=0.25, seconds=1.0)))
    store.put_explanation(run, said(OTHER, "", abstained="nothing fires"))
    store.put_score(run, scored(usage=Usage(2, cost=0.5, seconds=2.0), predictions=predicted()))
    first, second = store.results(run, predictions=True)
    assert first.explanation.text == "numbers"
    assert first.scores[0].predictions == predicted()
    assert (first.cost, first.seconds, first.seed) == (0.75, 3.0, CONFIG.seed)
    assert (first.config_digest, first.versions) == (CONFIG.digest, {"model": "abc"})
    assert second.scores == ()


def test_what_cannot_be_read_back_is_an_error_and_no_value(store: Store) -> None:
    run = store.begin_run(CONFIG).id
    store.put_explanation(run, said())
    store.put_record("key", record_of())
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE explanations SET payload = '{\"text\": 3}'")
        connection.exec_driver_sql("UPDATE records SET payload = x'00'")
    with pytest.raises(StoreError, match="stored Explanation cannot be read"):
        store.explanations_of(run)
    with pytest.raises(StoreError, match="damaged"):
        store.record("key", FEATURE)


# Kills, processes, threads

WRITER = """
import sys
sys.path.insert(0, sys.argv[3])
from test_store import CONFIG, FEATURE, predicted, put_call, said, scored
from glossator.store import open_store
from glossator.types import FeatureId, Usage
store = open_store(sys.argv[1])
run = store.begin_run(CONFIG).id
done = {feature for feature, _ in store.done(run, "score")}
print("started", flush=True)
for index in range(int(sys.argv[2])):
    feature = FeatureId("m", "layers.0.mlp.neurons", index)
    if feature in done:
        continue
    with store.transaction():
        store.put_explanation(run, said(feature))
        store.put_score(run, scored(feature, predictions=predicted()))
        put_call(store, run, "score", "local", Usage(1, cost=0.5))
    print(index, flush=True)
"""


def writer(url: str, count: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, url, str(count), str(Path(__file__).parent)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def rows(file: Path, table: str) -> int:
    raw = sqlite3.connect(file)
    try:
        return int(raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    finally:
        raw.close()


def test_after_kill_9_all_that_was_told_is_whole_and_the_rest_is_done_once(
    tmp_path: Path,
) -> None:
    url, told = url_of(tmp_path), 0
    for patience in (0.05, 0.2):
        process = writer(url, 10_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(patience)
        os.kill(process.pid, signal.SIGKILL)
        lines = process.communicate()[0].splitlines(keepends=True)
        told += sum(line.endswith("\n") for line in lines)
    assert told > 0
    with open_store(url) as store:
        scores = store.scores_of("r1", predictions=True)
        assert told <= len(scores) <= told + 2
        assert all(score.predictions == predicted() for score in scores)
        assert {s.feature for s in scores} == {e.feature for e in store.explanations_of("r1")}
        assert store.spent("r1") == (len(scores) / 2, len(scores))
        total = len(scores) + 5
    process = writer(url, total)
    assert len(process.communicate()[0].splitlines()) == 1 + 5
    with open_store(url) as store:
        features = [score.feature.index for score in store.scores_of("r1")]
        assert sorted(features) == list(range(total))
        assert store.spent("r1")[1] == total
    assert rows(tmp_path / "results.db", "predictions") == total


def test_two_processes_open_one_new_store_and_write_each_row_once(tmp_path: Path) -> None:
    both = [writer(url_of(tmp_path), 60), writer(url_of(tmp_path), 60)]
    for process in both:
        process.communicate()
    assert [process.returncode for process in both] == [0, 0]
    with open_store(url_of(tmp_path)) as store:
        assert [run.id for run in store.runs()] == ["r1"]
        assert len(store.scores_of("r1")) == 60
        assert len({score.feature for score in store.scores_of("r1")}) == 60


def test_threads_share_a_store(store: Store) -> None:
    run = store.begin_run(CONFIG).id

    def work(part: int) -> None:
        for index in range(10):
            feature = FeatureId("m", "layers.0.mlp.neurons", 10 * part + index)
            with store.transaction():
                store.put_explanation(run, said(feature))
                store.put_score(run, scored(feature))
            assert store.explanation_of(run, feature, "max-act") is not None

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(store.results(run)) == 80


# Tables


def test_tables_have_the_types_they_promise_full_or_empty(store: Store) -> None:
    def types_of(frame: pd.DataFrame) -> dict[str, str]:
        return {str(name): str(kind) for name, kind in frame.dtypes.items()}

    read = {name: getattr(store, name) for name in TYPES}
    assert {name: types_of(table()) for name, table in read.items()} == TYPES
    run = store.begin_run(CONFIG).id
    store.put_record(CONFIG.collection_digest, record_of())
    store.put_explanation(run, said())
    store.put_score(run, scored(predictions=predicted(), p=0.5))
    store.put_score(run, scored(OTHER, value=None, note="never fires"))
    put_call(store, run, "score", "local", Usage(1, cost=None))
    assert {name: types_of(table()) for name, table in read.items()} == TYPES
    assert all(len(table()) for table in read.values())


def test_a_row_of_scores_holds_the_feature_its_record_and_its_explanation(store: Store) -> None:
    run = store.begin_run(CONFIG).id
    store.put_record(CONFIG.collection_digest, record_of())
    store.put_record("of another collection", record_of(density=0.9))
    store.put_explanation(run, said())
    store.put_score(run, scored(null=0.1, usage=Usage(1, cost=None)))
    store.put_score(run, scored(OTHER, scorer="intruder", explainer="", value=None, note="dead"))
    first, second = store.scores().to_dict("records")
    assert first["feature"] == str(FEATURE)
    assert (first["density"], first["kind"], first["explanation"]) == (0.25, "token", "numbers")
    assert (first["value"], first["null"], first["seed"]) == (0.5, 0.1, 0)
    assert math.isnan(first["cost"])
    assert (second["coder"], second["index"], second["negative"]) == ("mine", 5, True)
    assert store.scores()["explanation"].isna().to_list() == [False, True]
    assert store.scores()["kind"].isna().to_list() == [False, True]
    assert math.isnan(second["value"])
    assert math.isnan(second["density"])


def test_q_is_that_of_benjamini_and_hochberg_within_each_run_and_scorer(store: Store) -> None:
    # Benjamini and Hochberg 1995, by hand: the least of p * m / rank over all ranks from there.
    p_values = (0.01, 0.04, 0.03, 0.2)
    by_hand = [0.04, 0.16 / 3, 0.16 / 3, 0.2]
    run = store.begin_run(CONFIG).id
    for index, p in enumerate(p_values):
        store.put_score(run, scored(FeatureId("m", "s", index), p=p))
    store.put_score(run, scored(FeatureId("m", "s", 8), p=None))
    store.put_score(run, scored(FeatureId("m", "s", 8), scorer="detection", p=0.5))
    other = store.begin_run(CONFIG, fresh=True).id
    store.put_score(other, scored(p=0.05))
    q = list(store.scores()["q"])
    assert q[:4] == pytest.approx(by_hand)
    assert math.isnan(q[4])
    assert q[5:] == [0.5, 0.05]


def test_predictions_are_one_row_a_value(store: Store) -> None:
    run = store.begin_run(CONFIG).id
    whole = Prediction("d:4", "q1", 1.0, "d", (1.0,), (0.75,), "probability", ("a", "b"))
    store.put_score(run, scored(predictions=(*predicted(), whole)))
    table = store.predictions(run)
    assert list(table["token"]) == ["a", "=b", "c", "d", "ab"]
    assert list(table["actual"]) == [0.0, 2.0, 0.0, 0.0, 1.0]
    assert list(table["predicted"].dropna()) == [1.0, 9.0, 0.75]
    assert list(table["position"][:4]) == [0, 1, 0, 1]
    assert table["position"][4] is pd.NA
    assert list(table["failure"]) == ["", "", "parse", "parse", ""]


def test_a_thousand_scores_are_listed_quickly(store: Store) -> None:
    run = store.begin_run(CONFIG).id
    with store.transaction():
        for index in range(1000):
            feature = FeatureId("m", "layers.0.mlp.neurons", index)
            store.put_explanation(run, said(feature))
            store.put_score(run, scored(feature, predictions=predicted(), p=0.5))
    store.scores(run)  # pandas and scipy are loaded by now
    start = time.perf_counter()
    assert len(store.scores(run)) == 1000
    assert time.perf_counter() - start < 1


# Files


def filled(store: Store) -> str:
    run = store.begin_run(CONFIG).id
    store.put_record(CONFIG.collection_digest, record_of())
    store.put_explanation(run, said(text="=HYPERLINK(1)"))
    store.put_explanation(run, said(OTHER, "", abstained="nothing, it is dead"))
    store.put_score(run, scored(value=-0.5, note="-1 is missing", predictions=predicted()))
    return run


def test_parquet_comes_back_as_the_table_it_was(store: Store, tmp_path: Path) -> None:
    filled(store)
    (file,) = store.export(str(tmp_path / "out.parquet"))
    back = pd.read_parquet(file)
    assert list(back["explanation"]) == ["=HYPERLINK(1)", ""]
    assert back["value"][0] == -0.5
    pd.testing.assert_frame_equal(back[:1], store.scores()[:1])
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


def test_cells_of_text_are_no_formulas_in_csv_and_numbers_stay_numbers(
    store: Store, tmp_path: Path
) -> None:
    filled(store)
    (file,) = store.export(str(tmp_path / "out.csv"))
    back = pd.read_csv(file)
    assert back["explanation"][0] == "'=HYPERLINK(1)"
    assert back["note"][0] == "'-1 is missing"
    assert back["value"][0] == -0.5
    assert back["abstained"][1] == "nothing, it is dead"
    assert math.isnan(back["value"][1])


def test_json_lines_hold_exact_numbers_and_null_for_what_is_missing(
    store: Store, tmp_path: Path
) -> None:
    run = store.begin_run(CONFIG).id
    third = 1 / 3
    store.put_score(run, scored(value=third))
    (file,) = store.export(str(tmp_path / "out"), "jsonl")[2:3]
    (line,) = map(json.loads, file.read_text().splitlines())
    assert line["value"] == third
    assert line["low"] is None
    assert line["explanation"] is None
    assert line["negative"] is False
    assert line["made"].endswith("+00:00")


def test_a_folder_gets_a_file_for_each_table(store: Store, tmp_path: Path) -> None:
    run = filled(store)
    for chosen in ("parquet", "csv", "jsonl"):
        files = store.export(str(tmp_path / chosen), chosen, run)
        tables = ("features", "explanations", "scores", "predictions", "calls")
        names = [f"{table}.{chosen}" for table in tables]
        assert [file.name for file in files] == names
        assert sorted(file.name for file in (tmp_path / chosen).iterdir()) == sorted(names)


@pytest.mark.parametrize("path", ["../out.csv", "a/../../out.csv", "out\0.csv", "a\nb.csv", ""])
def test_a_path_that_leads_elsewhere_is_refused(store: Store, path: str) -> None:
    with pytest.raises(ConfigError, match="cannot export to"):
        store.export(path)


def test_an_unknown_format_is_refused_and_the_near_one_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean parquet"):
        store.export(str(tmp_path / "out"), "parket")
    with pytest.raises(ConfigError, match="cannot export as 'xlsx'"):
        store.export(str(tmp_path / "out.xlsx"))


def test_a_file_that_cannot_be_written_leaves_nothing_behind(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    for place in ("file/out.csv", "missing/out.csv", "file/sub"):
        with pytest.raises(StoreError, match="cannot"):
            store.export(str(tmp_path / place))
    assert (tmp_path / "file").read_text() == "kept"
    with pytest.raises(StoreError, match="cannot write"):
        store.export(str(tmp_path / f"{'n' * 300}.csv"))
    assert not [file for file in tmp_path.iterdir() if file.name.endswith(".part")]


def test_a_batch_is_open_until_what_came_of_all_its_requests_is_written_down(store: Store) -> None:
    run = store.begin_run(RunConfig()).id
    made = datetime(2026, 11, 25, 12, tzinfo=UTC)
    items = {n: Item(f"key {n}", n / 4) for n in range(3)}
    batch = Batch("t1", run, "openai:m", "http://here/v1", 3, made, items)
    store.batches.plan(batch)
    assert store.batches.open("http://here/v1", "openai:m") == [batch]
    store.batches.sent("t1", "batch_1")
    store.batches.settle([("t1", 0), ("t1", 2)])
    (left,) = store.batches.open("http://here/v1", "openai:m")
    assert (left.id, left.n, dict(left.items)) == ("batch_1", 3, {1: Item("key 1", 0.25)})
    assert store.batches.owed(run) == {"key 1": 0.25}
    assert store.batches.open("http://there/v1", "openai:m") == []
    store.batches.settle([("t1", 1)])
    assert store.batches.open("http://here/v1", "openai:m") == []
    assert store.batches.known("http://here/v1") == {"batch_1"}


def test_a_batch_that_is_dropped_owes_nothing(store: Store) -> None:
    run = store.begin_run(RunConfig()).id
    batch = Batch("t1", run, "openai:m", "u", 1, datetime.now(UTC), {0: Item("key", 1.0)})
    store.batches.plan(batch)
    store.batches.drop("t1")
    assert store.batches.owed(run) == {}
    assert store.batches.open("u", "openai:m") == []


def test_what_came_of_a_request_and_its_being_settled_are_stored_together(store: Store) -> None:
    run = store.begin_run(RunConfig()).id
    store.batches.plan(
        Batch("t1", run, "openai:m", "u", 1, datetime.now(UTC), {0: Item("key", 1.0)})
    )

    def fails_half_way() -> None:
        with store.transaction():
            store.batches.settle([("t1", 0)])
            raise KeyError

    with pytest.raises(KeyError):
        fails_half_way()
    assert store.batches.owed(run) == {"key": 1.0}

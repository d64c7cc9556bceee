"""Questions about the results: what a query may do, what it finds, and how it is shown."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from glossator.api import ask, run_sync
from glossator.asking import Plot, ask_views, request_of
from glossator.cli.app import call
from glossator.documented import VIEWS
from glossator.errors import ConfigError, ReplyError, StoreError
from glossator.llm import ScriptedLLM
from glossator.querying import Answer, Bounds, QueryError, run_query
from glossator.store import open_store
from glossator.types import Explanation, Kind
from glossator.web.plot import plot_of
from glossator.web.server.app import create_app
from glossator.web.server.ask import EXAMPLES, Desk
from tests.review_store import TEXTS, feature_of, fill, record_of
from tests.test_report import HOSTILE, Page

HERE = "http://127.0.0.1:8321"
TOKEN = "a token of the test"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 60 features, nobody at work on it."""
    place = tmp_path_factory.mktemp("ask") / "results.db"
    with open_store(f"sqlite:///{place}") as store:
        store.finish_run(fill(store).id)
    return place


def found(file: Path, sql: str, **bounds: Any) -> Answer:
    return run_query(file, sql, Bounds(**bounds))


# --- what a query finds ---------------------------------------------------------------------------


def test_known_questions_have_known_answers(file: Path) -> None:
    assert found(file, "SELECT count(*) FROM features").rows == ((60,),)
    layers = "SELECT layer, count(*) AS n FROM features GROUP BY layer ORDER BY layer"
    assert found(file, layers) == Answer(layers, ("layer", "n"), ((2, 30), (11, 30)), False)
    raw = sqlite3.connect(file)
    mean = raw.execute("SELECT avg(value) FROM scores WHERE scorer = 'detection'").fetchone()
    raw.close()
    asked = "SELECT avg(value) FROM scores WHERE scorer = 'detection'"
    assert found(file, asked).rows == (mean,)
    joined = (
        "SELECT count(*) FROM scores AS s JOIN features AS f USING (run, feature) "
        "JOIN explanations AS e USING (run, feature, explainer)"
    )
    assert found(file, joined).rows == found(file, "SELECT count(*) FROM scores").rows


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_every_view_has_the_columns_that_it_says(file: Path, view: Any) -> None:
    assert found(file, f"SELECT * FROM {view.name}").columns == tuple(view.columns)
    for column in view.columns:
        assert found(file, f"SELECT {column} FROM {view.name} LIMIT 1").columns == (column,)


@pytest.mark.parametrize(("said", "sql"), EXAMPLES)
def test_every_example_runs(file: Path, said: str, sql: str) -> None:
    assert said.endswith("?")
    assert found(file, sql).columns


# --- what a query may not do ----------------------------------------------------------------------

REFUSED = {
    "ATTACH '{other}' AS x": "only reads",
    "DETACH main": "only reads",
    "PRAGMA writable_schema = 1": "only reads",
    "PRAGMA query_only = 0": "only reads",
    "SELECT * FROM pragma_table_info('runs')": "only reads",
    "VACUUM INTO '{other}'": "only reads",
    "BEGIN IMMEDIATE": "only reads",
    "CREATE TEMP TABLE x AS SELECT 1": "only reads",
    "CREATE TABLE main.x (y)": "only reads",
    "DROP VIEW features": "only reads",
    "DELETE FROM main.runs": "only reads",
    "UPDATE main.runs SET name = 'x'": "only reads",
    "INSERT INTO main.flags VALUES ('r1', 1, 'x')": "only reads",
    "WITH x AS (SELECT 1) DELETE FROM main.scores": "only reads",
    "SELECT load_extension('{other}')": "load_extension cannot be called",
    "SELECT zeroblob(1000000000)": "zeroblob cannot be called",
    "SELECT randomblob(100)": "randomblob cannot be called",
    "SELECT fts5(1)": "fts5 cannot be called",
    "SELECT 1; SELECT 2": "one statement",
    "SELECT 1; DROP TABLE main.runs": "one statement",
    "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT * FROM t": "recursive",
    "SELECT * FROM sqlite_master": "cannot be read",
    "SELECT sql FROM temp.sqlite_master": "cannot be read",
    "SELECT * FROM main.replies": "replies.key cannot be read",
    "SELECT count(*) FROM main.replies": "replies cannot be read",
    "SELECT payload FROM main.records": "records.payload cannot be read",
    "SELECT payload FROM main.explanations": "payload cannot be read",
    "SELECT config FROM main.runs": "runs.config cannot be read",
    "SELECT (SELECT max(payload) FROM main.records) FROM features": "payload cannot be read",
    "SELECT 1 FROM features ORDER BY (SELECT payload FROM main.records)": "payload cannot be read",
    # A subquery under the name of a view is no view.
    "WITH features AS (SELECT payload FROM main.records) SELECT * FROM features": "payload",
    "SELECT * FROM (SELECT reply FROM main.replies) AS features": "replies.reply cannot be read",
    "SELECT id FROM main.scores": "scores.id cannot be read",
    "SELECT * FROM explanation_words": "only reads",
    "SELECT nope FROM runs": "no such column",
    "SELECT": "does not understand",
    "": "no query",
    "-- nothing": "one SELECT",
    "SELECT '\0'": "does not understand",
    "SELECT '\ud800'": "characters",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_what_does_more_than_read_the_views_is_refused(file: Path, sql: str) -> None:
    before, other = file.read_bytes(), file.with_name("other.db")
    with pytest.raises(QueryError, match=re.escape(REFUSED[sql])) as raised:
        found(file, sql.replace("{other}", str(other)), seconds=2.0)
    assert "\n" not in str(raised.value)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir() if path.name.startswith("other")] == []


def test_the_database_itself_is_opened_for_reading(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the authorizer let everything pass, nothing could be written."""
    monkeypatch.setattr("glossator.querying._Guard.__call__", lambda *_: sqlite3.SQLITE_OK)
    for sql in ("DELETE FROM main.runs", "CREATE TABLE main.x (y)"):
        with pytest.raises(QueryError, match="readonly"):
            found(file, sql)


def test_a_query_that_does_not_end_is_stopped(file: Path) -> None:
    endless = f"SELECT count(*) FROM {', '.join(f'features AS f{i}' for i in range(8))}"
    with pytest.raises(QueryError, match=r"took longer than 0\.2 seconds"):
        found(file, endless, seconds=0.2)


def test_an_answer_that_is_too_large_is_cut(file: Path) -> None:
    many = "SELECT a.feature FROM features AS a, features AS b, features AS c"
    answer = found(file, many, rows=100)
    assert (len(answer.rows), answer.is_cut) == (100, True)
    wide = "SELECT printf('%10000s', feature) FROM features"
    answer = found(file, wide, size=50_000)
    assert (len(answer.rows), answer.is_cut) == (5, True)
    whole = found(file, "SELECT feature FROM features", rows=60)
    assert (len(whole.rows), whole.is_cut) == (60, False)


def test_a_value_of_any_size_is_not_made(file: Path) -> None:
    sql = "SELECT length(printf('%.*c', 900000000, 'x'))"
    assert found(file, sql).rows[0][0] is None


def test_a_store_that_is_being_written_can_be_asked(tmp_path: Path) -> None:
    place = tmp_path / "results.db"
    with open_store(f"sqlite:///{place}") as store:
        fill(store, 3)
        assert found(place, "SELECT count(*) FROM features").rows == ((3,),)
        record = record_of(feature_of(90), Kind.TOKEN)
        store.put_record("key", record)
        assert found(place, "SELECT count(*) FROM features").rows == ((4,),)


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("a shopping list, and long enough to be looked at")
    for place in (tmp_path / "notes.db", tmp_path / "nowhere.db"):
        with pytest.raises(StoreError):
            found(place, "SELECT 1")
    with pytest.raises(StoreError, match="PostgreSQL"):
        run_query(None, "SELECT 1")


# --- in words -------------------------------------------------------------------------------------

KINDS = "SELECT kind, count(*) AS n FROM features GROUP BY kind ORDER BY n DESC, kind"


def written(sql: str, chart: str = "bar") -> str:
    return json.dumps({"sql": sql, "chart": chart})


def test_a_question_becomes_a_query_and_its_answer(file: Path) -> None:
    llm = ScriptedLLM([written(KINDS)])
    with open_store(f"sqlite:///{file}") as store:
        asked = run_sync(ask("How many of each kind?", store, llm))
    assert (asked.answer.sql, asked.plot) == (KINDS, Plot.BAR)
    assert sum(int(str(n)) for n in asked.answer.column(1)) == 60
    assert llm.requests[0].messages[-1].content == "How many of each kind?"


def test_the_model_is_shown_the_views_and_no_data() -> None:
    told = request_of("which?").messages[0].content
    for view in VIEWS:
        assert f"{view.name}: {view.said}" in told
        assert all(f"  {column}: " in told for column in view.columns)
    assert not [text for text in TEXTS if text in told]
    assert "made-up" not in told


def test_a_query_that_cannot_be_run_is_asked_for_again(file: Path) -> None:
    llm = ScriptedLLM(["no idea", written("SELECT payload FROM main.records"), written(KINDS)])
    asked = run_sync(ask_views(file, "How many?", llm))
    assert asked.answer.sql == KINDS
    assert "records.payload cannot be read" in llm.requests[2].messages[-1].content
    llm = ScriptedLLM([written("DROP TABLE main.runs")] * 3)
    with pytest.raises(ReplyError, match="only reads"):
        run_sync(ask_views(file, "How many?", llm))


def test_nothing_is_asked_where_there_is_no_question_or_no_such_store(file: Path) -> None:
    llm = ScriptedLLM([])
    for question in ("  ", "x" * 3000):
        with pytest.raises(ConfigError):
            run_sync(ask_views(file, question, llm))
    with pytest.raises(StoreError, match="PostgreSQL"):
        run_sync(ask_views(None, "How many?", llm))
    assert llm.requests == []


# --- charts ---------------------------------------------------------------------------------------


def answer_of(columns: tuple[str, ...], *rows: tuple[Any, ...]) -> Answer:
    return Answer("SELECT", columns, rows, False)


def test_a_label_and_a_number_are_bars_from_nothing_on() -> None:
    drawn = str(plot_of(answer_of(("site", "mean"), ("a", 1.0), ("b", 0.5), ("c", None))))
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)%"', drawn)]
    assert widths[0] == pytest.approx(2 * widths[1])
    assert len(widths) == 2
    drawn = str(plot_of(answer_of(("site", "mean"), ("a", 1.0), ("b", -1.0))))
    begins = [float(w) for w in re.findall(r'<rect [^>]*x="([\d.]+)%"', drawn)]
    assert begins[0] > begins[1]


def test_two_numbers_are_points() -> None:
    answer = answer_of(("x", "y"), (0, 0.0), (1, 1.0), (2, 4.0), (3, None))
    drawn = str(plot_of(answer))
    places = re.findall(r'<circle r="3" cx="([\d.]+)%" cy="([\d.]+)"', drawn)
    assert len(places) == 3
    assert [float(x) for x, _ in places] == sorted(float(x) for x, _ in places)
    assert [float(y) for _, y in places] == sorted((float(y) for _, y in places), reverse=True)
    assert not plot_of(answer, Plot.NONE)


@pytest.mark.parametrize(
    ("columns", "rows", "plot"),
    [
        (("a",), [("x",), ("y",)], Plot.BAR),
        (("a",), [(1,), (2,)], Plot.SCATTER),
        (("a", "b"), [], Plot.BAR),
        (("a", "b"), [("x", None)], Plot.BAR),
        (("a", "b"), [("x", 1)], Plot.AUTO),
        (("a", "b"), [("x", "y"), ("z", "w")], Plot.AUTO),
    ],
)
def test_what_does_not_fit_is_not_drawn(
    columns: tuple[str, ...], rows: list[tuple[Any, ...]], plot: Plot
) -> None:
    assert not plot_of(answer_of(columns, *rows), plot)


def test_equal_and_great_values_are_drawn() -> None:
    for value in (0.0, 1e300, -5, 10**15):
        rows = [(str(i), value) for i in range(3)]
        assert "nan" not in str(plot_of(answer_of(("a", "b"), *rows)))
        assert "nan" not in str(plot_of(answer_of(("a", "b"), *[(value, value)] * 3)))


# --- the command ----------------------------------------------------------------------------------


def asked(file: Path, *arguments: str) -> int:
    return call(["--store", f"sqlite:///{file}", "ask", *arguments])


def test_the_command_prints_what_a_query_finds(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(file, "--json", "--sql", KINDS) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["columns"] == ["kind", "n"]
    assert sum(n for _, n in told["rows"]) == 60
    assert asked(file, "--sql", KINDS) == 0
    assert "positional" in capsys.readouterr().out
    assert asked(file, "--views") == 0
    assert "null_value: what wrong explanations get" in capsys.readouterr().out


def test_the_command_says_what_is_wrong_in_a_line(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ((), ("what?", "--sql", "SELECT 1"), ("--sql", "DELETE FROM main.runs")):
        assert asked(file, *arguments) == 2
        assert capsys.readouterr().err.count("\n") == 1


# --- the page -------------------------------------------------------------------------------------


@pytest.fixture
def llm() -> ScriptedLLM:
    return ScriptedLLM([])


@pytest.fixture
def client(file: Path, llm: ScriptedLLM) -> Iterator[TestClient]:
    app = create_app(f"sqlite:///{file}", token=TOKEN, desk=Desk(llm))
    with TestClient(app, base_url=HERE, follow_redirects=False) as made:
        yield made


def test_the_page_shows_a_query_its_table_and_its_chart(client: TestClient) -> None:
    page = Page(client.get("/ask", params={"sql": KINDS, "question": "How many?"}).text)
    assert "60" not in page.text or "rows" in page.text
    assert len([a for a in page.all("svg") if a.get("class") == "bars"]) == 1
    assert KINDS in page.text
    plain = Page(client.get("/ask", params={"sql": KINDS, "chart": "none"}).text)
    assert not [a for a in plain.all("svg") if a.get("class") == "bars"]


def test_a_question_on_the_page_leads_to_the_query(file: Path) -> None:
    desk = Desk(ScriptedLLM([written(KINDS)]))
    app = create_app(f"sqlite:///{file}", token=TOKEN, desk=desk)
    with TestClient(app, base_url=HERE, follow_redirects=False) as client:
        refused = client.post("/ask", data={"question": "How many?"})
        assert refused.status_code == 403
        reply = client.post("/ask", data={"question": "How many?", "token": TOKEN})
        assert reply.status_code == 303
        assert reply.headers["location"].startswith("/ask?question=How+many%3F&sql=SELECT")
        assert "rows" in Page(client.get(reply.headers["location"]).text).text


def test_what_cannot_be_answered_is_said_on_the_page(client: TestClient) -> None:
    reply = client.get("/ask", params={"sql": "DROP TABLE main.runs"})
    assert reply.status_code == 400
    assert "only reads" in Page(reply.text).text
    reply = client.post("/ask", data={"question": " ", "token": TOKEN})
    assert reply.status_code == 400
    assert "no question" in Page(reply.text).text


def test_without_a_language_model_there_is_the_query_alone(file: Path) -> None:
    with TestClient(create_app(f"sqlite:///{file}", token=TOKEN), base_url=HERE) as client:
        assert not [a for a in Page(client.get("/ask").text).all("input") if a["name"] == "token"]
        reply = client.post("/ask", data={"question": "How many?", "token": TOKEN})
        assert reply.status_code == 400
        assert "no language model" in Page(reply.text).text


def test_hostile_texts_are_shown_as_text(tmp_path: Path) -> None:
    place = tmp_path / "results.db"
    with open_store(f"sqlite:///{place}") as store:
        run = fill(store, 0).id
        for number, text in enumerate(HOSTILE):
            record = record_of(feature_of(number), Kind.TOKEN)
            store.put_record("key", record)
            store.put_explanation(run, Explanation(record.feature, text, "max-act"))
    name = '<img src=x onerror=alert(1)>\u202e"'
    quoted = name.replace('"', '""')
    sql = f'SELECT text AS "{quoted}", length(text) AS n FROM explanations'
    with TestClient(create_app(f"sqlite:///{place}", desk=Desk(name)), base_url=HERE) as client:
        for query in (sql, f"{sql} LIMIT 3", name, "</textarea><script>alert(1)</script>"):
            reply = client.get("/ask", params={"sql": query, "chart": "bar", "question": query})
            page = Page(reply.text)
            assert [a.get("src") for a in page.all("script")] == ["/static/pages.js"]
            assert not page.all("img")
            assert len(page.all("textarea")) == 1
            for _, attributes in page.elements:
                assert not [n for n in attributes if n.startswith("on") or n == "style"]

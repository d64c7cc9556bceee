"""The review pages: what they show, and what they say where there is nothing to show."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from glossator.config import RunConfig
from glossator.selection import Cursor, Selection
from glossator.store import open_store
from glossator.types import Explanation, Kind
from glossator.web.server.addresses import pairs_of, parse
from glossator.web.server.app import create_app
from tests.review_store import feature_of, fill, record_of, score_of
from tests.source_tree import ROOT
from tests.test_report import Page

HERE = "http://127.0.0.1:8321"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of 60 features."""
    place = f"sqlite:///{tmp_path_factory.mktemp('review')}/results.db"
    with open_store(place) as store:
        run = fill(store)
        store.finish_run(run.id)
    return place


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[TestClient]:
    with TestClient(create_app(url), base_url=HERE, follow_redirects=False) as made:
        yield made


def test_the_first_page_is_that_of_the_runs(client: TestClient) -> None:
    reply = client.get("/")
    assert (reply.status_code, reply.headers["location"]) == (303, "/runs")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/runs", ["r1", "done", "$2.00", "60"]),
        (
            "/runs/r1",
            ["Scores beside their nulls", "simulation", "layers.11.mlp.neurons", "of $2.00"],
        ),
        ("/features", ["Best explanation", "detection", "disagreement", "Next"]),
        ("/features/2?run=r1", ["layers.11.mlp.neurons/1", "Explanations", "95% interval"]),
        (
            "/features/4?run=r1",
            ["Predicted against real", "Test, held out.", "Train.", "Provenance"],
        ),
        ("/features/1?run=r1", ["Nobody has explained it", "failed in score"]),
        ("/api/", ["/api/features"]),
    ],
)
def test_a_page_shows_what_the_store_holds(client: TestClient, path: str, said: list[str]) -> None:
    reply = client.get(path)
    assert reply.status_code == 200
    page = Page(reply.text)
    assert [text for text in said if text not in page.text] == []
    assert [a["href"] for a in page.all("link")] == [
        *("/static/report.css", "/static/pages.css", "/static/icon.svg")
    ]
    assert [a.get("src") for a in page.all("script")] == ["/static/pages.js"]
    assert not [a for _, a in page.elements if "style" in a or any(k.startswith("on") for k in a)]
    labels = [a for tag, a in page.elements if tag in ("main", "header", "footer", "h1")]
    assert len(labels) == 4


@pytest.mark.parametrize("name", ["report.css", "pages.css", "pages.js", "icon.svg"])
def test_what_a_page_loads_is_there_and_asks_for_nothing(client: TestClient, name: str) -> None:
    reply = client.get(f"/static/{name}")
    assert reply.status_code == 200
    text = reply.text.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?:|//\w+\.|@import|url\(", text)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/static/../app.py", 404),
        ("/static/..%2f..%2fapp.py", 404),
        ("/runs/r9", 404),
        ("/runs/r9/part", 404),
        ("/features?run=r9", 404),
        ("/features/999", 404),
        ("/features/0", 404),
        (f"/features/{'9' * 40}", 404),
        ("/features/made-up//nowhere/3", 404),
        ("/features/no%20name", 404),
        ("/features?sort=nonsense", 400),
        ("/features?kind=nonsense", 400),
        ("/features?flag=nonsense", 400),
        ("/features?density.min=x", 400),
        ("/features?density.min=nan", 400),
        ("/features?after=x", 400),
        ("/features?after=1~2&before=1~2", 400),
        ("/features?limit=0", 400),
        (f"/features?number={'9' * 30}", 400),
        ("/features/export.xls", 404),
        ("/api/runs/r9", 404),
        ("/api/features/999", 404),
        ("/api/features?limit=x", 422),
    ],
)
def test_what_is_not_there_or_makes_no_sense_is_said(
    client: TestClient, path: str, status: int
) -> None:
    reply = client.get(path)
    assert reply.status_code == status
    if path.startswith("/api/"):
        assert reply.json()["detail"]
    else:
        assert Page(reply.text).all("main")


def test_the_name_of_a_feature_leads_to_its_page(client: TestClient) -> None:
    name = quote("made-up//layers.2.mlp.neurons/2", safe="/")
    reply = client.get(f"/features/{name}?run=r1")
    assert (reply.status_code, reply.headers["location"]) == (303, "/features/3?run=r1")


def test_the_links_of_a_list_lead_through_all_of_it(client: TestClient) -> None:
    path, seen = "/features?sort=-simulation&limit=7", []
    while path:
        page = Page(client.get(path).text)
        seen += [a["href"] for a in page.all("a") if re.match(r"/features/\d+\?", a["href"])]
        path = next((a["href"] for a in page.all("a") if a.get("rel") == "next"), "")
    listed = client.get("/api/features?sort=-simulation&limit=1000").json()["features"]
    assert seen == [f"/features/{row['row']}?run=r1" for row in listed]
    assert len(seen) > 14


def test_the_heads_of_the_table_sort_it_and_turn_it_round(client: TestClient) -> None:
    page = Page(client.get("/features?sort=-simulation&kind=token").text)
    links = {a["href"] for a in page.all("a")}
    assert "/features?run=r1&sort=simulation&kind=token" in links
    assert "/features?run=r1&sort=-density&kind=token" in links
    assert [a["aria-sort"] for a in page.all("th") if "aria-sort" in a] == ["descending"]


def test_an_address_says_what_is_shown_and_is_read_as_it_was_written() -> None:
    selection = Selection(
        "r1",
        "key",
        sort="simulation",
        descending=True,
        kinds=(Kind.TOKEN, Kind.NGRAM),
        sites=("a.b",),
        numbers=(1, 20),
        explainers=("max-act",),
        flags=("failed",),
        ranges={"density": (0.001, None), "simulation": (None, -0.5)},
        text="a & b",
        after=Cursor(0.25, 7),
        limit=20,
    )
    assert parse(pairs_of(selection), "r1", "key", ("simulation",)) == selection


# --- two explanations beside each other -----------------------------------------------------------


def test_any_two_explanations_are_held_beside_what_happened(client: TestClient) -> None:
    path = "/features/4?run=r1&a=unigram/lexical&b=max-act/lexical"
    page = Page(client.get(path).text)
    chosen = [a["value"] for a in page.all("option") if "selected" in a]
    assert chosen == ["unigram/lexical", "max-act/lexical"]
    assert "bar 1, unigram by lexical" in page.text
    assert "bar 2, max-act by lexical" in page.text
    assert len([a for a in page.all("svg") if a.get("class") == "scatter"]) == 2


def test_one_explanation_is_not_held_beside_itself(client: TestClient) -> None:
    page = Page(client.get("/features/4?a=unigram/lexical&b=unigram/lexical").text)
    chosen = [a["value"] for a in page.all("option") if "selected" in a]
    assert chosen == ["unigram/lexical", "max-act/lexical"]


# --- as files -------------------------------------------------------------------------------------


@pytest.fixture
def spreadsheet(tmp_path: Path) -> Iterator[TestClient]:
    """A store whose explanations begin as formulas do."""
    place = f"sqlite:///{tmp_path}/results.db"
    with open_store(place) as store:
        run = fill(store, 0).id
        for number, text in enumerate(("=1+1", "+a", "-b", "@c", "\td", "plain", 'q"uo,te')):
            record = record_of(feature_of(number), Kind.TOKEN)
            store.put_record("key", record)
            store.put_explanation(run, Explanation(record.feature, text, "max-act"))
            store.put_score(run, score_of(record, "max-act", value=-0.5))
    with TestClient(create_app(place), base_url=HERE) as made:
        yield made


def test_a_cell_of_csv_is_no_formula(spreadsheet: TestClient) -> None:
    reply = spreadsheet.get("/features/export.csv")
    assert reply.headers["content-type"].startswith("text/csv")
    assert 'filename="features-r1.csv"' in reply.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(reply.text)))
    texts = [row["explanation"] for row in rows]
    assert texts == ["'=1+1", "'+a", "'-b", "'@c", "'\td", "plain", 'q"uo,te']
    assert {row["simulation"] for row in rows} == {"-0.5"}


def test_an_export_has_what_the_list_has(client: TestClient) -> None:
    import pyarrow.parquet as pq

    for query in (
        "sort=-simulation",
        "kind=token&kind=dead",
        "q=river&sort=density",
        "flag=failed",
    ):
        listed = client.get(f"/api/features?limit=1000&{query}").json()["features"]
        names = [row["feature"] for row in listed]
        lines = client.get(f"/features/export.jsonl?{query}").text.splitlines()
        assert [json.loads(line)["feature"] for line in lines] == names
        table = pq.read_table(io.BytesIO(client.get(f"/features/export.parquet?{query}").content))
        assert table["feature"].to_pylist() == names
        assert table["explanation"].to_pylist() == [row["explanation"] or None for row in listed]
        marks = [row["marks"].get("simulation", {}).get("value") for row in listed]
        assert table["simulation"].to_pylist() == marks


# --- stores that cannot be shown ------------------------------------------------------------------


def shown(url: str, path: str = "/runs") -> tuple[int, str]:
    with TestClient(create_app(url), base_url=HERE) as client:
        reply = client.get(path)
        return reply.status_code, Page(reply.text).text


def test_where_there_is_no_store_a_page_says_what_to_run(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    for path in ("/runs", "/features", "/features/1"):
        status, text = shown(url, path)
        assert status == 200
        assert f"glossator --store {url} run" in text
    assert not list(tmp_path.iterdir())


def test_a_store_without_a_run_says_the_same(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    open_store(url).close()
    assert "holds no run yet" in shown(url)[1]


def test_a_store_that_is_made_while_the_server_runs_is_shown(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    with TestClient(create_app(url), base_url=HERE) as client:
        assert "There is no store" in client.get("/runs").text
        with open_store(url) as store:
            fill(store, 3)
            assert client.get("/runs/r1").status_code == 200


@pytest.mark.parametrize(("revision", "said"), [("0004", "older"), ("9999", "newer")])
def test_a_store_of_another_version_is_left_as_it_is(
    tmp_path: Path, revision: str, said: str
) -> None:
    file = tmp_path / "results.db"
    open_store(f"sqlite:///{file}").close()
    raw = sqlite3.connect(file)
    raw.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    raw.commit()
    raw.close()
    status, text = shown(f"sqlite:///{file}")
    assert status == 503
    assert f"{said} glossator" in text
    raw = sqlite3.connect(file)
    assert raw.execute("SELECT version_num FROM alembic_version").fetchall() == [(revision,)]
    raw.close()


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    (tmp_path / "results.db").write_text("a shopping list, and long enough to be looked at")
    status, text = shown(f"sqlite:///{tmp_path}/results.db")
    assert status == 503
    assert "not a SQLite database" in text


# --- while a run is going -------------------------------------------------------------------------


def test_a_run_that_is_going_is_followed_until_it_ends(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    with open_store(url) as store, TestClient(create_app(url), base_url=HERE) as client:
        run = fill(store, 4)
        with store.working_on(run.id):
            page = client.get("/runs/r1").text
            assert 'data-live="/runs/r1/part"' in page
            assert '<noscript><meta http-equiv="refresh"' in page
            record = record_of(feature_of(90), Kind.TOKEN)
            store.put_record("key", record)
            store.put_explanation(run.id, Explanation(record.feature, "late", "max-act"))
            assert "late" in client.get("/features?q=late").text
            store.finish_run(run.id)
        part = client.get("/runs/r1/part").text
        assert 'data-going="no"' in part
        assert "<html" not in part
        assert "http-equiv" not in client.get("/runs/r1").text


def test_a_run_whose_process_was_stopped_is_said_to_be_interrupted(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/results.db"
    with open_store(url) as store:
        fill(store, 2)
    status, text = shown(url, "/runs/r1")
    assert status == 200
    assert "interrupted" in text


def test_pages_take_no_model_library(url: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom fastapi.testclient import TestClient\n"
        "from glossator.web.server.app import create_app\n"
        f"client = TestClient(create_app({url!r}), base_url={HERE!r})\n"
        "for path in ('/runs', '/runs/r1', '/features', '/features/4', '/api/features'):\n"
        "    assert client.get(path).status_code == 200, path\n"
        "print(sorted(sys.modules.keys() & {'torch', 'transformers', 'scipy', 'pandas'}))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_a_budget_is_kept_with_the_run(tmp_path: Path) -> None:
    with open_store(f"sqlite:///{tmp_path}/results.db") as store:
        assert store.begin_run(RunConfig(), budget=1.5).budget == 1.5
        assert store.begin_run(RunConfig(), budget=3.0).budget == 3.0
        assert store.begin_run(RunConfig()).budget is None

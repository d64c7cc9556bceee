"""Lists of features that people save under a name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from glossator.store import open_store
from glossator.web.server.app import create_app
from tests.review_store import fill
from tests.test_report import HOSTILE, Page

HERE = "http://127.0.0.1:8321"
TOKEN = "a token of the test"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    with open_store(f"sqlite:///{tmp_path}/results.db") as store:
        fill(store, 6)
    return tmp_path / "results.db"


@pytest.fixture
def client(file: Path) -> Iterator[TestClient]:
    app = create_app(f"sqlite:///{file}", token=TOKEN)
    with TestClient(app, base_url=HERE, follow_redirects=False) as made:
        yield made


def save(client: TestClient, name: str, query: str) -> int:
    data = {"token": TOKEN, "name": name, "query": query}
    return client.post("/views", data=data).status_code


def links(client: TestClient) -> list[str]:
    page = Page(client.get("/features?run=r1").text)
    return [a["href"] for a in page.all("a") if a.get("href", "").endswith("peak.min=2")]


def test_a_saved_view_is_a_link_until_it_is_forgotten(client: TestClient, file: Path) -> None:
    query = "run=r1&sort=-peak&peak.min=2"
    assert save(client, "strong  ones", query) == 303
    assert f"/features?{query}" in links(client)
    app = create_app(f"sqlite:///{file}", token=TOKEN)
    with TestClient(app, base_url=HERE, follow_redirects=False) as other:
        assert "strong ones" in Page(other.get("/features").text).text
    client.post("/views/drop", data={"token": TOKEN, "name": "strong ones"})
    assert links(client) == []


def test_a_page_offers_to_save_what_it_shows(client: TestClient) -> None:
    page = Page(client.get("/features?sort=-peak&kind=token&q=rivers").text)
    offered = [a["value"] for a in page.all("input") if a.get("name") == "query"]
    assert offered == ["run=r1&sort=-peak&q=rivers&kind=token"]


def test_the_same_name_again_takes_the_place_of_the_first(client: TestClient, file: Path) -> None:
    save(client, "one", "sort=peak")
    save(client, "one", "sort=-peak")
    kept = json.loads(file.with_name("results.db-views.json").read_text())
    assert kept == {"one": "sort=-peak"}


def test_nobody_saves_without_the_token(client: TestClient) -> None:
    for path in ("/views", "/views/drop"):
        assert client.post(path, data={"name": "x", "query": ""}).status_code == 403


@pytest.mark.parametrize(("name", "query"), [("", "a=b"), ("x" * 81, "a=b"), ("x", "a" * 5000)])
def test_what_cannot_be_saved_is_said(client: TestClient, name: str, query: str) -> None:
    assert save(client, name, query) == 400


def test_no_more_views_are_kept_than_said(client: TestClient, file: Path) -> None:
    full = {str(number): "" for number in range(200)}
    file.with_name("results.db-views.json").write_text(json.dumps(full))
    assert save(client, "7", "sort=peak") == 303
    assert save(client, "one more", "") == 400


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}'])
def test_a_file_that_holds_no_views_is_left_alone(
    client: TestClient, file: Path, content: str
) -> None:
    views = file.with_name("results.db-views.json")
    views.write_text(content)
    assert client.get("/features").status_code == 200
    assert save(client, "x", "") == 503
    assert views.read_text() == content


def test_hostile_names_are_shown_as_text_and_queries_stay_addresses(client: TestClient) -> None:
    for number, text in enumerate(HOSTILE):
        plain = text.encode("utf-8", "replace").decode()[:70]
        assert save(client, f"{number}{plain}", f'q={plain}"><script>&javascript:=1') == 303
    reply = client.get("/features")
    page = Page(reply.text)
    assert [a.get("src") for a in page.all("script")] == ["/static/pages.js"]
    for _, attributes in page.elements:
        assert not [n for n in attributes if n.startswith("on") or n == "style"]
        assert attributes.get("href", "/")[0] in "/?#"

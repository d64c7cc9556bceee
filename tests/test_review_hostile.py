"""Texts that want to be more than text, on every review page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from glossator.store import open_store
from glossator.types import Explanation, FeatureId, Kind
from glossator.web.server.app import create_app
from tests.review_store import TOKENS, fill, record_of, score_of
from tests.test_report import ALLOWED, HOSTILE, Page

HERE = "http://127.0.0.1:8321"
LONG = "<b onclick=alert(5)>" + "x" * 10_000
ALL = (*HOSTILE, LONG, "=cmd|'/c calc'!A1")
ELEMENTS = ALLOWED | set(
    re.findall(
        r"\w+",
        "link article form label input select option button textarea "
        "fieldset legend figcaption code noscript",
    )
)
PATHS = (
    *("/runs", "/runs/r1", "/features", "/features?sort=-simulation", "/features?q=alert"),
    *(f"/features/{row}?windows=all" for row in range(1, len(ALL) + 1)),
)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    url = f"sqlite:///{tmp_path_factory.mktemp('hostile')}/results.db"
    with open_store(url) as store:
        run = fill(store, 0, corpus=HOSTILE[0], llm=HOSTILE[1]).id
        for number, text in enumerate(ALL):
            # Names are whole characters; the rest of a store holds halves, too.
            name = text.encode("utf-8", "replace").decode()
            model = HOSTILE[0].replace("/", "") if number % 2 else "made-up"
            record = record_of(
                FeatureId(model, f"site<img src=x onerror=alert({number})>", number),
                Kind.TOKEN,
                (text, *TOKENS[1:]),
            )
            store.put_record("key", record)
            for explainer in ("max-act", "<i>who</i>", '"x'):
                said = Explanation(record.feature, text, explainer, model=name, note=text)
                store.put_explanation(run, said)
                for scorer in ("simulation", "detection", "<script>"):
                    scored = score_of(record, explainer, scorer, 0.3, simulator="<b>sim</b>")
                    store.put_score(run, scored)
            store.put_failure(run, record.feature, "score", name, name, text, text)
    with TestClient(create_app(url), base_url=HERE) as made:
        yield made


@pytest.mark.parametrize("path", PATHS)
def test_every_text_is_shown_as_text(client: TestClient, path: str) -> None:
    reply = client.get(path)
    assert reply.status_code == 200
    page = Page(reply.text)
    assert {tag for tag, _ in page.elements} <= ELEMENTS
    assert [a.get("src") for a in page.all("script")] == ["/static/pages.js"]
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        address = attributes.get("href", "") + attributes.get("action", "")
        assert not address or address[0] in "/?#", address
        assert not address.startswith("//")
    for character in "\u202e\u2066\u200b\x00\x1b":
        assert character not in reply.text
    assert len(reply.content) < 1_000_000


def test_a_title_is_a_title(client: TestClient) -> None:
    for path in ("/features/4", "/features/8"):
        head = client.get(path).text.partition("</head>")[0]
        assert head.count("<title>") == head.count("</title>") == 1
        assert "<svg" not in head


@pytest.mark.parametrize("text", ALL)
def test_what_is_searched_for_comes_back_as_text(client: TestClient, text: str) -> None:
    plain = text.encode("utf-8", "replace").decode()[:2000]
    reply = client.get("/features", params={"q": plain, "sort": "-peak"})
    assert reply.status_code == 200
    assert {tag for tag, _ in Page(reply.text).elements} <= ELEMENTS
    for params in ({"run": plain}, {"sort": plain}, {"kind": plain}, {"after": plain}):
        wrong = client.get("/features", params=params)
        assert wrong.status_code in (200, 400, 404)
        assert {tag for tag, _ in Page(wrong.text).elements} <= ELEMENTS


def test_as_json_they_are_whole(client: TestClient) -> None:
    listed = client.get("/api/features").json()["features"]
    assert listed[0]["explanation"] == ALL[0]
    for row in range(1, len(ALL) + 1):
        found = client.get(f"/api/features/{row}")
        assert found.status_code == 200
        assert found.json()["explanations"][0]["text"] == ALL[row - 1]
    for form in ("csv", "jsonl", "parquet"):
        assert client.get(f"/features/export.{form}").status_code == 200


def test_a_path_of_the_store_is_shown_as_text(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/<script>alert(1)</script>"
    with TestClient(create_app(url), base_url=HERE) as client:
        page = Page(client.get("/runs").text)
    assert len(page.all("script")) == 1

"""One feature or one run in one file, and in a notebook."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

import glossator as gl
from glossator.cli.app import call
from glossator.errors import ConfigError, StoreError
from glossator.store import Store, open_store
from glossator.types import Explanation, Kind
from glossator.web.server.app import create_app
from glossator.web.shown import Shown
from tests.review_store import feature_of, fill, record_of, score_of
from tests.test_report import ALLOWED, HOSTILE, Page

HERE = "http://127.0.0.1:8321"
TOKEN = "a token of the test"
NAME = "made-up//layers.11.mlp.neurons/3"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("alone") / "results.db"
    with open_store(f"sqlite:///{place}") as store:
        store.finish_run(fill(store, 12).id)
    return place


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{file}") as opened:
        yield opened


def check_alone(text: str, *, scripts: int = 0) -> Page:
    """That the page needs nothing else, and does nothing."""
    page = Page(text)
    assert not [tag for tag, _ in page.elements if tag in ("link", "img", "iframe", "form")]
    assert len(page.all("script")) == scripts
    assert not re.search(r"@import|url\(", text)
    for _, attributes in page.elements:
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
        assert not [n for n in attributes if n.startswith("on") or n == "style"]
    assert "default-src 'none'" in html.unescape(text)
    assert TOKEN not in text
    return page


def test_the_page_of_a_feature_is_one_file(file: Path) -> None:
    app = create_app(f"sqlite:///{file}", token=TOKEN)
    with TestClient(app, base_url=HERE) as client:
        page = client.get("/features/4?run=r1")
        link = "/features/4/alone.html?run=r1"
        assert [a for a in Page(page.text).all("a") if a.get("href") == link]
        reply = client.get(link)
        assert 'filename="feature-4.html"' in reply.headers["content-disposition"]
        text = check_alone(reply.text).text
        for said in ("Predicted against real", "Test, held out.", "Provenance", "layers.11"):
            assert said in text
        assert client.get("/features/99/alone.html").status_code == 404
        assert client.get("/features/x/alone.html").status_code == 404
        reply = client.get("/runs/r1/alone.html")
        assert "What 10 features" in check_alone(reply.text, scripts=1).text
        assert client.get("/runs/r9/alone.html").status_code == 404


def test_the_command_writes_the_page_of_a_feature(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "feature.html"
    at = ["--store", f"sqlite:///{file}", "--json", "report", "--out", str(out)]
    assert call([*at, "--feature", "layers.11.mlp.neurons/3"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"run": "r1", "feature": NAME, "file": str(out)}
    check_alone(out.read_text())
    assert call([*at, "--feature", "layers.11.mlp.neurons/4"]) == 2
    assert "no stored feature" in capsys.readouterr().err
    at[-1] = str(tmp_path / "nowhere" / "feature.html")
    assert call([*at, "--feature", NAME]) == 2


def inside(shown: Shown) -> str:
    """The page in the frame that a notebook shows."""
    frame = shown._repr_html_()
    elements = Page(frame).elements
    assert [tag for tag, _ in elements] == ["iframe"]
    assert elements[0][1]["sandbox"] == ""
    found = re.search(r'srcdoc="([^"]*)"', frame)
    assert found is not None
    assert html.unescape(found[1]) == shown.page
    return shown.page


def test_a_notebook_shows_what_somebody_holds_of_a_feature() -> None:
    record = record_of(feature_of(3), Kind.TOKEN)
    said = Explanation.written_by_hand(record.feature, "names of rivers")
    score = score_of(record, said.explainer)
    text = check_alone(inside(gl.show(record, said, score))).text
    for part in ("names of rivers", "Predicted against real", "Where it fires", "0.50"):
        assert part in text
    for held in ((record,), (said,), (score,), (said, score)):
        check_alone(inside(gl.show(*held)))


def test_a_notebook_shows_what_a_store_holds(store: Store, tmp_path: Path) -> None:
    check_alone(inside(gl.show(store)), scripts=1)
    shown = gl.show(store, feature=NAME)
    assert "layers.11.mlp.neurons/3" in check_alone(inside(shown)).text
    assert shown.save(tmp_path / "x.html").read_text() == shown.page
    with pytest.raises(StoreError):
        shown.save(tmp_path / "nowhere" / "x.html")


def test_what_cannot_be_shown_is_said(store: Store) -> None:
    one, other = (record_of(feature_of(number), Kind.TOKEN) for number in (1, 2))
    with pytest.raises(ConfigError, match="one feature"):
        gl.show(one, other)
    with pytest.raises(ConfigError, match="nothing"):
        gl.show()
    with pytest.raises(ConfigError, match="store alone"):
        gl.show(store, one)
    with pytest.raises(ConfigError, match="store first"):
        gl.show(one, run="r1")
    with pytest.raises(ConfigError, match="no stored feature"):
        gl.show(store, feature="nonsense/1")
    with pytest.raises(StoreError):
        gl.show(store, run="r9")


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_are_shown_as_text(text: str) -> None:
    record = record_of(feature_of(3), Kind.TOKEN, (text, " river", " Seine", " in", " Paris"))
    said = Explanation(record.feature, text, "<i>who</i>", note=text)
    score = score_of(record, "<i>who</i>", simulator="<b>sim</b>")
    page = check_alone(inside(gl.show(record, said, score)))
    assert {tag for tag, _ in page.elements} <= ALLOWED | {"article", "figcaption"}
    for character in "\u202e\u2066\u200b\x00\x1b":
        assert character not in page.text

"""What reviewers do on the review pages, as a browser without a script sends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from glossator.acts import Act
from glossator.store import Store, open_store
from glossator.types import Explanation
from glossator.web.server.app import create_app
from glossator.web.server.review_view import key_of
from tests.review_store import feature_of, fill
from tests.test_report import HOSTILE, Page
from tests.test_review_hostile import ELEMENTS

HERE = "http://127.0.0.1:8321"
TOKEN = "of-the-pages"
ROW = 5
"""The row of `feature_of(4)`, which has two explanations."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    place = f"sqlite:///{tmp_path}/results.db"
    with open_store(place) as store:
        fill(store, 24)
    return place


@pytest.fixture
def client(url: str) -> Iterator[TestClient]:
    with TestClient(create_app(url, token=TOKEN), base_url=HERE) as made:
        yield made


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with open_store(url) as opened:
        yield opened


def send(
    client: TestClient, who: str = "Ann", said: str = "max-act", **given: str
) -> httpx2.Response:
    key = {"said": key_of("r1", ROW, said)} if said else {}
    form = {"token": TOKEN, "run": "r1", "feature": str(ROW), "who": who, **key, **given}
    return client.post("/review/act", data=form, headers={"origin": HERE})


def acts(store: Store) -> tuple[Act, ...]:
    return store.reviews.of("r1", ROW).acts


def shown(client: TestClient, **given: str) -> str:
    reply = client.get("/review", params={"run": "r1", "feature": str(ROW), **given})
    assert reply.status_code == 200
    return Page(reply.text).text


def test_a_name_is_kept_in_a_cookie_that_no_other_site_has_sent_along(client: TestClient) -> None:
    form = {"token": TOKEN, "run": "r1", "name": " Zoë;  Müller "}
    reply = client.post("/review/name", data=form, follow_redirects=False)
    cookie = reply.headers["set-cookie"]
    assert "SameSite=strict" in cookie
    assert "HttpOnly" in cookie
    assert "Reviewer: Zoë; Müller" in shown(client)
    assert "Reviewer: Bob" in shown(client, who="Bob")


def test_nothing_is_kept_without_the_token_or_from_another_site(
    client: TestClient, store: Store
) -> None:
    assert send(client, kind="rating", value="4", token="wrong").status_code == 403
    form = {"token": TOKEN, "run": "r1", "feature": str(ROW), "who": "Ann", "kind": "comment"}
    for origin in ("https://evil.example", "null"):
        form["value"] = "hi"
        reply = client.post("/review/act", data=form, headers={"origin": origin})
        assert reply.status_code == 403
    assert client.get("/review/act", params=form).status_code == 405
    assert acts(store) == ()


def test_a_rating_is_shown_counted_and_taken_back(client: TestClient, store: Store) -> None:
    assert "0 of 19 features rated" in shown(client, who="Ann")
    assert send(client, kind="rating", value="4").status_code == 200
    (rating,) = acts(store)
    assert (rating.reviewer, rating.explainer, rating.value) == ("Ann", "max-act", "4")
    assert "you: 4 of 5" in shown(client, who="Ann")
    assert "1 of 19 features rated" in shown(client, who="Ann")
    assert "Ann: 4 of 5" in Page(client.get(f"/features/{ROW}").text).text
    assert f"/features/{ROW}?" in client.get("/features?flag=rated").text
    reply = send(client, said="", kind="undo", undoes=str(rating.id), to="feature")
    assert reply.url.path == f"/features/{ROW}"
    page = Page(reply.text).text
    assert "taken back" in page
    assert "Ann: 4 of 5" not in page
    assert "0 of 19 features rated" in shown(client, who="Ann")
    again = send(client, said="", kind="undo", undoes=str(rating.id))
    assert again.status_code == 409
    assert "taken back already" in again.text
    assert len(acts(store)) == 2


def test_two_tabs_that_edit_the_same_text_lose_nothing(client: TestClient, store: Store) -> None:
    send(client, kind="edit", value="names of rivers in France", base="")
    reply = send(client, who="Bob", kind="edit", value="Seine and Loire", base="")
    text = Page(reply.text).text
    assert "2 people, or tabs, began from the same text" in text
    for said in ("names of rivers in France", "Seine and Loire"):
        assert said in text
    base = " ".join(str(act.id) for act in acts(store))
    assert f'name="base" value="{base}"' in reply.text
    settled = Page(send(client, kind="edit", value="rivers", base=base).text).text
    assert "began from the same text" not in settled
    names = {e.explainer: e.text for e in store.explanations_of("r1") if "human" in e.explainer}
    assert names == {
        "human": "names of rivers in France",
        "human-2": "Seine and Loire",
        "human-3": "rivers",
    }


def test_blind_hides_scores_authors_and_what_others_say_until_all_is_rated(
    client: TestClient,
) -> None:
    send(client, who="Bob", kind="rating", value="1")
    send(client, who="Bob", kind="comment", value="I know who that is")
    secrets = ("max-act", "unigram", "simulation", "95% interval", "Bob", "I know", "layers.2")
    for mode in ({"blind": "1"}, {"ab": "1"}):
        html = client.get(
            "/review", params={"run": "r1", "feature": ROW, "who": "Ann", **mode}
        ).text
        assert [secret for secret in secrets if secret in html] == []
    send(client, kind="rating", value="4")
    assert "unigram" not in shown(client, blind="1", who="Ann")
    send(client, said="unigram", kind="rating", value="2")
    after = shown(client, blind="1", who="Ann")
    assert [secret for secret in secrets if secret not in after] == []


def test_two_side_by_side_are_in_an_order_by_seed(client: TestClient) -> None:
    orders = set()
    for who in ("Ann", "Bob", "Cleo", "Dan", "Eve", "Finn"):
        given = {"run": "r1", "feature": str(ROW), "who": who, "ab": "1"}
        found = [re.findall(r'id="card-(\w+)"', client.get("/review", params=given).text)]
        found.append(re.findall(r'id="card-(\w+)"', client.get("/review", params=given).text))
        assert found[0] == found[1]
        assert len(found[0]) == 2
        orders.add(tuple(found[0]))
    assert len(orders) == 2


def test_next_leads_to_what_is_not_rated_yet(client: TestClient, store: Store) -> None:
    first, second, third = list(dict(store.reviews.queue("r1")))[:3]
    for row in (first, second):
        texts = store.dossiers.of(store.run("r1"), row)
        assert texts is not None
        said = next(e.explainer for e in texts.explanations if not e.abstained)
        form = {"token": TOKEN, "run": "r1", "feature": str(row), "who": "Ann", "kind": "rating"}
        client.post("/review/act", data={**form, "value": "3", "said": key_of("r1", row, said)})
    assert client.get("/review?who=Ann").url.params["feature"] == str(third)
    assert client.get("/review?who=Bob").url.params["feature"] == str(first)
    links = Page(client.get(f"/review?run=r1&who=Ann&feature={first}").text).all("a")
    (onward,) = [a["href"] for a in links if a.get("rel") == "next"]
    assert f"feature={third}" in onward


@pytest.mark.parametrize("text", [*HOSTILE[:6], "<img src=x onerror=alert(6)>\u202e" * 350])
def test_hostile_comments_edits_and_names_are_text(
    client: TestClient, store: Store, text: str
) -> None:
    long = (text * 10_000)[:10_000]
    who = text[:80].replace("\x00", "")
    for kind in ("comment", "edit"):
        assert send(client, who=who, kind=kind, value=long).status_code == 200
    assert send(client, who=who, said="", kind="comment", value=long).status_code == 200
    for path in (f"/review?run=r1&feature={ROW}", f"/features/{ROW}", "/review/agreement"):
        html = client.get(path).text
        page = Page(html)
        assert {tag for tag, _ in page.elements} <= {*ELEMENTS, "textarea", "kbd"}
        for tag, given in page.elements:
            assert not [name for name in given if name.startswith("on") or name == "style"], tag
        assert len(page.all("script")) == 1
        assert not re.search("[\u202e\u2066\u200b\x00\x1b]", html)
    assert [act.value for act in acts(store)] == [long.replace("\x00", "\ufffd")] * 3


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"kind": "rating", "value": "6"}, 400),
        ({"kind": "rating", "value": ""}, 400),
        ({"kind": "nonsense"}, 400),
        ({"kind": "undo"}, 400),
        ({"kind": "undo", "undoes": "x"}, 400),
        ({"kind": "undo", "undoes": "9"}, 409),
        ({"kind": "comment", "value": " "}, 400),
        ({"kind": "comment", "value": "x" * 20_001}, 400),
        ({"kind": "edit", "value": "x", "base": "7"}, 400),
        ({"kind": "rating", "value": "3", "said": "nobody"}, 400),
        ({"kind": "rating", "value": "3", "who": ""}, 400),
        ({"kind": "rating", "value": "3", "who": "x" * 81}, 400),
        ({"kind": "rating", "value": "3", "feature": "999"}, 404),
        ({"kind": "rating", "value": "3", "feature": "x"}, 404),
        ({"kind": "rating", "value": "3", "feature": ""}, 400),
        ({"kind": "rating", "value": "3", "run": "r9"}, 404),
    ],
)
def test_what_makes_no_sense_is_told_and_not_kept(
    client: TestClient, store: Store, given: dict[str, str], status: int
) -> None:
    reply = send(client, **given)
    assert reply.status_code == status
    assert len(Page(reply.text).all("h1")) == 1
    assert acts(store) == ()


def test_agreement_is_shown_once_two_have_rated(client: TestClient) -> None:
    assert "Nobody has rated" in Page(client.get("/review/agreement").text).text
    send(client, kind="rating", value="5")
    assert "nobody to agree with" in Page(client.get("/review/agreement").text).text
    send(client, said="unigram", kind="rating", value="1")
    for said, value in (("max-act", "4"), ("unigram", "1")):
        send(client, who="Bob", said=said, kind="rating", value=value)
    text = Page(client.get("/review/agreement").text).text
    assert "Krippendorff’s alpha" in text
    assert "over 2 explanations of 1 feature" in text
    assert "simulation" in text


def test_a_run_without_explanations_has_nothing_to_review(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/none.db"
    with open_store(url) as store:
        fill(store, 1)
    with TestClient(create_app(url), base_url=HERE) as client:
        assert "Nothing to review" in client.get("/review").text


def test_an_explanation_of_a_person_is_one_like_the_others(
    client: TestClient, store: Store
) -> None:
    send(client, said="", kind="edit", value="every second river")
    assert store.explanation_of("r1", feature_of(4), "human") == Explanation(
        feature_of(4), "every second river", "human"
    )
    assert "every second river" in client.get(f"/features/{ROW}").text


@pytest.mark.parametrize("kept", ["x" * 500, "%00", "%ff%fe", "%20"])
def test_a_cookie_that_is_no_name_asks_for_one(client: TestClient, kept: str) -> None:
    for path in ("/review", f"/features/{ROW}"):
        reply = client.get(path, headers={"cookie": f"glossator_reviewer={kept}"})
        assert reply.status_code == 200

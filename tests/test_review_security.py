"""Who may ask the review pages for what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import Request
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse, Response

from glossator.store import open_store
from glossator.web.server.app import create_app
from glossator.web.server.security import HEADER, LONGEST_BODY, Guard, host_name
from tests.review_store import fill

HERE = "http://127.0.0.1:8321"
TOKEN = "a-token-of-the-tests"


def app_with_a_change(place: str, host: str = "127.0.0.1") -> tuple[TestClient, list[bytes]]:
    """The pages, and one more that changes something: what was sent to it."""
    app, changes = create_app(place, host=host, token=TOKEN), []

    async def change(request: Request) -> Response:
        changes.append(await request.body())
        return PlainTextResponse("changed")

    for method in ("POST", "PUT", "PATCH", "DELETE"):
        app.add_api_route("/change", change, methods=[method], response_model=None)
    return TestClient(app, base_url=HERE, follow_redirects=False), changes


@pytest.fixture
def place(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path}/results.db"
    with open_store(url) as store:
        fill(store, 6)
    return url


@pytest.fixture
def client(place: str) -> Iterator[TestClient]:
    made, _ = app_with_a_change(place)
    with made:
        yield made


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8321",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "192.168.1.5:8321",
        "8.8.8.8",
        "127.0.0.1@evil.example",
        "evil.example#127.0.0.1",
        "0.0.0.0:8321",
        "",
    ],
)
def test_a_foreign_host_is_refused(client: TestClient, host: str) -> None:
    for path in ("/runs", "/api/features", "/static/pages.js"):
        reply = client.get(path, headers={"host": host})
        assert reply.status_code == 403
        assert "made-up" not in reply.text


@pytest.mark.parametrize("host", ["127.0.0.1:8321", "localhost:8321", "LOCALHOST", "[::1]:8321"])
def test_this_machine_is_let_in_by_its_names(client: TestClient, host: str) -> None:
    assert client.get("/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/runs", "/nowhere", "/api/features", "/static/pages.css", "/"])
def test_every_reply_has_the_policies(client: TestClient, path: str) -> None:
    headers = client.get(path, headers={"origin": "https://evil.example"}).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert not [name for name in headers if name.startswith("access-control")]


def test_a_refusal_has_them_too(client: TestClient) -> None:
    reply = client.get("/runs", headers={"host": "evil.example"})
    assert reply.headers["x-frame-options"] == "DENY"


def test_a_preflight_is_answered_with_no_leave(client: TestClient) -> None:
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    reply = client.options("/change", headers=asked)
    assert reply.status_code in (403, 405)
    assert not [name for name in reply.headers if name.startswith("access-control")]


# --- what changes something -----------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_changes_without_the_token(place: str, method: str) -> None:
    client, changes = app_with_a_change(place)
    for headers in ({}, {HEADER: ""}, {HEADER: "wrong"}, {"cookie": f"glossator={TOKEN}"}):
        assert client.request(method, "/change", headers=headers).status_code == 403
    assert client.request(method, "/change?token=" + TOKEN).status_code == 403
    assert changes == []
    assert client.request(method, "/change", headers={HEADER: TOKEN}).status_code == 200
    assert len(changes) == 1


def test_a_form_of_ours_carries_the_token_and_comes_through_whole(place: str) -> None:
    client, changes = app_with_a_change(place)
    form = {"token": TOKEN, "rating": "4"}
    reply = client.post("/change", data=form, headers={"origin": HERE})
    assert reply.status_code == 200
    assert changes == [f"token={TOKEN}&rating=4".encode()]
    wrong = client.post("/change", data={"token": "x"}, headers={"origin": HERE})
    assert wrong.status_code == 403
    as_json = client.post("/change", json={"token": TOKEN}, headers={"origin": HERE})
    assert as_json.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://localhost:8321"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": HERE},
    ],
)
def test_another_site_changes_nothing_even_with_the_token(
    place: str, headers: dict[str, str]
) -> None:
    client, changes = app_with_a_change(place)
    reply = client.post("/change", data={"token": TOKEN}, headers=headers)
    assert reply.status_code == 403
    assert changes == []


def test_a_request_without_end_is_cut_off(place: str) -> None:
    client, changes = app_with_a_change(place)
    body = b"x" * (LONGEST_BODY + 1)
    assert client.post("/change", content=body, headers={HEADER: TOKEN}).status_code == 413
    assert changes == []


# --- elsewhere than on this machine ---------------------------------------------------------------


def test_others_get_in_by_the_token_alone(place: str) -> None:
    client, _ = app_with_a_change(place, host="0.0.0.0")
    here = {"host": "192.168.1.5:8321"}
    for path in ("/runs", "/api/features", "/static/pages.css", "/runs?token=wrong"):
        reply = client.get(path, headers=here)
        assert reply.status_code == 401
        assert "made-up" not in reply.text
    reply = client.get(f"/features?sort=-peak&token={TOKEN}", headers=here)
    assert (reply.status_code, reply.headers["location"]) == (303, "/features?sort=-peak")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    known = {**here, "cookie": cookie.partition(";")[0]}
    assert client.get("/runs", headers=known).status_code == 200
    # The cookie alone changes nothing: another site could have it sent along.
    assert client.post("/change", headers=known).status_code == 403
    assert client.get("/runs", headers={**known, "host": "evil.example"}).status_code == 403


def test_the_token_leads_to_no_other_host(place: str) -> None:
    client, _ = app_with_a_change(place, host="0.0.0.0")
    for path in ("//evil.example/x", "/%2fevil.example", "/\\evil.example"):
        reply = client.get(
            f"http://192.168.1.5:8321{path}?token={TOKEN}", headers={"host": "192.168.1.5:8321"}
        )
        assert reply.status_code == 303
        assert not reply.headers["location"].startswith(("//", "/\\", "http"))


def test_a_guard_without_a_token_accepts_none() -> None:
    assert not Guard("").accepts("")
    assert not Guard("x").accepts(None)
    assert not Guard("x").accepts("\ud800")


@pytest.mark.parametrize(
    ("host", "name"),
    [("a:80", "a"), ("[::1]:80", "::1"), ("a:b", ""), ("[::1", ""), ("u@a", ""), ("a/b", "")],
)
def test_the_name_in_a_host_header_is_read_strictly(host: str, name: str) -> None:
    assert host_name(host) == name

"""Conversations and texts to try as pages, with a tiny subject and the scripted talking model."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from glossator.config import RunLimits
from glossator.store import open_store
from glossator.web.server.app import create_app
from glossator.web.server.loaded import Speech
from tests.loopback import Loopback
from tests.source_tree import ROOT
from tests.test_chat_command import FEATURE, OPTIONS, speak
from tests.test_report import HOSTILE, Page
from tests.test_review import HERE

SECONDS = 100.0


@dataclass
class Site:
    """The pages of a server, as somebody uses them without the script."""

    client: TestClient

    def get(self, path: str) -> str:
        return self.client.get(path).text

    def post(self, path: str, **fields: str) -> Any:
        return self.client.post(path, data={"token": "token", **fields})

    def done(self, path: str) -> Page:
        """The page once nothing is at work any more."""
        end = time.monotonic() + SECONDS
        while 'data-going="yes"' in (text := self.get(path)):
            assert time.monotonic() < end, text
            time.sleep(0.02)
        return Page(text)

    def say(self, text: str, chat: str = "c1") -> Page:
        reply = self.post(f"/chat/{chat}/say", text=text)
        assert reply.status_code == 303, Page(reply.text).text
        return self.done(f"/chat/{chat}")


@pytest.fixture(scope="module")
def talker() -> Iterator[Loopback]:
    with Loopback(speak) as opened:
        yield opened


@pytest.fixture(scope="module")
def made(folder: Path, talker: Loopback, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of a tiny subject."""
    where = tmp_path_factory.mktemp("chats") / "results.db"
    subprocess.run(
        [
            *(sys.executable, "-m", "glossator", "--store", f"sqlite:///{where}", "--quiet"),
            *("run", *OPTIONS, "--site", "layers.0.mlp.neurons", "--features", "0-2"),
            *("--explainer", "unigram", "--llm", "openai:some-model"),
            *("--base-url", talker.openai_url),
        ],
        cwd=folder,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "k"},
    )
    return where


@pytest.fixture
def store_url(made: Path, tmp_path: Path) -> str:
    """A copy of it, to talk in."""
    (tmp_path / "results.db").write_bytes(made.read_bytes())
    return f"sqlite:///{tmp_path}/results.db"


@pytest.fixture(autouse=True)
def at_the_subject(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", "k")


def opened(url: str, llm: str = "", base_url: str = "") -> TestClient:
    speech = Speech(llm, base_url, RunLimits(offline=True))
    app = create_app(url, token="token", speech=speech)
    return TestClient(app, base_url=HERE, follow_redirects=False)


@pytest.fixture
def site(store_url: str, talker: Loopback) -> Iterator[Site]:
    with opened(store_url, "openai:some-model", talker.openai_url) as client:
        yield Site(client)


def begun(site: Site, text: str = "") -> Page:
    reply = site.post("/chat", feature=FEATURE, run="r1", text=text)
    assert reply.status_code == 303, Page(reply.text).text
    assert reply.headers["location"] == "/chat/c1#end"
    return site.done("/chat/c1")


# --- conversations --------------------------------------------------------------------------------


def test_a_hypothesis_is_tested_kept_and_scored_from_a_page(site: Site, store_url: str) -> None:
    page = begun(site, "it fires on the word river")
    assert "of peak more than elsewhere, n " in page.text, page.text
    assert "was foretold before it ran: yes for" in page.text
    assert [a["href"] for a in Page(site.get("/chat")).all("a") if "/chat/" in a["href"]]
    assert site.post("/chat/c1/keep", hypothesis="H1", score="yes").status_code == 303
    page = site.done("/chat/c1")
    assert "Kept as the explanation by human in run" in page.text
    assert re.search(r"detection \S+ .*null", page.text)
    with open_store(store_url) as store:
        (run,) = [r.id for r in store.runs() if r.id != "r1"]
        (explanation,) = store.explanations_of(run)
        assert explanation.trigger == "the word river"
        assert [s.scorer for s in store.scores_of(run)] == ["detection"]


def test_a_dear_call_waits_through_a_restart_and_goes_on_with_a_yes(
    store_url: str, talker: Loopback
) -> None:
    for answer, wanted in (("no", "did not approve"), ("yes", "E1: ")):
        name = "c1" if answer == "no" else "c2"
        with opened(store_url, "openai:some-model", talker.openai_url) as client:
            site = Site(client)
            say = 'call score_on_dev {"text": "rivers"}'
            site.post("/chat", feature=FEATURE, run="r1", text=say)
            assert "is dear: " in site.done(f"/chat/{name}").text
        with opened(store_url, "openai:some-model", talker.openai_url) as client:
            site = Site(client)
            page = Page(site.get(f"/chat/{name}"))
            (call,) = [a["value"] for a in page.all("input") if a.get("name") == "call"]
            assert site.post(f"/chat/{name}/decide", call="T9.1.0", answer="yes").status_code == 400
            reply = site.post(f"/chat/{name}/decide", call=call, answer=answer)
            assert reply.status_code == 303
            page = site.done(f"/chat/{name}")
            assert wanted in page.text
            assert "The tools have shown it." in page.text


def test_a_turn_that_the_end_of_the_server_cut_off_goes_on(
    store_url: str, talker: Loopback
) -> None:
    with opened(store_url, "openai:some-model", talker.openai_url) as client:
        site = Site(client)
        begun(site)
        talker.delay = 5.0
        site.post("/chat/c1/say", text="What is it?")
        while 'id="t1"' not in site.get("/chat/c1/part"):
            time.sleep(0.02)
    talker.delay = 0.0
    with opened(store_url, "openai:some-model", talker.openai_url) as client:
        site = Site(client)
        assert "This turn was cut off." in site.get("/chat/c1")
        assert site.post("/chat/c1/resume").status_code == 303
        assert "You said: What is it?" in site.done("/chat/c1").text


def test_commands_call_tools_and_wrong_ones_are_told_with_what_was_typed(site: Site) -> None:
    begun(site)
    page = site.say('/test "the river of Paris"')
    assert "run_texts" in page.text
    assert [a for a in page.all("i") + page.all("span") if a.get("title")]
    for wrong, said in (("/nonsense", "there is no command"), ("", "nothing was said")):
        reply = site.post("/chat/c1/say", text=wrong)
        assert reply.status_code == 400
        assert said in Page(reply.text).text
    assert ">/nonsense</textarea>" in site.post("/chat/c1/say", text="/nonsense").text


def test_a_second_tab_sees_the_same_conversation(site: Site, store_url: str) -> None:
    begun(site, "What is it?")
    with opened(store_url) as other:
        text = Page(other.get("/chat/c1").text).text
    assert "You said: What is it?" in text
    assert "review --llm local" in text


def test_a_stopped_turn_leaves_the_conversation_usable(site: Site) -> None:
    site.post("/chat", feature=FEATURE, run="r1", text="it fires on the word river")
    assert site.post("/chat/c1/stop").status_code == 303
    site.done("/chat/c1")
    assert "You said: What is it?" in site.say("What is it?").text


def test_only_one_thing_is_at_work_at_a_time(site: Site) -> None:
    site.post("/chat", feature=FEATURE, run="r1", text="What is it?")
    if site.client.app.state.conversations.worker.now is not None:  # type: ignore[attr-defined]
        reply = site.post("/chat/c1/say", text="And now?")
        assert (reply.status_code, "is at work" in reply.text) == (400, True)
    site.done("/chat/c1")


def test_without_a_language_model_pages_say_what_to_run(store_url: str) -> None:
    with opened(store_url) as client:
        assert "review --llm local" in Page(client.get("/chat").text).text
        reply = client.post("/chat", data={"token": "token", "feature": FEATURE, "run": "r1"})
        assert reply.status_code == 400
        assert "language model" in reply.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"feature": "nonsense"}, "nonsense"),
        ({"feature": "layers.0.mlp.neurons/99999"}, "99999"),
        ({"feature": ""}, "feature"),
    ],
)
def test_what_cannot_be_talked_about_is_told(site: Site, fields: dict[str, str], said: str) -> None:
    reply = site.post("/chat", run="r1", text="What is it?", **fields)
    page = site.done("/chat/c1") if reply.status_code == 303 else Page(reply.text)
    assert [a for a in page.all("p") if a.get("role") == "alert"]
    assert said in page.text


def test_what_others_wrote_is_text(site: Site) -> None:
    begun(site)
    text = "".join(HOSTILE[:5])[:1500]
    for said in (text, f'/test "{text[:300]}"', f"it fires on {text[:200]}"):
        site.post("/chat/c1/say", text=said)
        page = site.done("/chat/c1")
        assert [a.get("src") for a in page.all("script")] == ["/static/pages.js"]
        assert not page.all("img")
        assert not [a for _, a in page.elements if any(k.startswith("on") for k in a)]


def test_nothing_is_changed_without_the_token(site: Site) -> None:
    for path in ("/chat", "/chat/c1/say", "/chat/c1/stop", "/features/1/test", "/features/1/steer"):
        assert site.client.post(path, data={"text": "a"}).status_code == 403


# --- texts to try ---------------------------------------------------------------------------------


def tried(site: Site, form: str, **fields: str) -> Page:
    reply = site.post(f"/features/1/{form}", run="r1", **fields)
    assert reply.status_code == 303, Page(reply.text).text
    return site.done(reply.headers["location"].partition("#")[0])


def test_a_text_is_run_on_the_live_model_as_collection_ran_it(site: Site) -> None:
    page = tried(site, "test", text="the river of Paris")
    assert re.search(r"Peak \S+; fires on \d of \d+ tokens", page.text)
    assert "as numbers" in page.text
    subject = site.client.app.state.trials.loaded._subject  # type: ignore[attr-defined]
    tried(site, "test", text="another text")
    assert site.client.app.state.trials.loaded._subject is subject  # type: ignore[attr-defined]


def test_holding_a_feature_shows_what_it_changes(site: Site) -> None:
    for strength, said in (("0", "Ablated"), ("4", "Held at 4 peaks")):
        page = tried(site, "steer", text="the river of", strength=strength)
        assert said in page.text
        assert re.search(r"moves by KL \S+ nats", page.text)
        assert "Goes on, held" in page.text
        assert len(page.all("tr")) > 20


@pytest.mark.parametrize(
    ("form", "fields", "said"),
    [
        ("test", {"text": " "}, "no text to try"),
        ("test", {"text": "x" * 30_000}, "30,000 characters"),
        ("steer", {"text": "a", "strength": "99"}, "between"),
        ("steer", {"text": "a", "strength": "much"}, "a number of peaks"),
        ("steer", {"text": "river " * 3000, "strength": "1"}, "tokens"),
    ],
)
def test_what_cannot_be_tried_is_told_in_a_sentence(
    site: Site, form: str, fields: dict[str, str], said: str
) -> None:
    reply = site.post(f"/features/1/{form}", run="r1", **fields)
    if reply.status_code == 303:
        page = site.done(reply.headers["location"].partition("#")[0])
    else:
        assert reply.status_code == 400
        page = Page(reply.text)
    assert said in page.text
    assert [a for a in page.all("p") if a.get("role") == "alert"]


def test_a_subject_that_is_not_there_is_told(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = tried(site, "test", text="the river")
    assert [a for a in page.all("p") if a.get("role") == "alert"]


def test_a_trial_that_is_not_remembered_is_said(site: Site) -> None:
    assert "does not remember" in html.unescape(site.get("/features/1?run=r1&trial=x"))
    assert site.client.get("/trials/x").status_code == 404


def test_looking_takes_no_model_library(site: Site, store_url: str) -> None:
    begun(site, "it fires on the word river")
    code = (
        "import sys\nfrom fastapi.testclient import TestClient\n"
        "from glossator.web.server.app import create_app\n"
        f"client = TestClient(create_app({store_url!r}), base_url={HERE!r})\n"
        "for path in ('/chat', '/chat/c1', '/chat/c1/part', '/features/1', '/features/2'):\n"
        "    assert client.get(path).status_code == 200, path\n"
        "print(sorted(sys.modules.keys() & {'torch', 'transformers', 'langgraph'}))"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr

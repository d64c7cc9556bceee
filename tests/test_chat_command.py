"""`glossator chat` whole, on a tiny subject: through pipes, resumed, killed, scored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glossator.store import open_store
from tests import talking
from tests.loopback import Answer, Asked, Loopback
from tests.test_batches_killed import ROOT

FEATURE = "layers.0.mlp.neurons/1"
OPTIONS = [
    *("--model", "subject", "--corpus", "texts.jsonl", "--tokens", "8000", "--ctx", "64"),
    *("--window", "16", "--calibration-tokens", "2000", "--firing-quantile", "0.95"),
    *("--n-silent", "8", "--n-scored", "6", "--n-shuffled", "1", "--dtype", "float32"),
    *("--scorer", "detection", "--per-call", "1"),
]


def speak(asked: Asked) -> Answer:
    """The talking model behind a server, with tools in the protocol's own form."""
    if "slowly" in asked.last:
        time.sleep(1.0)
    messages = [{"role": role, "content": text} for role, text in asked.messages]
    if not asked.body.get("tools"):
        return Answer(talking.function(messages))
    messages[0]["content"] += " You can call these tools"
    if messages[-1]["role"] == "tool":
        return Answer("The tools have shown it.")
    step = json.loads(talking.function(messages))["next"]
    if "tool" in step:
        return Answer("", calls=((step["tool"], json.dumps(step["arguments"])),))
    return Answer(step["reply"])


@pytest.fixture
def talker() -> Iterator[Loopback]:
    with Loopback(speak) as opened:
        yield opened


def chat(
    folder: Path,
    where: Path,
    lines: list[str],
    *arguments: str,
    dies: tuple[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """`glossator chat ARGUMENTS`, in the folder of the subject, fed with lines."""
    module = ["glossator"] if dies is None else ["tests.chat_child", *dies]
    return subprocess.run(
        [sys.executable, "-m", *module, "--store", f"sqlite:///{where}", "chat", *arguments],
        cwd=folder,
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "k"},
    )


def begun(
    folder: Path, where: Path, server: Loopback, lines: list[str], **more: Any
) -> subprocess.CompletedProcess[str]:
    llm = ("--llm", "openai:some-model", "--base-url", server.openai_url)
    return chat(folder, where, lines, FEATURE, *OPTIONS, *llm, **more)


def test_a_conversation_tests_keeps_and_scores_what_the_user_supposes(
    folder: Path, tmp_path: Path, talker: Loopback
) -> None:
    where = tmp_path / "glossator.db"
    lines = ["What is it?", "it fires on the word river", "/keep", "/score", "/cost", "/quit"]
    done = begun(folder, where, talker, lines)
    assert done.returncode == 0, done.stderr
    assert "You said: What is it?" in done.stdout
    assert "of peak more than elsewhere, n " in done.stdout
    assert "So this is " in done.stdout
    assert "Kept H1 as the explanation by human in r1: the word river" in done.stdout
    assert "detection (" in done.stdout
    assert "chat --resume c1" in done.stderr
    with open_store(f"sqlite:///{where}") as store:
        (explanation,) = store.explanations_of("r1")
        assert explanation.explainer == "human"
        assert explanation.trigger == "the word river"
        assert "tested by E1" in explanation.note
        (score,) = store.scores_of("r1")
        assert score.scorer == "detection"
        assert score.null is not None
        assert store.run("r1").status == "done"
    listed = subprocess.run(
        [sys.executable, "-m", "glossator", "--store", f"sqlite:///{where}", "list", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "the word river" in listed.stdout


def test_another_hypothesis_is_kept_in_a_run_of_its_own(
    folder: Path, tmp_path: Path, talker: Loopback
) -> None:
    where = tmp_path / "glossator.db"
    lines = ["it fires on the word river", "/keep", "it fires on the word war", "/keep", "/keep H1"]
    done = begun(folder, where, talker, lines)
    assert "Kept H1 as the explanation by human in r1" in done.stdout
    assert "Kept H2 as the explanation by human in r2" in done.stdout
    assert done.stdout.count("in r1: the word river") == 2


def test_every_slash_command_answers_and_wrong_ones_say_what_there_is(
    folder: Path, tmp_path: Path, talker: Loopback
) -> None:
    lines = [
        *("/help", "/feature", "/examples", "/examples q1", '/test "the river of Paris"'),
        *("/ablate", "/steer old", "/steer", "/cost", "/keep", "/score", "/nonsense", "/test"),
        *("/examples all", '/test "' + "river " * 500 + '"', "/quit"),
    ]
    done = begun(folder, tmp_path / "glossator.db", talker, lines)
    assert done.returncode == 0, done.stderr
    for number in range(1, 7):
        assert f"E{number}: " in done.stdout
    assert "Ctrl-C ends an answer" in done.stdout
    assert "cannot be called so" in done.stdout
    for said in (
        "nothing was supposed yet",
        "nothing is kept yet",
        "there is no command /nonsense",
        "write what to test",
        "/examples takes one of top",
    ):
        assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_one_document_of_all_events(folder: Path, tmp_path: Path, talker: Loopback) -> None:
    lines = ["What is it?", "it fires on the word river"]
    where = tmp_path / "glossator.db"
    done = begun(folder, where, talker, lines)
    again = chat(folder, where, ["What is it?"], "--resume", "c1", "--json")
    document = json.loads(again.stdout)
    assert done.returncode == again.returncode == 0
    assert document["chat"] == "c1"
    assert [e["event"] for e in document["events"]] == ["said", "done"]


def test_what_cannot_be_opened_is_told_in_a_line(
    folder: Path, tmp_path: Path, talker: Loopback
) -> None:
    where = tmp_path / "glossator.db"
    url = ("--base-url", talker.openai_url, "--llm", "openai:some-model")
    for arguments, said in (
        (["layers.0.mlp.neurons/99999", *OPTIONS, *url], "99999"),
        (["nonsense", *OPTIONS, *url], "nonsense"),
        (["--resume", "c9"], "no conversation is called 'c9'"),
        (["--resume", "c9", FEATURE], "leave out FEATURE"),
        ([*OPTIONS, *url, "--with", "a river"], "of each kind"),
        ([FEATURE, *OPTIONS, "--llm", "nobody"], "nobody"),
    ):
        done = chat(folder, where, [], *arguments)
        assert done.returncode == 2, done.stderr
        assert said in done.stderr
        assert "Traceback" not in done.stderr


LINES = [
    "What is it?",
    'call run_texts {"texts": ["the river of Paris"]}',
    "it fires on the word river",
    'call score_on_dev {"text": "the word river"}',
    "y",
]
MOMENTS = [
    ("T1.1 said", "before"),
    ("E1 found", "before"),
    ("T3.0.0 plan", "before"),
    ("T4.1.0 approval", "after"),
    ("T4 answer", "before"),
]
"""Amid a reply, amid a tool, amid a test of a hypothesis, just after the yes to a dear call, and
amid the last reply."""


def kept(where: Path) -> dict[str, Any]:
    """All that a conversation wrote down, times and seconds aside."""
    with open_store(f"sqlite:///{where}") as store:
        notebook = store.notebooks.find("c1")
        assert notebook is not None
        found = {entry.key: json.loads(json.dumps(entry.content)) for entry in notebook.entries()}
    for content in found.values():
        content.pop("seconds", None)
        if isinstance(content.get("finding"), dict):
            content["finding"].pop("usage")
    return found


@pytest.fixture(scope="module")
def undisturbed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], int]:
    where = tmp_path_factory.mktemp("undisturbed") / "glossator.db"
    with Loopback(speak) as server:
        done = begun(folder, where, server, LINES)
        assert done.returncode == 0, done.stderr
        return kept(where) | {"opened": None}, len(server.log)


@pytest.mark.timeout(200)
@pytest.mark.parametrize(("key", "when"), MOMENTS)
def test_after_a_kill_it_goes_on_and_nothing_is_paid_twice(
    folder: Path,
    tmp_path: Path,
    talker: Loopback,
    undisturbed: tuple[dict[str, Any], int],
    key: str,
    when: str,
) -> None:
    where = tmp_path / "glossator.db"
    first = begun(folder, where, talker, LINES, dies=(key, when))
    assert first.returncode == -9, first.stderr
    heard = 2 if key == "E1 found" else int(key[1])
    answered = key in ("T4.1.0 approval", "T4 answer")
    left = LINES[5:] if answered else LINES[heard:]
    rest = chat(folder, where, left, "--resume", "c1")
    assert rest.returncode == 0, rest.stderr
    whole, n_calls = undisturbed
    assert kept(where) | {"opened": None} == whole
    bodies = Counter(json.dumps(asked.body, sort_keys=True) for asked in talker.log)
    assert max(bodies.values()) == 1
    assert len(talker.log) == n_calls


def piped(folder: Path, where: Path, server: Loopback) -> subprocess.Popen[str]:
    """The same, fed line by line."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "glossator", "--store", f"sqlite:///{where}", "chat", FEATURE),
            *(*OPTIONS, "--llm", "openai:some-model", "--base-url", server.openai_url),
        ],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OPENAI_API_KEY": "k"},
    )


def test_it_goes_on_after_a_kill_while_it_waits_for_approval(
    folder: Path, tmp_path: Path, talker: Loopback
) -> None:
    where = tmp_path / "glossator.db"
    process = piped(folder, where, talker)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(LINES[3] + "\n")
    process.stdin.flush()
    while "is dear" not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    assert process.wait() == -9
    process.stdin.close()
    process.stdout.close()
    n = len(talker.log)
    rest = chat(folder, where, ["y"], "--resume", "c1")
    assert "is dear" in rest.stdout
    assert "The tools have shown it." in rest.stdout
    asked = [json.dumps(a.body, sort_keys=True) for a in talker.log]
    assert len(set(asked)) == len(asked) > n


def test_ctrl_c_ends_an_answer_and_not_the_conversation(
    folder: Path, tmp_path: Path, talker: Loopback
) -> None:
    process = piped(folder, tmp_path / "glossator.db", talker)
    assert process.stdin is not None
    process.stdin.write("Answer slowly.\n")
    process.stdin.flush()
    while not talker.log:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate("What is it?\n", timeout=150)
    assert "slowly" not in said
    assert "You said: What is it?" in said
    assert process.returncode == 0

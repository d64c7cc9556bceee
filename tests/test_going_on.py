"""Going on: after a kill, a cancellation, a spent budget, a refused key, replies of no use."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from glossator.config import RunConfig, RunLimits
from glossator.errors import (
    BudgetSpent,
    ProviderRefused,
)
from glossator.pipeline import Progress, run
from glossator.runs import RunStatus
from glossator.store import Store, open_store
from tests.loopback import Answer, Asked, Fault, Loopback, sends, status
from tests.pipeline_child import (
    asked_about,
    config_for,
    do,
    kind_of,
    rows,
    rule,
    save_subject,
    save_texts,
)

ROOT = Path(__file__).parents[1]
LIMIT = 16
"""Requests that one run has out at a time, at most."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the subject and the text."""
    place = tmp_path_factory.mktemp("pipeline")
    save_subject(place / "subject")
    save_texts(place / "texts.jsonl")
    return place


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/glossator.db") as opened:
        yield opened


@pytest.fixture
def server() -> Iterator[Loopback]:
    with Loopback(rule) as opened:
        yield opened


# -- going on -------------------------------------------------------------------------------------


def child(config: RunConfig, database: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline_child", f"sqlite:///{database}"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(config.to_json()))
    process.stdin.close()
    return process


def killed_at(process: subprocess.Popen[str], stage: str, done: int) -> bool:
    """Kills it once it is so far; False if it ended before."""
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            at, count, *_ = line.split()
            if at == stage and int(count) >= done:
                process.kill()
                process.wait()
                return True
            if at == "end":
                break
    process.wait()
    return False


def test_after_kills_in_every_stage_the_rows_are_those_of_an_undisturbed_run(
    folder: Path, tmp_path: Path
) -> None:
    with Loopback(rule, delay=0.02) as server:
        config = config_for(folder, server, features="0-2")
        with open_store(f"sqlite:///{tmp_path}/whole.db") as store:
            do(config, store)
            expected, whole = rows(store), len(server.log)
        database = tmp_path / "killed.db"
        moments = [("read", 1), ("explain", 2), ("score", 1), ("score", 4)]
        for stage, done in moments:
            assert killed_at(child(config, database), stage, done), (stage, done)
        with open_store(f"sqlite:///{database}") as store:
            assert store.run("r1").status is RunStatus.RUNNING  # Nobody was left to say more.
        assert not killed_at(child(config, database), "never", 0)
    with open_store(f"sqlite:///{database}") as store:
        assert store.run("r1").status is RunStatus.DONE
        assert rows(store) == expected
        scores, explanations = store.scores("r1"), store.explanations("r1")
        assert not scores.duplicated(["feature", "explainer", "scorer"]).any()
        assert not explanations.duplicated(["feature", "explainer"]).any()
        assert (len(explanations), len(scores)) == (3, 6)
    repeated = len(server.log) - 2 * whole
    assert 0 <= repeated <= LIMIT * 3  # The first kill was before anything was asked.
    again = Counter(json.dumps(asked.body) for asked in server.log[whole:])
    assert max(again.values()) <= 1 + 3


@pytest.mark.parametrize(("stage", "done"), [("read", 1), ("explain", 1), ("score", 1)])
def test_a_cancelled_run_is_marked_so_and_goes_on(
    folder: Path, store: Store, tmp_path: Path, stage: str, done: int
) -> None:
    async def cancelled(config: RunConfig) -> None:
        loop, here = asyncio.get_running_loop(), asyncio.current_task()
        assert here is not None
        work = asyncio.create_task(run(config, RunLimits(), store, on_progress=lambda p: tell(p)))

        def tell(progress: Progress) -> None:
            if progress.stage == stage and progress.done >= done:
                loop.call_soon_threadsafe(work.cancel)
                if stage == "read":  # In a thread: the rest must not be read.
                    time.sleep(0.05)

        with pytest.raises(asyncio.CancelledError):
            await work
        assert asyncio.all_tasks() == {here}

    with Loopback(rule, delay=0.01) as server:
        config = config_for(folder, server, features="0-1", scorers=["detection"])
        asyncio.run(cancelled(config))
        (left,) = store.runs()
        assert left.status is RunStatus.INTERRUPTED
        assert bool(store.recorded(left.collection)) == (stage != "read")
        asked = len(server.log)
        assert do(config, store).status is RunStatus.DONE
        with open_store(f"sqlite:///{tmp_path}/other.db") as other:
            before = len(server.log)
            do(config, other)
            assert rows(store) == rows(other)
            # What was under way when it was cancelled was finished and kept.
            assert before == len(server.log) - before
    assert asked <= before


# -- budgets, refusals, failures ------------------------------------------------------------------


def test_max_calls_stop_in_time_and_a_higher_limit_pays_nothing_twice(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    with Loopback(rule) as server:
        config = config_for(folder, server, features="0-1")
        with open_store(f"sqlite:///{tmp_path}/other.db") as other:
            do(config, other)
            expected, total = rows(other), len(server.log)
        for limit in (1, 2, total // 4, total // 2, total - 1):
            outcome = do(config, store, max_calls=limit)
            assert isinstance(outcome.stopped, BudgetSpent)
            assert store.run("r1").status is outcome.status is RunStatus.BUDGET_SPENT
            assert outcome.stopped.exit_code == 4
            assert len(server.log) - total == limit == store.spent("r1")[1]
            assert outcome.done < 2
        assert do(config, store, max_calls=total).status is RunStatus.DONE
        assert rows(store) == expected
        assert len(server.log) == 2 * total


def test_a_budget_in_dollars_is_never_passed_and_a_higher_one_goes_on(
    folder: Path, store: Store, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    config = config_for(folder, llm="tests.pipeline_child:Priced", features="0")
    for budget in (2.0, 6.0):
        outcome = do(config, store, budget=budget)
        assert outcome.status is RunStatus.BUDGET_SPENT
        assert 0 < store.spent("r1")[0] <= budget
        assert outcome.done == 0
    assert do(config, store, budget=10_000.0).status is RunStatus.DONE
    bodies = Counter(json.dumps(asked.body) for asked in server.log)
    assert max(bodies.values()) == 1


def test_a_wrong_key_is_one_message_and_a_right_one_goes_on(folder: Path, store: Store) -> None:
    refusing = True

    def admit(now: float) -> Fault | None:
        return status(401, "bad key") if refusing else None

    with Loopback(rule, admit=admit, delay=0.01) as server:
        config = config_for(folder, server, scorers=["detection"])
        outcome = do(config, store)
        assert isinstance(outcome.stopped, ProviderRefused)
        assert "OPENAI_API_KEY" in str(outcome.stopped)
        assert store.run("r1").status is outcome.status is RunStatus.REFUSED
        assert (outcome.done, outcome.failed) == (0, 0)
        assert len(server.log) <= 3  # As many as were out together.
        refusing = False
        assert do(config, store).status is RunStatus.DONE


def test_a_key_that_ends_while_scoring_stops_what_waits(folder: Path, store: Store) -> None:
    with Loopback(rule, delay=0.01) as server:
        server.admit = lambda now: status(402, "no credit") if len(server.log) > 40 else None
        # Without log probabilities: five votes a window.
        config = config_for(folder, server, llm="openai:gpt-5-mini", features="0-1")
        outcome = do(config, store)
        assert isinstance(outcome.stopped, ProviderRefused)
        assert len(server.log) <= 40 + LIMIT
        server.admit = lambda now: None
        assert do(config, store).status is RunStatus.DONE
        answered = Counter(
            json.dumps(a.body) for a in [*server.log] if kind_of(a.messages) == "simulate"
        )
        assert max(answered.values()) <= 2


def test_a_reply_without_an_explanation_fails_one_feature_and_is_asked_for_again(
    folder: Path, store: Store
) -> None:
    broken = True
    lost: list[str] = []

    def mumbles(asked: Asked) -> Answer:
        if kind_of(asked.messages) == "explain" and broken:
            if not lost:
                lost.append(asked.last)
            if asked.last in lost:
                return Answer("...")
        return rule(asked)

    with Loopback(mumbles) as server:
        config = config_for(folder, server, scorers=["detection"])
        outcome = do(config, store)
        assert (outcome.status, outcome.done, outcome.failed) == (RunStatus.SOME_FAILED, 2, 1)
        (failure,) = store.failures("r1")
        assert (failure.stage, failure.part, failure.reply) == ("explain", "max-act", "...")
        known = {e.text for e in store.explanations_of("r1")}
        assert len(known) == 2
        assert len(store.scores_of("r1")) == 2
        before = len(server.log)
        assert do(config, store).status is RunStatus.SOME_FAILED  # Still broken.
        assert len(server.log) == before + 1
        broken = False
        assert do(config, store).status is RunStatus.DONE
        assert store.failures("r1") == []
        since = server.log[before + 1 :]
        assert [a.last for a in since if kind_of(a.messages) == "explain"] == lost
        # The others' scores are as they were; only this one is scored, beside one wrong one.
        (late,) = (e for e in store.explanations_of("r1") if e.text not in known)
        subjects = {_explained_in(a) for a in since} - {""}
        assert late.text in subjects
        assert len(subjects) == 2


def _explained_in(asked: Asked) -> str:
    """The explanation that a request of a scorer holds."""
    found = re.search(r"Does it contain (.*)\?$|^Description: (.*)$", asked.last, re.MULTILINE)
    return (found[1] or found[2]) if found else ""


@pytest.mark.parametrize("way", ["prose", "html"])
def test_a_simulator_that_cannot_be_understood_fails_its_scores_alone(
    folder: Path, store: Store, way: str
) -> None:
    broken = True

    def maybe(asked: Asked) -> Answer:
        if broken and kind_of(asked.messages) == "simulate":
            return Answer("I would rather not say")
        return rule(asked)

    with Loopback(maybe) as opened:
        server: Loopback = opened

        def admit(now: float) -> Fault | None:
            wrong = broken and way == "html" and kind_of(server.log[-1].messages) == "simulate"
            return sends("<!doctype html>", "text/html") if wrong else None

        server.admit = admit
        config = config_for(folder, server, features="0")
        outcome = do(config, store)
        assert (outcome.status, outcome.done, outcome.failed) == (RunStatus.SOME_FAILED, 0, 1)
        failures = store.failures("r1")
        assert {f.part for f in failures} == {"max-act/simulation"}
        assert {s.scorer for s in store.scores_of("r1")} == {"detection"}
        before, asked = rows(store), asked_about(server)
        broken = False
        assert do(config, store).status is RunStatus.DONE
        assert store.failures("r1") == []
        now = asked_about(server)
        assert (now["explain"], now["detect"]) == (asked["explain"], asked["detect"])
        assert now["simulate"] > asked["simulate"]
        assert [r["explanation"] for r in rows(store)] == [r["explanation"] for r in before]

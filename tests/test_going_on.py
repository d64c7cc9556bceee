"""Going on: after a kill, a cancellation, a spent budget, a refused key, replies of no use."""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from glossator.config import RunConfig, RunLimits
from glossator.errors import (
    BudgetSpent,
    ProviderRefused,
    StoreError,
)
from glossator.pipeline import run
from glossator.progress import Progress
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
)

ROOT = Path(__file__).parents[1]
LIMIT = RunLimits().concurrency
"""Requests that one run has out at a time, at most."""


# -- going on -------------------------------------------------------------------------------------


def child(config: RunConfig, database: Path, **limits: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline_child", f"sqlite:///{database}"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps({"config": config.to_json(), "limits": limits}))
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


def killed_after(process: subprocess.Popen[str], server: Loopback, answered: int) -> bool:
    """Kills it once the server has answered so many requests; False if it ended before."""
    while server.answered < answered and process.poll() is None:
        time.sleep(0.001)
    alive = process.poll() is None
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
    return alive


@pytest.mark.timeout(900)
def test_twenty_kills_while_scoring_repeat_no_more_than_what_was_in_flight(
    folder: Path, tmp_path: Path
) -> None:
    in_flight, chance = 4, random.Random(3)
    database = tmp_path / "killed.db"
    with Loopback(rule, delay=0.005) as server:
        config = config_for(
            folder,
            server,
            features="0-11",
            scorers=["detection"],
            n_scored=32,
            n_shuffled=1,
            per_call=1,
        )
        with open_store(f"sqlite:///{tmp_path}/whole.db") as store:
            do(config, store)
            expected, whole = rows(store), len(server.log)
            assert (
                sum(len(score.predictions) for score in store.scores_of("r1", predictions=True))
                >= 200
            )
        with open_store(f"sqlite:///{database}") as store:
            do(config, store, stages=("collect", "explain"))
        before = server.answered
        each = (whole - 12) // 22  # Of what is asked; twelve requests explain.
        for kill in range(20):
            process = child(config, database, concurrency=in_flight)
            moment = server.answered + chance.randint(1, 2 * each - 1)
            assert killed_after(process, server, min(moment, before + whole - 20)), kill
        with open_store(f"sqlite:///{database}") as store:
            assert do(config, store).status is RunStatus.DONE
            assert rows(store) == expected
            calls = store.calls("r1")
    answered = calls[calls["error"] == ""]
    assert set(calls["error_type"]) <= {"", "Out"}
    again = Counter(json.dumps(asked.body) for asked in server.log[whole:])
    assert set(again) == {json.dumps(asked.body) for asked in server.log[:whole]}
    repeated = sum(again.values()) - len(again)
    assert 0 <= repeated <= 20 * in_flight
    # Every reply that was paid for and written down is in the ledger, once.
    assert int(answered["n_calls"].sum()) == whole
    # So is every call that a kill cut off, and none is missing of those that the server saw.
    n_out = len(calls[calls["error_type"] == "Out"])
    assert repeated <= n_out <= 20 * in_flight


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


def test_a_disk_that_fills_is_told_and_going_on_pays_for_no_kept_reply_again(
    folder: Path, store: Store, server: Loopback, tmp_path: Path
) -> None:
    config = config_for(folder, server, features="0-1", scorers=["detection"], n_scored=16)
    with open_store(f"sqlite:///{tmp_path}/whole.db") as other:
        do(config, other)
        expected, whole = rows(other), len(server.log)
    do(config, store, stages=("collect", "explain"))
    with store._database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        assert isinstance(pages, int)
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 8}")
    with pytest.raises(StoreError, match="disk is full"):
        do(config, store)
    assert store.run("r1").status is not RunStatus.DONE
    with store._database.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    calls = store.calls("r1")
    kept = int(calls[calls["error"] == ""]["n_calls"].sum())
    sent = len(server.log) - whole
    assert sent <= len(calls)  # What could not be kept is known to have gone out.
    assert 2 < kept < whole
    assert sent - kept <= LIMIT  # What was out when the disk was full could not be kept.
    assert do(config, store).status is RunStatus.DONE
    assert rows(store) == expected
    assert len(server.log) - whole - sent == whole - kept


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


def test_calls_that_a_kill_cut_off_count_so_that_limits_hold_over_any_number_of_kills(
    folder: Path, tmp_path: Path
) -> None:
    database, limit = tmp_path / "killed.db", 40
    with Loopback(rule, delay=0.02) as server:
        config = config_for(folder, server, features="0-2", scorers=["detection"], n_scored=16)
        for _ in range(12):
            process = child(config, database, concurrency=4, max_calls=limit)
            if not killed_after(process, server, server.answered + 6):
                break
        assert len(server.log) <= limit
        with open_store(f"sqlite:///{database}") as store:
            assert do(config, store, max_calls=limit).status is RunStatus.BUDGET_SPENT
            assert store.spent("r1")[1] == limit
            assert do(config, store).status is RunStatus.DONE


def test_a_run_that_another_process_is_at_work_on_is_left_to_it(
    folder: Path, store: Store, server: Loopback
) -> None:
    config = config_for(folder, server, features="0", scorers=["detection"])
    begun = store.begin_run(config)
    code = "import sys, time; from glossator.store import open_store\n"
    code += "with open_store(sys.argv[1]) as s, s.working_on('r1'): print('held', flush=True); "
    code += "time.sleep(60)"
    other = subprocess.Popen(
        [sys.executable, "-c", code, store.url], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    with other.stdout as said:
        assert said.readline() == "held\n"
        with pytest.raises(StoreError, match="another process is at work on r1"):
            do(config, store)
        assert server.log == []
        other.kill()
        other.wait()
    assert begun.id == "r1"
    assert do(config, store).status is RunStatus.DONE


def test_a_budget_in_dollars_is_never_passed_and_a_higher_one_goes_on(
    folder: Path, store: Store, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    config = config_for(folder, llm="tests.pipeline_child:Priced", features="0")
    for budget in (2.0, 4.0):
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
        assert server.log == []  # The list of models had told.
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
                lost.append(_question(asked.last))
            if any(_question(text) in lost for _, text in asked.messages):
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
        assert len(server.log) == before + 3  # It is told twice what was wrong.
        broken = False
        assert do(config, store).status is RunStatus.DONE
        assert store.failures("r1") == []
        since = server.log[before + 3 :]
        assert [_question(a.last) for a in since if kind_of(a.messages) == "explain"] == lost
        # The others' scores are as they were; only this one is scored, beside one wrong one.
        (late,) = (e for e in store.explanations_of("r1") if e.text not in known)
        subjects = {_explained_in(a) for a in since} - {""}
        assert late.text in subjects
        assert len(subjects) == 2


def _question(text: str) -> str:
    """A message without the words that the provider is told to begin with."""
    return text.partition("\n\nBegin your reply with")[0]


def _explained_in(asked: Asked) -> str:
    """The explanation that a request of a scorer holds."""
    found = re.search(r"^Which contain: (.*)\?$|^Description: (.*)$", asked.last, re.MULTILINE)
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

"""Runs that wait for batches and are killed: the same command finds them, and sends none twice."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from glossator.config import RunConfig
from glossator.errors import BudgetSpent
from glossator.providers.errand import Pace
from glossator.runs import RunStatus
from glossator.store import Store, open_store
from tests.loopback import Fault, Loopback, hang
from tests.pipeline_child import config_for, do, rows, rule

ROOT = Path(__file__).parents[1]
PACE = Pace(quiet=0.1, longest=5.0, first=0.05, most=0.1, grace=0.5, patience=60.0, leave=2.0)


def job(folder: Path, server: Loopback, kind: str) -> RunConfig:
    url = server.anthropic_url if kind == "anthropic" else server.openai_url
    return config_for(
        folder, llm=f"{kind}:some-model", base_url=url, scorers=["detection"], features="0-2",
        per_call=1,
    )  # fmt: skip


def child(config: RunConfig, database: Path, **told: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pipeline_child", f"sqlite:///{database}"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    told = {"config": config.to_json(), "limits": {"batch": True}, "pace": asdict(PACE)} | told
    process.stdin.write(json.dumps(told).encode())
    process.stdin.close()
    return process


def killed_once(process: subprocess.Popen[bytes], so_far: Callable[[], bool]) -> None:
    """Kills it, which must be alive then, once it is so far."""
    while not so_far():
        assert process.poll() is None
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -9


def undisturbed(folder: Path, server: Loopback, kind: str, database: Path) -> list[dict[str, Any]]:
    with open_store(f"sqlite:///{database}") as store:
        assert do(job(folder, server, kind), store, batch=True, pace=PACE).status is RunStatus.DONE
        return rows(store)


@pytest.mark.timeout(240)
def test_kills_at_every_point_of_a_batch_send_nothing_twice(folder: Path, tmp_path: Path) -> None:
    with Loopback(rule) as server:
        batches = server.batches
        wanted = undisturbed(folder, server, "openai", tmp_path / "whole.db")
        usual = batches.asked()
        batches.sent.clear()
        batches.done.clear()
        database, config = tmp_path / "killed.db", job(folder, server, "openai")

        # Written down, and not sent.
        batches.faults["upload"].append((hang(600.0), False))
        killed_once(child(config, database), lambda: batches.done["upload"] == 1)
        assert len(batches.sent) == 0

        # Sent, and the answer with its id is on its way.
        batches.faults["submit"].append((hang(600.0), True))
        killed_once(child(config, database), lambda: len(batches.sent) == 1)

        # Found, and looked at.
        batches.hold = True
        killed_once(child(config, database), lambda: batches.done["state"] >= 2)
        batches.hold = False

        # In the midst of writing the scorer's replies down.
        process = child(config, database, dies_after=20)
        assert process.wait(120) == -9
        with open_store(f"sqlite:///{database}") as store:
            assert 0 < len(store.batches.owed("r1")) < usual.total() - 3
            outcome = do(config, store, batch=True, pace=PACE)
            assert outcome.status is RunStatus.DONE
            assert rows(store) == wanted
            assert store.batches.owed("r1") == {}
            calls = store.calls("r1")
            assert int(calls["n_calls"].sum()) == usual.total()
            assert calls.query("n_calls > 0")["batched"].all()
    assert batches.asked() == usual
    assert set(usual.values()) == {1}
    assert server.log == []


@pytest.mark.timeout(240)
def test_a_batch_that_only_its_results_can_tell_from_others_is_found_after_kills(
    folder: Path, tmp_path: Path
) -> None:
    with Loopback(rule) as server:
        batches = server.batches
        wanted = undisturbed(folder, server, "anthropic", tmp_path / "whole.db")
        usual = batches.asked()
        batches.sent.clear()
        database, config = tmp_path / "killed.db", job(folder, server, "anthropic")

        # Sent, and the answer with its id is on its way.
        batches.faults["submit"].append((hang(600.0), True))
        killed_once(child(config, database), lambda: len(batches.sent) == 1)

        # At work, so that it may be it or not.
        batches.hold = True
        looks = batches.done["list"] + 1  # Once to see whether there is a batch API.
        killed_once(child(config, database), lambda: batches.done["list"] >= looks + 2)
        assert len(batches.sent) == 1
        batches.hold = False

        with open_store(f"sqlite:///{database}") as store:
            assert do(config, store, batch=True, pace=PACE).status is RunStatus.DONE
            assert rows(store) == wanted
            assert int(store.calls("r1")["n_calls"].sum()) == usual.total()
    assert batches.asked() == usual


def test_a_run_in_batches_finds_what_a_run_without_finds(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    with Loopback(rule) as server:
        config = job(folder, server, "openai")
        do(config, store)
        assert undisturbed(folder, server, "openai", tmp_path / "batched.db") == rows(store)
        # One for the explanations, and for the scores few: all windows of all features together.
        assert len(server.batches.sent) <= 5


def test_a_run_in_batches_stops_at_its_limit_and_a_higher_one_goes_on(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    with Loopback(rule) as server:
        config = job(folder, server, "openai")
        wanted = undisturbed(folder, server, "openai", tmp_path / "whole.db")
        whole = len(server.batches.asked())
        server.batches.sent.clear()
        for limit in (3 + whole // 3, whole - 1):
            outcome = do(config, store, batch=True, pace=PACE, max_calls=limit)
            assert isinstance(outcome.stopped, BudgetSpent)
            assert outcome.stopped.exit_code == 4
            # What was let in has come back and is paid for, before the run stops.
            assert store.spent("r1")[1] == limit
            assert store.batches.owed("r1") == {}
        assert do(config, store, batch=True, pace=PACE).status is RunStatus.DONE
        assert rows(store) == wanted
        assert set(server.batches.asked().values()) == {1}


def test_no_key_is_written_down(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-veryverysecretindeed0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with Loopback(rule) as server:
        server.batches.faults["state"].append((Fault(401, f'{{"error": "{key}"}}'.encode()), False))
        with open_store(f"sqlite:///{tmp_path}/one.db") as store:
            outcome = do(job(folder, server, "openai"), store, batch=True, pace=PACE)
            assert key not in str(outcome.stopped)
            assert outcome.status is RunStatus.REFUSED
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(file.name == "one.db" for file in files)
    for file in files:
        assert key.encode() not in file.read_bytes()

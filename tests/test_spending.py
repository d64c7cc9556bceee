"""What a run asked of language models and what it cost, added up from the ledger."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from glossator.cli.spending import prices, spending
from glossator.config import RunConfig
from glossator.ledger import Call, Entry
from glossator.llm import Purpose
from glossator.store import Store
from glossator.types import Usage

EXPLAINING, SCORING = (
    Purpose("explain", None, "max-act"),
    Purpose("score", None, "max-act/detection"),
)
PRICE = json.dumps({"source": "flat", "per": 1_000_000, "input": 1.0})


def filled(store: Store) -> str:
    run = store.begin_run(RunConfig()).id
    paid = Usage(1, 0, 100, 20, 0.25, 1.0, 60, 10, 5)
    calls = [
        Call("a:b", "1", 1, paid, purpose=EXPLAINING, price=PRICE),
        Call("a:b", "2", 1, Usage(1, cost=0.125, seconds=2.0), "timeout", "ProviderError", SCORING),
        Call("a:b", "2", 2, paid, purpose=SCORING, price=PRICE),
        Call("a:b", "2", 0, Usage(cached_calls=1), purpose=SCORING),
        Call("a:b", "3", 1, paid, purpose=SCORING, price=PRICE, batched=True),
    ]
    store.put_calls(run, [Entry(call) for call in calls])
    return run


def test_calls_are_added_up_by_what_they_were_for(store: Store) -> None:
    rows = spending(store.calls(filled(store)))
    assert [(r["stage"], r["part"], r["batched"]) for r in rows] == [
        ("explain", "max-act", False),
        ("score", "max-act/detection", False),
        ("score", "max-act/detection", True),
        ("total", "", False),
    ]
    scored, total = rows[1], rows[-1]
    assert (scored["calls"], scored["failed"], scored["cached"]) == (2, 1, 1)
    assert (scored["cost"], scored["seconds"]) == (0.375, 3.0)
    assert (total["calls"], total["cached"], total["cost"]) == (4, 1, 0.875)
    assert (total["prompt_tokens"], total["completion_tokens"]) == (300, 60)
    assert (total["cache_read_tokens"], total["cache_write_tokens"]) == (180, 30)
    assert total["reasoning_tokens"] == 15


def test_one_call_of_unknown_price_makes_the_sum_unknown_and_never_less(store: Store) -> None:
    run = filled(store)
    store.put_calls(run, [Entry(Call("a:c", "4", 1, Usage(1, cost=None), purpose=EXPLAINING))])
    rows = {(r["stage"], r["llm"]): r["cost"] for r in spending(store.calls(run))}
    assert rows["explain", "a:b"] == 0.25
    assert rows["explain", "a:c"] is None
    assert rows["total", ""] is None


def test_the_prices_it_was_reckoned_by_are_named_once(store: Store) -> None:
    assert prices(store.calls(filled(store))) == [{"llm": "a:b", **json.loads(PRICE)}]


def test_a_run_that_asked_nobody_has_spent_nothing(store: Store) -> None:
    (total,) = spending(store.calls(store.begin_run(RunConfig()).id))
    assert (total["calls"], total["cost"]) == (0, 0.0)


def test_the_command_prints_it_and_the_ledger_is_exported(store: Store, tmp_path: Path) -> None:
    filled(store)
    command = [sys.executable, "-m", "glossator", "--store", store.url]
    wide = {**os.environ, "COLUMNS": "160"}
    told = subprocess.run(
        [*command, "list", "--spending"], capture_output=True, text=True, env=wide
    )
    assert told.returncode == 0, told.stderr
    assert "(batch)" in told.stdout
    assert "180 cached" in told.stdout
    assert "$0.8750" in told.stdout
    told = subprocess.run(
        [*command, "--json", "list", "--spending"], capture_output=True, text=True
    )
    assert math.isclose(json.loads(told.stdout)["spending"][-1]["cost"], 0.875)
    store.export(str(tmp_path / "out"), "parquet")
    lines = pd.read_parquet(tmp_path / "out" / "calls.parquet")
    assert list(lines["attempt"]) == [1, 1, 2, 0, 1]
    assert list(lines["error"])[1] == "timeout"

"""What a run has used so far, as people see it while it goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from glossator.config import RunConfig
from glossator.errors import StoreError
from glossator.ledger import Call, Entry
from glossator.progress import Progress
from glossator.providers.journal import MemoryJournal
from glossator.store import Store
from glossator.tally import SECONDS_BETWEEN, TalliedJournal, Tally
from glossator.types import Usage
from tests.loopback import Loopback
from tests.pipeline_child import config_for, do

PAID = Usage(1, 0, 100, 20, 0.25, 1.0, 60, 10, 5)


def entry(usage: Usage, attempt: int = 1) -> Entry:
    return Entry(Call("a:b", "1", attempt, usage))


def test_every_line_of_the_ledger_is_added_up_and_told_now_and_then() -> None:
    now, seen = [0.0], []
    tally = Tally(PAID, lambda: seen.append(tally.used.calls), lambda: now[0])
    journal = TalliedJournal(MemoryJournal(), tally)
    for second in (0.0, 0.1, SECONDS_BETWEEN, 2 * SECONDS_BETWEEN - 0.1, 2 * SECONDS_BETWEEN):
        now[0] = second
        asyncio.run(journal.write(entry(PAID)))
    assert seen == [2, 4, 6]
    assert tally.used == sum([PAID] * 6, Usage())


def test_what_was_paid_counts_where_it_cannot_be_written_down() -> None:
    class Full(MemoryJournal):
        async def write(self, entry: Entry) -> None:
            raise StoreError("the disk is full")

    tally = Tally()
    with pytest.raises(StoreError):
        asyncio.run(TalliedJournal(Full(), tally).write(entry(PAID)))
    assert tally.used == PAID


def test_the_ledger_of_a_run_is_added_up_and_an_unknown_cost_stays_unknown(store: Store) -> None:
    run, other = store.begin_run(RunConfig()).id, store.begin_run(RunConfig(seed=1)).id
    assert store.used(run) == Usage()
    store.put_calls(run, [entry(PAID), entry(PAID), entry(Usage(cached_calls=1), 0)])
    store.put_calls(other, [entry(PAID)])
    assert store.used(run) == PAID + PAID + Usage(cached_calls=1)
    store.put_calls(run, [entry(Usage(1, cost=None))])
    assert store.used(run).cost is None
    assert store.used(other).cost == 0.25


def test_a_run_shows_what_it_uses_and_goes_on_counting_where_it_stopped(
    folder: Path, store: Store, server: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.openai_url)
    seen: list[Progress] = []
    config = config_for(folder, llm="tests.pipeline_child:Priced", features="0-1")
    stopped = do(config, store, max_calls=9, tell=seen.append)
    assert stopped.used.calls == 9 == store.used("r1").calls
    assert (stopped.used.cost or 0.0) > 0
    ended = do(config, store, tell=seen.append)
    assert ended.used == store.used("r1")
    assert ended.used.calls == len(server.log)
    costs = [p.spent or 0.0 for p in seen if p.stage in ("explain", "score")]
    assert costs == sorted(costs)
    assert costs[-1] == pytest.approx(ended.used.cost)
    assert seen[-1].used.prompt_tokens == ended.used.prompt_tokens > 0
    again = do(config, store, fresh=True)
    assert (again.used.calls, again.used.cost) == (0, 0.0)
    assert again.used.cached_calls > 0

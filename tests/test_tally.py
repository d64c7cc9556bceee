"""What a run has used so far and what is in its way, as people see it while it goes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest

from glossator.cli.progress import Pace, PlainLines
from glossator.config import RunConfig
from glossator.errors import StoreError
from glossator.ledger import OUT, Call, Entry
from glossator.progress import LONG, Progress, Trouble
from glossator.providers.journal import MemoryJournal
from glossator.store import Store
from glossator.tally import SECONDS_BETWEEN, TalliedJournal, Tally
from glossator.types import Usage
from tests.loopback import Fault, Loopback, hang, status
from tests.pipeline_child import config_for, do, rule

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
        async def write(self, entry: Entry) -> int:
            raise StoreError("the disk is full")

    tally = Tally()
    with pytest.raises(StoreError):
        asyncio.run(TalliedJournal(Full(), tally).write(entry(PAID)))
    assert tally.used == PAID


def test_nothing_is_told_before_it_is_written_down() -> None:
    inner, told = MemoryJournal(), []

    def tell() -> None:
        told.append(len(inner.calls))
        raise BrokenPipeError

    journal = TalliedJournal(inner, Tally(changed=tell))
    with pytest.raises(BrokenPipeError):
        asyncio.run(journal.write(entry(PAID)))
    assert told == [len(inner.calls)] == [1]


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
    kept = store.used("r1")
    assert replace(ended.used, cost=None) == replace(kept, cost=None)
    # sums of many prices in another order differ in the last bits
    assert ended.used.cost == pytest.approx(kept.cost, rel=1e-12)
    assert ended.used.calls == len(server.log)
    costs = [p.spent or 0.0 for p in seen if p.stage in ("explain", "score")]
    assert costs == sorted(costs)
    assert costs[-1] == pytest.approx(ended.used.cost)
    assert seen[-1].used.prompt_tokens == ended.used.prompt_tokens > 0
    assert ended.since.calls == ended.used.calls - 9
    idle = do(config, store)
    assert (idle.since.calls, idle.used) == (0, ended.used)
    again = do(config, store, fresh=True)
    assert (again.used.calls, again.used.cost) == (0, 0.0)
    assert again.used.cached_calls > 0


# -- what is in the way ----------------------------------------------------------------------------


def test_what_fails_is_counted_and_the_last_error_stands_until_a_reply_comes() -> None:
    now = [0.0]
    tally = Tally(clock=lambda: now[0])
    journal = TalliedJournal(MemoryJournal(), tally)

    def write(error: str = "", kind: str = "", attempt: int = 1, line: int | None = None) -> None:
        call = Call("a:b", "1", attempt, Usage(1), error, kind)
        asyncio.run(journal.write(Entry(call, line=line)))

    assert tally.trouble() == Trouble()
    write("out", OUT)
    now[0] = 45.0
    assert tally.trouble() == Trouble(waiting=45.0, out=1)
    write("a:b answered 429", "ProviderError", line=0)
    write("a:b answered 500", "ProviderError", 2)
    assert tally.trouble(30.0) == Trouble(2, "a:b answered 500", 30.0)
    asyncio.run(journal.write(entry(Usage(cached_calls=1), 0)))  # A kept reply says nothing of it.
    assert tally.trouble(-3.0) == Trouble(2, "a:b answered 500")
    write()
    assert tally.trouble() == Trouble(2)


def test_trouble_is_told_in_a_few_words() -> None:
    pace = Pace(lambda: 0.0)

    def line(trouble: Trouble) -> str:
        return pace.line(Progress("explain", 0, 2, trouble=trouble))

    assert line(Trouble()) == line(Trouble(waiting=LONG - 1)) == "explain: 0/2"
    assert line(Trouble(3, "a server\x1b answered 429: " + "busy " * 50, 35.4)) == (
        "explain: 0/2, 3 attempts without a reply, the last: a server\u241b answered 429: "
        + " ".join(["busy"] * 15) + "\u2026, paused for 35s"
    )  # fmt: skip
    assert line(Trouble(waiting=75, out=32)) == (
        "explain: 0/2, waiting for 32 replies, the oldest for 1m 15s"
    )
    assert line(Trouble(waiting=75)) == "explain: 0/2, waiting for a reply for 1m 15s"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (status(429, "slow down", **{"retry-after": "2"}), ("answered 429: slow down", "pause")),
        (status(500, "no such luck"), ("answered 500: no such luck", "failed")),
        (hang(4.0), ("", "waiting")),
    ],
    ids=["429", "500", "hanging"],
)
def test_a_stalled_run_says_why_while_it_stalls(
    folder: Path, store: Store, fault: Fault, said: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("glossator.models.LONG", 0.5)
    monkeypatch.setattr("glossator.models.Models.keep_showing.__defaults__", (0.1,))
    seen: list[Progress] = []
    with Loopback(rule, faults=[fault]) as server:
        config = config_for(folder, server, features="0", scorers=["detection"])
        do(config, store, stages=("collect", "explain"), tell=seen.append)
    stalled = [p for p in seen if p.stage == "explain" and p.done == 0]
    assert any(said[0] in p.trouble.error and getattr(p.trouble, said[1]) > 0.5 for p in stalled)
    assert seen[-1].trouble.error == ""
    assert seen[-1].trouble.failed == (0 if said[1] == "waiting" else 1)


def test_a_notice_is_a_whole_line_of_its_own_and_none_is_left_out() -> None:
    stream = StringIO()
    report = PlainLines(stream, lambda: 0.0)
    notices = ["the server lists no model 'a'; it has " + ", ".join("bcdefgh" * 20), "and\x1b more"]
    report(Progress("load", 0, 0, note="subject " + "x" * 100))
    for notice in notices:
        report(Progress("load", 0, 0, note=notice, is_notice=True))
    lines = stream.getvalue().splitlines()
    assert len(lines[0]) < 100
    assert lines[1:] == [notices[0], "and\u241b more"]


def test_a_notice_of_the_server_is_told_as_one(
    folder: Path, store: Store, server: Loopback
) -> None:
    server.models = ["qwen3-8b"]
    seen: list[Progress] = []
    config = config_for(folder, server, features="0", scorers=["detection"])
    do(config, store, stages=("collect", "explain"), tell=seen.append)
    (notice,) = (p.note for p in seen if p.is_notice)
    assert "lists no model 'some-model'; it has qwen3-8b" in notice

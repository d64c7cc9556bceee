"""Who gets through the gate, in which order, and what cancellations leave behind."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from glossator.providers.gate import Gate


async def hold(gate: Gate, seen: list[str], name: str, leave: asyncio.Event) -> None:
    async with gate.slot():
        seen.append(name)
        await leave.wait()


def test_places_are_given_in_turn() -> None:
    async def work() -> list[str]:
        gate, seen, leave = Gate(1), list[str](), asyncio.Event()
        tasks = [asyncio.create_task(hold(gate, seen, name, leave)) for name in "abcd"]
        await asyncio.sleep(0.01)
        assert seen == ["a"]
        leave.set()
        await asyncio.gather(*tasks)
        return seen

    assert asyncio.run(work()) == ["a", "b", "c", "d"]


def test_a_newcomer_does_not_pass_those_who_wait() -> None:
    async def work() -> list[str]:
        gate, seen, leave = Gate(2), list[str](), asyncio.Event()
        tasks = [asyncio.create_task(hold(gate, seen, name, leave)) for name in "abc"]
        await asyncio.sleep(0.01)
        tasks[0].cancel()  # Its place is c's, though d asks in the same moment.
        tasks.append(asyncio.create_task(hold(gate, seen, "d", leave)))
        await asyncio.sleep(0.01)
        assert seen == ["a", "b", "c"]
        leave.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return seen

    assert asyncio.run(work()) == ["a", "b", "c", "d"]


def test_a_width_that_shrinks_lets_nobody_in_until_enough_have_left() -> None:
    async def work() -> None:
        gate, seen, leave = Gate(4), list[str](), asyncio.Event()
        tasks = [asyncio.create_task(hold(gate, seen, name, leave)) for name in "abcdef"]
        await asyncio.sleep(0.01)
        gate.too_many(0.0)
        assert int(gate.width) == 2
        for task in tasks[:2]:
            task.cancel()
        await asyncio.sleep(0.01)
        assert len(seen) == 4
        tasks[2].cancel()
        await asyncio.sleep(0.01)
        assert len(seen) == 5
        leave.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gate.active == 0

    asyncio.run(work())


@given(st.integers(1, 4), st.lists(st.integers(0, 9), max_size=12))
def test_whoever_is_cancelled_and_when_every_place_comes_back(
    limit: int, cancelled: list[int]
) -> None:
    async def work() -> None:
        gate, seen, leave = Gate(limit), list[str](), asyncio.Event()
        tasks = [asyncio.create_task(hold(gate, seen, str(i), leave)) for i in range(10)]
        for number in cancelled:
            await asyncio.sleep(0)
            tasks[number].cancel()
            assert gate.active <= limit
        await asyncio.sleep(0)
        leave.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gate.active == 0
        assert len(seen) >= 10 - len(set(cancelled))
        async with asyncio.timeout(5), gate.slot():
            pass

    asyncio.run(work())

"""Ctrl-C and `kill`: once, what is in flight ends and the run stops; twice, it stops at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from types import FrameType
from typing import Any, TypeVar

INTERRUPTED = 130

_Result = TypeVar("_Result")


class Interrupted(Exception):
    """The user stopped the work, and it has ended in good order."""


def finish_or_drain(
    work: Coroutine[Any, Any, _Result], asked: threading.Event | None = None
) -> _Result:
    """What `work` returns.

    The first SIGINT or SIGTERM cancels it: it ends what is in flight and keeps the results. The
    second ends the process at once; the store is made to survive that.

    Args:
        work: what to do.
        asked: is set at the first signal, for threads, which cannot be cancelled.

    Raises:
        Interrupted: if it was cancelled so.
    """
    loop: asyncio.AbstractEventLoop | None = None
    task: asyncio.Task[_Result] | None = None
    asked = asked or threading.Event()

    # A handler of Python's own and not the loop's: it also runs while the loop itself computes.
    def stop(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            _leave_at_once()
        asked.set()
        _tell(b"\nStopping when the calls in flight have ended; Ctrl-C again stops at once.\n")
        if loop is not None and task is not None:
            loop.call_soon_threadsafe(task.cancel)

    async def watched() -> _Result:
        nonlocal loop, task
        loop = asyncio.get_running_loop()
        task = asyncio.ensure_future(work)
        if asked.is_set():
            task.cancel()
        return await task

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.signal(number, stop)
    try:
        with asyncio.Runner() as runner:
            return runner.run(watched())
    except asyncio.CancelledError:
        if not asked.is_set():
            raise
        raise Interrupted from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(said: bytes) -> None:
    """Says it on stderr, at once; `tee` and the like have often been stopped by the same Ctrl-C."""
    with contextlib.suppress(OSError):
        os.write(2, said)


def _leave_at_once() -> None:
    if sys.stderr.isatty():
        _tell(b"\x1b[?25h")  # the progress line hides the cursor
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    # Not sys.exit: that would wait for the threads in which models compute.
    os._exit(INTERRUPTED)

"""The one thread that runs models for the pages: what needs one is done there, one at a time."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from glossator.errors import ConfigError, GlossatorError

SECONDS_TO_END = 20.0
"""For what is at work when the server ends."""


@dataclass
class Task:
    """Something that is done, or was."""

    owner: str
    """Whose it is: `chat c1`, or `trial 7f`."""
    begun: float = field(default_factory=time.monotonic)
    progress: str = ""
    """How far it is, in a line."""
    trouble: str = ""
    """What went wrong, as a sentence."""
    stopped: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def finished(self) -> bool:
        """Whether nothing more comes of it."""
        return self.ended.is_set()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.begun


class Worker:
    """A thread with an event loop of its own, begun when something is first to be done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._task: Task | None = None
        self._running: Future[None] | None = None

    @property
    def now(self) -> Task | None:
        """What is at work; None if nothing is."""
        with self._lock:
            return self._task if self._busy() else None

    def begin(self, owner: str, work: Callable[[Task], Coroutine[Any, Any, None]]) -> Task:
        """Has `work` done in the thread; an error of ours becomes the task's trouble.

        Raises:
            ConfigError: if something else is at work.
        """
        with self._lock:
            if self._busy() and self._task is not None:
                raise ConfigError(
                    f"something else is at work ({self._task.owner}, for "
                    f"{self._task.seconds:.0f} s): wait until it is done, or stop it"
                )
            task = Task(owner)
            self._task = task
            self._running = asyncio.run_coroutine_threadsafe(_done(task, work), self._begun())
            self._running.add_done_callback(_tell)
            return task

    def stop(self, owner: str) -> bool:
        """Cancels what is at work if it is `owner`'s; whether it was."""
        with self._lock:
            if not self._busy() or self._task is None or self._task.owner != owner:
                return False
            self._task.stopped = True
            running = self._running
        # Outside of the lock: a future calls back whoever waits for it.
        if running is not None:
            running.cancel()
        return True

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Ends what is at work, does `last`, and ends the thread; nothing if it never began."""
        with self._lock:
            loop, thread = self._loop, self._thread
            task, running = self._task, self._running
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        if running is not None and task is not None:
            running.cancel()
            task.ended.wait(SECONDS_TO_END)
        try:
            asyncio.run_coroutine_threadsafe(last(), loop).result(SECONDS_TO_END)
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(SECONDS_TO_END)

    def _busy(self) -> bool:
        return self._task is not None and not self._task.finished

    def _begun(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            loop = asyncio.new_event_loop()

            def work() -> None:
                asyncio.set_event_loop(loop)
                loop.run_forever()
                loop.run_until_complete(loop.shutdown_default_executor())
                loop.close()

            self._loop = loop
            self._thread = threading.Thread(target=work, name="models", daemon=True)
            self._thread.start()
        return self._loop


async def _done(task: Task, work: Callable[[Task], Coroutine[Any, Any, None]]) -> None:
    task.trouble = "It broke off by a fault of this program; the terminal of the server says more."
    try:
        await work(task)
        task.trouble = ""
    except GlossatorError as error:
        task.trouble = str(error)
    except asyncio.CancelledError:
        task.trouble = ""
        raise
    finally:
        task.ended.set()


def _tell(done: Future[None]) -> None:
    """Prints what nobody waits for."""
    if not done.cancelled() and (error := done.exception()) is not None:
        sys.excepthook(type(error), error, error.__traceback__)

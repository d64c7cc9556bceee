"""How a run goes, on stderr: a moving line on a terminal, now and then a plain one elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from glossator.cli.results import dollars
from glossator.cli.text import shortened, visible
from glossator.progress import LONG

if TYPE_CHECKING:
    from glossator.progress import Progress, Trouble
    from glossator.types import Usage

SECONDS_BETWEEN_LINES = 10.0


class Pace:
    """Rate and time left of one stage; what was done before it began does not count as speed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: tuple[str, int] = ("", 0)
        self._started = 0.0
        self._before = 0
        self._spent_before: float | None = 0.0

    def line(self, progress: Progress) -> str:
        """`progress` in one line."""
        now = self._clock()
        # Where the total changes it is other work: thresholds are measured, then text is read.
        if (progress.stage, progress.total) != self._stage:
            self._stage = (progress.stage, progress.total)
            self._started, self._before = now, progress.done
            self._spent_before = progress.spent
        parts = []
        if progress.total:
            parts.append(f"{progress.done:,}/{progress.total:,}")
        elif progress.done:
            parts.append(f"{progress.done:,}")
        elapsed, made = now - self._started, progress.done - self._before
        if elapsed > 0 and made > 0:
            rate = made / elapsed
            parts.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s")
            if progress.total > progress.done:
                parts.append(f"{duration((progress.total - progress.done) / rate)} left")
        parts += used_parts(progress.used)
        at_end = self._spent_at_end(progress, made)
        if at_end is not None:
            parts[-1] += f" (about {dollars(at_end)} at the end of this stage)"
        if progress.failed:
            parts.append(f"{progress.failed} failed")
        parts += trouble_parts(progress.trouble)
        if progress.note:
            parts.append(shortened(progress.note, 80))
        return f"{progress.stage}: {', '.join(parts) or 'begins'}"

    def _spent_at_end(self, progress: Progress, made: int) -> float | None:
        """US dollars when the stage is through, at its pace so far; None if nobody can tell yet."""
        spent, before = progress.spent, self._spent_before
        if not spent or before is None or made <= 0 or progress.done >= progress.total:
            return None
        return spent + (spent - before) / made * (progress.total - progress.done)


def trouble_parts(trouble: Trouble) -> list[str]:
    """What is in the way of requests, in short; nothing if nothing is."""
    parts = []
    if trouble.failed:
        parts.append(f"{trouble.failed:,} attempts without a reply")
    if trouble.error:
        parts.append(f"the last: {shortened(trouble.error, 100)}")
    if trouble.pause >= 1:
        parts.append(f"paused for {duration(trouble.pause)}")
    elif trouble.waiting >= LONG:
        more = f"{trouble.out:,} replies, the oldest" if trouble.out > 1 else "a reply"
        parts.append(f"waiting for {more} for {duration(trouble.waiting)}")
    return parts


def used_parts(used: Usage) -> list[str]:
    """What was used in short, the cost last; nothing if nobody was asked."""
    if not used.calls and not used.cached_calls:
        return []
    parts = [f"{used.calls:,} calls"]
    if used.prompt_tokens:
        cached = f" ({short(used.cache_read_tokens)} cached)" if used.cache_read_tokens else ""
        parts.append(f"{short(used.prompt_tokens)} tokens in{cached}")
        parts.append(f"{short(used.completion_tokens)} out")
    if used.cached_calls:
        parts.append(f"{used.cached_calls:,} kept replies")
    assumed = f" ({dollars(used.assumed)} assumed)" if used.assumed else ""
    parts.append("cost unknown" if used.cost is None else f"{dollars(used.cost)} spent{assumed}")
    return parts


def spent_line(used: Usage, since: Usage | None = None) -> str:
    """All that a run used, in one line; first what it used `since` this command began, if less."""
    if not used.calls and not used.cached_calls:
        return "No language model was asked."
    classes = {
        "from the provider's cache": used.cache_read_tokens,
        "written to it": used.cache_write_tokens,
    }
    among = ", ".join(f"{n:,} {where}" for where, n in classes.items() if n)
    thought = f" ({used.reasoning_tokens:,} of thinking)" if used.reasoning_tokens else ""
    cost = "unknown cost: no price is known" if used.cost is None else dollars(used.cost)
    if used.assumed:
        cost += f" ({dollars(used.assumed)} of it assumed, where no bill is known)"
    this_time = "" if since is None or since.calls == used.calls else _this_time(since)
    return (
        f"{this_time}In all {used.calls:,} calls, {used.cached_calls:,} kept replies used again, "
        f"{used.prompt_tokens:,} tokens in{f' ({among})' if among else ''}, "
        f"{used.completion_tokens:,} out{thought}, {cost}."
    )


def _this_time(since: Usage) -> str:
    """What the last of several commands used."""
    cost = "unknown cost" if since.cost is None else dollars(since.cost)
    return f"This time {since.calls:,} calls, {cost}. "


def short(count: int) -> str:
    """A count in three digits or so: 950, 12.3k, 4.56M."""
    for unit, size in (("M", 1_000_000), ("k", 1_000)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


class PlainLines:
    """Writes a line at each new stage, at its end, and every so many seconds between."""

    def __init__(
        self,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
        every: float = SECONDS_BETWEEN_LINES,
    ) -> None:
        self._stream, self._clock, self._every = stream, clock, every
        self._pace = Pace(clock)
        self._last: tuple[float, str, str] = (-1e9, "", "")

    def __call__(self, progress: Progress) -> None:
        """Takes note of `progress`."""
        if progress.is_notice:
            print(visible(progress.note), file=self._stream, flush=True)
            return
        line, now = self._pace.line(progress), self._clock()
        when, stage, said = self._last
        ended = 0 < progress.total <= progress.done
        due = now - when >= self._every or progress.stage != stage or ended
        if due and line != said:
            print(line, file=self._stream, flush=True)
            self._last = (now, progress.stage, line)


@contextmanager
def shown_progress(quiet: bool) -> Iterator[Callable[[Progress], None] | None]:
    """Where a run may report how it goes; None if nobody wants to know."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty():
        yield PlainLines(sys.stderr)
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bars

    pace = Pace()
    columns = (SpinnerColumn(), BarColumn(bar_width=20), TextColumn("{task.description}"))
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("getting ready", total=None)
        stage = ""

        def report(progress: Progress) -> None:
            nonlocal stage
            if progress.is_notice:
                bars.console.print(visible(progress.note))
                return
            line = pace.line(progress)
            if stage not in ("", progress.stage):
                bars.console.print(f"{stage}: done", style="dim")
            stage = progress.stage
            # Markup is off on the console, but this column would still read it.
            escaped = line.replace("[", "\\[")
            total = progress.total or None
            bars.update(task, description=escaped, completed=progress.done, total=total)

        yield report


def duration(seconds: float) -> str:
    """A time span in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"

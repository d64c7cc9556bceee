"""How a run goes, on stderr: a moving line on a terminal, now and then a plain one elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from glossator.cli.results import dollars
from glossator.cli.text import shortened

if TYPE_CHECKING:
    from glossator.pipeline import Progress

SECONDS_BETWEEN_LINES = 10.0


class Pace:
    """Rate and time left of one stage; what was done before it began does not count as speed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stage: tuple[str, int] = ("", 0)
        self._started = 0.0
        self._before = 0

    def line(self, progress: Progress) -> str:
        """`progress` in one line."""
        now = self._clock()
        # Where the total changes it is other work: thresholds are measured, then text is read.
        if (progress.stage, progress.total) != self._stage:
            self._stage = (progress.stage, progress.total)
            self._started, self._before = now, progress.done
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
        if progress.calls:
            parts.append(f"{progress.calls:,} calls")
        if progress.spent:
            parts.append(f"{dollars(progress.spent)} spent")
        if progress.failed:
            parts.append(f"{progress.failed} failed")
        if progress.note:
            parts.append(shortened(progress.note, 80))
        return f"{progress.stage}: {', '.join(parts) or 'begins'}"


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

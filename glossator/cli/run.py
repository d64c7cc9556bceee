"""`run`, `collect`, `explain`, `score`: work on the features asked for, and what came of it."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import typer

from glossator.cli.interrupts import INTERRUPTED, Interrupted, finish_or_drain
from glossator.cli.options import ONLY_HERE, with_run_options
from glossator.cli.progress import duration, shown_progress, spent_line
from glossator.cli.results import (
    beaten_lines,
    dollars,
    failure_json,
    judged_lines,
    print_failures,
    print_results,
    read_results,
)
from glossator.cli.session import Session
from glossator.cli.text import visible
from glossator.config import RunConfig, RunLimits, from_options, merge
from glossator.health import health_of

if TYPE_CHECKING:
    from glossator.estimate import Plan
    from glossator.pipeline import Outcome
    from glossator.progress import Progress
    from glossator.store import Store

ALL = ("collect", "explain", "score")


def _command(stages: Sequence[str], said: str) -> Callable[..., int]:
    def command(context: typer.Context, **flags: Any) -> int:
        return _work(Session.of(context), tuple(stages), flags)

    command.__doc__ = said
    return with_run_options(command)


run_command = _command(
    ALL,
    """Collect, explain, score and record, for the features asked for.

    The same command again goes on where it stopped. --json prints one document: run, status,
    done, failed, results (one for each explanation, with its scores), failures, health (of each
    scorer, what could not be judged by kind).
    """,
)
collect_command = _command(("collect",), "Collect activations alone, for later explaining.")
explain_command = _command(
    ("explain",),
    """Explain what was collected.

    With the options of an earlier command it goes on with that run; what was collected for the
    same text serves all runs.
    """,
)
score_command = _command(
    ("score",),
    """Score the explanations there are on held-out text.

    With the options of an earlier command it goes on with that run.
    """,
)


def _work(session: Session, stages: tuple[str, ...], flags: dict[str, Any]) -> int:
    own = {name: flags.pop(name) for name in ONLY_HERE}
    file = dict(session.options)
    for name in ONLY_HERE:
        from_file = bool(file.pop(name, False))
        own[name] = from_file if own[name] is None else own[name]
    config, limits = from_options(merge({}, file, flags))
    if own["dry_run"]:
        return _dry_run(session, stages, config, limits, own["fresh"])

    from glossator import pipeline

    asked = threading.Event()
    store = session.open_store(to_write=True)
    try:
        with shown_progress(session.quiet) as show:
            outcome = finish_or_drain(
                pipeline.run(
                    config,
                    limits,
                    store,
                    stages=stages,
                    fresh=own["fresh"],
                    on_progress=unless(asked, show),
                ),
                asked,
            )
        _report(session, store, outcome, stages)
    except Interrupted:
        session.say("Stopped. What was finished is kept; the same command again goes on from here.")
        return INTERRUPTED
    finally:
        store.close()
    return exit_code(outcome)


def unless(
    asked: threading.Event, show: Callable[[Progress], None] | None
) -> Callable[[Progress], None]:
    """`show`, which also ends a thread that reports once the user has `asked` to stop.

    The text is read in a thread of its own for minutes, and a thread cannot be cancelled. Nothing
    of an unfinished reading is stored.
    """

    def report(progress: Progress) -> None:
        if asked.is_set() and threading.current_thread() is not threading.main_thread():
            raise Interrupted
        if show is not None:
            show(progress)

    return report


def exit_code(outcome: Outcome) -> int:
    """What the command ends with."""
    from glossator.runs import RunStatus

    if outcome.stopped is not None:
        return outcome.stopped.exit_code
    if outcome.status is RunStatus.INTERRUPTED:
        return INTERRUPTED
    return 1 if outcome.failed else 0


def _dry_run(
    session: Session,
    stages: tuple[str, ...],
    config: RunConfig,
    limits: RunLimits,
    fresh: bool,
) -> int:
    from glossator import estimate

    store = session.read_store()
    with contextlib.nullcontext() if store is None else store:
        plan = estimate.plan(config, limits, store, stages, fresh=fresh)
    if session.as_json:
        session.print_json(dataclasses.asdict(plan))
    else:
        for line in plan_lines(plan):
            session.console().print(line, soft_wrap=True)
    return 0


def plan_lines(plan: Plan) -> list[str]:
    """The plan for people."""
    low, high = plan.dollars_low, plan.dollars_high
    cost = "unknown: no price is known"
    if low is not None and high is not None:
        cost = dollars(low) if high == low else f"{dollars(low)} to {dollars(high)}"
    cached = f", {plan.cache_read_tokens:,} of them cached" if plan.cache_read_tokens else ""
    units = ", ".join(f"{stage} {n:,}" for stage, n in plan.units.items())
    took = (duration(plan.seconds), duration(plan.seconds_high))
    fetched = f", and {plan.download_bytes / 1e6:,.0f} MB to fetch" if plan.download_bytes else ""
    return [
        f"features           {plan.features:,}",
        f"left to do         {units}",
        f"calls              {_between(plan.calls, plan.calls_high)}",
        f"prompt tokens      {_between(plan.prompt_tokens, plan.prompt_tokens_high)}{cached}",
        f"completion tokens  {_between(plan.completion_tokens, plan.completion_tokens_high)}",
        f"cost               {cost}",
        f"time               about {' to '.join(dict.fromkeys(took))}",
        f"disk               {plan.disk_bytes / 1e6:,.1f} MB{fetched}",
        *plan.notes,
    ]


def _between(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _report(session: Session, store: Store, outcome: Outcome, stages: tuple[str, ...]) -> None:
    run = outcome.run.id
    failures = store.failures(run)
    collected = stages == ("collect",)
    results = [] if collected else read_results(store, run)
    scores = store.scores_of(run) if "score" in stages else []
    health = health_of(scores, failures)
    if session.as_json:
        stopped = None if outcome.stopped is None else str(outcome.stopped)
        session.print_json(
            {
                "run": run,
                "status": outcome.status.value,
                "done": outcome.done,
                "failed": outcome.failed,
                "stopped": stopped,
                "collection": outcome.run.collection,
                "results": [result.to_json() for result in results],
                "failures": [failure_json(failure) for failure in failures],
                "health": [one.to_json() for one in health],
            }
        )
    else:
        console = session.console()
        if results:
            print_results(console, results)
        for line in [*judged_lines(results), *beaten_lines(results), *(h.line for h in health)]:
            console.print(line, soft_wrap=True)
        if collected:
            console.print(f"{run}: {outcome.done} features collected")
        print_failures(console, failures)
        session.say(spent_line(outcome.used, outcome.since))
    # What follows is for people: a program reads the exit code and the status.
    if outcome.stopped is not None:
        print(f"glossator: {visible(str(outcome.stopped), lines=True)}", file=sys.stderr)
    if collected:
        session.say("Explain them with the same options: " + session.again("explain"))
    elif results:
        page = session.again(f"report {run} --out report.html")
        session.say(f"Run {run}: {outcome.status.value}. For a page to look through: {page}")

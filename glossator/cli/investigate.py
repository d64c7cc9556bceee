"""`investigate`: the agent on its own, on the features named, under one budget."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from glossator.cli.interrupts import INTERRUPTED, Interrupted, finish_or_drain
from glossator.cli.options import with_run_options
from glossator.cli.progress import shown_progress, spent_line
from glossator.cli.results import failure_json, print_failures, print_results, read_results
from glossator.cli.run import exit_code, unless
from glossator.cli.session import Session
from glossator.cli.text import visible
from glossator.cli.transcript import conclusion_lines
from glossator.config import RunConfig, RunLimits, from_options, merge
from glossator.errors import ConfigError
from glossator.subject_names import subject_name
from glossator.types import FeatureId, Usage

if TYPE_CHECKING:
    from glossator.evidence import Conclusion
    from glossator.pipeline import Outcome
    from glossator.store import Store

AGENT = "agent"
_LEFT_OUT = ("sites", "features", "explainers", "draft", "triage", "batch", "dry_run")
"""Options that the named features, or the agent, decide."""


def _investigate(context: typer.Context, named: list[str], **flags: Any) -> int:
    """Let the agent test hypotheses about features by experiments, until it decides or cannot.

    FEATURE is an id, such as smollm2-135m//layers.7.mlp.neurons/123, or its end behind the model's
    name; with a coder layers.14.resid_post@default/45. The same command again goes on where it
    stopped, also after a kill. --json prints one document: runs, conclusions, results, failures.
    """
    session = Session.of(context)
    fresh = bool(flags.pop("fresh"))
    options = {k: v for k, v in session.options.items() if k not in (*_LEFT_OUT, "fresh")}
    merged = merge({}, options, flags)
    merged["explainers"] = (AGENT,)
    config, limits = from_options(merged)
    stages = ("collect", "explain", "score") if merged.get("scorers") else ("collect", "explain")
    configs = configs_of(config, named)

    asked = threading.Event()
    store = session.open_store(to_write=True)
    outcomes: list[Outcome] = []
    try:
        with shown_progress(session.quiet) as show:
            for one in configs:
                left = _left(limits, outcomes)
                work = _run(one, left, store, stages, fresh, unless(asked, show))
                outcomes.append(finish_or_drain(work, asked))
                if outcomes[-1].stopped is not None:
                    break
        _report(session, store, outcomes)
    except Interrupted:
        session.say("Stopped. What was finished is kept; the same command again goes on from here.")
        return INTERRUPTED
    finally:
        store.close()
    return max(map(exit_code, outcomes))


investigate_command = with_run_options(_investigate, named="FEATURE", without=_LEFT_OUT)


def _run(
    config: RunConfig,
    limits: RunLimits,
    store: Store,
    stages: Sequence[str],
    fresh: bool,
    tell: Any,
) -> Any:
    from glossator import pipeline

    return pipeline.run(config, limits, store, stages=stages, fresh=fresh, on_progress=tell)


def configs_of(config: RunConfig, named: Iterable[str]) -> list[RunConfig]:
    """A config for the features of each coder, and one for those of none, in the order named.

    Raises:
        ConfigError: if one is no feature, or of another model.
    """
    groups: dict[str | None, list[FeatureId]] = {}
    for text in named:
        feature = parsed(text, config.model)
        groups.setdefault(feature.coder, []).append(feature)
    found = []
    for coder, features in groups.items():
        given = config.sae if coder is not None else ""
        found.append(
            replace(
                config,
                sites=tuple(dict.fromkeys(f.site for f in features)),
                sae=given or coder or "",
                features=",".join(map(str, dict.fromkeys(features))),
            )
        )
    return found


def parsed(text: str, model: str) -> FeatureId:
    """The feature that `text` names, of what `--model MODEL` loads where it names none.

    Raises:
        ConfigError: if it is none, or of another model.
    """
    whole, name = text.strip(), subject_name(model)
    try:
        feature = FeatureId.parse(whole if "//" in whole else f"{name}//{whole}")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    if feature.model != name:
        raise ConfigError(f"{text} is of {feature.model}: name that model with --model")
    return feature


def _left(limits: RunLimits, outcomes: Sequence[Outcome]) -> RunLimits:
    """What the runs so far have left of one budget."""
    spent = sum((o.used.cost or 0.0 for o in outcomes), 0.0)
    calls = sum(o.used.calls for o in outcomes)
    return replace(
        limits,
        budget=None if limits.budget is None else max(0.0, limits.budget - spent),
        max_calls=None if limits.max_calls is None else max(0, limits.max_calls - calls),
    )


def conclusions_of(store: Store, run: str) -> list[Conclusion]:
    """What the inquiries of a run came to; those that have not ended are left out."""
    from glossator.evidence import Conclusion

    found = []
    for known in reversed(store.notebooks.known(run=run)):
        notebook = store.notebooks.find(known.name)
        entry = None if notebook is None else notebook.get("conclusion")
        if entry is not None:
            found.append(Conclusion.from_json(entry.content))
    return found


def _report(session: Session, store: Store, outcomes: Sequence[Outcome]) -> None:
    failures = [f for o in outcomes for f in store.failures(o.run.id)]
    found = [c for o in outcomes for c in conclusions_of(store, o.run.id)]
    results = [r for o in outcomes for r in read_results(store, o.run.id)]
    stopped = [str(o.stopped) for o in outcomes if o.stopped is not None]
    if session.as_json:
        session.print_json(
            {
                "runs": [{"run": o.run.id, "status": o.status.value} for o in outcomes],
                "conclusions": [_plain(c) for c in found],
                "results": [r.to_json() for r in results],
                "failures": [failure_json(failure) for failure in failures],
                "stopped": stopped,
            }
        )
    else:
        console = session.console()
        for conclusion in found:
            console.print(visible(str(conclusion.feature)), soft_wrap=True)
            for line in conclusion_lines(conclusion):
                console.print(f"  {line}", soft_wrap=True)
        if any(result.scores for result in results):
            print_results(console, results)
        print_failures(console, failures)
        used = sum((o.used for o in outcomes), Usage())
        session.say(spent_line(used, sum((o.since for o in outcomes), Usage())))
    for why in stopped:
        session.warn(why)
    if found:
        again = session.again(f"show {found[0].feature} --run {outcomes[0].run.id}")
        session.say(f"For every experiment and what was foretold of it: {again}")


def _plain(conclusion: Conclusion) -> Mapping[str, Any]:
    return {**conclusion.to_json(), "feature": str(conclusion.feature)}

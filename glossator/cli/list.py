"""`list`: results as a table, sorted and filtered; or what was collected; or the runs there are."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glossator.cli.collected import (
    MOST_ROWS,
    counts_of,
    kinds_named,
    ordered_summaries,
    summaries_table,
    summary_json,
)
from glossator.cli.results import Result, judged_lines, print_results, read_results, scorer_names
from glossator.cli.session import Session
from glossator.cli.spending import assumed_line, prices, spending, spending_table
from glossator.cli.text import visible
from glossator.errors import ConfigError, StoreError
from glossator.registry import nearest
from glossator.types import JSON, Kind

if TYPE_CHECKING:
    from pandas import DataFrame

    from glossator.runs import Run
    from glossator.store import Store
    from glossator.types import FeatureSummary

_PLAIN = ("feature", "explainer", "explanation", "kind", "density", "cost", "seconds")
_OF_SCORE = ("value", "low", "high", "null", "lift", "p", "q", "n", "n_failed")


def list_command(
    context: typer.Context,
    run: Annotated[str | None, typer.Option(help="Which run (default: the newest).")] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            help="feature, explainer, kind, density, cost, seconds, a scorer, or SCORER.p and the "
            "like; a minus in front turns the order round, as in --sort=-simulation. With "
            "--collected: feature, kind, density, peak.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Rows at most.", min=1)] = None,
    explainer: Annotated[
        list[str] | None, typer.Option(help="Only explanations by it; repeatable.")
    ] = None,
    scorer: Annotated[list[str] | None, typer.Option(help="Only scores of it; repeatable.")] = None,
    feature: Annotated[
        str | None, typer.Option(help="Only features like this, such as '*layers.7.*'.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help=f"Only features of it: {', '.join(Kind)}; repeatable."),
    ] = None,
    collected: Annotated[
        bool,
        typer.Option("--collected", help="List all that was collected instead, explained or not."),
    ] = False,
    runs: Annotated[bool, typer.Option("--runs", help="List the runs instead.")] = False,
    calls: Annotated[
        bool,
        typer.Option("--spending", help="List instead what language models were asked, and cost."),
    ] = False,
) -> int:
    """The results of a run as a table; of a run without explanations, what was collected.

    --json prints one document: run, results (one for each explanation, with its scores). What was
    collected is in its place, or beside it where there are no explanations, as collected (one for
    each feature, with its kind and the evidence for it).
    """
    session = Session.of(context)
    kinds = kinds_named(kind)
    if collected and (explainer or scorer):
        raise ConfigError("--explainer and --scorer are about explanations, not --collected")
    with session.open_store() as store:
        if runs:
            _list_runs(session, [as_it_stands(store, one) for one in store.runs()])
            return 0
        chosen = as_it_stands(store, newest_run(store, run))
        if calls:
            _list_spending(session, chosen, store.calls(chosen.id))
            return 0
        results = [] if collected else read_results(store, chosen.id)
        if collected or not (results or explainer or scorer):
            rows = summaries_of(store, chosen.collection, kinds, feature)
            _list_collected(session, chosen, rows, sort, limit, alone=collected)
            return 0
        results = filtered(results, explainer, scorer, feature, kinds)
    if sort:
        results = ordered(results, sort)
    total = len(results)
    results = results[:limit]
    if session.as_json:
        session.print_json({"run": chosen.id, "results": [r.to_json() for r in results]})
        return 0
    if results:
        print_results(session.console(), results)
        for line in judged_lines(results):
            session.say(line)
    cut = "" if total == len(results) else f" of {total}"
    session.say(f"run {chosen.id}, {chosen.status.value}: {len(results)}{cut} explanations")
    return 0


def as_it_stands(store: Store, run: Run) -> Run:
    """`run`; interrupted if it is at work by its last word and its process has been stopped."""
    import dataclasses

    from glossator.runs import RunStatus

    if run.status is not RunStatus.RUNNING or store.is_worked_on(run.id):
        return run
    return dataclasses.replace(run, status=RunStatus.INTERRUPTED)


def newest_run(store: Store, run: str | None) -> Run:
    """The run called `run`, or the newest.

    Raises:
        StoreError: if there is none; it names those there are.
    """
    if run is not None:
        return store.run(run)
    there = store.runs()
    if not there:
        raise StoreError(f"{store.url} holds no run yet; `glossator run` makes one")
    return there[-1]


def filtered(
    results: Sequence[Result],
    explainers: Sequence[str] | None,
    scorers: Sequence[str] | None,
    feature: str | None,
    kinds: Collection[Kind] | None = None,
) -> list[Result]:
    """Those of `results` that are asked for.

    Raises:
        ConfigError: if no result has such an explainer or scorer.
    """
    import dataclasses

    _check_named("explainer", explainers, [result.explainer for result in results])
    _check_named("scorer", scorers, [name.partition("/")[0] for name in scorer_names(results)])
    kept = [r for r in results if not explainers or r.explainer in explainers]
    kept = [r for r in kept if _is_like(r.feature, feature)]
    if kinds is not None:
        kept = [r for r in kept if r.kind in kinds]
    if scorers:
        kept = [
            dataclasses.replace(
                r, scores={n: s for n, s in r.scores.items() if n.partition("/")[0] in scorers}
            )
            for r in kept
        ]
    return kept


def summaries_of(
    store: Store, collection: str, kinds: Collection[Kind] | None, feature: str | None
) -> list[FeatureSummary]:
    """Those that were collected and are asked for, in the order first stored."""
    rows = store.summaries(collection, kinds)
    return [row for row in rows if _is_like(str(row.feature), feature)]


def ordered(results: Sequence[Result], column: str) -> list[Result]:
    """`results` by `column`, a minus in front for descending; what has no value comes last.

    Raises:
        ConfigError: if there is no such column.
    """
    name, descending = column.removeprefix("-"), column.startswith("-")
    scorers = scorer_names(results)
    known = [*_PLAIN, *scorers, *(f"{s}.{part}" for s in scorers for part in _OF_SCORE)]
    if results and name not in known:
        hint = nearest(name, known).partition("did you mean")
        near = f" ({hint[1]}{hint[2]}" if hint[1] else ""
        raise ConfigError(
            f"there is no column {name!r} to sort by; there are: {', '.join([*_PLAIN, *scorers])}, "
            f"and SCORER.{', .'.join(_OF_SCORE)}{near}"
        )

    def value(result: Result) -> Any:
        if name in _PLAIN:
            return getattr(result, name)
        scorer, _, part = name.rpartition(".") if name not in scorers else (name, "", "value")
        return result.scores.get(scorer, {}).get(part)

    having = [r for r in results if value(r) is not None]
    having.sort(key=value, reverse=descending)
    return having + [r for r in results if value(r) is None]


def _check_named(what: str, names: Sequence[str] | None, there: Sequence[str]) -> None:
    known = list(dict.fromkeys(there))
    for name in names or ():
        if name not in known:
            hint = nearest(name, known) if known else "there are none"
            raise ConfigError(f"no result of this run has the {what} {name!r}; {hint}")


def _is_like(feature: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    pattern = pattern if any(c in pattern for c in "*?[") else f"*{pattern}*"
    return fnmatch.fnmatchcase(feature, pattern)


def _list_collected(
    session: Session,
    run: Run,
    rows: Sequence[FeatureSummary],
    sort: str | None,
    limit: int | None,
    *,
    alone: bool,
) -> None:
    chosen = ordered_summaries(rows, sort) if sort else list(rows)
    if session.as_json:
        found: list[JSON] = [summary_json(row) for row in chosen[:limit]]
        beside: dict[str, JSON] = {} if alone else {"results": []}
        session.print_json({"run": run.id, **beside, "collected": found})
        return
    shown = chosen[: limit or MOST_ROWS]
    if shown:
        session.console().print(summaries_table(shown))
    counts = f": {counts_of(rows)}" if rows else ""
    session.say(f"run {run.id}, {run.status.value}: {len(rows)} features collected{counts}")
    if len(shown) < len(rows):
        session.say(f"{len(shown)} of them are shown; --limit says how many")


def _list_spending(session: Session, run: Run, calls: DataFrame) -> None:
    rows = spending(calls)
    if session.as_json:
        session.print_json({"run": run.id, "spending": rows, "prices": prices(calls)})
        return
    session.console().print(spending_table(rows))
    unknown = rows[-1]["cost"] is None
    session.say(f"run {run.id}" + (": the price of some calls is unknown" if unknown else ""))
    if assumed := assumed_line(rows[-1]):
        session.say(assumed)


def _list_runs(session: Session, runs: Sequence[Run]) -> None:
    rows = [
        {
            "run": run.id,
            "status": run.status.value,
            "started": run.started,
            "finished": run.finished,
            "seed": run.seed,
            "config_digest": run.config_digest,
            "collection": run.collection,
            "config": dict(run.config),
        }
        for run in runs
    ]
    if session.as_json:
        session.print_json({"runs": rows})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table()
    columns = ("run", "status", "started", "model", "sites", "features", "explainers", "llm")
    for column in columns:
        table.add_column(column, overflow="fold")
    for run in runs:
        cells = [run.id, run.status.value, run.started[:16].replace("T", " ")]
        for name in columns[3:]:
            value = run.config.get(name, "")
            joined = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            if name == "model" and run.config.get("control"):
                joined += f" with {run.config['control']}"
            cells.append(visible(joined))
        table.add_row(*(Text(cell) for cell in cells))
    session.console().print(table)

"""`bench truth`: scorers and explainers on planted features, whose truth is known."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glossator.cli.interrupts import INTERRUPTED, Interrupted, finish_or_drain
from glossator.cli.progress import shown_progress
from glossator.cli.session import Session
from glossator.cli.text import visible
from glossator.config import RunLimits, parse_tokens

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from glossator.bench.sheet import Table

bench_app = typer.Typer(
    name="bench",
    help="What scorers and explainers are worth, where the truth is known.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@bench_app.callback()
def _group() -> None:
    """What scorers and explainers are worth, where the truth is known."""


@bench_app.command("truth")
def truth_command(
    context: typer.Context,
    llm: Annotated[
        str,
        typer.Option(help="Who reads and explains; oracle reads every description as it is meant."),
    ] = "oracle",
    base_url: Annotated[str, typer.Option(help="Address of a server of its protocol.")] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Few features on made-up text; for a first look, CI.")
    ] = False,
    scorer: Annotated[
        list[str] | None, typer.Option(help="A scorer; repeatable (default: all it can run).")
    ] = None,
    simulator: Annotated[
        list[str] | None, typer.Option(help="A simulator for simulation; repeatable.")
    ] = None,
    explainer: Annotated[
        list[str] | None, typer.Option(help="An explainer; none for none; repeatable.")
    ] = None,
    features: Annotated[
        int | None,
        typer.Option(help="Planted features, of all classes alike (all; quick: 28; local: 14)."),
    ] = None,
    causal: Annotated[
        int | None,
        typer.Option(help="Features that act on the output (oracle: all; else, and quick: 0)."),
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Text: default, a file or folder, hf:NAME, made-up.")
    ] = None,
    tokens: Annotated[str | None, typer.Option(help="Tokens of it to read (200k).")] = None,
    windows: Annotated[
        int | None, typer.Option(help="Test windows a score, at most (40; quick: 24; local: 16).")
    ] = None,
    unrelated: Annotated[
        int | None, typer.Option(help="Unrelated descriptions a feature (3; quick and local: 2).")
    ] = None,
    precision: Annotated[
        float, typer.Option(help="Half width of interval at which a scorer stops; 0: all windows.")
    ] = 0.0,
    per_call: Annotated[
        int, typer.Option(help="Windows judged in one request (0: as a run does).")
    ] = 0,
    budget: Annotated[float | None, typer.Option(help="US dollars at most.")] = None,
    max_calls: Annotated[int | None, typer.Option(help="Calls at most.")] = None,
    device: Annotated[str, typer.Option(help="Where a local model runs.")] = "auto",
    offline: Annotated[bool, typer.Option("--offline/--online", help="No network.")] = False,
    out: Annotated[Path | None, typer.Option(help="A Markdown file for the tables.")] = None,
) -> int:
    """Score true, nearly true and unrelated descriptions of planted features, and explain them.

    The replies are kept in the store, so the same command again goes on where it stopped. --json
    prints one document: settings, scorers, explainers, notes, causal, paired.
    """
    from glossator.bench.config import TruthConfig, benched
    from glossator.bench.truth import bench_truth

    session = Session.of(context)
    given = {
        "n_features": features,
        "n_causal": causal,
        "corpus": corpus,
        "tokens": None if tokens is None else parse_tokens(tokens),
        "n_scored": windows,
        "n_unrelated": unrelated,
    }
    config: TruthConfig = benched(
        llm,
        scorers=scorer or (),
        simulators=simulator or (),
        explainers=explainer,
        quick=quick,
        base_url=base_url,
        precision=precision,
        per_call=per_call,
        seed=int(session.options.get("seed", 0)),
        **{name: value for name, value in given.items() if value is not None},
    )
    limits = RunLimits(device=device, offline=offline, budget=budget, max_calls=max_calls)
    store = session.open_store(to_write=True) if config.asks else None
    try:
        with shown_progress(session.quiet) as show:
            found = finish_or_drain(bench_truth(config, limits, store, tell=show))
    except Interrupted:
        session.say("Stopped. The replies are kept; the same command again goes on from here.")
        return INTERRUPTED
    finally:
        if store is not None:
            store.close()
    if out is not None:
        out.write_text(found.markdown(shlex.join(["glossator", *sys.argv[1:]])), encoding="utf-8")
    if session.as_json:
        session.print_json(found.to_json())
        return 0
    console = session.console()
    for table in found.tables():
        console.print(_drawn(table))
    for note in found.notes:
        console.print(visible(f"- {note}"), soft_wrap=True, markup=False)
    return 0


def _drawn(table: Table) -> RichTable:
    from rich.table import Table as RichTable

    drawn = RichTable(title=table.title, title_justify="left")
    for column in table.columns:
        drawn.add_column(column)
    for row in table.rows:
        drawn.add_row(*map(visible, row))
    return drawn

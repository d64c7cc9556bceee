"""`compare`: two runs, or two explainers of one, on the same windows of the same features."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from glossator.cli.results import number
from glossator.cli.session import Session
from glossator.cli.text import visible

if TYPE_CHECKING:
    from glossator.comparing import Compared


def compare_command(
    context: typer.Context,
    run_a: Annotated[str, typer.Argument(help="The first run, such as r1.")],
    run_b: Annotated[
        str | None, typer.Argument(help="The second (default: two explainers of the first).")
    ] = None,
    explainer: Annotated[
        list[str] | None,
        typer.Option(help="Whose explanations: one for both runs, or one for each; repeatable."),
    ] = None,
) -> int:
    """Compare two runs, or two explainers of one, feature by feature on the same windows.

    --json prints one document: comparisons (one for each scorer, with its features).
    """
    from glossator.comparing import compare_runs

    session = Session.of(context)
    with session.open_store() as store:
        found = compare_runs(store, run_a, run_b, explainer or ())
    if session.as_json:
        session.print_json({"comparisons": [one.to_json() for one in found]})
        return 0
    console = session.console()
    pair = None
    for one in found:
        if (one.a, one.b) != pair:
            pair = (one.a, one.b)
            console.print(visible(f"{one.a} less {one.b}"), soft_wrap=True, markup=False)
        for line in lines_of(one):
            console.print(visible(f"  {line}"), soft_wrap=True, markup=False)
    return 0


def lines_of(one: Compared) -> list[str]:
    """The comparison for people."""
    c = one.comparison
    if c.mean is None:
        lines = [f"{one.scorer}: no feature has a difference"]
    else:
        interval = ""
        if c.low is not None and c.high is not None:
            interval = f" [{number(c.low)}, {number(c.high)}]"
        p = "" if c.p is None else f", p {number(c.p)}"
        lines = [
            f"{one.scorer}: {number(c.mean)}{interval}{p}; of {c.n} features {c.better} better, "
            f"{c.worse} worse, {c.tied} tied"
        ]
    lines += [f"  undefined for {n}: {why}" for why, n in c.undefined.items()]
    lines += [f"  not paired, {n}: {why}" for why, n in Counter(one.unpaired.values()).items()]
    return lines + [f"  {note}" for note in one.notes]

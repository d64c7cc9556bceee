"""`ask`: a question about the results in words, or in SQL, answered with a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from glossator.cli.session import Session
from glossator.cli.text import shortened, visible
from glossator.errors import ConfigError

if TYPE_CHECKING:
    from glossator.querying import Answer, Cell

_WIDEST = 200
"""Characters of one cell."""


def ask_command(
    context: typer.Context,
    question: Annotated[str | None, typer.Argument(help="In words.")] = None,
    sql: Annotated[
        str | None, typer.Option(help="The query itself; no language model is asked.")
    ] = None,
    llm: Annotated[
        str | None, typer.Option(help="Language model that writes the query (default: local).")
    ] = None,
    budget: Annotated[float | None, typer.Option(help="US dollars at most.", min=0)] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never try the network.")] = False,
    views: Annotated[
        bool, typer.Option("--views", help="Print what can be asked of, with every column.")
    ] = False,
) -> int:
    """Answer a question about the results by one read-only query, which is shown.

    A language model writes the query; it sees what the columns mean, and no data. --sql takes one
    that you write. --json prints one document: question, sql, columns, rows, is_cut, chart, usage.
    """
    from glossator.documented import described
    from glossator.querying import run_query

    session = Session.of(context)
    if views:
        print(described())
        return 0
    if (question is None) == (sql is None):
        raise ConfigError(
            'ask one thing: glossator ask "QUESTION", or glossator ask --sql "SELECT ..."; '
            "--views lists what there is"
        )
    with session.open_store() as store:
        if sql is not None:
            _print(session, run_query(store.file, sql))
            return 0
        from glossator.api import ask, run_sync

        model = llm or str(session.options.get("llm") or "local")
        asked = run_sync(
            ask(question or "", store, model, offline=offline, budget=budget),
        )
    usage = asked.usage
    extra = {
        "question": asked.question,
        "chart": asked.plot.value,
        "usage": {"calls": usage.calls, "cost": usage.cost, "seconds": usage.seconds},
    }
    _print(session, asked.answer, extra)
    if usage.cost:
        session.say(f"${usage.cost:.2g} for {usage.calls} calls")
    return 0


def _print(session: Session, answer: Answer, extra: dict[str, Any] | None = None) -> None:
    if session.as_json:
        session.print_json(
            {
                **(extra or {}),
                "sql": answer.sql,
                "columns": list(answer.columns),
                "rows": [list(row) for row in answer.rows],
                "is_cut": answer.is_cut,
            }
        )
        return
    from rich.table import Table
    from rich.text import Text

    if extra is not None:
        session.say(answer.sql)
    table = Table()
    for name in answer.columns:
        table.add_column(Text(shortened(name, 60)), overflow="fold")
    for row in answer.rows:
        table.add_row(*(Text(_shown(cell)) for cell in row))
    session.console().print(table)
    cut = "the first " if answer.is_cut else ""
    one = "" if len(answer.rows) == 1 else "s"
    session.say(f"{cut}{len(answer.rows)} row{one}")


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.6g}"
    return shortened(visible(str(cell)), _WIDEST)

"""`report`: one run as one page that any browser opens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glossator.cli.list import newest_run
from glossator.cli.session import Session


def report_command(
    context: typer.Context,
    run: Annotated[str | None, typer.Argument(help="Which run (default: the newest).")] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
) -> int:
    """Write a page with the results of a run, to open in a browser.

    --json prints one document: run, file.
    """
    from glossator.web.report import write_report

    session = Session.of(context)
    with session.open_store() as store:
        chosen = newest_run(store, run)
        written = write_report(store, chosen.id, out)
    if session.as_json:
        session.print_json({"run": chosen.id, "file": str(written)})
    else:
        session.console().print(str(written), soft_wrap=True)
    return 0

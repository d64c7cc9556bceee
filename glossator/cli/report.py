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
    feature: Annotated[
        str | None,
        typer.Option(help="Only the page of this feature; its id, or the end of one."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("report.html"),
) -> int:
    """Write a page with the results of a run, or of one feature, to open in a browser.

    --json prints one document: run, file, and feature with --feature.
    """
    from glossator.web.report import write_report

    session = Session.of(context)
    with session.open_store() as store:
        if feature is None:
            chosen, named = newest_run(store, run), None
            written = write_report(store, chosen.id, out)
        else:
            from glossator.cli.feature import find_feature
            from glossator.web.server.alone import write_feature

            chosen, named = find_feature(store, feature, run)
            written = write_feature(store, chosen, named, out)
    if session.as_json:
        told = {} if named is None else {"feature": str(named)}
        session.print_json({"run": chosen.id, **told, "file": str(written)})
    else:
        session.console().print(str(written), soft_wrap=True)
    return 0

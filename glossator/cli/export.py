"""`export`: results as files for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from glossator.cli.session import Session


def export_command(
    context: typer.Context,
    path: Annotated[
        str,
        typer.Argument(help="A file such as scores.csv, or a folder for all tables."),
    ],
    format: Annotated[
        str | None,
        typer.Option(help="parquet, csv or jsonl (default: by the file's name, else parquet)."),
    ] = None,
    run: Annotated[str | None, typer.Option(help="Only this run (default: all).")] = None,
) -> int:
    """Write the results to a file, or all tables to a folder.

    A file holds the scores with their explanations; a folder a file each for features,
    explanations, scores and predictions. --json prints one document: files.
    """
    session = Session.of(context)
    with session.open_store() as store:
        files = store.export(path, format, run)
    if session.as_json:
        session.print_json({"files": [str(file) for file in files]})
    else:
        for file in files:
            session.console().print(str(file), soft_wrap=True)
    return 0

"""`direction`: directions learned from two sets of texts, and those there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from glossator.cli.session import Session
from glossator.cli.text import visible
from glossator.errors import ConfigError

if TYPE_CHECKING:
    from glossator.datasets.directions import Direction

FOLDER = "directions"

direction_app = typer.Typer(
    help="Directions: learn features of your own from two sets of texts, or list them.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

_Folder = Annotated[str, typer.Option("--folder", "--out", help="Where directions are kept.")]


@direction_app.command("learn")
def learn_command(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it.")],
    site: Annotated[str, typer.Option(help="Where to read, such as layers.14.resid_post.")],
    positive: Annotated[
        str, typer.Option(help="Texts that have it: a .txt, .jsonl or .parquet file.")
    ],
    negative: Annotated[str, typer.Option(help="Texts that do not.")],
    method: Annotated[str, typer.Option(help="difference, logistic or pca.")] = "difference",
    at: Annotated[str, typer.Option(help="What stands for a text: mean, last or max.")] = "mean",
    paired: Annotated[
        bool, typer.Option("--paired", help="Text i of one file belongs to text i of the other.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="Subject: a bundled name, hub id, folder or gguf:PATH.")
    ] = None,
    ctx: Annotated[int, typer.Option(help="Tokens of a text that are read, at most.")] = 512,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="Number type the subject computes in.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never try the network.")] = False,
    folder: _Folder = FOLDER,
    replace: Annotated[
        bool, typer.Option("--replace", help="Write over a direction of that name.")
    ] = False,
) -> int:
    """Learn a direction from texts that have something and texts that do not.

    Says how well it tells held-out texts apart, and what that is under shuffled labels. --json
    prints one document: direction.
    """
    import warnings

    from glossator.datasets.directions import (
        check_name,
        direction_names,
        learn_direction,
        save_direction,
    )
    from glossator.datasets.files import file_documents
    from glossator.subject import load_subject
    from glossator.subject_names import BUNDLED

    session = Session.of(context)
    check_name(name)  # before a minute is spent on the model
    if name in direction_names(folder) and not replace:
        raise ConfigError(
            f"there is a direction {name} in {folder}; choose another name, or use --replace"
        )
    texts = [
        [text.strip() for text, _ in file_documents(file) if text.strip()]
        for file in (positive, negative)
    ]
    given: dict[str, Any] = {"model": model, "device": device, "dtype": dtype}
    defaults = {"model": BUNDLED[0], "device": "auto", "dtype": "auto"}
    chosen = {
        key: value if value is not None else session.options.get(key, defaults[key])
        for key, value in given.items()
    }
    subject = load_subject(
        chosen["model"],
        chosen["device"],
        chosen["dtype"],
        offline=offline or bool(session.options.get("offline", False)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of is said below
        direction = learn_direction(
            subject,
            site,
            texts[0],
            texts[1],
            method,  # type: ignore[arg-type]
            name=name,
            at=at,  # type: ignore[arg-type]
            paired=paired,
            ctx=ctx,
            seed=int(session.options.get("seed", 0)),
        )
    path = save_direction(direction, folder, replace=replace)
    feature = direction.feature(subject.name)
    if session.as_json:
        session.print_json(
            {"direction": {**_plain(direction), "feature": str(feature), "file": str(path)}}
        )
    else:
        session.console().print(str(feature), soft_wrap=True)
        session.say(f"{path}: {_told(direction)}")
    if warning := direction.how.get("warning"):
        session.say(f"warning: {warning}")
    return 0


@direction_app.command("list")
def list_directions_command(context: typer.Context, folder: _Folder = FOLDER) -> int:
    """The directions there are.

    --json prints one document: directions.
    """
    from rich.table import Table
    from rich.text import Text

    from glossator.datasets.directions import direction_names, load_direction

    session = Session.of(context)
    found = [load_direction(name, folder) for name in direction_names(folder)]
    if session.as_json:
        session.print_json({"directions": [_plain(direction) for direction in found]})
        return 0
    if found:
        table = Table()
        columns = ("name", "site", "width", "method", "texts", "auc", "null", "subject")
        for column in columns:
            table.add_column(column, overflow="fold")
        for direction in found:
            how = direction.how
            cells = [
                direction.name,
                direction.site,
                str(len(direction.vector)),
                _cell(how.get("method")),
                f"{_cell(how.get('n_positive'))} + {_cell(how.get('n_negative'))}",
                _cell(how.get("auc")),
                _cell(how.get("auc_null")),
                _cell(how.get("subject")),
            ]
            table.add_row(*(Text(visible(cell)) for cell in cells))
        session.console().print(table)
    session.say(f"{len(found)} directions in {folder}")
    return 0


def _plain(direction: Direction) -> dict[str, Any]:
    return {
        "name": direction.name,
        "site": direction.site,
        "width": len(direction.vector),
        "how": dict(direction.how),
    }


def _told(direction: Direction) -> str:
    """How well it does, in a line."""
    how = direction.how
    counts = f"{how['n_positive']} positive and {how['n_negative']} negative texts"
    if how["auc"] is None:
        return counts
    return (
        f"{counts}, held-out AUC {how['auc']:.3f} (shuffled labels {how['auc_null']:.3f}, "
        f"p {how['auc_p']:.3f})"
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)

"""The templates of pages: everything is escaped, and a name that is not there is an error."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from glossator.web import figures, heldout, words


def environment(*folders: Path) -> Environment:
    """An environment for the templates in `folders`, with our filters and charts."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        t=words.shown,
        name=words.broken,
        a=words.attribute,
        fig=words.figure,
        short=words.short,
        share=words.share,
        prob=words.probability,
        dollars=words.dollars,
        duration=words.duration,
        local=words.local_name,
    )
    made.globals.update(
        count=words.count,
        axis_row=figures.axis_row,
        dot_row=figures.dot_row,
        Axis=figures.Axis,
        Dot=figures.Dot,
        key_mark=figures.key_mark,
        series_class=figures.series_class,
        swatches=heldout.swatches,
    )
    return made

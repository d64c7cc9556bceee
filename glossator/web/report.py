"""A run as one page in one file, that opens anywhere and asks nothing of the network.

Every text of the corpus or of a model is data: it is escaped, cut to a bounded length, isolated
from the writing direction around it, and its invisible characters are named. The page's own policy
lets nothing run but the one small script that sorts the table, and nothing load at all.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from pathlib import Path

from markupsafe import Markup

from glossator.errors import StoreError
from glossator.scorers.build import limits_of
from glossator.scorers.compare import paired_difference
from glossator.store import Run, Store
from glossator.types import Score
from glossator.web.contents import read_contents
from glossator.web.environment import environment
from glossator.web.views import Contents
from glossator.web.whole import write_whole

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(store: Store, run_id: str | None, path: str | Path) -> Path:
    """Writes the report of a run to `path`, whole or not at all, and gives the path.

    Args:
        store: Where the results are.
        run_id: The run; None for the newest.
        path: The file. One that is there is replaced.

    Raises:
        StoreError: if there is no such run, or the file cannot be written.
    """
    _, page = report_of(store, run_id)
    target = Path(path)
    try:
        write_whole(target, page.encode("utf-8", "replace"))
    except OSError as error:
        raise StoreError(f"cannot write the report to {target}: {error.strerror}") from error
    return target


def report_of(store: Store, run_id: str | None = None) -> tuple[Run, str]:
    """A run, the newest if `run_id` is None, and its page.

    Raises:
        StoreError: if there is no such run.
    """
    if run_id is None:
        runs = store.runs()
        if not runs:
            raise StoreError("there is no run to report on yet; `glossator run` makes one")
        run = runs[-1]
    else:
        run = store.run(run_id)
    return run, render(read_contents(store, run, _paired))


def render(contents: Contents) -> str:
    """The whole page."""
    style, script = _ours("report.css"), _ours("report.js")
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    made = environment(_TEMPLATES)
    made.globals.update(limits_of=limits_of)
    template = made.get_template("report.html.j2")
    return template.render(
        c=contents,
        run=contents.run,
        took=took(contents.run),
        style=style,
        script=script,
        policy=policy,
    )


def took(run: Run) -> float | None:
    """Seconds from the first start to the last end; None where it has not ended."""
    if run.finished is None:
        return None
    return (
        datetime.fromisoformat(run.finished) - datetime.fromisoformat(run.started)
    ).total_seconds()


def _ours(name: str) -> Markup:
    """A file of this package, as it is."""
    return Markup((_TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704


def _source(text: str) -> str:
    """How a content security policy names exactly this text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _paired(
    score: Score, baseline: Score, seed: int
) -> tuple[float | None, float | None, float | None, int]:
    """How much better `score` is than `baseline` on the windows that both predicted."""
    found = paired_difference(score, baseline, seed=seed)
    return found.value, found.low, found.high, found.n

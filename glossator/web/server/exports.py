"""What a list of features leaves, as a file: CSV, JSON lines or Parquet, whatever its size."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response, StreamingResponse

from glossator.export import FORMATS, safe_cell
from glossator.rows import plain
from glossator.selection import Listed
from glossator.web.server.asked import chosen, runs_of, selection_of, store_of
from glossator.web.server.meaning import by_meaning

router = APIRouter(include_in_schema=False)

CHUNK = 1000
"""Features in memory at a time."""
OF_MARK = ("", ".low", ".high", ".null")
TYPES = {
    "feature": "string",
    "model": "string",
    "site": "string",
    "coder": "string",
    "index": "int64",
    "negative": "bool",
    "kind": "string",
    "density": "double",
    "peak": "double",
    "explainer": "string",
    "explanation": "string",
    "abstained": "string",
    "flags": "string",
}
"""The columns of every file, before those of the scorers, and the type of each in Parquet."""


@router.get("/features/export.{form}")
def export(request: Request, form: str) -> Response:
    """The list that the address asks for, whole, as a file."""
    if form not in FORMATS:
        raise HTTPException(404, f"Lists are exported as {', '.join(FORMATS)}.")
    store = store_of(request)
    run = chosen(runs_of(store), request.query_params.get("run"))
    selection = selection_of(request, store, run)
    scorers = store.browser.scorers(run.id)
    names = [*TYPES, *(f"{scorer}{end}" for scorer in scorers for end in OF_MARK)]
    meant = by_meaning(request, store, selection)
    found = store.browser.all(meant.selection, CHUNK)
    if meant.is_by_nearness:
        found = iter(meant.sorted(tuple(found)))
    rows = (row_of(listed, scorers) for listed in found)
    headers = {"content-disposition": f'attachment; filename="features-{run.id}.{form}"'}
    if form == "csv":
        return StreamingResponse(_csv(names, rows), media_type="text/csv", headers=headers)
    if form == "jsonl":
        kind = "application/jsonl"
        return StreamingResponse(_jsonl(names, rows), media_type=kind, headers=headers)
    file = _parquet(names, rows)
    task = BackgroundTask(file.unlink, missing_ok=True)
    kind = "application/vnd.apache.parquet"
    return FileResponse(file, media_type=kind, headers=headers, background=task)


def row_of(listed: Listed, scorers: Sequence[str]) -> list[Any]:
    """A line of the file; None for what is missing."""
    feature = listed.feature
    marks = [listed.marks.get(scorer) for scorer in scorers]
    values = [
        value
        for mark in marks
        for value in ((mark.value, mark.low, mark.high, mark.null) if mark else (None,) * 4)
    ]
    return [
        *(str(feature), feature.model, feature.site, feature.coder),
        *(feature.index, feature.negative, listed.kind.value, listed.density, listed.peak),
        *(listed.explainer or None, listed.text or None, listed.abstained or None),
        ", ".join(listed.flags) or None,
        *values,
    ]


def _csv(names: Sequence[str], rows: Iterator[list[Any]]) -> Iterator[bytes]:
    yield _lines([list(names)])
    while some := list(islice(rows, CHUNK)):
        yield _lines(some)


def _lines(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([safe_cell(value) for value in row] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _jsonl(names: Sequence[str], rows: Iterator[list[Any]]) -> Iterator[bytes]:
    while some := list(islice(rows, CHUNK)):
        lines = [json.dumps(dict(zip(names, row, strict=True)), allow_nan=False) for row in some]
        yield ("\n".join(lines) + "\n").encode()


def _parquet(names: Sequence[str], rows: Iterator[list[Any]]) -> Path:
    """A file that whoever sends it removes."""
    # Imported here: the pages themselves need it not.
    import pyarrow as pa
    from pyarrow import parquet

    types = {"string": pa.string(), "int64": pa.int64(), "bool": pa.bool_(), "double": pa.float64()}
    schema = pa.schema([(name, types[TYPES.get(name, "double")]) for name in names])
    handle, path = tempfile.mkstemp(prefix="glossator-", suffix=".parquet")
    os.close(handle)
    with ExitStack() as half_written:
        half_written.callback(Path(path).unlink, missing_ok=True)
        with parquet.ParquetWriter(path, schema) as writer:
            while some := list(islice(rows, CHUNK)):
                columns = [
                    [plain(v) if isinstance(v, str) else v for v in column]
                    for column in zip(*some, strict=True)
                ]
                writer.write_table(pa.table(dict(zip(names, columns, strict=True)), schema))
        half_written.pop_all()
    return Path(path)

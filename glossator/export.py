"""Tables as files: Parquet, CSV, JSON lines. Each is written whole, or not at all."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glossator.errors import ConfigError, StoreError
from glossator.registry import nearest

if TYPE_CHECKING:
    from pandas import DataFrame

FORMATS = ("parquet", "csv", "jsonl")


def export_format(path: str, format: str | None = None) -> str:
    """The format to write `path` in: `format`, else what the name ends in, else parquet.

    Raises:
        ConfigError: if it is none of `FORMATS`, or the path holds `..` or control characters.
    """
    if any(ord(c) < 32 for c in path) or ".." in Path(path).parts or not Path(path).name:
        raise ConfigError(f"cannot export to {path!r}: name a file or a folder, without '..'")
    suffix = Path(path).suffix.lstrip(".").lower()
    chosen = format or (suffix if suffix and not os.path.isdir(path) else "parquet")
    if chosen not in FORMATS:
        raise ConfigError(f"cannot export as {chosen!r}; {nearest(chosen, list(FORMATS))}")
    return chosen


def write(frame: DataFrame, path: Path, format: str) -> None:
    """Writes `frame` to `path` in one of `FORMATS`: whole, or not at all.

    Raises:
        StoreError: if the file cannot be written; one that was there stays as it is.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        os.close(handle)
        part = Path(name)
        try:
            _WRITERS[format](frame, part)
            with part.open("rb+") as file:
                os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {str(path)!r}: {error.strerror or error}") from error


def safe_cell(value: Any) -> Any:
    """`value`, with a quote before a text that a spreadsheet would take for a formula."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def _write_parquet(frame: DataFrame, path: Path) -> None:
    frame.to_parquet(path, index=False)


def _write_csv(frame: DataFrame, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(frame.columns)
        for row in _plain_rows(frame):
            lines.writerow([safe_cell(value) for value in row])


def _write_jsonl(frame: DataFrame, path: Path) -> None:
    names = list(frame.columns)
    with path.open("w", encoding="utf-8") as file:
        for row in _plain_rows(frame):
            file.write(json.dumps(dict(zip(names, row, strict=True)), allow_nan=False) + "\n")


_WRITERS: dict[str, Callable[[DataFrame, Path], None]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
}


def _plain_rows(frame: DataFrame) -> Iterable[list[Any]]:
    """The rows as plain values, None for what is missing and ISO 8601 for times."""
    plain = frame.astype(object).where(frame.notna(), None)
    for row in plain.itertuples(index=False, name=None):
        yield [value.isoformat() if hasattr(value, "isoformat") else value for value in row]

"""Text out of local files: txt, JSONL and Parquet, one of them or a folder of them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

from glossator.errors import CorpusError

_ENDINGS = (".jsonl", ".parquet", ".txt")
_HEAD = 1_000_000
"""Characters of a `.txt` file that decide how it is parted, and that are held at once."""


def looks_like_files(spec: str) -> bool:
    """Whether `spec` is there as a file or folder, or is spelt like one."""
    return Path(spec).exists() or spec.endswith(_ENDINGS) or "/" in spec


def file_documents(spec: str) -> Iterator[tuple[str, str]]:
    """The texts in a file, or in a folder's files by name, each with the file it is from.

    Raises:
        CorpusError: if nothing readable is there.
    """
    path = Path(spec).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix in _ENDINGS and p.is_file())
        if not found:
            raise CorpusError(f"the folder {spec} holds no .txt, .jsonl or .parquet file")
        for file in found:
            yield from _documents(file, str(file.relative_to(path)), alone=False)
    elif not path.is_file():
        raise CorpusError(f"there is no file or folder {spec}")
    elif path.suffix not in _ENDINGS:
        raise CorpusError(f"{spec} is no .txt, .jsonl or .parquet file")
    else:
        yield from _documents(path, path.name, alone=True)


def _documents(path: Path, source: str, alone: bool) -> Iterator[tuple[str, str]]:
    try:
        if path.suffix == ".parquet":
            texts = _parquet(path)
        elif path.suffix == ".jsonl":
            texts = _jsonl(path)
        else:
            texts = _txt(path, alone)
        for text in texts:
            yield text, source
    except OSError as error:
        raise CorpusError(f"cannot read {path}: {error.strerror or error}") from error


def _txt(path: Path, alone: bool) -> Iterator[str]:
    """The documents of a text file; see `load_corpus` for what parts them."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(_HEAD)
        if "\f" in head:
            mark = "\f"
        elif not alone:
            mark = ""
        else:
            mark = "\n\n" if "\n\n" in head.strip("\n") else "\n"
        held = head
        for block in itertools.chain(iter(lambda: file.read(_HEAD), ""), [""]):
            # an empty block is the end: then what is held is whole, whatever its last mark
            at = held.rfind(mark or "\n") if block else len(held)
            if at >= 0:
                whole, held = held[:at], held[at:]
                yield from whole.split(mark) if mark else [whole]
            held += block


def _jsonl(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"{path}, line {number} is not JSON: {error}") from error
            if not isinstance(row, dict) or not isinstance(row.get("text"), str | None):
                raise CorpusError(f"{path}, line {number} is not an object with a string `text`")
            if "text" not in row:
                found = ", ".join(map(str, row)) or "nothing"
                raise CorpusError(
                    f"{path}, line {number} has no `text`; it has {found}. Rename the column "
                    "that holds the text"
                )
            if row["text"]:
                yield row["text"]


def _parquet(path: Path) -> Iterator[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if "text" not in names:
                raise CorpusError(
                    f"{path} has no column `text`; it has {', '.join(names) or 'none'}. Rename "
                    "the column that holds the text"
                )
            for batch in file.iter_batches(batch_size=1024, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    if not isinstance(text, str | None):
                        raise CorpusError(f"the column `text` of {path} is not of text")
                    if text:
                        yield text
    except pa.ArrowException as error:
        raise CorpusError(f"{path} is not a readable Parquet file: {error}") from error

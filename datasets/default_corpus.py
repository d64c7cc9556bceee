"""The default corpus: built once out of an archive, then kept as Parquet with a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from glossator.assets import ASSETS, Progress, corpus_folder, fetch, forget
from glossator.datasets.bigbench import passages, source_of
from glossator.datasets.pools import Document, leaks
from glossator.errors import AssetError

VERSION = 1
"""Raised when what is read or how it is cleaned changes; an older cache is then built anew."""

_LARGEST_MEMBER = 200_000_000
"""Bytes; the largest file that is wanted has 50 million."""
_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class DefaultCorpus:
    """The built corpus, on disk."""

    path: Path
    """A Parquet file with the columns id, text, source, pool and left_out."""
    digest: str
    """SHA-256 over the ids of the documents that are read, in order."""
    n_documents: int
    n_duplicates: int
    n_left_out: int
    sources: Mapping[str, int]
    """Documents read, by source."""

    def read(self) -> Iterator[Document]:
        """The documents in their shuffled order, without those left out."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    if not row["left_out"]:
                        yield Document(row["text"], row["source"], row["id"])


def default_corpus_parts(offline: bool = False, progress: Progress | None = None) -> DefaultCorpus:
    """The built corpus, built first if the cache does not have it whole.

    Raises:
        AssetError: if it has to be built and the archive could not be had.
    """
    folder = corpus_folder()
    if found := _kept(folder):
        return found
    from filelock import FileLock

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "build.lock"):
            return _kept(folder) or _build(folder, offline, progress)
    except OSError as error:
        raise AssetError(
            f"cannot write in {folder}: {error.strerror or error}; make room there, or set "
            "GLOSSATOR_CACHE to another folder"
        ) from error


def _kept(folder: Path) -> DefaultCorpus | None:
    """What the folder holds, if it was built whole by this version and nobody changed it."""
    path = folder / "corpus.parquet"
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        with path.open("rb") as file:
            same = hashlib.file_digest(file, "sha256").hexdigest() == manifest["parquet_sha256"]
        if not same or manifest["version"] != VERSION:
            return None
        return DefaultCorpus(
            path=path,
            digest=str(manifest["digest"]),
            n_documents=int(manifest["n_documents"]),
            n_duplicates=int(manifest["n_duplicates"]),
            n_left_out=int(manifest["n_left_out"]),
            sources={str(k): int(v) for k, v in manifest["sources"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _build(folder: Path, offline: bool, progress: Progress | None) -> DefaultCorpus:
    asset = ASSETS["corpus-default"]
    archive = fetch(asset, offline, progress)
    if progress:
        progress("reading the passages", 0, 0)
    documents, n_duplicates = _read(archive)
    if progress:
        progress("looking for text shared between pools", 0, 0)
    left_out = leaks(lambda: documents)
    _write(folder, documents, left_out, n_duplicates)
    forget(asset)
    built = _kept(folder)
    if built is None:
        raise AssetError(f"the corpus in {folder} was changed while it was written; try again")
    return built


def _read(archive: Path) -> tuple[list[Document], int]:
    """The archive's passages, shuffled, and how many came more than once.

    The archive is read from front to back and nothing of it is unpacked to disk.
    """
    found: dict[str, Document] = {}
    n_duplicates = 0
    try:
        with tarfile.open(archive, "r|gz") as packed:
            for member in packed:
                source = source_of(member.name)
                if source is None or not member.isreg() or member.size > _LARGEST_MEMBER:
                    continue
                content = packed.extractfile(member)
                if content is None:
                    continue
                for text in passages(source, content.read()):
                    document = Document.of(text, source)
                    n_duplicates += document.id in found
                    found.setdefault(document.id, document)
    except (tarfile.TarError, zlib.error, EOFError, ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{archive} cannot be read: {error}; delete it and try again") from error
    # the order depends on the ids alone, so it is the same wherever and however this runs
    order = sorted(found, key=lambda identity: hashlib.sha256(f"0:{identity}".encode()).digest())
    return [found[identity] for identity in order], n_duplicates


def _write(
    folder: Path, documents: list[Document], left_out: frozenset[str], n_duplicates: int
) -> None:
    """Writes the Parquet file and then, as a sign that it is whole, its manifest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "manifest.json").unlink(missing_ok=True)
    path, temporary = folder / "corpus.parquet", folder / "corpus.parquet.tmp"
    schema = pa.schema(
        [(name, pa.string()) for name in ("id", "text", "source", "pool")]
        + [("left_out", pa.bool_())]
    )
    with pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for start in range(0, len(documents), _ROWS_AT_ONCE):
            rows = [
                {
                    "id": d.id,
                    "text": d.text,
                    "source": d.source,
                    "pool": d.pool.value,
                    "left_out": d.id in left_out,
                }
                for d in documents[start : start + _ROWS_AT_ONCE]
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema))
    with temporary.open("rb+") as file:
        parquet = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    kept = [d for d in documents if d.id not in left_out]
    manifest = {
        "version": VERSION,
        "digest": hashlib.sha256("".join(d.id for d in kept).encode()).hexdigest(),
        "parquet_sha256": parquet,
        "n_documents": len(kept),
        "n_duplicates": n_duplicates,
        "n_left_out": len(left_out),
        "sources": dict(sorted(Counter(d.source for d in kept).items())),
    }
    unfinished = folder / "manifest.json.tmp"
    unfinished.write_text(json.dumps(manifest, indent=1))
    os.replace(unfinished, folder / "manifest.json")

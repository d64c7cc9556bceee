"""The full sparse cache: every activation above a rule, kept as Parquet. Opt-in; records need none.

    FOLDER/manifest.json                         what it is of, and which files count, with digests
    FOLDER/activations/activations-000000.parquet   feature, document, position, value
    FOLDER/documents/documents-000000.parquet       number, start, document, pool, token_ids

A shard of activations is sorted by (feature, document, position). Files are written under a hidden
name, synced, renamed and only then listed, so a killed writer leaves nothing that counts unless it
is whole. `pandas.read_parquet(FOLDER / "activations")` and DuckDB's `FROM
'FOLDER/activations/*.parquet'` read it as it is.

At 50 of 4,608 latents a token it takes 4.8 bytes a nonzero, of which a float32 value with a random
mantissa is 3.4: bytes of a kind side by side (byte stream split), deltas, zstd. Values that a
subject computed in bfloat16 take 1.4.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from glossator.errors import ConfigError, StoreError
from glossator.types import JSON, Pool

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["Cache", "CacheSettings", "CacheWriter", "Shard", "open_cache"]

VERSION = 1
COLUMNS: Mapping[str, Any] = MappingProxyType(
    {"feature": np.int32, "document": np.int32, "position": np.int32, "value": np.float32}
)
"""Of a shard of activations, with their types."""
ROWS_PER_SHARD = 2_000_000
"""A writer takes about 45 bytes for each of these."""
TOKENS_PER_SHARD = 4_000_000
"""A shard is closed after so many tokens too, however few activations they had."""

_ROW_GROUP = 1 << 16
"""Rows that are read together: one feature is found without reading the rest of its shard."""
_ENCODING = {
    "feature": "DELTA_BINARY_PACKED",
    "document": "DELTA_BINARY_PACKED",
    # deltas of positions jump back at every document: packed, they are 13% larger than this
    "position": "BYTE_STREAM_SPLIT",
    "value": "BYTE_STREAM_SPLIT",
}
_MANIFEST = "manifest.json"
_LOCK = ".lock"
_KINDS = ("activations", "documents")
_OURS = re.compile(
    r"(activations|documents)-\d{6,}\.parquet|\.(activations|documents)-\d{6,}\.part"
)

_Ints: TypeAlias = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """What a cache is of. A writer goes on only where all of this is the same."""

    subject: str
    """Name of the model."""
    site: str
    corpus: str
    corpus_digest: str
    threshold_rule: str
    """Which activations are kept, in words, such as `above 0`."""
    coder: str | None = None
    """Name of the sparse coder, if features are its latents."""
    features: tuple[int, ...] | None = None
    """The features that were looked at; None means all of the site."""
    others: Mapping[str, JSON] = field(default_factory=dict)
    """Whatever else decides the rows: revision, dtype, ctx, tokens left out, digests."""

    def to_json(self) -> dict[str, JSON]:
        """These settings as `json` takes them."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["features"] = None if self.features is None else list(self.features)
        plain["others"] = dict(self.others)
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CacheSettings:
        """What `to_json` gave `data` for."""
        listed = data["features"]
        return cls(**{**data, "features": None if listed is None else tuple(map(int, listed))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A file that the manifest lists."""

    file: str
    """Path from the cache's folder, such as `activations/activations-000000.parquet`."""
    rows: int
    tokens: int
    """Of documents: tokens in the file. Of activations: tokens told of since the last such file."""
    min_feature: int | None
    """Least feature in it; None for documents."""
    max_feature: int | None
    size: int
    """Bytes."""
    sha256: str


class CacheWriter:
    """Writes a cache, shard by shard; goes on behind the last listed shard of an unfinished one.

    `checkpoint` marks that all up to a part of the corpus has been added. Only whole parts are ever
    listed, and `position` names the last of them, so whoever was killed adds again from there and
    nothing is there twice. Equal calls give equal files, killed in between or not.

    Args:
        folder: of the cache; made if it is not there.
        settings: what it is of.
        rows_per_shard: activations held before they are written. Sets the memory taken.

    Raises:
        ConfigError: if the folder holds a cache of something else, or other files.
        StoreError: if it cannot be written, is damaged, or another process writes to it.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: CacheSettings,
        *,
        rows_per_shard: int = ROWS_PER_SHARD,
    ) -> None:
        if rows_per_shard < 1:
            raise ConfigError(f"a shard has at least 1 row, not {rows_per_shard}")
        self.folder = Path(folder).expanduser()
        self.settings = settings
        self._limit = rows_per_shard
        self._held = {name: np.empty(rows_per_shard, kind) for name, kind in COLUMNS.items()}
        self._rows = 0
        self._documents: list[tuple[int, int, str, str, npt.NDArray[np.int32]]] = []
        self._tokens = 0
        self._mark: tuple[str, int, int] | None = None  # token, rows and documents before it
        self._pending: list[tuple[str, Shard]] = []  # written, synced, hidden and not listed
        with _told(self.folder):
            _check_folder(self.folder)  # before anything is made in it
            for kind in _KINDS:
                (self.folder / kind).mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.folder)
        with ExitStack() as undo:
            undo.callback(self._lock.release)
            self._manifest = self._found_or_new()
            undo.pop_all()  # it went well, and the lock is kept

    @property
    def position(self) -> str | None:
        """The checkpoint up to which all is on disk and listed; None at the start."""
        return self._manifest.position

    @property
    def complete(self) -> bool:
        """Whether this cache was closed: then there is nothing left to add."""
        return self._manifest.complete

    def add(
        self,
        feature: npt.ArrayLike,
        document: npt.ArrayLike,
        position: npt.ArrayLike,
        value: npt.ArrayLike,
    ) -> None:
        """Takes in activations, in any order. The arrays are copied.

        Args:
            feature: shape (n,), whole numbers from 0.
            document: shape (n,), numbers of documents in the corpus.
            position: shape (n,), of the token in its document.
            value: shape (n,), raw units, held in float32.

        Raises:
            ConfigError: for shapes or numbers that cannot be, such as NaN.
            StoreError: if a shard cannot be written, or the cache is complete.
        """
        if self.complete:
            raise StoreError(f"the cache in {self.folder} is complete; write to another folder")
        given = _checked(
            {"feature": feature, "document": document, "position": position, "value": value}
        )
        n, at = len(given["value"]), 0
        while at < n:
            while self._rows == self._limit:  # twice where the checkpoint stood before all of it
                self._spill()
            taken = min(n - at, self._limit - self._rows)
            for name, held in self._held.items():
                held[self._rows : self._rows + taken] = given[name][at : at + taken]
            self._rows += taken
            at += taken

    def add_document(
        self,
        number: int,
        document_id: str,
        pool: Pool,
        token_ids: Sequence[int],
        start: int = 0,
    ) -> None:
        """Keeps a document's tokens, so that the cache can be understood alone.

        Args:
            number: as in `add`.
            document_id: the corpus's id of it.
            pool: who may see it.
            token_ids: all of it, or a run of it.
            start: position of the first of them; a document may come in several runs.

        Raises:
            StoreError: as `add`.
        """
        if self.complete:
            raise StoreError(f"the cache in {self.folder} is complete; write to another folder")
        ids = np.array(token_ids, dtype=np.int32)
        self._documents.append((number, start, document_id, pool.value, ids))
        self._tokens += len(ids)
        if self._tokens >= TOKENS_PER_SHARD:
            self._spill()

    def checkpoint(self, token: str) -> None:
        """Says that all of the corpus up to `token`, the caller's name for a place, was added."""
        self._mark = (token, self._rows, len(self._documents))
        if self._pending and not self._rows:
            self._spill()

    def close(self) -> None:
        """Writes what is left, lists it, and says that the cache is complete."""
        if not self.complete:
            token = self._mark[0] if self._mark else self._manifest.position
            self._mark = (token or "", self._rows, len(self._documents))
            self._spill(complete=True)
        self._lock.release()

    def release(self) -> None:
        """Writes what the last checkpoint covers and lets the folder go, to be gone on with."""
        try:
            if self._mark and not self.complete:
                self._spill()
        finally:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        elif isinstance(error, StoreError):
            self._lock.release()
        else:
            with suppress(StoreError):  # the error that ended the block is the one to tell of
                self.release()

    def _found_or_new(self) -> _Manifest:
        """The manifest that is there, leftovers removed, or a new and empty one."""
        path = self.folder / _MANIFEST
        if path.exists():
            found = _read_manifest(self.folder)
            _same(found.settings, self.settings, self.folder)
            for shard in found.shards + found.documents:
                _check_size(self.folder, shard)
        else:
            found = _Manifest(self.settings)
        listed = {shard.file for shard in found.shards + found.documents}
        with _told(self.folder):
            for kind in _KINDS:
                for file in (self.folder / kind).iterdir():
                    if _OURS.fullmatch(file.name) and f"{kind}/{file.name}" not in listed:
                        file.unlink()
            if not path.exists():
                _write_manifest(self.folder, found)
        return found

    def _spill(self, complete: bool = False) -> None:
        """Writes what is held: up to the last checkpoint, which is then listed, or all of it."""
        token, rows, documents = self._mark or (None, self._rows, len(self._documents))
        tokens = sum(len(ids) for *_, ids in self._documents[:documents])
        with _told(self.folder):
            if rows:
                self._write_activations(rows, tokens)
            if documents:
                self._write_documents(documents, tokens)
            if token is not None:
                self._list(token, complete)

    def _list(self, token: str, complete: bool) -> None:
        for hidden, shard in self._pending:
            os.replace(self.folder / hidden, self.folder / shard.file)
        for kind in _KINDS:
            _sync_folder(self.folder / kind)
        written = [shard for _, shard in self._pending]
        self._pending = []
        self._mark = None
        self._manifest = dataclasses.replace(
            self._manifest,
            shards=self._manifest.shards + _of_kind(written, "activations"),
            documents=self._manifest.documents + _of_kind(written, "documents"),
            position=token or None,
            complete=complete,
        )
        _write_manifest(self.folder, self._manifest)

    def _write_activations(self, n: int, tokens: int) -> None:
        import pyarrow as pa

        first = {name: held[:n] for name, held in self._held.items()}
        order = np.lexsort((first["position"], first["document"], first["feature"]))  # (n,)
        table = pa.table({name: column[order] for name, column in first.items()})
        ends = (int(first["feature"].min()), int(first["feature"].max()))
        self._write("activations", table, tokens, ends, column_encoding=_ENCODING)
        for held in self._held.values():
            held[: self._rows - n] = held[n : self._rows]
        self._rows -= n

    def _write_documents(self, n: int, tokens: int) -> None:
        import pyarrow as pa

        numbers, starts, ids, pools, token_ids = zip(*self._documents[:n], strict=True)
        table = pa.table(
            {
                "number": pa.array(numbers, pa.int32()),
                "start": pa.array(starts, pa.int32()),
                "document": pa.array(ids, pa.string()),
                "pool": pa.array(pools, pa.string()),
                "token_ids": pa.array(token_ids, pa.list_(pa.int32())),
            }
        )
        self._write("documents", table, tokens, (None, None))
        del self._documents[:n]
        self._tokens -= tokens

    def _write(
        self,
        kind: str,
        table: Any,
        tokens: int,
        ends: tuple[int | None, int | None],
        **encoding: Any,
    ) -> None:
        """Writes a hidden file, synced, to be listed at the next checkpoint."""
        import pyarrow.parquet as pq

        there = self._manifest.shards if kind == "activations" else self._manifest.documents
        number = len(there) + len(_of_kind([shard for _, shard in self._pending], kind))
        hidden = f"{kind}/.{kind}-{number:06d}.part"
        path = self.folder / hidden
        with ExitStack() as undo:
            undo.callback(_removed, path)
            pq.write_table(
                table,
                path,
                compression="zstd",
                compression_level=3,
                row_group_size=_ROW_GROUP,
                use_dictionary=False,
                write_page_checksum=True,
                **encoding,
            )
            with path.open("rb+") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                os.fsync(file.fileno())
            undo.pop_all()
        shard = Shard(
            file=f"{kind}/{kind}-{number:06d}.parquet",
            rows=len(table),
            tokens=tokens,
            min_feature=ends[0],
            max_feature=ends[1],
            size=path.stat().st_size,
            sha256=digest,
        )
        self._pending.append((hidden, shard))


def _removed(path: Path) -> None:
    """Takes a file away that was not finished, if that can be done."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache on disk, read as far as its manifest lists it."""

    folder: Path
    settings: CacheSettings
    shards: tuple[Shard, ...]
    """Of activations, in the order of the corpus."""
    documents_shards: tuple[Shard, ...]
    position: str | None
    """The last checkpoint that is in it."""
    complete: bool
    """Whether the writer came to its end."""

    @property
    def rows(self) -> int:
        """Activations in all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def tokens(self) -> int:
        """Tokens of the documents in it."""
        return sum(shard.tokens for shard in self.documents_shards)

    def features(self) -> dict[int, int]:
        """The features that have activations, ascending, each with how many.

        Raises:
            StoreError: if a shard is missing or damaged.
        """
        counts: dict[int, int] = {}
        for shard in self.shards:
            column = self._read(shard, ["feature"])["feature"].to_numpy()
            names, n = np.unique(column, return_counts=True)
            for name, count in zip(names.tolist(), n.tolist(), strict=True):
                counts[name] = counts.get(name, 0) + count
        return dict(sorted(counts.items()))

    def of(self, feature: int) -> DataFrame:
        """One feature's `document`, `position` and `value`, in the order of the corpus.

        Reads only the rows around it. A feature without activations gives no rows.

        Raises:
            StoreError: if a shard is missing or damaged.
        """
        columns = [name for name in COLUMNS if name != "feature"]
        frames = [
            self._read(shard, columns, [("feature", "==", int(feature))])
            for shard in self.shards
            if _ends(shard)[0] <= feature <= _ends(shard)[1]
        ]
        joined = _joined(frames, columns)
        return joined.sort_values(["document", "position"], ignore_index=True)

    def frame(self, columns: Sequence[str] | None = None) -> DataFrame:
        """All activations in memory, shard behind shard; in a shard sorted by feature.

        Args:
            columns: those wanted, of `COLUMNS`; None means all.

        Raises:
            ConfigError: for a column that there is not.
            StoreError: if a shard is missing or damaged.
        """
        wanted = list(COLUMNS) if columns is None else list(columns)
        if unknown := [name for name in wanted if name not in COLUMNS]:
            raise ConfigError(f"a cache has no column {unknown[0]!r}; it has {', '.join(COLUMNS)}")
        return _joined([self._read(shard, wanted) for shard in self.shards], wanted)

    def documents(self) -> DataFrame:
        """Runs of documents by `number` and `start`: `document` (its id), `pool`, `token_ids`.

        Raises:
            StoreError: if a file is missing or damaged.
        """
        columns = ["number", "start", "document", "pool", "token_ids"]
        joined = _joined([self._read(s, columns) for s in self.documents_shards], columns)
        return joined.sort_values(["number", "start"], ignore_index=True)

    def verify(self) -> None:
        """Reads every file and holds it against its digest.

        Raises:
            StoreError: names those that are missing or damaged.
        """
        wrong = []
        for shard in self.shards + self.documents_shards:
            path = self.folder / shard.file
            try:
                with path.open("rb") as file:
                    if hashlib.file_digest(file, "sha256").hexdigest() != shard.sha256:
                        wrong.append(f"{shard.file} is damaged")
            except OSError as error:
                wrong.append(f"{shard.file} cannot be read ({error.strerror or error})")
        if wrong:
            raise StoreError(
                f"the cache in {self.folder} is not whole: {'; '.join(wrong)}. Collect it anew, "
                "or put the files back from a copy"
            )

    def _read(
        self, shard: Shard, columns: list[str], filters: list[tuple[str, str, Any]] | None = None
    ) -> DataFrame:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.folder / shard.file
        try:
            table = pq.read_table(
                path,
                columns=columns,
                filters=filters,
                partitioning=None,
                page_checksum_verification=True,
            )
        except (OSError, pa.ArrowException) as error:
            first = str(error).strip().partition("\n")[0]
            raise StoreError(
                f"{path} is missing or damaged: {first}. Collect the cache anew, or put the file "
                "back from a copy"
            ) from error
        frame: DataFrame = table.to_pandas()
        return frame


def open_cache(folder: str | Path) -> Cache:
    """The cache in `folder`, complete or not.

    Raises:
        StoreError: if there is none, or its manifest cannot be read.
    """
    path = Path(folder).expanduser()
    found = _read_manifest(path)
    return Cache(
        path, found.settings, found.shards, found.documents, found.position, found.complete
    )


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What `manifest.json` says."""

    settings: CacheSettings
    shards: tuple[Shard, ...] = ()
    documents: tuple[Shard, ...] = ()
    position: str | None = None
    complete: bool = False


def _read_manifest(folder: Path) -> _Manifest:
    path = folder / _MANIFEST
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["version"] != VERSION:
            raise StoreError(
                f"{path} is of version {data['version']}, and this program reads {VERSION}; "
                "use the program that wrote it, or collect the cache anew"
            )
        found = _Manifest(
            settings=CacheSettings.from_json(data["settings"]),
            shards=tuple(_shard(entry, "activations") for entry in data["shards"]),
            documents=tuple(_shard(entry, "documents") for entry in data["documents"]),
            position=data["position"],
            complete=bool(data["complete"]),
        )
    except FileNotFoundError as error:
        raise StoreError(f"there is no cache in {folder}: it has no {_MANIFEST}") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not a cache's manifest: {error!r}") from error
    return found


def _shard(entry: Mapping[str, Any], kind: str) -> Shard:
    """A listed file. Its name is checked: a manifest from elsewhere must not lead out of here."""
    folder, _, name = str(entry["file"]).partition("/")
    if folder != kind or not _OURS.fullmatch(name) or name.startswith("."):
        raise ValueError(f"no file of {kind} is called {entry['file']!r}")
    shard = Shard(**entry)
    if kind == "activations":
        _ends(shard)
    return shard


def _ends(shard: Shard) -> tuple[int, int]:
    """The least and largest feature of a shard of activations."""
    if shard.min_feature is None or shard.max_feature is None:
        raise ValueError(f"{shard.file} does not say which features it holds")
    return shard.min_feature, shard.max_feature


def _write_manifest(folder: Path, manifest: _Manifest) -> None:
    """Replaces the manifest whole, and syncs it and its folder."""
    data = {
        "version": VERSION,
        "settings": manifest.settings.to_json(),
        "columns": {name: np.dtype(kind).name for name, kind in COLUMNS.items()},
        "rows": sum(shard.rows for shard in manifest.shards),
        "tokens": sum(shard.tokens for shard in manifest.documents),
        "position": manifest.position,
        "complete": manifest.complete,
        "shards": [dataclasses.asdict(shard) for shard in manifest.shards],
        "documents": [dataclasses.asdict(shard) for shard in manifest.documents],
    }
    part = folder / f".{_MANIFEST}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, folder / _MANIFEST)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    """Makes renamings in `folder` last; where folders cannot be opened, they need none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _locked(folder: Path) -> Any:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreError(
            f"another process is writing the cache in {folder}; wait for it, or name another folder"
        ) from error
    return lock


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turns what goes wrong on disk into an error that says what to do."""
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException) as error:
        said = getattr(error, "strerror", None) or str(error).strip().partition("\n")[0]
        raise StoreError(
            f"cannot write the cache in {folder}: {said}. What its manifest lists is whole; make "
            "room there or name another folder, and run the same again"
        ) from error


def _check_folder(folder: Path) -> None:
    """Refuses a folder that holds other things and no cache."""
    if not folder.is_dir() or (folder / _MANIFEST).exists():
        return
    others = [path.name for path in folder.iterdir() if path.name not in (*_KINDS, _LOCK)]
    if [name for name in others if name != f".{_MANIFEST}.part"]:
        raise ConfigError(
            f"{folder} holds other files and no cache ({', '.join(sorted(others)[:3])}); "
            "name a new or empty folder"
        )


def _same(found: CacheSettings, wanted: CacheSettings, folder: Path) -> None:
    """Refuses to mix two caches."""
    before, now = found.to_json(), json.loads(json.dumps(wanted.to_json()))
    differ = [name for name in now if before[name] != now[name]]
    if differ:
        name = differ[0]
        raise ConfigError(
            f"the cache in {folder} is of another {', '.join(differ)} "
            f"({before[name]!r:.80}, not {now[name]!r:.80}); name another folder"
        )


def _check_size(folder: Path, shard: Shard) -> None:
    try:
        size = (folder / shard.file).stat().st_size
    except OSError as error:
        raise StoreError(
            f"{folder / shard.file} is listed and cannot be read ({error.strerror}); collect the "
            "cache anew"
        ) from error
    if size != shard.size:
        raise StoreError(
            f"{folder / shard.file} is damaged: {size} bytes, not {shard.size}; collect the cache "
            "anew"
        )


def _checked(given: Mapping[str, npt.ArrayLike]) -> dict[str, npt.NDArray[Any]]:
    """The columns as arrays whose numbers fit what is stored."""
    arrays = {name: np.asarray(column) for name, column in given.items()}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) > 1 or arrays["value"].ndim != 1:
        raise ConfigError(f"the columns of a cache have one shape (n,), not {shapes}")
    for name, array in arrays.items():
        if not array.size:
            continue
        if name == "value":
            if array.dtype.kind not in "fiu" or not _holds(np.isfinite, array):
                raise ConfigError(
                    "an activation to be cached is NaN, infinite or no number; look for what the "
                    "model or the coder computed"
                )
            continue
        if array.dtype.kind not in "iu":
            raise ConfigError(f"the column {name} is of whole numbers, not {array.dtype}")
        if array.min() < 0 or array.max() > np.iinfo(np.int32).max:
            raise ConfigError(f"the column {name} goes from 0 to 2147483647")
    return arrays


def _holds(test: Callable[..., Any], array: npt.NDArray[Any]) -> bool:
    with np.errstate(over="ignore"):  # what is too large for 32 bits becomes infinite, and is told
        return bool(test(array.astype(np.float32, copy=False)).all())


def _of_kind(shards: Sequence[Shard], kind: str) -> tuple[Shard, ...]:
    return tuple(shard for shard in shards if shard.file.startswith(f"{kind}/"))


def _joined(frames: Sequence[DataFrame], columns: Sequence[str]) -> DataFrame:
    """The frames one behind the other; without any, an empty one with these columns."""
    import pandas as pd

    if not frames:
        kinds = {name: COLUMNS.get(name, object) for name in columns}
        return pd.DataFrame({name: np.empty(0, kind) for name, kind in kinds.items()})
    return pd.concat(frames, ignore_index=True)

"""Activations on disk: read once from a corpus, shard by shard, then drawn in a shuffled order.

A folder holds `manifest.json` and shards: plain arrays of bfloat16, shape (rows, width). A shard is
written under another name, synced, renamed and only then listed, so a killed reading goes on behind
the last listed shard and gives the same bytes. bfloat16 has the range of float32, and its rounding
adds about a millionth of the variance.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from glossator.datasets.corpora import Corpus
from glossator.datasets.windows import Chunk, chunks
from glossator.errors import AssetError, ConfigError, CorpusError
from glossator.subject import Subject
from glossator.types import Pool

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is (0 if nobody knows)."""

SINK_FACTOR = 10.0
"""A token whose activation is so many times as long as the median token's is a sink."""

_SHARD_BYTES = 64 << 20
_BUFFER_BYTES = 2 << 30
_BATCHES_SORTED = 16
"""Batches of chunks that are sorted by length together, so that little is padded."""
_SAMPLED_DOCUMENTS = 200
"""Documents tokenized to learn how many characters a token has."""
_SPARE = 1.1
"""How many times the wanted tokens are chosen at least, since characters only estimate them."""
_SPARE_DEVIATIONS = 8.0
"""And so many standard deviations more of the number of documents that the hash lets through."""
_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSettings:
    """Which tokens are read."""

    site: str
    pool: Pool = Pool.TRAIN
    """Only documents of this pool."""
    tokens: int = 2_000_000
    """Rows wanted; fewer if the pool has fewer."""
    ctx: int = 128
    """Text tokens the model reads at once, after one start token."""
    batch: int = 32
    """Chunks the model reads at once."""
    seed: int = 0
    """Decides which documents are read, where the pool has more than are wanted."""

    def __post_init__(self) -> None:
        for name in ("tokens", "ctx", "batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is at least 1, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of activations."""

    file: str
    rows: int
    batches: int
    """Batches of chunks that were read for it."""


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """What was read: rows of a site, in shards."""

    folder: Path
    width: int
    shards: tuple[Shard, ...]
    left_out: Mapping[str, int]
    """Tokens read and not kept: `start`, `special`, `sink`."""
    sink_norm: float
    """Length above which a token is a sink."""
    provenance: Mapping[str, Any]
    """Of what they were read: subject, revision, dtype, corpus, digest, settings."""

    @property
    def n_rows(self) -> int:
        """Rows in all shards."""
        return sum(shard.rows for shard in self.shards)

    def open(self, shard: Shard) -> npt.NDArray[np.uint16]:
        """A shard's numbers as bit patterns of bfloat16, shape (rows, width), mapped from disk."""
        array: npt.NDArray[np.uint16] = np.memmap(
            self.folder / shard.file, dtype="<u2", mode="r", shape=(shard.rows, self.width)
        )
        return array

    def sample(self, rows: int) -> Tensor:
        """About `rows` rows spread evenly over all, float32, shape (n, width); all if fewer."""
        step = max(1, self.n_rows // rows)
        parts, skipped = [], 0
        for shard in self.shards:
            first = -skipped % step
            parts.append(np.array(self.open(shard)[first::step]))
            skipped += shard.rows
        return _floats(np.concatenate(parts))


def read_activations(
    subject: Subject,
    corpus: Corpus,
    settings: ReadSettings,
    folder: Path,
    on_progress: Progress | None = None,
) -> Activations:
    """The activations of `corpus` at a site, read into `folder`, or found there.

    The start token, special tokens and sinks (`SINK_FACTOR` times the median length, measured on
    the first shard) are left out and counted. Documents are chosen from the whole corpus by a hash
    of their id, not from its beginning. A reading that was killed goes on.

    Raises:
        ConfigError: for an unknown site, activations that are no numbers, or a folder that holds
            activations of something else.
        CorpusError: if the pool has no text.
    """
    place = subject.resolve(settings.site)
    wanted = {
        "format": _FORMAT,
        "subject": subject.name,
        "revision": subject.revision,
        "dtype": subject.dtype,
        "device": subject.device.partition(":")[0],
        "corpus": corpus.name,
        "corpus_digest": corpus.digest,
        **asdict(settings),
        "pool": settings.pool.value,
        "width": place.width,
    }
    make_folder(folder)
    state = _manifest(folder, wanted)
    if not state["complete"]:
        _read_shards(subject, corpus, settings, folder, state, on_progress)
    if not state["shards"]:
        raise CorpusError(
            f"no document of the corpus {corpus.name!r} is in the {settings.pool.value} pool; "
            "give more documents: each goes to one pool whole"
        )
    return Activations(
        folder=folder,
        width=place.width,
        shards=tuple(Shard(**shard) for shard in state["shards"]),
        left_out=dict(state["left_out"]),
        sink_norm=float(state["sink_norm"]),
        provenance=wanted,
    )


def shuffled(
    activations: Activations,
    batch: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    buffer: int = 1 << 20,
) -> Iterator[Tensor]:
    """One epoch of batches, shape (batch, width), float32, each row once; a short rest is left out.

    Shards come in a random order; so many of them as make up `buffer` rows (fewer, where rows are
    wide) are mapped at once, and rows are drawn from them all. So memory does not grow with the
    rows, and any two rows of a buffer can meet. Equal arguments give equal batches; `skip` leaves
    out the first ones.
    """
    buffer = min(buffer, _BUFFER_BYTES // (2 * activations.width))
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(activations.shards))
    taken = np.empty((batch, activations.width), dtype=np.uint16)
    filled = number = 0
    group: list[Shard] = []
    for position, which in enumerate(order):
        group.append(activations.shards[which])
        if sum(s.rows for s in group) < buffer and position + 1 < len(order):
            continue
        arrays = [activations.open(shard) for shard in group]
        starts = np.cumsum([0, *(len(array) for array in arrays)])
        rows = rng.permutation(int(starts[-1]))
        group = []
        at = 0
        while at < len(rows):
            drawn = rows[at : at + batch - filled]
            at += len(drawn)
            if number >= skip:
                _gather(arrays, starts, drawn, taken[filled : filled + len(drawn)])
            filled += len(drawn)
            if filled == batch:
                if number >= skip:
                    yield _floats(taken)
                number += 1
                filled = 0


def _gather(
    arrays: Sequence[npt.NDArray[np.uint16]],
    starts: npt.NDArray[np.intp],
    rows: npt.NDArray[np.intp],
    out: npt.NDArray[np.uint16],
) -> None:
    """Writes the `rows`, numbered through all `arrays`, to `out`, shape (rows, width)."""
    owner = np.searchsorted(starts, rows, side="right") - 1
    for which in np.unique(owner):
        mask = owner == which
        out[mask] = arrays[which][rows[mask] - starts[which]]


def _floats(bits: npt.NDArray[np.uint16]) -> Tensor:
    """Bit patterns of bfloat16 as float32."""
    native = np.ascontiguousarray(bits).view(np.int16)
    return torch.from_numpy(native).view(torch.bfloat16).float()


def _manifest(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    """What the folder says it holds; a new one if it is empty."""
    file = folder / "manifest.json"
    if not file.exists():
        return {**wanted, "complete": False, "shards": [], "left_out": {}, "sink_norm": math.inf}
    try:
        state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        sizes = {str(s["file"]): 2 * s["rows"] * state["width"] for s in state["shards"]}
    except (ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{file} is damaged; delete {folder} to read anew") from error
    other = [name for name, value in wanted.items() if state.get(name) != value]
    if other:
        said = ", ".join(f"{name} {state.get(name)!r} and not {wanted[name]!r}" for name in other)
        raise ConfigError(
            f"{folder} holds activations read otherwise: {said}; "
            "give another --out, or delete that folder"
        )
    for name, size in sizes.items():
        if not (folder / name).is_file() or (folder / name).stat().st_size != size:
            raise AssetError(f"{folder / name} is missing or damaged; delete {folder} to read anew")
    return state


def _read_shards(
    subject: Subject,
    corpus: Corpus,
    settings: ReadSettings,
    folder: Path,
    state: dict[str, Any],
    on_progress: Progress | None,
) -> None:
    """Reads what `state` lacks, and writes it after each shard."""
    width = int(state["width"])
    per_shard = max(1, _SHARD_BYTES // (settings.batch * settings.ctx * width * 2))
    stream = batches_of(chosen_chunks(subject, corpus, settings), settings.batch)
    done = sum(shard["rows"] for shard in state["shards"])
    stream = itertools.islice(stream, sum(shard["batches"] for shard in state["shards"]), None)
    left_out = Counter(state["left_out"])
    while done < settings.tokens:
        rows: list[Tensor] = []
        for batch in itertools.islice(stream, per_shard):
            kept, special = _rows(subject, settings.site, batch)
            left_out["start"] += len(batch)
            left_out["special"] += special
            rows.append(kept)
            read = done + sum(map(len, rows))
            if on_progress:
                on_progress("read", min(read, settings.tokens), settings.tokens)
            if read >= settings.tokens:
                break
        if not rows:
            break
        acts = torch.cat(rows)  # (rows, width)
        norms = acts.float().norm(dim=1)
        if not bool(norms.isfinite().all()):
            raise ConfigError(
                f"{subject.name} gives activations at {settings.site} that are no finite numbers "
                f"in {subject.dtype}; try --dtype float32"
            )
        if not state["shards"] and len(norms):
            state["sink_norm"] = SINK_FACTOR * float(norms.median())
        is_sink = norms > state["sink_norm"]
        left_out["sink"] += int(is_sink.sum())
        acts = acts[~is_sink][: settings.tokens - done]
        name = f"{len(state['shards']):05d}.bf16"
        write_whole(
            folder / name, acts.contiguous().view(torch.int16).numpy().astype("<i2").tobytes()
        )
        state["shards"].append({"file": name, "rows": len(acts), "batches": len(rows)})
        state["left_out"] = dict(left_out)
        done += len(acts)
        write_whole(folder / "manifest.json", _json(state))
    state["complete"] = True
    write_whole(folder / "manifest.json", _json(state))


def _rows(subject: Subject, site: str, batch: Sequence[Chunk]) -> tuple[Tensor, int]:
    """Activations of a batch's tokens, shape (rows, width), bfloat16, and how many were special."""
    acts = subject.read([chunk.token_ids for chunk in batch], site)[site]
    keep, special = text_positions(subject, batch, acts.shape[1])
    return acts[keep].to(torch.bfloat16).cpu(), special


def text_positions(subject: Subject, batch: Sequence[Chunk], ctx: int) -> tuple[Tensor, int]:
    """Which positions hold text, shape (batch, ctx), on the device; how many are special tokens."""
    keep = torch.zeros((len(batch), ctx), dtype=torch.bool)
    special = 0
    for row, chunk in enumerate(batch):
        plain = [token not in subject.left_out_ids for token in chunk.token_ids]
        keep[row, : len(plain)] = torch.tensor(plain)
        special += len(plain) - sum(plain)
    return keep.to(subject.device), special


def chosen_chunks(subject: Subject, corpus: Corpus, settings: ReadSettings) -> Iterator[Chunk]:
    """Chunks of the pool's documents, from the whole corpus, somewhat more than are wanted."""
    characters = n_documents = 0
    sample: list[str] = []
    for document in corpus:
        if document.pool is settings.pool:
            n_documents += 1
            characters += len(document.text)
            if len(sample) < _SAMPLED_DOCUMENTS:
                sample.append(document.text)
    if not characters:
        return
    counted = subject.tokenizer(sample, add_special_tokens=False, verbose=False)["input_ids"]
    tokens_each = sum(map(len, counted)) / sum(map(len, sample))
    share = settings.tokens / max(1.0, characters * tokens_each)
    share *= max(_SPARE, 1 + _SPARE_DEVIATIONS / math.sqrt(max(1.0, share * n_documents)))
    documents = (
        document
        for document in corpus
        if document.pool is settings.pool and _draw(settings.seed, document.id) < share
    )
    yield from chunks(documents, subject.tokenizer, settings.ctx)


def _draw(seed: int, document: str) -> float:
    """A number in [0, 1) that follows from the seed and the document's id."""
    digest = hashlib.sha256(f"{seed}:{document}".encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64


def batches_of(stream: Iterator[Chunk], batch: int) -> Iterator[list[Chunk]]:
    """Chunks in batches of about the same length."""
    while some := list(itertools.islice(stream, batch * _BATCHES_SORTED)):
        some.sort(key=lambda chunk: len(chunk.token_ids), reverse=True)
        yield from (some[first : first + batch] for first in range(0, len(some), batch))


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode()


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, where they are not there.

    Raises:
        ConfigError: if that cannot be done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot make the folder {folder}: {error.strerror or error}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Puts a file in its place whole or not at all, and on the disk before it returns.

    Raises:
        ConfigError: if it cannot be written, as on a full disk.
    """
    temporary = path.with_name(path.name + ".writing")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ConfigError(
            f"cannot write {path}: {error.strerror or error}; what was done is kept, so make room "
            "and give the same command again"
        ) from error

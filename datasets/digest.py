"""The digest of a corpus: for every feature asked for, all that is kept of its activations.

It is built in two passes. The first measures thresholds on train tokens, the second takes every
batch through the reducers. Nothing it holds grows with the number of tokens. What is done so far is
saved now and then, whole or not at all, so a killed collection goes on from there; and the digest
comes out the same to the byte, killed or not, and whatever the order its parts were merged in.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from glossator.datasets.batches import Windows, batches, n_positions, windows_of
from glossator.datasets.readings import Reading
from glossator.datasets.reducers import (
    Kept,
    LargestValues,
    PoolReducer,
    WindowBatch,
    feature_keys,
)
from glossator.datasets.saved import read_tensors, write_tensors
from glossator.datasets.settings import CollectSettings, Progress
from glossator.datasets.windows import Chunk
from glossator.errors import ConfigError, CorpusError, NotFinite
from glossator.hooks import out_of_memory
from glossator.types import Pool

NO_TRAIN_TEXT = (
    "no document of the corpus is in the train pool, so no threshold can be measured; give more "
    "documents: each goes to one pool whole, and a .txt file without blank lines has one a line"
)
MOST_BYTES = 1 << 31
"""What a digest may take with the activations of its windows; a larger one keeps their peaks."""

SECONDS = 30.0
"""Seconds of reading after which what is done is saved, or more where saving takes long."""

_FORMAT = "glossator digest 1"


class Sink(Protocol):
    """Gets every activation too, such as a cache on disk."""

    @property
    def n_batches(self) -> int:
        """Batches that it has already, from an earlier reading."""

    def begin(self, thresholds: tuple[Tensor, ...]) -> None:
        """Told above what the features of each group fire, shape (n_rows,)."""

    def take(self, group: int, pool: Pool, windows: WindowBatch) -> None:
        """Windows of one pool with the activations of one group."""

    def finished(self, n_batches: int) -> None:
        """So many batches were taken whole."""


@dataclass(eq=False)
class Digest:
    """What is kept of the features of a reading, pool by pool."""

    reading: Reading
    settings: CollectSettings
    thresholds: tuple[Tensor, ...]
    """For each group, shape (n_rows,): above what a feature fires."""
    rule: str
    """How the thresholds of dense groups were chosen, in words."""
    keep_acts: bool
    """Whether the activations of kept windows are there, and not their peaks alone."""
    n_batches: int = 0
    """Batches taken in."""
    reducers: tuple[dict[Pool, PoolReducer], ...] = field(init=False)
    """For each group."""

    def __post_init__(self) -> None:
        self.reducers = tuple(
            {
                pool: PoolReducer(
                    thresholds,
                    feature_keys(group.features, self.settings.seed),
                    group.rows,
                    _kept(self.settings, self.keep_acts, pool),
                    self.reading.device,
                )
                for pool in Pool
            }
            for group, thresholds in zip(self.reading.groups, self.thresholds, strict=True)
        )

    @property
    def n_tokens(self) -> int:
        """Tokens taken in, over all pools."""
        return sum(reducer.n_tokens for reducer in self.reducers[0].values())

    @property
    def n_windows(self) -> int:
        """Windows taken in, over all pools."""
        return sum(reducer.n_windows for reducer in self.reducers[0].values())

    def update(self, group: int, pool: Pool, windows: WindowBatch) -> None:
        """Takes in the windows of a batch for one group.

        Raises:
            NotFinite: if an activation is NaN or infinite; what is kept is of no use then.
        """
        reducer = self.reducers[group][pool]
        try:
            reducer.update(windows)
        except NotFinite as error:
            read = self.reading.groups[group]
            which = [read.features[row] for row in reducer.not_finite(windows)]
            more = f" and {len(which) - 1} more" if len(which) > 1 else ""
            raise NotFinite(f"{which[0]}{more}: {error}", which) from error

    def merge(self, other: Digest) -> None:
        """Takes in what `other` has kept of other batches of the same corpus.

        Raises:
            ConfigError: if it is of other features, settings or thresholds.
        """
        same = self.reading.features == other.reading.features and self.settings == other.settings
        same = same and self.keep_acts == other.keep_acts
        if not same or not all(map(torch.equal, self.thresholds, other.thresholds)):
            raise ConfigError("digests of other features, settings or thresholds cannot be merged")
        for mine, theirs in zip(self.reducers, other.reducers, strict=True):
            for pool in Pool:
                mine[pool].merge(theirs[pool])
        self.n_batches += other.n_batches

    def state(self) -> dict[str, Tensor]:
        """All that is kept, by name, the same whatever the order it came in."""
        kept = {
            f"{number}.{pool.value}.{name}": tensor
            for number, reducers in enumerate(self.reducers)
            for pool in Pool
            for name, tensor in reducers[pool].state().items()
        }
        return kept | {f"{n}.thresholds": limits for n, limits in enumerate(self.thresholds)}

    def fingerprint(self) -> str:
        """SHA-256, in hex, of all that is kept."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, file: Path, key: str) -> None:
        """Writes it to `file`, whole or not at all.

        Args:
            file: replaced if it is there.
            key: what it is a digest of; `load` asks for the same.

        Raises:
            StoreError: if it cannot be written.
        """
        said = {
            "format": _FORMAT,
            "key": key,
            "batches": str(self.n_batches),
            "rule": self.rule,
            "keep_acts": json.dumps(self.keep_acts),
        }
        write_tensors(file, self.state(), said)

    @classmethod
    def load(cls, file: Path, key: str, reading: Reading, settings: CollectSettings) -> Digest:
        """What `save` wrote.

        Raises:
            ConfigError: if it is of something else.
            StoreError: if it cannot be read.
        """
        tensors, said = read_tensors(file)
        if said.get("format") != _FORMAT or said.get("key") != key:
            raise ConfigError(
                f"{file} is no digest of these features, this text and these settings"
            )
        thresholds = [tensors.pop(f"{n}.thresholds") for n in range(len(reading.groups))]
        found = cls(
            reading,
            settings,
            tuple(limits.to(reading.device) for limits in thresholds),
            said["rule"],
            json.loads(said["keep_acts"]),
            int(said["batches"]),
        )
        for number, reducers in enumerate(found.reducers):
            for pool in Pool:
                start = f"{number}.{pool.value}."
                reducers[pool].restore(
                    {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
                )
        return found


def _kept(settings: CollectSettings, acts: bool, pool: Pool) -> Kept:
    return Kept(
        window=settings.window,
        n_top=settings.n_top,
        n_firing=settings.n_firing,
        n_silent=settings.n_silent,
        # kinds are told from train text alone
        n_positions=n_positions(settings) if pool is Pool.TRAIN else 0,
        acts=acts,
    )


def keeps_acts(n_features: int, settings: CollectSettings) -> bool:
    """Whether a digest of so many features keeps the activations of its windows."""
    each = sum(_kept(settings, True, pool).bytes_a_row() for pool in Pool)
    return n_features * each <= MOST_BYTES


def key_of(reading: Reading, settings: CollectSettings) -> str:
    """What a digest of `reading` is a digest of, as SHA-256 in hex."""
    what = hashlib.sha256()
    facts = {**reading.provenance, "percentile": str(reading.percentile)}
    what.update(json.dumps([_FORMAT, repr(settings), sorted(facts.items())]).encode())
    for feature in reading.features:
        what.update(f"{feature}\n".encode())
    return what.hexdigest()


def digest_of(
    reading: Reading,
    settings: CollectSettings,
    progress: Progress | None = None,
    *,
    folder: Path | None = None,
    keep_acts: bool | None = None,
    sink: Sink | None = None,
    seconds: float = SECONDS,
) -> Digest:
    """Reads the corpus, or goes on where a reading that was killed had been saved.

    Args:
        reading: the features and the text.
        settings: how much.
        progress: told how far it is.
        folder: where what is done is saved; nowhere if None. The finished digest stays there.
        keep_acts: whether activations of the kept windows are kept; by their size unless given.
        sink: gets every activation too. It must have kept what was saved before.
        seconds: of reading after which what is done is saved.

    Raises:
        CorpusError: if there is nothing to read, or no train text to measure thresholds on.
        NotFinite: if an activation is NaN or infinite.
        StoreError: if the folder cannot be written.
    """
    acts = keeps_acts(len(reading.features), settings) if keep_acts is None else keep_acts
    key = key_of(reading, settings)
    # one without activations, left by an earlier command, is not what records are made of
    name = f"{key[:32]}.safetensors" if acts else f"{key[:32]}-peaks.safetensors"
    file = None if folder is None else folder / name
    if file is not None and file.is_file():
        digest = Digest.load(file, key, reading, settings)
    else:
        thresholds, rule = thresholds_of(reading, settings, progress)
        digest = Digest(reading, settings, thresholds, rule, acts)
        if file is not None:
            digest.save(file, key)
    reduce_into(
        digest,
        progress,
        save=None if file is None else lambda: digest.save(file, key),
        sink=sink,
        seconds=seconds,
    )
    if not digest.n_windows:
        raise CorpusError("the corpus holds no window to read")
    return digest


def reduce_into(
    digest: Digest,
    progress: Progress | None = None,
    *,
    save: Callable[[], None] | None = None,
    sink: Sink | None = None,
    seconds: float = SECONDS,
) -> None:
    """Takes in all batches that `digest` has not seen, and saves it now and then."""
    reading, settings = digest.reading, digest.settings
    if sink is not None:
        sink.begin(digest.thresholds)
    before = digest.n_batches
    known = before if sink is None else sink.n_batches
    first = min(before, known)
    saved, wait = time.monotonic(), seconds
    stream = islice(batches(reading.chunks(), reading, settings), first, None)
    for number, batch in enumerate(stream, first):
        pool = batch[0].pool

        def take(group: int, windows: WindowBatch, number: int = number, pool: Pool = pool) -> None:
            if sink is not None and number >= known:
                sink.take(group, pool, windows)
            if number >= before:
                digest.update(group, pool, windows)

        read_batch(batch, reading, settings, take, progress)
        digest.n_batches = max(digest.n_batches, number + 1)
        if sink is not None and number >= known:
            sink.finished(number + 1)
        if save is not None and time.monotonic() - saved >= wait:
            start = time.monotonic()
            save()
            saved = time.monotonic()
            # at most a twentieth of the time goes into saving
            wait = max(seconds, 20 * (saved - start))
        if progress:
            progress("reading", digest.n_tokens, settings.tokens)
    if save is not None and digest.n_batches > before:
        save()


def read_batch(
    batch: Sequence[Chunk],
    reading: Reading,
    settings: CollectSettings,
    take: Callable[[int, WindowBatch], None],
    progress: Progress | None = None,
) -> None:
    """Hands over the windows of `batch` for each group once; in halves if memory runs out.

    Raises:
        ConfigError: if memory runs out in `take`, which may have taken in a part by then.
        MemoryError, RuntimeError, torch.OutOfMemoryError: if not even one chunk can be read.
    """
    _read_part(batch, reading, settings, take, progress, set(range(len(reading.groups))))


def _read_part(
    batch: Sequence[Chunk],
    reading: Reading,
    settings: CollectSettings,
    take: Callable[[int, WindowBatch], None],
    progress: Progress | None,
    wanted: set[int],
) -> None:
    windows = Windows.of(batch, reading, settings).to(reading.device)
    left = set(wanted)

    def see(group: int, acts: Tensor) -> None:
        # a group that was handed over before memory ran out is not handed over again
        if group not in left:
            return
        part = windows.of_activations(acts, reading.device)
        try:
            take(group, part)
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise ConfigError(
                f"memory ran out while the activations of {len(batch)} chunks were counted, of "
                "which some may be counted already; nothing that was saved is lost. Give a "
                "smaller batch (--batch-size), or fewer features"
            ) from error
        left.discard(group)

    try:
        reading.scan(batch, see)
        return
    except (RuntimeError, MemoryError) as error:
        if len(batch) == 1 or not out_of_memory(error):
            raise
    # outside of the except block, which would keep the tensors of the failed pass alive
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if progress:
        progress(f"out of memory: reading {(len(batch) + 1) // 2} chunks at once", 0, None)
    half = (len(batch) + 1) // 2
    for part in (batch[:half], batch[half:]):
        _read_part(part, reading, settings, take, progress, left)


def each_batch(
    stream: Iterable[Chunk],
    reading: Reading,
    settings: CollectSettings,
    take: Callable[[int, WindowBatch], None],
    progress: Progress | None = None,
) -> None:
    """Hands over the windows of all batches of `stream`, group by group."""
    for batch in batches(stream, reading, settings):
        read_batch(batch, reading, settings, take, progress)


def train_chunks(reading: Reading, settings: CollectSettings) -> Iterator[Chunk]:
    """The chunks that thresholds are measured on."""
    n_tokens = 0
    for chunk in reading.chunks():
        if chunk.pool is Pool.TRAIN:
            yield chunk
            n_tokens += sum(stop - start for start, stop in windows_of(chunk, reading, settings))
            if n_tokens >= settings.calibration_tokens:
                return


def thresholds_of(
    reading: Reading, settings: CollectSettings, progress: Progress | None = None
) -> tuple[tuple[Tensor, ...], str]:
    """For each group above what its features fire, shape (n_rows,), and how that was chosen.

    Raises:
        CorpusError: if there is no train text to measure on.
    """
    limits = [torch.zeros(len(g.features), device=reading.device) for g in reading.groups]
    dense = [number for number, group in enumerate(reading.groups) if group.dense]
    if not dense:
        return tuple(limits), "above 0"
    wanted = settings.calibration_tokens
    share = 1 - reading.percentile / 100
    # the last chunk may take it past what is wanted
    n_kept = math.ceil(share * (wanted + settings.ctx)) + 2
    largest = {
        number: LargestValues(reading.groups[number].rows, n_kept, reading.device)
        for number in dense
    }

    def take(group: int, windows: WindowBatch) -> None:
        if group not in largest:
            return
        largest[group].update(windows)
        if progress and group == dense[-1]:
            progress("measuring thresholds", largest[group].n_tokens, wanted)

    each_batch(train_chunks(reading, settings), reading, settings, take, progress)
    n_tokens = largest[dense[0]].n_tokens
    if not n_tokens:
        raise CorpusError(NO_TRAIN_TEXT)
    for number, values in largest.items():
        limits[number] = values.percentile(reading.percentile).clamp(min=0)
    return tuple(limits), (
        f"{reading.percentile:g}th percentile of {n_tokens} train tokens, at least 0"
    )

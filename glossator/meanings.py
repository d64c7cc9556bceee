"""Search by meaning: which texts say nearly what is looked for, by the embedder that runs offline.

Vectors are kept in a file beside the store, by the digest of their text, so that each text is read
once. Reading is slow, so one search reads a bounded number of new texts and says how many are left.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from glossator.embedder import Embedder, Vectors

MOST = 20_000
"""Vectors that are kept, and texts that one search looks through: 15 MB on disk."""
EACH = 2_000
"""New texts that one search reads."""
_DIGEST = 16
"""Bytes of a digest that are kept."""


@dataclass(frozen=True, slots=True)
class Near:
    """What a search found."""

    found: tuple[tuple[int, float], ...]
    """The rows whose texts are nearest, each once, and the cosine of each; the nearest first."""
    n_read: int
    """Texts that were compared."""
    n_texts: int
    """Texts there are; where more than were compared, the next search reads on."""


@dataclass
class Meanings:
    """Vectors of texts, kept in `file`; in memory alone where that is None or not writable."""

    embedder: Embedder
    file: Path | None = None
    most: int = MOST
    each: int = EACH
    _known: dict[bytes, Vectors] | None = field(default=None, repr=False)
    """Shape (dim,) by digest, the oldest first."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def near(self, texts: Sequence[tuple[int, str]], wanted: str, most: int = 1000) -> Near:
        """The rows in `texts` that say most nearly what `wanted` says.

        Args:
            texts: rows with a text of theirs; a row may come again.
            wanted: in words.
            most: rows that are given back.

        Raises:
            AssetError: if the embedder could not be had.
        """
        given = [(row, text, _digest_of(text)) for row, text in texts[: self.most]]
        with self._lock:
            known = self._read()
            new = list({d: text for _, text, d in given if d not in known}.items())[: self.each]
            if new:
                vectors = self.embedder.embed([text for _, text in new])
                known.update(zip((d for d, _ in new), vectors, strict=True))
                while len(known) > self.most:
                    del known[next(iter(known))]
                self._write(known)
            there = [(row, known[d]) for row, _, d in given if d in known]
        if not there:
            return Near((), 0, len(texts))
        aim = self.embedder.embed([wanted])[0]  # (dim,)
        cosines = np.stack([vector for _, vector in there]) @ aim  # (n_read,)
        best: dict[int, float] = {}
        for place in np.argsort(-cosines, kind="stable"):
            best.setdefault(there[place][0], float(cosines[place]))
            if len(best) == most:
                break
        return Near(tuple(best.items()), len(there), len(texts))

    def _read(self) -> dict[bytes, Vectors]:
        if self._known is None:
            self._known = {} if self.file is None else _loaded(self.file, self.embedder.name)
        return self._known

    def _write(self, known: dict[bytes, Vectors]) -> None:
        if self.file is None:
            return
        try:
            descriptor, name = tempfile.mkstemp(dir=self.file.parent, prefix=f".{self.file.name}.")
        except OSError:
            # Who may not write beside the store reads the texts again next time.
            return
        try:
            with os.fdopen(descriptor, "wb") as out:
                np.savez(
                    out,
                    embedder=np.array(self.embedder.name),
                    digests=np.frombuffer(b"".join(known), np.uint8).reshape(-1, _DIGEST),
                    vectors=np.stack([*known.values()]).astype(np.float16),
                )
            os.replace(name, self.file)
        except OSError:
            Path(name).unlink(missing_ok=True)


def beside(store: Path | None) -> Path | None:
    """Where the vectors of the store in that file are kept."""
    return None if store is None else store.with_name(f"{store.name}-meanings.npz")


def _digest_of(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()[:_DIGEST]


def _loaded(file: Path, embedder: str) -> dict[bytes, Vectors]:
    """What an earlier search has kept; nothing if there is no such file, or it is of no use."""
    try:
        with file.open("rb") as raw, np.load(raw, allow_pickle=False) as kept:
            if str(kept["embedder"]) != embedder:
                return {}
            digests, vectors = kept["digests"], kept["vectors"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return {}
    if digests.ndim != 2 or vectors.ndim != 2 or len(digests) != len(vectors):
        return {}
    return {d.tobytes(): v for d, v in zip(digests, vectors, strict=True)}

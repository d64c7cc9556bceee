"""Who may see a document: its normalised text, its id, its pool, and text shared between pools.

A document's pool follows from its text alone, so it is the same for every feature, run and machine.
Quotations and near-duplicates can still put one passage into two pools; `leaks` finds them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from glossator.types import Pool

SHARED_RUN = 100
"""Documents of different pools share no run of so many normalised characters."""

_GRAM = 50
"""Characters of a fingerprinted run; see `_fingerprints`."""
_WINDOW = SHARED_RUN - _GRAM + 1
_BEGINNINGS = (16, 8)
"""Characters that texts are looked for by in documents, the longer texts by the first."""
SHORTEST_STANDING = min(_BEGINNINGS)
"""Letters and digits of the shortest texts that `standing_in` takes."""
_STRICTNESS = {Pool.TRAIN: 0, Pool.DEV: 1, Pool.TEST: 2}
_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")
_ASCII_OTHERS = bytes(c for c in range(128) if not chr(c).isalnum())

_Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus, with the place it came from."""

    text: str
    source: str
    """Where it is from, such as `squad_shifts/nyt` or a file's name."""
    id: str
    """First 16 hex digits of the SHA-256 of the normalised text."""

    @classmethod
    def of(cls, text: str, source: str) -> Document:
        """The document with this text; its id is computed."""
        return cls(text, source, document_id(text))

    @property
    def pool(self) -> Pool:
        """The pool, read off the id."""
        return _pool_of_id(self.id)


def normalised(text: str) -> str:
    """`text` in lower case, compatible forms made one (NFKC), letters and digits only."""
    if text.isascii():
        return text.lower().encode("ascii").translate(None, _ASCII_OTHERS).decode("ascii")
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _NOT_ALPHANUMERIC.sub("", folded)


def document_id(text: str) -> str:
    """First 16 hex digits of the SHA-256 of the normalised text.

    Equal for texts that differ only in case, spacing and punctuation.
    """
    return hashlib.sha256(normalised(text).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def pool_of(text: str) -> Pool:
    """The pool of a document with this text: train 40%, dev 20%, test 40%."""
    return _pool_of_id(document_id(text))


def _pool_of_id(identity: str) -> Pool:
    share = int(identity, 16) / 2**64
    if share < 0.4:
        return Pool.TRAIN
    return Pool.DEV if share < 0.6 else Pool.TEST


def leaks(passes: Callable[[], Iterable[Document]]) -> frozenset[str]:
    """Ids of the documents that share `SHARED_RUN` normalised characters with a laxer pool.

    Train is laxer than dev, and dev than test: a test document that repeats part of a train
    document is named here, the train document is not. Found by winnowing (Schleimer, Wilkerson and
    Aiken 2003): every shared run holds a fingerprint that both documents have, and around such
    fingerprints all runs of `SHARED_RUN` characters are compared, by two 64-bit hashes. Nothing
    longer or shorter is needed: a longer shared run holds one of exactly that length.

    Memory: about half a byte for each character of the corpus. Documents are not held.

    Args:
        passes: gives the documents, the same ones in the same order each time; called twice.
    """
    grams = _common(_fingerprinted(passes()))
    if not len(grams):
        return frozenset()
    ids: list[str] = []
    runs: list[_Hashes] = []
    owners: list[int] = []
    pools: list[int] = []
    for document in passes():
        text = normalised(document.text)
        if len(text) < SHARED_RUN:
            continue
        hashes = _gram_hashes(text, _GRAM, 0)
        places = _fingerprints(hashes)
        places = places[_among(hashes[places], grams)]
        if not len(places):
            continue
        # every run of SHARED_RUN characters that holds one of these fingerprints
        starts = np.unique(places[:, None] - np.arange(_WINDOW))  # (n_runs,)
        starts = starts[(starts >= 0) & (starts <= len(text) - SHARED_RUN)]
        both = [_gram_hashes(text, SHARED_RUN, seed)[starts] for seed in (1, 2)]
        runs.append(np.unique(np.stack(both, axis=1), axis=0))  # (n_runs, 2)
        ids.append(document.id)
        owners.append(len(runs[-1]))
        pools.append(_STRICTNESS[document.pool])
    return frozenset(ids[i] for i in _stricter(runs, owners, pools))


def standing_in(texts: Sequence[str], documents: Iterable[Document]) -> frozenset[int]:
    """Numbers of the texts that, normalised, are the whole or a part of one of the documents.

    Args:
        texts: each of at least `SHORTEST_STANDING` normalised characters.
        documents: read once; none is held.
    """
    wanted = [normalised(text) for text in texts]
    if any(len(text) < SHORTEST_STANDING for text in wanted):
        raise ValueError(f"a text has fewer than {SHORTEST_STANDING} letters and digits")
    by_start: dict[int, dict[int, list[int]]] = {length: {} for length in _BEGINNINGS}
    for number, text in enumerate(wanted):
        length = next(length for length in _BEGINNINGS if len(text) >= length)
        start = int(_gram_hashes(text[:length], length, 0)[0])
        by_start[length].setdefault(start, []).append(number)
    starts = {
        length: np.sort(np.array(list(numbers), dtype=np.uint64))
        for length, numbers in by_start.items()
        if numbers
    }
    found: set[int] = set()
    for document in documents:
        body = normalised(document.text)
        for length, some in starts.items():
            if len(body) < length:
                continue
            hashes = _gram_hashes(body, length, 0)
            for at in np.flatnonzero(_among(hashes, some)).tolist():
                numbers = by_start[length][int(hashes[at])]
                found.update(i for i in numbers if body.startswith(wanted[i], at))
    return frozenset(found)


def _stricter(runs: list[_Hashes], lengths: list[int], pools: list[int]) -> list[int]:
    """Numbers of the documents that have a run which a document of a laxer pool has too."""
    if not runs:
        return []
    owner = np.repeat(np.arange(len(lengths)), lengths)
    strictness = np.asarray(pools)[owner]
    table = np.concatenate(runs)  # (n_runs, 2)
    order = np.lexsort((table[:, 1], table[:, 0]))
    table, owner, strictness = table[order], owner[order], strictness[order]
    new = np.ones(len(table), dtype=bool)
    new[1:] = (table[1:] != table[:-1]).any(axis=1)
    laxest = np.minimum.reduceat(strictness, np.flatnonzero(new))[np.cumsum(new) - 1]
    found: list[int] = np.unique(owner[strictness > laxest]).tolist()
    return found


def _fingerprinted(documents: Iterable[Document]) -> dict[int, list[_Hashes]]:
    """For each pool's strictness, the fingerprints of its documents, one array a document."""
    kept: dict[int, list[_Hashes]] = {strictness: [] for strictness in _STRICTNESS.values()}
    for document in documents:
        text = normalised(document.text)
        if len(text) >= SHARED_RUN:
            hashes = _gram_hashes(text, _GRAM, 0)
            kept[_STRICTNESS[document.pool]].append(np.unique(hashes[_fingerprints(hashes)]))
    return kept


def _common(kept: dict[int, list[_Hashes]]) -> _Hashes:
    """Sorted fingerprints that documents of at least two pools have; empties `kept`."""
    sets = []
    for strictness in list(kept):
        arrays = kept.pop(strictness)
        if arrays:
            sets.append(np.unique(np.concatenate(arrays)))
    if not sets:
        return np.empty(0, dtype=np.uint64)
    together = np.concatenate(sets)
    together.sort()
    return np.unique(together[1:][together[1:] == together[:-1]])


def _among(values: _Hashes, wanted: _Hashes) -> npt.NDArray[np.bool_]:
    """Which of `values` are in `wanted`, sorted and not empty."""
    at = np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)
    return np.asarray(wanted[at] == values)


def _gram_hashes(text: str, length: int, seed: int) -> _Hashes:
    """A 64-bit hash of every run of `length` characters, shape (n_characters - length + 1,).

    A polynomial modulo 2^64 over mixed code points, by prefix sums: h = sum x[j] B^(j - start).
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    mixed = _mixed(codes.astype(np.uint64) + np.uint64(seed * 0x1000003 + 1))  # (n_characters,)
    powers, inverses = _powers(len(codes) + 1)
    sums = np.zeros(len(codes) + 1, dtype=np.uint64)
    np.cumsum(mixed * powers[: len(codes)], out=sums[1:])
    n_runs = len(codes) - length + 1
    return _mixed((sums[length:] - sums[:n_runs]) * inverses[:n_runs])


def _powers(n: int) -> tuple[_Hashes, _Hashes]:
    """B^0 to B^(n-1) modulo 2^64, and their inverses (B is odd)."""
    base = 0x9E3779B97F4A7C15
    both = []
    for factor in (base, pow(base, -1, 2**64)):
        powers = np.full(n, factor, dtype=np.uint64)
        powers[0] = 1
        both.append(np.cumprod(powers, dtype=np.uint64))
    return both[0], both[1]


def _mixed(values: _Hashes) -> _Hashes:
    """Each value scrambled one to one, so that close ones end far apart (splitmix64's finish)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))


def _fingerprints(hashes: _Hashes) -> npt.NDArray[np.intp]:
    """Places of the hashes that are the least of some window of `_WINDOW` hashes in a row.

    A run of `SHARED_RUN` characters is one such window, so wherever it stands at least one of its
    own runs of `_GRAM` is chosen, and the same one. On common text one place in 26 is chosen.
    """
    least = _sliding(np.minimum, hashes)  # (n_hashes - _WINDOW + 1,)
    lowest = np.zeros(_WINDOW - 1, dtype=np.uint64)
    opening = _sliding(np.maximum, np.concatenate([lowest, least, lowest]))  # (n_hashes,)
    return np.flatnonzero(hashes == opening)


def _sliding(extreme: np.ufunc, values: _Hashes) -> _Hashes:
    """`extreme` over every `_WINDOW` values in a row, by doubling."""
    width = 1
    while width * 2 <= _WINDOW:
        values = extreme(values[:-width], values[width:])
        width *= 2
    rest = _WINDOW - width
    return np.asarray(extreme(values[:-rest], values[rest:])) if rest else values

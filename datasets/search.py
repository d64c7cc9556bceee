"""Finding windows of a corpus by what they say, in the train and dev pools alone."""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import regex

from glossator.datasets.corpora import Corpus
from glossator.datasets.pools import SHORTEST_STANDING, Document, normalised, standing_in
from glossator.datasets.windows import window_starts
from glossator.embedder import Embedder, Vectors
from glossator.errors import ConfigError
from glossator.types import Pool

MOST_TOKENS = 300_000
"""Of the corpus that are held."""
MOST_MEANT = 1_000
"""Windows whose meaning is known: two processor cores embed about 25 a second."""
LONGEST_PATTERN = 1_000
"""Characters of a regular expression; what takes long to compile is longer."""
SECONDS = 2.0
"""That a regular expression may take on all windows together."""

_RECURSION = regex.compile(r"(?<!\\)(?:\\\\)*\(\?(?:R|[+-]?\d|&|P>)")
"""Calls of a group by itself, which can fill half a gigabyte before they end."""
_SPACE = regex.compile(r"\s+")
_CHARACTERS_A_TOKEN = 4
"""About, in English; only so much text is held before it is cut."""
_EMBEDDED_AT_ONCE = 256
"""Windows; between them others may use the embedder."""


@dataclass(frozen=True, slots=True)
class Found:
    """A window of the corpus."""

    text: str
    document: str
    start: int
    """Position of its first token in its document."""
    pool: Pool
    """Never test."""


class TextSearch(Protocol):
    """Looks for windows of train and dev text."""

    async def containing(self, string: str, n: int) -> tuple[Found, ...]:
        """Windows with `string`, case ignored, up to `n`, spread over documents."""
        ...

    async def matching(self, pattern: str, n: int) -> tuple[Found, ...]:
        """Windows that a regular expression matches, up to `n`, spread over documents.

        Raises:
            ConfigError: if it is none, or takes too long.
        """
        ...

    async def meaning(self, description: str, n: int) -> tuple[Found, ...]:
        """The windows nearest in meaning, the nearest first, spread over documents.

        Raises:
            AssetError: if the embedder could not be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Held:
    """What is searched."""

    windows: tuple[Found, ...]
    folded: tuple[str, ...]
    """Shape (n_windows,): their texts as `_folded` writes them."""


@dataclass(eq=False)
class CorpusSearch:
    """Searches a seeded spread of the documents of a corpus; see `TextSearch`.

    Windows are cut as in collection. Those that say what some test document says, case, spacing and
    punctuation aside, are left out, and so are those of fewer than `SHORTEST_STANDING` letters and
    digits. The corpus is read twice, in a thread, when it is first searched.
    """

    corpus: Corpus
    cut: Callable[[str], Sequence[str]]
    """From a text to its tokens; joined, they are the text."""
    embedder: Embedder
    ctx: int = 128
    window: int = 32
    seed: int = 0
    most_tokens: int = MOST_TOKENS
    most_meant: int = MOST_MEANT
    seconds: float = SECONDS
    _kept: _Held | None = field(default=None, init=False, repr=False)
    _meant: tuple[tuple[Found, ...], Vectors] | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _embedding: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.ctx, self.window, self.most_tokens, self.most_meant) < 1:
            raise ConfigError("ctx, window, most_tokens and most_meant are at least 1")

    async def containing(self, string: str, n: int) -> tuple[Found, ...]:
        """See `TextSearch`. Runs of white space count as one space."""
        return await asyncio.to_thread(self._containing, string, n)

    async def matching(self, pattern: str, n: int) -> tuple[Found, ...]:
        """See `TextSearch`; the syntax is that of the package `regex`."""
        return await asyncio.to_thread(self._matching, pattern, n)

    async def meaning(self, description: str, n: int) -> tuple[Found, ...]:
        """See `TextSearch`; among `most_meant` windows, embedded when it is first asked."""
        return await asyncio.to_thread(self._meaning, description, n)

    def _containing(self, string: str, n: int) -> tuple[Found, ...]:
        held, wanted = self._held(), _folded(string)
        pairs = zip(held.windows, held.folded, strict=True)
        return _spread((window for window, text in pairs if wanted in text), n)

    def _matching(self, pattern: str, n: int) -> tuple[Found, ...]:
        compiled = _compiled(pattern)
        held = self._held()
        last = time.monotonic() + self.seconds
        hits = []
        for window in held.windows:
            left = last - time.monotonic()
            try:
                hit = left > 0 and compiled.search(window.text, timeout=left)
            except (TimeoutError, MemoryError):
                left = 0
            if left <= 0:
                raise ConfigError(
                    f"the pattern {pattern!r:.80} takes more than {self.seconds:g} s or too much "
                    "memory; write one without repeats inside repeats, or search for a string"
                )
            if hit:
                hits.append(window)
        return _spread(hits, n)

    def _meaning(self, description: str, n: int) -> tuple[Found, ...]:
        windows, vectors = self._embedded()
        if not windows or n < 1:
            return ()
        (wanted,) = self.embedder.embed([description.encode(errors="replace").decode()])
        nearness = vectors @ wanted  # (n_windows,)
        order = np.argsort(-nearness, kind="stable").tolist()
        chosen = set(_spread((windows[i] for i in order), n))
        return tuple(windows[i] for i in order if windows[i] in chosen)

    def _held(self) -> _Held:
        with self._lock:
            if self._kept is None:
                self._kept = self._build()
            return self._kept

    def _embedded(self) -> tuple[tuple[Found, ...], Vectors]:
        held = self._held()
        with self._embedding:
            if self._meant is None:
                # those of like length together, so that little is padded
                some = sorted(_evenly(held.windows, self.most_meant), key=lambda w: len(w.text))
                parts = [
                    self.embedder.embed([w.text for w in some[i : i + _EMBEDDED_AT_ONCE]])
                    for i in range(0, len(some), _EMBEDDED_AT_ONCE)
                ]
                vectors = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
                self._meant = tuple(some), vectors  # vectors (n_windows, dim)
            return self._meant

    def _build(self) -> _Held:
        documents = _drawn(self.corpus, self.seed, self.most_tokens * _CHARACTERS_A_TOKEN)
        found = [window for window in self._windows(documents) if _says_enough(window.text)]
        tests = (document for document in self.corpus if document.pool is Pool.TEST)
        shared = standing_in([window.text for window in found], tests)
        kept = tuple(window for i, window in enumerate(found) if i not in shared)
        return _Held(kept, tuple(_folded(window.text) for window in kept))

    def _windows(self, documents: Iterable[Document]) -> Iterator[Found]:
        left = self.most_tokens
        for document in documents:
            tokens = tuple(self.cut(document.text))
            for first in range(0, len(tokens), self.ctx):
                chunk = tokens[first : first + self.ctx][:left]
                left -= len(chunk)
                whole = len(chunk) == len(tokens)
                for start, stop in window_starts(len(chunk), self.window, whole):
                    text = "".join(chunk[start:stop])
                    yield Found(text, document.id, first + start, document.pool)
                if left <= 0:
                    return


@dataclass(frozen=True)
class Withheld:
    """A search that finds nothing of some documents: of those on which hypotheses are compared."""

    search: TextSearch
    documents: frozenset[str]
    """Their ids."""

    async def containing(self, string: str, n: int) -> tuple[Found, ...]:
        """See `TextSearch`."""
        return self._rest(await self.search.containing(string, n + len(self.documents)), n)

    async def matching(self, pattern: str, n: int) -> tuple[Found, ...]:
        """See `TextSearch`."""
        return self._rest(await self.search.matching(pattern, n + len(self.documents)), n)

    async def meaning(self, description: str, n: int) -> tuple[Found, ...]:
        """See `TextSearch`."""
        return self._rest(await self.search.meaning(description, n + len(self.documents)), n)

    def _rest(self, found: tuple[Found, ...], n: int) -> tuple[Found, ...]:
        """Of those asked for, `n`: all documents come before the second window of any."""
        return tuple(one for one in found if one.document not in self.documents)[: max(0, n)]


def _drawn(corpus: Corpus, seed: int, characters: int) -> list[Document]:
    """Train and dev documents by chance, about so many characters, in the order of the draw.

    Each document has its lot from the seed and its id, and those with the lowest lots are held; so
    the draw is the same however the corpus is ordered, and no more than that is in memory.
    """
    heap: list[tuple[int, int, Document]] = []  # the highest lot first
    held = 0
    for number, document in enumerate(corpus):
        if document.pool is Pool.TEST:
            continue
        digest = hashlib.sha256(f"{seed}\0{document.id}".encode()).digest()
        lot = int.from_bytes(digest[:8], "big")
        if held >= characters and lot > -heap[0][0]:
            continue
        heapq.heappush(heap, (-lot, number, document))
        held += len(document.text)
        while held - len(heap[0][2].text) >= characters:
            held -= len(heapq.heappop(heap)[2].text)
    return [document for _, _, document in sorted(heap, key=lambda one: (-one[0], one[1]))]


def _evenly(windows: Sequence[Found], n: int) -> Sequence[Found]:
    """At most `n` at even distances, so from all places of documents and not their beginnings."""
    return windows[:: max(1, -(-len(windows) // n))]


def _folded(text: str) -> str:
    """`text` in one case, with one space for each run of white space."""
    return _SPACE.sub(" ", text.casefold())


def _says_enough(text: str) -> bool:
    return len(normalised(text)) >= SHORTEST_STANDING


def _spread(hits: Iterable[Found], n: int) -> tuple[Found, ...]:
    """Up to `n`: the first of each document, then the second of each, and so on."""
    before: Counter[str] = Counter()
    ranked = []
    for place, hit in enumerate(hits):
        ranked.append((before[hit.document], place, hit))
        before[hit.document] += 1
    return tuple(hit for _, _, hit in heapq.nsmallest(max(0, n), ranked))


def _compiled(pattern: str) -> regex.Pattern[str]:
    if len(pattern) > LONGEST_PATTERN:
        raise ConfigError(
            f"a pattern has at most {LONGEST_PATTERN:,} characters, not {len(pattern):,}"
        )
    if _RECURSION.search(pattern):
        raise ConfigError(f"the pattern {pattern!r:.80} calls itself or a group: write it out")
    try:
        return regex.compile(pattern)
    except (regex.error, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{pattern!r:.80} is no regular expression: {error!s:.200}") from error

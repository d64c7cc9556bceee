"""Lists of features narrowed to those whose explanations mean what is looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fastapi import HTTPException, Request

from glossator.embedder import Embedder, bundled
from glossator.errors import AssetError
from glossator.meanings import MOST, Meanings, beside
from glossator.selection import Listed, Listing, Selection
from glossator.store import Store

NEAREST = 1000
"""Features among which the other filters choose."""


@dataclass
class Sense:
    """Who reads meanings for the pages: nothing is loaded until the first search."""

    embedder: Embedder | None = None
    """The bundled one, offline, if None."""
    _made: dict[str, Meanings] = field(default_factory=dict, repr=False)

    def of(self, store: Store) -> Meanings:
        """The vectors of `store`."""
        embedder = self.embedder or bundled(offline=True)
        return self._made.setdefault(store.url, Meanings(embedder, beside(store.file)))


@dataclass(frozen=True, slots=True)
class Found:
    """A list narrowed by meaning."""

    selection: Selection
    cosines: Mapping[int, float]
    """By row, the nearest first; empty where no meaning is looked for."""
    n_read: int = 0
    n_texts: int = 0

    @property
    def is_by_nearness(self) -> bool:
        """Whether the list is in the order of nearness: where no other is asked for."""
        usual = self.selection.sort == "id" and not self.selection.descending
        return bool(self.selection.like) and usual

    def ordered(self, listing: Listing) -> Listing:
        """`listing` in the order that is asked for."""
        if not self.is_by_nearness:
            return listing
        return replace(listing, rows=tuple(self.sorted(listing.rows)))

    def sorted(self, rows: tuple[Listed, ...]) -> list[Listed]:
        """`rows`, the nearest first."""
        places = {row: i for i, row in enumerate(self.cosines)}
        return sorted(rows, key=lambda listed: places[listed.row])


def by_meaning(request: Request, store: Store, selection: Selection) -> Found:
    """`selection` with the features that are nearest to what its `like` says; at most a page.

    A 503 if the embedder is not there.
    """
    if not selection.like:
        return Found(selection, {})
    sense: Sense = request.app.state.sense
    texts = store.browser.texts(selection.run, MOST)
    try:
        near = sense.of(store).near(texts, selection.like, NEAREST)
    except AssetError as error:
        raise HTTPException(503, f"Nothing can be searched by meaning: {error}") from error
    rows = tuple(row for row, _ in near.found)
    wide = replace(selection.from_the_start, rows=rows, limit=NEAREST)
    fitting = {listed.row for listed in store.browser.page(wide).rows}
    kept = {row: cosine for row, cosine in near.found if row in fitting}
    kept = dict(list(kept.items())[: selection.limit])
    narrowed = replace(selection.from_the_start, rows=tuple(kept))
    return Found(narrowed, kept, near.n_read, store.browser.n_texts(selection.run))

"""Records of features that were not read yet: real windows of the corpus, made-up activations.

They have the shape that real ones have, so that an estimate can try out what will be asked of
language models about them. Nothing else may use them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glossator.datasets.batches import windows_of
from glossator.datasets.digest import NO_TRAIN_TEXT
from glossator.datasets.readings import Reading
from glossator.datasets.records import N_QUANTILES
from glossator.datasets.settings import CollectSettings
from glossator.errors import CorpusError
from glossator.types import (
    SILENT,
    TOP,
    Example,
    FeatureId,
    FeatureRecord,
    Kind,
    Pool,
    Split,
    Stratum,
)

LEAST_FIRING, MOST_FIRING = 0.02, 0.9
MOST_TOKENS = 100_000
"""Tokens of the corpus that are cut into windows; the rest is taken to be like them."""

_Window = tuple[str, int, tuple[str, ...]]
"""Document, first token in it, tokens."""


@dataclass(frozen=True)
class ImaginedText:
    """Windows of a corpus, and how many of each pool the whole reading will come to."""

    windows: Mapping[Pool, Sequence[_Window]]
    population: Mapping[Pool, int]
    share_firing: float
    """Share of windows in which a feature fires."""
    settings: CollectSettings

    @classmethod
    def of(cls, reading: Reading, settings: CollectSettings) -> ImaginedText:
        """Of the first tokens of `reading`.

        Raises:
            CorpusError: if there is nothing to read, or no text to measure thresholds on.
        """
        wanted = settings.tokens or MOST_TOKENS
        found: dict[Pool, list[_Window]] = {pool: [] for pool in Pool}
        n_read = 0
        for chunk in reading.chunks():
            n_read += len(chunk.token_ids)
            for start, stop in windows_of(chunk, reading, settings):
                place = (chunk.document, chunk.start + start, chunk.tokens[start:stop])
                found[chunk.pool].append(place)
            if n_read >= MOST_TOKENS:
                break
        if not any(found.values()):
            raise CorpusError("the corpus holds no window to read")
        if not found[Pool.TRAIN]:
            raise CorpusError(NO_TRAIN_TEXT)
        # A corpus that ended before it had enough gives no more than what was seen of it.
        more = max(1.0, wanted / n_read) if n_read >= MOST_TOKENS else 1.0
        population = {pool: round(len(windows) * more) for pool, windows in found.items()}
        share = 1 - (settings.percentile / 100) ** settings.window
        return cls(found, population, min(max(share, LEAST_FIRING), MOST_FIRING), settings)

    def record(self, feature: FeatureId) -> FeatureRecord:
        """What a record of `feature` might look like; the same each time."""
        chance = random.Random(str(feature))
        splits = {pool: self._split(pool, chance) for pool in Pool}
        return FeatureRecord(
            feature=feature,
            train=splits[Pool.TRAIN],
            dev=splits[Pool.DEV],
            test=splits[Pool.TEST],
            density=0.01,
            threshold=0.0,
            threshold_rule="imagined",
            peak=1.0,
            mean=0.0,
            std=1.0,
            n_tokens=self.settings.tokens or 0,
            kind=Kind.OTHER,
        )

    def _split(self, pool: Pool, chance: random.Random) -> Split:
        settings, population = self.settings, self.population[pool]
        firing = round(population * self.share_firing)
        # As many of each stratum as there are, and as are kept, and as were seen.
        n_top = min(settings.n_top, firing)
        n_more = min(settings.n_firing, firing - n_top)
        n_silent = min(settings.n_silent, population - firing)
        windows = list(self.windows[pool])
        chance.shuffle(windows)
        drawn = iter(windows)
        more = [n_more * (i + 1) // N_QUANTILES - n_more * i // N_QUANTILES for i in range(5)]
        names = [TOP] * n_top
        names += [f"q{q + 1}" for q in range(N_QUANTILES - 1, -1, -1) for _ in range(more[q])]
        fires = [
            _example(window, name, 1.0 if name == TOP else 0.1 * int(name[1:]), chance)
            for name, window in zip(names, itertools.islice(drawn, len(names)), strict=False)
        ]
        silent = [_example(w, SILENT, 0.0, chance) for w in itertools.islice(drawn, n_silent)]
        counts = {e.stratum: 0 for e in (*fires, *silent)}
        for example in (*fires, *silent):
            counts[example.stratum] += 1
        strata = tuple(Stratum(name, n, n) for name, n in counts.items())
        return Split(pool, 0.0, tuple(fires), tuple(silent), strata)


def _example(window: _Window, stratum: str, peak: float, chance: random.Random) -> Example:
    document, start, tokens = window
    acts = [0.0] * len(tokens)
    acts[chance.randrange(len(tokens))] = peak
    return Example(tokens, tuple(acts), document, start, stratum, 1.0)

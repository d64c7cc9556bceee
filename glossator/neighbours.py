"""Which features of a site are neighbours: those that fire on text most like that of another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from glossator.embedder import Embedder, Vectors
from glossator.types import FeatureId, FeatureRecord

N_READ = 10
"""Train windows of a feature that are read, the strongest."""
N_NEAREST = 3


@dataclass
class Neighbours:
    """The nearest features among some, by the mean meaning of their strongest train windows."""

    features: Iterable[FeatureId]
    record: Callable[[FeatureId], FeatureRecord | None]
    """What was collected of a feature; None if nothing was."""
    embedder: Embedder
    _centres: dict[FeatureId, Vectors] = field(default_factory=dict, repr=False)
    """Shape (dim,) each, of length 1; of features that fire in train."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def among(cls, records: Iterable[FeatureRecord], embedder: Embedder) -> Neighbours:
        """Those of the features that `records` are of."""
        known = {record.feature: record for record in records}
        return cls(tuple(known), known.get, embedder)

    def of(self, own: FeatureRecord) -> tuple[FeatureRecord, ...]:
        """Up to `N_NEAREST` other features of the same site, the nearest first.

        The first call reads the windows of all features, and takes long where there are many.

        Raises:
            AssetError: if the embedder could not be had.
        """
        if not own.train.firing:
            return ()
        with self._lock:
            if not self._centres:
                for feature in self.features:
                    self._learn(self.record(feature))
            self._learn(own)
        mine = self._centres[own.feature]
        others = [f for f in self._centres if f.source == own.feature.source and f != own.feature]
        others.sort(key=lambda f: (-float(self._centres[f] @ mine), str(f)))
        found = (self.record(feature) for feature in others[:N_NEAREST])
        return tuple(record for record in found if record is not None)

    def _learn(self, record: FeatureRecord | None) -> None:
        if record is None or not record.train.firing or record.feature in self._centres:
            return
        texts = [example.text for example in record.train.firing[:N_READ]]
        mean = self.embedder.embed(texts).mean(axis=0)  # (dim,)
        centre: Vectors = mean / max(float(np.linalg.norm(mean)), 1e-9)
        self._centres[record.feature] = centre

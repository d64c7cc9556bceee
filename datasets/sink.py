"""The collector's side of the sparse cache: every firing token of a reading, on its way to disk."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import torch

from glossator.datasets.cache import CacheSettings, CacheWriter
from glossator.datasets.readings import Reading
from glossator.datasets.reducers import WindowBatch
from glossator.datasets.settings import CollectSettings
from glossator.errors import StoreError
from glossator.types import Pool


class CacheSink:
    """Writes to a `CacheWriter` what a reading gives. `feature` numbers the reading's features.

    Latents of a sparse coder are written wherever they are above 0; of a dense site, where they
    are above the threshold of the tail.
    """

    def __init__(self, writer: CacheWriter, reading: Reading) -> None:
        self.writer = writer
        self._reading = reading
        number = {feature: place for place, feature in enumerate(reading.features)}
        self._numbers = [torch.tensor([number[f] for f in g.features]) for g in reading.groups]
        self._limits: tuple[torch.Tensor, ...] = ()

    @classmethod
    def of(cls, folder: str, reading: Reading, settings: CollectSettings) -> CacheSink:
        """One that writes to `folder`, or goes on there.

        Raises:
            ConfigError: if the folder holds something else.
            StoreError: if it cannot be written.
        """
        facts = dict(reading.provenance)
        sites = sorted({group.site for group in reading.groups})
        coders = sorted({group.coder.name for group in reading.groups if group.coder is not None})
        dense = any(group.dense for group in reading.groups)
        said = CacheSettings(
            subject=facts.pop("model"),
            site=", ".join(sites),
            corpus=facts.pop("corpus"),
            corpus_digest=facts.pop("corpus_digest"),
            threshold_rule=(
                f"{reading.percentile:g}th percentile of train tokens, at least 0"
                if dense
                else "above 0"
            ),
            coder=", ".join(coders) or None,
            features=tuple(range(len(reading.features))),
            others={
                **facts,
                "numbered": [str(feature) for feature in reading.features],
                "tokens": settings.tokens,
                "ctx": settings.ctx,
                "calibration_tokens": settings.calibration_tokens,
            },
        )
        return cls(CacheWriter(Path(folder), said), reading)

    @property
    def n_batches(self) -> int:
        """Batches that are on disk from an earlier reading."""
        return int(self.writer.position or 0)

    def begin(self, thresholds: tuple[torch.Tensor, ...]) -> None:
        """Told above what the features of each group fire."""
        self._limits = tuple(limits.cpu() for limits in thresholds)

    def take(self, group: int, pool: Pool, windows: WindowBatch) -> None:
        """Windows with the activations of one group."""
        if self.writer.complete:
            return
        longest = int(windows.lengths.max())
        steps = torch.arange(longest, device=windows.first.device)
        inside = steps < windows.lengths[:, None]  # (n_windows, longest)
        places = (windows.first[:, None] + steps)[inside]  # (n_tokens,)
        positions = ((windows.ids & 0xFFFFFFFF)[:, None] + steps)[inside].cpu()
        documents = (windows.ids >> 32)[:, None].expand(inside.shape)[inside].cpu()
        lines = windows.lines[places].float()  # (n_tokens, n_columns)
        rows, limits = self._reading.groups[group].rows, self._limits[group]
        for tail in range(2):
            (columns,) = (rows[:, tail] >= 0).nonzero(as_tuple=True)
            if not len(columns):
                continue
            of_rows = rows[columns, tail].long()
            acts = lines[:, columns.to(lines.device)]
            acts = (-acts if tail else acts).cpu()  # (n_tokens, n_rows)
            token, row = (acts > limits[of_rows]).nonzero(as_tuple=True)
            self.writer.add(
                feature=self._numbers[group][of_rows[row]].numpy(),
                document=documents[token].numpy(),
                position=positions[token].numpy(),
                value=acts[token, row].numpy(),
            )

    def finished(self, n_batches: int) -> None:
        """So many batches were taken whole."""
        if not self.writer.complete:
            self.writer.checkpoint(str(n_batches))

    def finish(self) -> None:
        """Adds the documents that were read, and closes the cache."""
        if self.writer.complete:
            return
        for chunk in self._reading.chunks():
            self.writer.add_document(
                chunk.number, chunk.document, chunk.pool, chunk.token_ids, chunk.start
            )
        self._name_features()
        self.writer.close()

    def _name_features(self) -> None:
        """Writes which feature each number of the cache stands for, beside its folders."""
        named = pd.DataFrame(
            {
                "feature": range(len(self._reading.features)),
                "id": [str(feature) for feature in self._reading.features],
                "index": [feature.index for feature in self._reading.features],
                "negative": [feature.negative for feature in self._reading.features],
            }
        )
        hidden = self.writer.folder / ".features.parquet.part"
        try:
            named.to_parquet(hidden, index=False)
            hidden.replace(self.writer.folder / "features.parquet")
        except OSError as error:
            raise StoreError(f"{self.writer.folder} cannot be written: {error}") from error

    def release(self) -> None:
        """Lets the folder go; what was finished can be gone on with."""
        self.writer.release()

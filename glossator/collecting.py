"""The part of a run that reads the text: records or summaries of features, once each."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Collection
from dataclasses import dataclass

from glossator.config import RunConfig, RunLimits
from glossator.datasets.collect import collect_features
from glossator.datasets.corpora import Corpus
from glossator.datasets.digest import digest_of, keeps_acts
from glossator.datasets.outputs import Outputs
from glossator.datasets.readings import Coder, reading_of
from glossator.datasets.sink import CacheSink
from glossator.datasets.summaries import summaries_of
from glossator.errors import ConfigError, NotFinite
from glossator.progress import Progress, Tell
from glossator.reading import collect_settings, work_folder
from glossator.store import Store
from glossator.subject import Subject
from glossator.types import FeatureId, FeatureRecord


class _StoppedReadingError(Exception):
    """Ends the thread that reads the text when the run is cancelled."""


@dataclass
class Collecting:
    """What is read for a run, and where it is kept."""

    config: RunConfig
    limits: RunLimits
    store: Store
    key: str
    """Of the collection."""
    subject: Subject
    corpus: Corpus
    coder: Coder | None
    tell: Tell

    async def collect(
        self, features: list[FeatureId], alone: bool = False
    ) -> dict[FeatureId, NotFinite]:
        """Records of those `features` that the store has none of, in one reading of the text.

        Those of which an activation is NaN or infinite are given back, each with the error. The
        text is read anew without them; but no cache of all activations can be made then.

        Args:
            features: what is wanted.
            alone: nothing comes after it, so summaries do where records would be too large.

        Raises:
            NotFinite: if a cache is to be made, and an activation is NaN or infinite.
        """
        many = alone and not keeps_acts(len(features), collect_settings(self.config))
        known = self.summarised() if many else self.store.recorded(self.key)
        missing = [f for f in features if f not in known]
        lost: dict[FeatureId, NotFinite] = {}
        while missing or self.limits.cache:
            try:
                await self._in_thread(missing or features, many)
                break
            except NotFinite as error:
                if self.limits.cache or not error.features:
                    raise
                lost |= dict.fromkeys(error.features, error)
                missing = [f for f in missing if f not in lost]
        total = len(features)
        self.tell(Progress("collect", total, total, len(lost), note="activations are stored"))
        return lost

    def _there(self, features: Collection[FeatureId], many: bool) -> bool:
        """Whether the store has all of `features`."""
        known = self.summarised() if many else self.store.recorded(self.key)
        return known.issuperset(features)

    def summarised(self) -> frozenset[FeatureId]:
        """The features that there is a summary of."""
        return frozenset(s.feature for s in self.store.summaries(self.key))

    async def _in_thread(self, missing: list[FeatureId], many: bool) -> None:
        """Collects in a thread; if cancelled, waits until that has stopped."""
        stop = threading.Event()
        reading = asyncio.create_task(asyncio.to_thread(self._collect, missing, many, stop))
        try:
            await asyncio.shield(reading)
        except asyncio.CancelledError:
            stop.set()
            await asyncio.wait({reading})
            reading.exception()  # Looked at, so that asyncio does not complain of it.
            raise

    def _collect(self, missing: list[FeatureId], many: bool, stop: threading.Event) -> None:
        def progress(stage: str, done: int, total: int | None) -> None:
            if stop.is_set():
                raise _StoppedReadingError
            self.tell(Progress("read", done, total or 0, note=stage))

        settings = collect_settings(self.config)
        coders = {self.coder.name: self.coder} if self.coder is not None else {}
        reading = reading_of(self.subject, missing, self.corpus, settings, coders)
        folder = work_folder(self.store.url, self.key)
        sink = CacheSink.of(self.limits.cache, reading, settings) if self.limits.cache else None
        try:
            if sink is not None and sink.writer.complete and self._there(missing, many):
                return
            if many:
                digest = digest_of(reading, settings, progress, folder=folder, sink=sink)
                progress("naming kinds", 0, None)
                summaries = summaries_of(digest, Outputs.of(self.subject))
                self.store.put_summaries(self.key, summaries)
            else:
                records = collect_features(
                    self.subject,
                    missing,
                    self.corpus,
                    settings,
                    progress,
                    coders=coders,
                    folder=folder,
                    sink=sink,
                )
                # In one transaction: all is read together, and goes on from the folder if killed.
                self.store.put_records(self.key, records)
            if sink is not None:
                sink.finish()
        finally:
            if sink is not None:
                sink.release()
        if not many:
            shutil.rmtree(folder, ignore_errors=True)

    def record(self, feature: FeatureId) -> FeatureRecord:
        """What was collected of `feature`.

        Raises:
            ConfigError: if nothing was.
        """
        found = self.store.record(self.key, feature)
        if found is None and feature in self.summarised():
            raise ConfigError(
                f"only a summary was kept of {feature}, as of all features that are collected "
                "together in large numbers: explain fewer at once, with run and fewer --features"
            )
        if found is None:
            raise not_collected(feature)
        return found


def not_collected(feature: FeatureId) -> ConfigError:
    """That there is no record of `feature`, where one is needed."""
    return ConfigError(
        f"nothing was collected of {feature} with these options: collect it first, with the "
        "command collect or run"
    )

"""How long work takes, and what is still to be fetched: measured, remembered, or else guessed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from torch import Tensor

from glossator.assets import ASSETS, locate
from glossator.assets.cache import converted_folder
from glossator.config import RunLimits
from glossator.datasets.readings import Reading
from glossator.datasets.settings import CollectSettings
from glossator.store import Store
from glossator.trial import Amount
from glossator.types import Usage

READ_TOKENS = 4096
"""Tokens of text that are read to see how fast that is."""
FRESH_RATE, MADE_RATE, REMOTE_SECONDS = 500.0, 10.0, 1.0
"""Guesses where no ledger tells: tokens a second that a local model reads for the first time, and
that it writes, on two cores; seconds of a call to a provider."""


@dataclass
class Forecast:
    """How long language models take, by what they took before."""

    store: Store | None
    limits: RunLimits
    notes: list[str] = field(default_factory=list)
    """Where the times are from."""

    def seconds(self, amount: Amount, *, local: bool) -> float:
        """How long `amount` takes.

        Args:
            amount: what is asked of one model for one kind of unit.
            local: whether that model is in this process.
        """
        calls = amount.used.calls
        if not calls:
            return 0.0
        at_once = 1 if local else min(self.limits.concurrency, calls)
        if self.limits.batch and not local:
            self._say(f"time of {amount.llm}: up to a day for each batch, which is not counted")
            return 0.0
        before = {} if self.store is None else self.store.asked(amount.llm)
        used = before.get((amount.stage, amount.part)) or sum(before.values(), Usage())
        if used.calls:
            self._say(f"time of {amount.llm}: by earlier calls in this store")
            return calls * used.seconds / used.calls / at_once
        self._say(f"time of {amount.llm}: a guess, for it was not asked before")
        if local:
            return amount.fresh_tokens / FRESH_RATE + amount.used.completion_tokens / MADE_RATE
        return calls * REMOTE_SECONDS / at_once

    def _say(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)


def subject_rate(reading: Reading, settings: CollectSettings) -> tuple[float, int]:
    """Tokens a second at which a little of the text is read, and how many that was."""

    def ignore(group: int, acts: Tensor) -> None:
        """The forward pass is what takes the time."""

    size = max(1, min(settings.batch, reading.max_batch, READ_TOKENS // settings.ctx))
    chunks = list(islice(reading.chunks(), size))
    reading.scan(chunks[:1], ignore)  # what is set up at the first pass is not the pace
    began = time.perf_counter()
    reading.scan(chunks, ignore)
    n = sum(len(chunk.token_ids) for chunk in chunks)
    return n / max(time.perf_counter() - began, 1e-6), n


def download_bytes(specs: Iterable[str]) -> int:
    """Of those models that come with the package's assets and are not in the cache."""
    assets = [ASSETS[spec] for spec in dict.fromkeys(specs) if spec in ASSETS]
    return sum(
        asset.size
        for asset in assets
        if locate(asset) is None and not (converted_folder(asset) / "manifest.json").is_file()
    )

"""`Live` on a planted feature: a function of the text, which has activations and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from glossator.datasets.planted import MODEL, SITE, Function, word_pieces
from glossator.errors import ConfigError, Unsupported
from glossator.live import Activations, Attention, NextToken, Promotion, TokenShift
from glossator.types import FeatureId, FeatureRecord

FIRST = FeatureId(MODEL, SITE, 0)
NO_OUTPUT = (
    "a planted feature is a function of the text and has no output and no attention: only its "
    "activations can be asked; take a feature of a model"
)


@dataclass(frozen=True)
class FunctionLive:
    """See `glossator.live.Live`. Each text is a document of its own."""

    function: Function
    feature: FeatureId = FIRST
    peak: float = 0.0
    cut: Callable[[str], list[str]] = word_pieces
    """From a text to its tokens."""

    async def activations(self, texts: Sequence[str]) -> tuple[Activations, ...]:
        """See `Live`."""
        return tuple(map(self._activations, texts))

    async def promoted(self, n: int = 20) -> Promotion:
        """Unsupported."""
        raise Unsupported(NO_OUTPUT)

    async def next_tokens(
        self, texts: Sequence[str], clamp: float, n: int = 10
    ) -> tuple[NextToken, ...]:
        """Unsupported."""
        raise Unsupported(NO_OUTPUT)

    async def shifts(
        self, texts: Sequence[str], tokens: Sequence[str], clamp: float, n_like: int = 50
    ) -> tuple[TokenShift, ...]:
        """Unsupported."""
        raise Unsupported(NO_OUTPUT)

    async def continuations(
        self,
        texts: Sequence[str],
        clamp: float | None = None,
        max_tokens: int = 12,
        seed: int | None = None,
    ) -> tuple[str, ...]:
        """Unsupported."""
        raise Unsupported(NO_OUTPUT)

    async def attention(self, texts: Sequence[str]) -> tuple[Attention, ...]:
        """Unsupported."""
        raise Unsupported(NO_OUTPUT)

    def _activations(self, text: str) -> Activations:
        tokens = self.cut(text)
        if not tokens:
            raise ConfigError(f"a text has no token that can be read: {text!r:.80}")
        values = [float(value) for value in self.function(list(tokens))]
        if len(values) != len(tokens) or not all(map(math.isfinite, values)):
            raise ConfigError(f"{self.feature} gave no finite number for each token")
        return Activations(tuple(tokens), tuple(values))


def live_function(function: Function, record: FeatureRecord | None = None) -> FunctionLive:
    """Experiments with a planted `function`, under the name and the train peak of its `record`."""
    live = FunctionLive(function)
    if record is None:
        return live
    return replace(live, feature=record.feature, peak=record.train.peak)

"""`Live` on a planted feature that acts on the output: a small model of next words, and no subject.

With the activation a (in peaks of a planted feature, 4 raw units) at the last token of a text, or
held there, the logit of word w after the text is

    log p(w | text) + a (strength weight(w) + noise g(w, text))

where p is `NextWords`, weight falls from 1 at the first word of the effect to 0.7 at the last and
is 0 for all others (minus for words that fall), and g is drawn from a normal distribution by text
and word, always the same: the rest of a model answers a little differently on each text. Log
probabilities are these logits less their log-sum-exp.
"""

from __future__ import annotations

import functools
import math
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glossator.datasets.next_words import Logs, NextWords
from glossator.datasets.truth import PEAK, function_of
from glossator.datasets.truth_effects import Causal, Effect
from glossator.errors import Unsupported
from glossator.experiments.of_function import FIRST, FunctionLive
from glossator.live import Activations, Attention, NextToken, Promotion, Shift, TokenShift
from glossator.types import FeatureId, FeatureRecord

NO_ATTENTION = (
    "a planted feature has no attention: ask its activations, or what it does to what comes next"
)
LEAST = 0.7
"""The weight of an effect's last word."""


@dataclass(frozen=True)
class PlantedLive:
    """See `glossator.live.Live`."""

    reading: FunctionLive
    """Its activations."""
    words: NextWords
    effect: Effect | None = None
    """None: it does nothing but the noise."""
    seems: Effect | None = None
    """What the output direction shows in its place."""
    strength: float = 2.0
    """Nats that the first word of the effect gains at one peak."""
    noise: float = 0.01
    """Nats at one peak, as a standard deviation over words and texts."""
    slant: float = 0.1
    """The same of the output direction itself, over words: so its list holds other words, too."""

    @property
    def feature(self) -> FeatureId:
        """See `Live`."""
        return self.reading.feature

    @property
    def peak(self) -> float:
        """See `Live`."""
        return self.reading.peak

    async def activations(self, texts: Sequence[str]) -> tuple[Activations, ...]:
        """See `Live`."""
        return await self.reading.activations(texts)

    async def promoted(self, n: int = 20) -> Promotion:
        """See `Live`: z of `strength weight(w)` plus noise of its own."""
        z = self._direction()
        z = (z - z.mean()) / (z.std() or 1.0)
        order = np.argsort(-z, kind="stable")
        named = [(self.words.vocabulary[i], float(z[i])) for i in order]
        return Promotion(tuple(named[:n]), tuple(reversed(named[max(0, len(named) - n) :])))

    async def next_tokens(
        self, texts: Sequence[str], clamp: float, n: int = 10
    ) -> tuple[NextToken, ...]:
        """See `Live`."""
        values = await self.activations(texts)
        return tuple(
            self._changed(text, read.values[-1], clamp, n)
            for text, read in zip(texts, values, strict=True)
        )

    async def shifts(
        self, texts: Sequence[str], tokens: Sequence[str], clamp: float, n_like: int = 50
    ) -> tuple[TokenShift, ...]:
        """See `Live`.

        A word that is not in the vocabulary counts as one of its rarest tokens, which does nothing.
        """
        if not texts or not tokens:
            return ()
        values = [read.values[-1] for read in await self.activations(texts)]
        before = np.array(
            [self.log_probabilities(text, is_at) for text, is_at in zip(texts, values, strict=True)]
        )  # (n_texts, n_vocabulary)
        after = np.array([self.log_probabilities(text, clamp) for text in texts])
        numbers = self.words.places_of(tokens)
        usual, gain = before.mean(axis=0), (after - before).mean(axis=0)
        # Of tokens that are equally probable chance chooses, always alike.
        order = np.random.default_rng(_number(str(self.feature))).permutation(len(usual))
        others = order[~np.isin(order, numbers)]
        found = []
        for token, i in zip(tokens, numbers, strict=True):
            near = others[np.argsort(np.abs(usual[others] - usual[i]), kind="stable")][:n_like]
            was, held = tuple(before[:, i].tolist()), tuple(after[:, i].tolist())
            found.append(TokenShift(token, was, held, tuple(gain[near].tolist())))
        return tuple(found)

    async def continuations(
        self,
        texts: Sequence[str],
        clamp: float | None = None,
        max_tokens: int = 12,
        seed: int | None = None,
    ) -> tuple[str, ...]:
        """See `Live`."""
        return tuple([await self._goes_on(text, clamp, max_tokens, seed) for text in texts])

    async def attention(self, texts: Sequence[str]) -> tuple[Attention, ...]:
        """Unsupported."""
        raise Unsupported(NO_ATTENTION)

    def log_probabilities(self, text: str, held: float) -> Logs:
        """Shape (n_vocabulary,): of what comes next with the feature at `held`, in raw units."""
        a = held / PEAK
        drawn = np.random.default_rng([zlib.crc32(str(self.feature).encode()), _number(text)])
        other = self.noise * drawn.standard_normal(len(self.words.vocabulary))
        logits = self.words.after(text) + a * (self._weights + other)
        return logits - _log_sum_exp(logits)

    # -- the model ----------------------------------------------------------------------------

    @functools.cached_property
    def _weights(self) -> Logs:
        return self._gains(self.effect)

    def _gains(self, effect: Effect | None) -> Logs:
        """Shape (n_vocabulary,): nats at one peak."""
        found = np.zeros(len(self.words.vocabulary))
        if effect is not None:
            numbers = self.words.places_of(effect.words)
            signed = -self.strength if effect.falls else self.strength
            found[numbers] = signed * np.linspace(1.0, LEAST, len(numbers))
        return found

    def _direction(self) -> Logs:
        drawn = np.random.default_rng(zlib.crc32(str(self.feature).encode()))
        return self._gains(self.effect or self.seems) + self.slant * drawn.standard_normal(
            len(self.words.vocabulary)
        )

    def _changed(self, text: str, is_at: float, clamp: float, n: int) -> NextToken:
        before = self.log_probabilities(text, is_at)
        after = self.log_probabilities(text, clamp)
        gains = np.exp(after) - np.exp(before)
        order = [int(i) for i in np.argsort(-gains, kind="stable")]

        def shift(i: int) -> Shift:
            return Shift(self.words.vocabulary[i], float(before[i]), float(after[i]))

        return NextToken(
            float(max(0.0, np.sum(np.exp(before) * (before - after)))),
            tuple(shift(i) for i in order[:n] if gains[i] > 0),
            tuple(shift(i) for i in order[::-1][:n] if gains[i] < 0),
        )

    async def _goes_on(
        self, text: str, clamp: float | None, max_tokens: int, seed: int | None
    ) -> str:
        chance = None if seed is None else random.Random(f"{seed} {text}")
        made = ""
        for _ in range(max_tokens):
            if clamp is None:
                (read,) = await self.activations([text + made])
                held = read.values[-1]
            else:
                held = clamp
            logs = self.log_probabilities(text + made, held)
            number = int(logs.argmax()) if chance is None else _drawn(logs, chance)
            made += self.words.vocabulary[number]
        return made


def live_planted(
    feature: Causal, words: NextWords, record: FeatureRecord | None = None
) -> PlantedLive:
    """Experiments with `feature`, under the name and the train peak of its `record`."""
    reading = FunctionLive(
        function_of(feature.rule),
        FIRST if record is None else record.feature,
        PEAK if record is None else record.train.peak,
    )
    return PlantedLive(reading, words, feature.effect, feature.seems)


def _number(text: str) -> int:
    return zlib.crc32(text.encode())


def _log_sum_exp(logits: Logs) -> float:
    most = float(logits.max())
    return most + math.log(float(np.exp(logits - most).sum()))


def _drawn(logs: Logs, chance: random.Random) -> int:
    sums = np.cumsum(np.exp(logs))
    return min(int(np.searchsorted(sums, chance.random() * sums[-1])), len(logs) - 1)

"""What can be done with one feature while its subject runs: experiments, in plain Python types.

Whoever explains or scores is handed a `Live` and sees no tensor and no model. Values are in the
feature's own units, with the sign turned for a negative tail, as in a record.

A text is read as a document of its own: a start token before it, its first token at position 0, and
every `ctx` tokens a new beginning, as in collection. So a window that is cut out of its document
may have other activations than its record says, which saw what stood before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from glossator.types import FeatureId

NEUTRAL = (
    "The report was published on",
    "When they arrived at the",
    "One of the most important",
    "She looked at him and",
    "In the end, the",
    "It is said that the",
    "My favourite thing about this",
    "The two of them went",
    "According to the latest news",
    "There is a reason why",
    "You should always try to",
    "At the beginning of the",
    "He opened the door and",
    "This was the first time",
    "For a long time, people",
    "The next day, we decided",
    "Nobody could explain why the",
    "After the meeting, they all",
    "The people in this town",
    "What I like about it",
    "Some years ago there was",
    "We have been working on",
    "The most common way to",
    "If you look at the",
)
"""Beginnings of texts about nothing in particular, which leave open what comes next."""


@dataclass(frozen=True, slots=True)
class Activations:
    """What a feature does on one text."""

    tokens: tuple[str, ...]
    """Shape (n_tokens,): joined, they are the text."""
    values: tuple[float, ...]
    """Shape (n_tokens,)."""

    def __post_init__(self) -> None:
        if not self.tokens or len(self.tokens) != len(self.values):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.values)} activations")
        if not all(map(math.isfinite, self.values)):
            raise ValueError("an activation is NaN or infinite")

    @property
    def peak(self) -> float:
        """The strongest."""
        return max(self.values)


@dataclass(frozen=True, slots=True)
class Promotion:
    """What more of a feature adds to the logits of tokens, as if nothing came between."""

    promoted: tuple[tuple[str, float], ...]
    """Tokens and their z over the vocabulary, the largest first."""
    suppressed: tuple[tuple[str, float], ...]
    """The same, the least first."""


@dataclass(frozen=True, slots=True)
class Shift:
    """A token whose probability of being next has changed."""

    token: str
    before: float
    """Natural-log probability while the feature is as it is."""
    after: float
    """The same while it is clamped."""


@dataclass(frozen=True, slots=True)
class NextToken:
    """How clamping a feature changes what comes next after a text."""

    kl: float
    """KL divergence of the clamped distribution from the one as it is, KL(as it is || clamped), in
    nats."""
    raised: tuple[Shift, ...]
    """Tokens that gained the most probability, the most first."""
    lowered: tuple[Shift, ...]
    """Tokens that lost the most."""


@dataclass(frozen=True, slots=True)
class TokenShift:
    """How clamping a feature changes one token's probability of being next, over several texts."""

    token: str
    before: tuple[float, ...]
    """Shape (n_texts,): natural-log probability while the feature is as it is."""
    after: tuple[float, ...]
    """The same while it is clamped."""
    like: tuple[float, ...]
    """Shape (n_like,): the mean change over the texts of other tokens, those that were about as
    probable before; what any such token does."""

    @property
    def changes(self) -> tuple[float, ...]:
        """Shape (n_texts,): how much the natural-log probability grew."""
        return tuple(b - a for a, b in zip(self.before, self.after, strict=True))


@dataclass(frozen=True, slots=True)
class Attention:
    """Where the head that a feature stands for looks, on one text."""

    tokens: tuple[str, ...]
    weights: tuple[tuple[float, ...], ...]
    """Shape (n_tokens, n_tokens): from each token to each token up to itself, 0 to later ones. A
    row sums to at most 1; the rest goes to the start token."""


class Live(Protocol):
    """Experiments with one feature.

    The methods run the model in a thread, one after the other, and leave it as it was. They raise:
        Unsupported: if this sort of feature cannot do it; the message says what can.
        ConfigError: for a text without a token that can be read, or longer than the model reads.
    """

    @property
    def feature(self) -> FeatureId:
        """Whose experiments these are."""
        ...

    @property
    def peak(self) -> float:
        """The strongest activation on train text, the measure of all others; 0 if none is known."""
        ...

    async def activations(self, texts: Sequence[str]) -> tuple[Activations, ...]:
        """The feature's activations on each text, read as a document of its own."""
        ...

    async def promoted(self, n: int = 20) -> Promotion:
        """The `n` tokens that the feature's output direction promotes most, and suppresses most."""
        ...

    async def next_tokens(
        self, texts: Sequence[str], clamp: float, n: int = 10
    ) -> tuple[NextToken, ...]:
        """What comes next after each text, as it is and with the feature held at `clamp`.

        It is held there at every token of the text but the start token; 0 ablates it.
        """
        ...

    async def shifts(
        self, texts: Sequence[str], tokens: Sequence[str], clamp: float, n_like: int = 50
    ) -> tuple[TokenShift, ...]:
        """How likely each of `tokens` is after each text, as it is and held at `clamp`.

        Args:
            texts: beginnings.
            tokens: each exactly one token of the model, such as ` river`; none of them is in what
                another is compared with.
            clamp: as for `next_tokens`.
            n_like: tokens that each is compared with, as many as there are at most.

        Raises:
            ConfigError: also for what is not one token.
        """
        ...

    async def continuations(
        self,
        texts: Sequence[str],
        clamp: float | None = None,
        max_tokens: int = 12,
        seed: int | None = None,
    ) -> tuple[str, ...]:
        """How the model goes on after each text, without the text itself.

        Args:
            texts: beginnings.
            clamp: what the feature is held at, at every token, those that are made included; None
                leaves it as it is.
            max_tokens: tokens made, at most; it may end earlier by itself.
            seed: draws from the model's distribution; None takes the likeliest token each time.
        """
        ...

    async def attention(self, texts: Sequence[str]) -> tuple[Attention, ...]:
        """Where the feature's attention head looks, on each text."""
        ...

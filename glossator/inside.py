"""What reaches a feature inside its subject, and what it does there, in plain Python types.

Beside `live.py`, which has the feature itself. Methods run the model in its one thread, and leave
it as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from glossator.live import Attention


@dataclass(frozen=True, slots=True)
class Importance:
    """How much each token of a text matters for the feature at one of them."""

    tokens: tuple[str, ...]
    values: tuple[float, ...]
    """Shape (n_tokens,), raw units of the feature: gradient times input, summed over the
    embedding; about what the activation would lose without it."""
    at: int
    """The token at which the feature was read."""
    activation: float
    """What it was there."""


@dataclass(frozen=True, slots=True)
class Source:
    """A component below the feature, and how much of the feature's change goes through it."""

    component: str
    """`layers.3.attn.heads/5`, or `layers.3.mlp.neurons/812`."""
    effect: float
    """Raw units of the feature."""


@dataclass(frozen=True, slots=True)
class Patched:
    """What a feature is when one component is taken from the other text's run."""

    component: str
    """`layers.3.attn.out`, `layers.3.mlp.out`, `layers.3.resid_post`."""
    position: int | None
    """Token position that was patched; None for all."""
    activation: float
    """Raw units."""
    recovered: float
    """0 as in the run that was patched, 1 as in the run it came from."""


@dataclass(frozen=True, slots=True)
class Lens:
    """What the residual stream says at one place, read out as if nothing came after."""

    layer: int
    tokens: tuple[tuple[str, float], ...]
    """The likeliest next tokens with their probability."""


@dataclass(frozen=True, slots=True)
class Attributed:
    """What a feature adds to the logits of next tokens, on one text, directly."""

    tokens: tuple[str, ...]
    """Of the text."""
    at: int
    """Where it was read: its strongest token."""
    activation: float
    raised: tuple[tuple[str, float], ...]
    """Next tokens and what the feature adds to their logit, final norm as it was there."""
    lowered: tuple[tuple[str, float], ...]


class Inside(Protocol):
    """The model around one feature.

    The methods raise:
        Unsupported: if this feature, or this model, cannot do it.
        ConfigError: for a text without a token, longer than the model reads at once, or a layer or
            head that is not there.
    """

    async def importance(self, text: str, at: int | None = None) -> Importance:
        """Gradient times input of each token; at the strongest one if `at` is None."""
        ...

    async def upstream(self, clean: str, corrupt: str, n: int = 10) -> tuple[Source, ...]:
        """The heads and neurons through which the feature differs between two texts.

        Attribution patching (Nanda 2023; Syed et al. 2023): the gradient of the feature on `clean`
        times the difference of activations. Both texts have equally many tokens; the feature is
        read at its strongest token of `clean` from the first one on in which they differ.
        """
        ...

    async def patched(
        self, clean: str, corrupt: str, direction: Literal["denoise", "noise"], n: int = 20
    ) -> tuple[Patched, ...]:
        """The feature with one component of one run put into the other, the strongest first.

        `denoise` runs `corrupt` with parts of `clean`, `noise` the other way round. It is read
        where `upstream` reads it; ConfigError if it is the same there on both.
        """
        ...

    async def lens(self, text: str, at: int | None = None, n: int = 5) -> tuple[Lens, ...]:
        """The logit lens (nostalgebraist 2020) behind each layer, at the last token if None."""
        ...

    async def attributed(self, text: str, n: int = 10) -> Attributed:
        """Direct logit attribution of the feature at its strongest token."""
        ...

    async def attention(self, layer: int, head: int, texts: Sequence[str]) -> tuple[Attention, ...]:
        """Where any head looks."""
        ...

"""How much is read, and how much of it is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from glossator.errors import ConfigError

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, tokens done so far, and tokens in all (None if nobody knows)."""

PERCENTILE = 99.0
"""A token of a dense site fires above this percentile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectSettings:
    """How much is read, and how much of it is kept."""

    tokens: int | None = 200_000
    """Tokens of the corpus to read; None reads all."""
    ctx: int = 128
    """Text tokens the model reads at once, after one start token."""
    window: int = 32
    """Tokens of an example."""
    seed: int = 0
    """Of the samples; another seed draws other windows."""
    calibration_tokens: int = 50_000
    """Train tokens that the threshold of a dense site is measured on."""
    percentile: float = PERCENTILE
    """Of those tokens' activations, above which a token of a dense site fires."""
    batch: int = 64
    """Chunks the model reads at once."""
    n_top: int = 20
    """Strongest windows kept in each split."""
    n_firing: int = 50
    """Other firing windows in each split, in five strata."""
    n_silent: int = 50
    """Silent windows in each split."""

    def __post_init__(self) -> None:
        for name in ("tokens", "ctx", "window", "calibration_tokens", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} is at least 1, not {value}")
        for name in ("n_top", "n_firing", "n_silent"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is not negative, but {getattr(self, name)} was given")
        if not 0 <= self.percentile <= 100:
            raise ConfigError(f"a percentile is from 0 to 100, not {self.percentile}")
        if self.window > self.ctx:
            raise ConfigError(f"a window of {self.window} tokens does not fit a ctx of {self.ctx}")
        if self.window > 1 << 15:
            raise ConfigError(f"a window has at most {1 << 15} tokens, not {self.window}")

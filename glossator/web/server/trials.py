"""Texts tried on the live model: where a feature fires in them, and what holding it changes.

A trial is kept in memory under a name of its own, so that its page can be loaded again while the
subject is loaded, and after.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from markupsafe import Markup

from glossator.config import RunConfig
from glossator.errors import ConfigError, Unsupported
from glossator.types import Example, FeatureId
from glossator.web.figures import shaded
from glossator.web.server.loaded import Loaded
from glossator.web.server.worker import Task, Worker

if TYPE_CHECKING:
    from glossator.live import Live, NextToken

MOST_CHARACTERS = 20_000
MOST_KEPT = 64
MOST_TOKENS = 2_000
"""Of a text that are drawn."""
STRONGEST = 8.0
"""Train peaks that a feature is held at, at most, either way."""
N_TOKENS = 10
N_CONTINUED = 24
OWNER = "a text that is tried"


@dataclass(frozen=True, slots=True)
class Tried:
    """What is to be tried."""

    row: int
    """Of the feature in the store."""
    run: str
    feature: FeatureId
    text: str
    strength: float | None = None
    """In train peaks; 0 ablates; None reads the text as it is."""
    peak: float = 0.0
    """On train text, raw units; 0 if it fires nowhere there."""
    scale: float = 0.0
    """Where the page's colour scale ends."""
    threshold: float = 0.0

    @property
    def clamp(self) -> float:
        """What the feature is held at, raw units."""
        return (self.strength or 0.0) * self.peak

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ConfigError("there is no text to try: write one")
        if len(self.text) > MOST_CHARACTERS:
            raise ConfigError(
                f"that text is {len(self.text):,} characters long, and {MOST_CHARACTERS:,} are the "
                "most: cut it"
            )
        if self.strength is None:
            return
        if not math.isfinite(self.strength) or abs(self.strength) > STRONGEST:
            raise ConfigError(f"a strength lies between {-STRONGEST:g} and {STRONGEST:g} peaks")
        if self.strength and self.peak <= 0:
            raise ConfigError(
                "it never fires on train text, so there is no peak to hold it at; 0 ablates it"
            )


@dataclass(frozen=True, slots=True)
class Fired:
    """Activations on a text."""

    drawn: Markup
    peak: float
    n_firing: int
    tokens: tuple[tuple[str, float], ...]
    """The first tokens and their activations."""
    n_tokens: int


@dataclass(frozen=True, slots=True)
class Held:
    """What holding a feature changes after a prompt."""

    clamp: float
    kl: float
    raised: tuple[tuple[str, float, float], ...]
    """Token, probability as it is, probability while held."""
    lowered: tuple[tuple[str, float, float], ...]
    before: str
    """How the model goes on, the likeliest token each time."""
    after: str


@dataclass
class Trial:
    """A trial and what came of it so far."""

    tried: Tried
    task: Task | None = None
    result: Fired | Held | None = None


@dataclass
class Trials:
    """Those of one server, the latest ones."""

    worker: Worker
    loaded: Loaded
    known: dict[str, Trial] = field(default_factory=dict)

    def begin(self, tried: Tried, config: RunConfig) -> str:
        """Begins a trial; gives its name.

        Raises:
            ConfigError: if something else is at work.
        """
        trial = Trial(tried)

        async def work(task: Task) -> None:
            task.progress = "waiting for the model"
            live = await self.loaded.live(task, config, tried.feature, tried.peak)
            task.progress = "running the model"
            trial.result = await carried_out(tried, live)

        trial.task = self.worker.begin(OWNER, work)
        name = secrets.token_hex(6)
        if len(self.known) >= MOST_KEPT:
            del self.known[next(iter(self.known))]
        self.known[name] = trial
        return name


async def carried_out(tried: Tried, live: Live) -> Fired | Held:
    """What the model does.

    Raises:
        ConfigError: for a text without a token, or longer than the model reads.
        Unsupported: if this sort of feature cannot be held.
    """
    if tried.strength is None:
        (read,) = await live.activations([tried.text])
        tokens, values = read.tokens[:MOST_TOKENS], read.values[:MOST_TOKENS]
        example = Example(tokens, values, "", 0, "", 1.0)
        return Fired(
            shaded(example, tried.scale or read.peak, tried.threshold),
            peak=read.peak,
            n_firing=sum(value > tried.threshold for value in read.values),
            tokens=tuple(zip(tokens, values, strict=True)),
            n_tokens=len(read.tokens),
        )
    (moved,) = await live.next_tokens([tried.text], tried.clamp, N_TOKENS)
    try:
        (before,) = await live.continuations([tried.text], None, N_CONTINUED)
        (after,) = await live.continuations([tried.text], tried.clamp, N_CONTINUED)
    except Unsupported:
        before = after = ""
    raised, lowered = _shares(moved)
    return Held(tried.clamp, moved.kl, raised, lowered, before, after)


def _shares(
    moved: NextToken,
) -> tuple[tuple[tuple[str, float, float], ...], tuple[tuple[str, float, float], ...]]:
    raised, lowered = (
        tuple((s.token, math.exp(s.before), math.exp(s.after)) for s in shifts)
        for shifts in (moved.raised, moved.lowered)
    )
    return raised, lowered

"""What a conversation tells whoever shows it: a terminal or a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from glossator.evidence import Effect
from glossator.types import JSON, Jsonable


@dataclass(frozen=True, slots=True)
class Said(Jsonable):
    """A piece of what the language model answers; pieces are put together as they come."""

    event: ClassVar[str] = "said"
    text: str


@dataclass(frozen=True, slots=True)
class Calling(Jsonable):
    """That a tool begins to work."""

    event: ClassVar[str] = "calling"
    call: str
    """Names the call within the conversation."""
    tool: str
    arguments: Mapping[str, JSON]
    passes: int = 0
    """Forward passes over short texts that it takes, roughly."""


@dataclass(frozen=True, slots=True)
class Called(Jsonable):
    """The one result of a call."""

    event: ClassVar[str] = "called"
    call: str
    tool: str
    text: str
    """Numbers and short text, or why it was not run."""
    evidence: tuple[str, ...] = ()
    """Ids of the experiments that were made; empty if none was."""
    effects: tuple[Effect, ...] = ()
    seconds: float = 0.0
    cost: float | None = 0.0
    """US dollars that language models took for it; None if that is not known."""


@dataclass(frozen=True, slots=True)
class Judgement(Jsonable):
    """What a test of a hypothesis came to."""

    event: ClassVar[str] = "tested"
    call: str
    hypothesis: str
    """Its id."""
    verdict: str
    """A `Verdict`; empty where nothing could be tested."""
    text: str
    """Effect sizes, intervals and evidence ids, or why nothing could be tested."""
    evidence: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked(Jsonable):
    """That a dear call waits for a person's yes or no."""

    event: ClassVar[str] = "asked"
    call: str
    tool: str
    arguments: Mapping[str, JSON]
    why: str
    """What makes it dear."""


@dataclass(frozen=True, slots=True)
class Troubled(Jsonable):
    """What went wrong, and what one can do."""

    event: ClassVar[str] = "troubled"
    kind: str
    """Name of the error, such as `Refused`."""
    text: str


@dataclass(frozen=True, slots=True)
class Done(Jsonable):
    """That nothing more comes until somebody says something."""

    event: ClassVar[str] = "done"
    turn: int
    finished: bool
    """False where it waits for approval, or was cut off and can go on."""


Event = Said | Calling | Called | Judgement | Asked | Troubled | Done


def plain(event: Event) -> dict[str, JSON]:
    """`event` for JSON, its kind under `event`."""
    return {"event": event.event, **event.to_json()}

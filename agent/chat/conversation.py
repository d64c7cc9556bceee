"""A conversation about one feature, for a terminal or a page: words go in, events come out.

What counts is in the notebook; the checkpoints say where in a turn it was cut off. So it goes on by
its id after a kill, also while it waits for approval.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

# Before LangGraph is imported: nothing but plain values out of a checkpoint, nothing to its maker.
os.environ.setdefault("LANGGRAPH_STRICT_MSGPACK", "true")
os.environ.setdefault("LANGSMITH_TRACING", "false")

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from glossator.agent.chat.events import Asked, Done, Event, Troubled
from glossator.agent.chat.graph import graph_of
from glossator.agent.chat.state import first_state
from glossator.agent.chat.supposing import NAME, stated
from glossator.agent.chat.turns import CALLS_AT_ONCE, MOST_SAID, Turns, arguments_in, dear_because
from glossator.errors import BudgetSpent, ConfigError, ProviderError, ReplyError
from glossator.evidence import Hypothesis
from glossator.types import JSON

STEPS_A_CALL = 4
STEPS_AROUND = 4


@dataclass
class Conversation:
    """Goes on where its notebook ends."""

    turns: Turns
    checkpointer: BaseCheckpointSaver[str] = field(default_factory=InMemorySaver)
    thread: str = "chat"

    def __post_init__(self) -> None:
        self._graph = graph_of(self.turns, self.checkpointer)
        limits = self.turns.limits
        self._config: dict[str, Any] = {
            "configurable": {"thread_id": self.thread},
            "recursion_limit": STEPS_AROUND + limits.replies * (1 + STEPS_A_CALL * CALLS_AT_ONCE),
        }

    # -- what goes in ------------------------------------------------------------------------------

    def say(self, text: str) -> AsyncIterator[Event]:
        """What a user says in words; a plain hypothesis is tested, all else is answered.

        Raises:
            ConfigError: if it says nothing or is too long.
            StoreError: if the notebook cannot be written.
        """
        if not text.strip():
            raise ConfigError("nothing was said: ask something, or type /help")
        if len(text) > MOST_SAID:
            raise ConfigError(
                f"that is {len(text):,} characters long, and {MOST_SAID:,} are the most: cut it"
            )
        given = stated(text)
        if given is not None:
            return self.call(NAME, given.model_dump(), text)
        return self._new_turn({"text": text})

    def call(
        self, tool: str, arguments: Mapping[str, JSON], said: str = ""
    ) -> AsyncIterator[Event]:
        """A tool, called by the user; `test_hypothesis` is one."""
        text = said or f"/{tool} {dict(arguments)}"
        return self._new_turn({"text": text, "call": {"tool": tool, "arguments": {**arguments}}})

    async def decide(self, approved: bool) -> AsyncIterator[Event]:
        """The yes or no that a dear call waits for.

        Raises:
            ConfigError: if none waits.
        """
        waiting = self.waiting
        if waiting is None:
            raise ConfigError("nothing waits for approval")
        known = await self._graph.aget_state(self._config)
        if known.next == ("approve",) and known.values.get("turn") == self.turn:
            given: Any = Command(resume=approved)
        else:
            # Killed in between, or without checkpoints: the notebook has the answer then.
            self.turns.notebook.put(f"{waiting.call} approval", "approval", {"approved": approved})
            given = first_state(self.turn)
        async for event in self._run(given):
            yield event

    async def resume(self) -> AsyncIterator[Event]:
        """Goes on with a turn that was cut off; nothing if none was."""
        if self.finished:
            return
        if self.waiting is not None:
            async for event in self._ended():
                yield event
            return
        known = await self._graph.aget_state(self._config)
        same = known.next and known.values.get("turn") == self.turn
        # Where nothing is to come next though work remains, the notebook has what was done.
        async for event in self._run(None if same else first_state(self.turn)):
            yield event

    def stop(self, why: str = "stopped by the user") -> None:
        """Ends a turn that is not finished; what it found so far is kept."""
        if not self.finished:
            content: dict[str, JSON] = {"text": "", "by": "user", "notes": [], "failure": why}
            self.turns.notebook.put(f"T{self.turn} answer", "assistant", content)

    # -- how it stands -----------------------------------------------------------------------------

    @property
    def turn(self) -> int:
        """The last turn that was begun; 0 if none was."""
        found = 0
        while self.turns.notebook.get(f"T{found + 1} user") is not None:
            found += 1
        return found

    @property
    def finished(self) -> bool:
        """Whether the last turn has its answer."""
        turn = self.turn
        return turn == 0 or self.turns.notebook.get(f"T{turn} answer") is not None

    @property
    def waiting(self) -> Asked | None:
        """The dear call that waits for a yes or no."""
        turn, notebook = self.turn, self.turns.notebook
        if self.finished:
            return None
        step = 0
        while notebook.get(f"T{turn}.{step + 1} said") is not None:
            step += 1
        for i, call in enumerate(self.turns.calls_of(turn, step)):
            key = f"T{turn}.{step}.{i}"
            if notebook.get(f"{key} result") is not None:
                continue
            if not self.turns.asks_first(key, call):
                return None
            return Asked(key, call.name, arguments_in(call) or {}, dear_because(call))
        return None

    def hypotheses(self) -> list[Hypothesis]:
        """What was supposed so far, the oldest first."""
        found: list[Hypothesis] = []
        while (entry := self.turns.notebook.get(f"H{len(found) + 1}")) is not None:
            found.append(Hypothesis.from_json(entry.content))
        return found

    # -- the turn ----------------------------------------------------------------------------------

    async def _new_turn(self, content: dict[str, JSON]) -> AsyncIterator[Event]:
        self.stop("left by the user, who said something else")
        turn = self.turn + 1
        self.turns.notebook.put(f"T{turn} user", "user", content)
        async for event in self._run(first_state(turn)):
            yield event

    async def _run(self, given: Any) -> AsyncIterator[Event]:
        try:
            async for event in self._graph.astream(given, self._config, stream_mode="custom"):
                yield event
        except (ProviderError, BudgetSpent, ReplyError) as error:
            # The turn is not finished: it goes on once the provider answers or the budget allows.
            yield Troubled(type(error).__name__, str(error))
        async for event in self._ended():
            yield event

    async def _ended(self) -> AsyncIterator[Event]:
        waiting = self.waiting
        if waiting is not None:
            yield waiting
        yield Done(self.turn, self.finished)

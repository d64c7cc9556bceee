"""Asking a language model once: what it said is written down, and read from there next time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from glossator.errors import ReplyError
from glossator.llm import LLM, Reply, Request, ToolCall, ask
from glossator.notebook import Notebook
from glossator.types import JSON

_Read = TypeVar("_Read")
MOST = 8000
"""Characters of a reply that could not be used that are kept."""


@dataclass(frozen=True)
class Asking:
    """A language model, and the notebook that its replies go to."""

    llm: LLM
    notebook: Notebook

    async def ask(self, key: str, request: Request, read: Callable[[Reply], _Read]) -> _Read | None:
        """What `read` makes of the reply; None if no reply could be used, the reason written down.

        Raises:
            ProviderError, BudgetSpent: as the language model does.
        """
        if (entry := self.notebook.get(f"{key} said")) is not None:
            return read(_reply_of(entry.content))
        if self.notebook.get(f"{key} failed") is not None:
            return None
        last: list[Reply] = []

        def checked(reply: Reply) -> _Read:
            found = read(reply)
            last.append(reply)
            return found

        try:
            found, _ = await ask(self.llm, request, checked)
        except ReplyError as error:
            if error.broken:
                raise
            failure: dict[str, JSON] = {
                "kind": type(error).__name__,
                "message": str(error)[:500],
                "reply": error.reply[:MOST],
            }
            self.notebook.put(f"{key} failed", "failure", failure)
            return None
        self.notebook.put(f"{key} said", "said", _plain(last[-1]))
        return found


def _plain(reply: Reply) -> dict[str, JSON]:
    calls: list[JSON] = [
        {"id": c.id, "name": c.name, "arguments": c.arguments} for c in reply.calls
    ]
    return {"text": reply.text, "value": reply.value, "calls": calls}


def _reply_of(content: Mapping[str, Any]) -> Reply:
    calls = tuple(ToolCall(c["id"], c["name"], c["arguments"]) for c in content["calls"])
    return Reply(content["text"], calls=calls, value=content["value"])

"""The turns of a conversation and the tools that may be called, fit to be sent to a provider."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

from glossator.errors import Unsupported
from glossator.llm import LLM, Can, Message, Request, Tool, ToolCall
from glossator.providers.body import Body, storable
from glossator.providers.schema import validator
from glossator.types import Usage


def turns(request: Request) -> list[Message]:
    """The messages of `request`, without half characters; the last one asks for the prefill."""
    found = [
        replace(
            message,
            content=storable(message.content),
            calls=tuple(replace(c, arguments=storable(c.arguments)) for c in message.calls),
        )
        for message in request.messages
    ]
    if request.prefill and found:
        told = (
            "Your reply goes on behind this, without repeating it:"
            if request.answers
            else "Begin your reply with:"
        )
        content = f"{found[-1].content}\n\n{told} {storable(request.prefill)}"
        found[-1] = replace(found[-1], content=content)
    return found


def refuse_what_it_cannot(request: Request, llm: LLM) -> None:
    """Raises `Unsupported` if `request` has a schema or tools that `llm` has no form for."""
    if request.schema and Can.SCHEMA not in llm.can:
        raise Unsupported(
            f"{llm.name} cannot be held to a schema; use a newer model, a method that reads text, "
            "or ask for JSON in the prompt"
        )
    if request.tools and Can.TOOLS not in llm.can:
        raise Unsupported(
            f"{llm.name} has no form for calling tools; `Metered` asks for the calls in words"
        )


def schema_of(part: Request | Tool) -> Mapping[str, Any]:
    """The JSON schema of a reply, or of a tool's arguments.

    Raises:
        ConfigError: if it is none.
    """
    return cast("Mapping[str, Any]", validator(part.schema).schema)


def can_be_strict(schema: Mapping[str, Any]) -> bool:
    """Whether `schema` meets OpenAI's rules for replies that keep to it without fail."""
    return "object" in _kinds(schema) and _closed(schema)


def _closed(part: Any) -> bool:
    """Whether no object in `part` has optional keys, or may have others."""
    if isinstance(part, list):
        return all(map(_closed, part))
    if not isinstance(part, dict):
        return True
    if "object" in _kinds(part):
        names = set(part.get("properties", {}))
        if part.get("additionalProperties") is not False or set(part.get("required", ())) != names:
            return False
    return all(map(_closed, part.values()))


def _kinds(part: Mapping[str, Any]) -> Sequence[Any]:
    kind = part.get("type")
    return kind if isinstance(kind, list) else [kind]


def call_of(
    body: Body, number: int, usage: Usage, id_: object, name: object, arguments: object
) -> ToolCall:
    """A call of a tool as a reply has it, in `body`, of whose parts it is the one at `number`.

    Arguments are passed on as they are, be they JSON or not. A call without an id gets one, which
    tells such calls apart.

    Raises:
        ReplyError: if it is of another shape; with the reply's `usage`.
    """
    if isinstance(arguments, dict):
        with suppress(RecursionError):
            arguments = json.dumps(arguments, ensure_ascii=False)
    if arguments is None or arguments == "":
        arguments = "{}"
    if not (
        isinstance(id_, str | None)
        and isinstance(name, str)
        and name
        and isinstance(arguments, str)
    ):
        raise body.no_reply("sent a call of a tool without its parts", usage)
    if not id_:
        place = f"{number} {body.text}".encode("utf-8", "replace")
        id_ = f"call_{hashlib.sha256(place).hexdigest()[:24]}"
    return ToolCall(storable(id_), storable(name), storable(arguments))

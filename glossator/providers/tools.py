"""Tools for models that have no form of their own for calling them: asked for through a schema.

The tools and the conversation so far are put into plain messages; the model answers with one JSON
object that either calls a tool or is the reply. What comes back looks as if the model had called.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from glossator.errors import ConfigError, CutOff, ReplyError
from glossator.llm import Message, Reply, Request, Tool, ToolCall
from glossator.providers.schema import read_json, with_value

VERSION = "tools-1"
NEXT = "next"
"""Key of the one thing that the model does; OpenAI wants an object at the top of a schema."""


def plain_request(request: Request, schema: bool) -> Request:
    """`request` without tools: they are described, and calls made so far are told as text.

    Args:
        request: One with tools.
        schema: Whether the model can be held to a schema; else the prompt asks for JSON.

    Raises:
        ConfigError: if the schema of a tool's arguments is no JSON object.
    """
    if request.answers or request.slots:
        raise ConfigError("log probabilities of answers and calls of tools are two requests")
    messages = tuple(_told(message) for message in request.messages)
    if request.tool_choice == "none":
        return replace(request, messages=messages, tools=(), tool_choice="auto")
    wanted = _schema(request)
    told = _instructions(request, wanted, schema)
    if messages and messages[0].role == "system":  # Some chat templates take one, and only first.
        told, messages = f"{messages[0].content}\n\n{told}", messages[1:]
    return replace(
        request,
        messages=(Message("system", told), *messages),
        tools=(),
        tool_choice="auto",
        schema=json.dumps(wanted) if schema else "",
        prefill="",
        stop=(),  # A stop may stand inside a tool's arguments.
    )


def read_calls(reply: Reply, request: Request) -> Reply:
    """What `reply`, the answer to `plain_request(request)`, calls or says.

    Raises:
        ReplyError: if it does neither in the form asked for; says what is wrong.
        CutOff: if it does not, and the bound on its length was reached.
    """
    if request.tool_choice == "none":
        return with_value(reply, request)
    try:
        value = read_json(reply.text, "{")
    except ValueError as error:
        raise _wrong(str(error), reply) from None
    chosen = value.get(NEXT) if isinstance(value, dict) else None
    if not isinstance(chosen, dict):
        raise _wrong(f"it has no object under {NEXT!r}", reply)
    known = sorted(tool.name for tool in request.tools)
    if "tool" in chosen:
        name, arguments = chosen["tool"], chosen.get("arguments", {})
        if name not in known:
            raise _wrong(f"there is no tool {name!r:.80}; there are: {', '.join(known)}", reply)
        if not isinstance(arguments, dict):
            raise _wrong("`arguments` is no object", reply)
        written = json.dumps(arguments, ensure_ascii=False)
        call = ToolCall(_call_id(request, str(name), written), str(name), written)
        return replace(reply, text="", finish="tool_calls", calls=(call,))
    said = chosen.get("reply")
    if request.tool_choice == "required":
        raise _wrong("it calls no tool, though it must", reply)
    if said is None:
        raise _wrong(f"{NEXT!r} has neither `tool` nor `reply`", reply)
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    return with_value(replace(reply, text=text), request)


def _wrong(what: str, reply: Reply) -> ReplyError:
    """The error that says so of `reply`."""
    if reply.finish == "length":
        return CutOff(f"it was cut off; {what}", reply.text, reply.usage)
    return ReplyError(what, reply.text, reply.usage)


def _call_id(request: Request, name: str, arguments: str) -> str:
    """The same for the same call at the same place of a conversation."""
    content = json.dumps([request.digest, name, arguments])
    return f"call_{hashlib.sha256(content.encode()).hexdigest()[:24]}"


def _told(message: Message) -> Message:
    """`message` in words, where it holds calls or the result of one."""
    if message.role == "tool":
        result = json.dumps({"result of": message.call, "result": message.content})
        return Message("user", result)
    if message.calls:
        calls = [
            json.dumps({NEXT: {"tool": c.name, "arguments": _object(c.arguments)}, "id": c.id})
            for c in message.calls
        ]
        return Message(message.role, "\n".join(filter(None, [message.content, *calls])))
    return message


def _object(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


def _schema(request: Request) -> dict[str, Any]:
    """What the model's next step looks like."""
    ways = [_closed(tool=_only(tool.name), arguments=_arguments(tool)) for tool in request.tools]
    if request.tool_choice == "auto":
        said = json.loads(request.schema) if request.schema else {"type": "string"}
        ways.append(_closed(reply=said))
    named: dict[str, Any] = {}
    for way in ways:
        # References are counted from the top of the whole schema, so what they name moves there.
        for part in way["properties"].values():
            for name, meaning in part.pop("$defs", {}).items():
                if named.setdefault(name, meaning) != meaning:
                    raise ConfigError(f"two schemas mean different things by $defs/{name}")
    whole = _closed(**{NEXT: ways[0] if len(ways) == 1 else {"anyOf": ways}})
    return {**whole, "$defs": named} if named else whole


def _closed(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _only(name: str) -> dict[str, Any]:
    return {"type": "string", "enum": [name]}


def _arguments(tool: Tool) -> dict[str, Any]:
    try:
        schema = json.loads(tool.schema)
    except ValueError as error:
        raise ConfigError(f"the schema of the tool {tool.name} is not JSON: {error}") from error
    if not isinstance(schema, dict):
        raise ConfigError(f"the schema of the tool {tool.name} is no object")
    return schema


def _instructions(request: Request, wanted: dict[str, Any], held: bool) -> str:
    """How to call; with the whole schema where nothing else holds the model to it."""
    tools = "\n".join(
        f"- {tool.name}: {tool.description} Arguments: {tool.schema}" for tool in request.tools
    )
    example = json.dumps({NEXT: {"tool": "NAME", "arguments": {}}})
    said = json.dumps({NEXT: {"reply": "..."}})
    may = (
        f"Call one of them by answering {example}, and nothing else."
        if request.tool_choice == "required"
        else f"To call one, answer {example}. To answer without calling one, answer {said}. "
        "Answer nothing else."
    )
    schema = "" if held else f"\nYour answer must keep to this JSON schema: {json.dumps(wanted)}"
    return (
        f"You can call these tools:\n{tools}\n{may} The result of a call comes in the next message."
        f"{schema}"
    )

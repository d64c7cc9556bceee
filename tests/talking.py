"""A language model for conversations that knows what words mean and obeys the user alone.

It reads commands only in lines of the user: what stands behind `| ` or in results of tools is data.
`call TOOL {...}` makes it call, `again TOOL {...}` for ever; `garbage` and `decline` are what they
say. A window has what a hypothesis names if it holds its last word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from glossator.errors import Refused
from glossator.llm import Reply, Request, ToolCall

_NOT_THE_USER = ('{"result of"', "That cannot be used")
"""How results look where tools are asked for in words, and how a reply is asked for again."""
_CALL = re.compile(r"(call|again) (\w+) (\{.*\})")


def rule(request: Request) -> Reply | str:
    """Its reply to `request`."""
    system = request.messages[0].content
    if system.startswith("You test a hypothesis"):
        return contrast(request.messages[1].content)
    if system.startswith("Hypotheses say") or "turned up" in system:
        return json.dumps({"words": ["old", "bridge", "Paris", "ship"]})
    if "You talk with a researcher" in system:
        return talk(request)
    return verdicts(request.messages[-1].content)


def contrast(asked: str) -> str:
    word = last_word(asked.splitlines()[0])
    if word == "unwritten":
        return "I will not write these."
    fits = [f"the {word} of {other}" for other in ("war", "Paris", "market", "bread")]
    near = [f"the {other} of Paris" for other in ("war", "market", "bread", "king")]
    return json.dumps({"fits": fits, "near": near})


def talk(request: Request) -> Reply | str:
    user = next(
        m.content
        for m in reversed(request.messages)
        if m.role == "user" and not m.content.startswith(_NOT_THE_USER)
    )
    own = "\n".join(line for line in user.splitlines() if not line.startswith("|"))
    after = request.messages[-1].role == "tool"
    found = _CALL.search(own)
    if found is not None and request.tool_choice != "none":
        kind, tool, arguments = found.groups()
        if not after or kind == "again":
            number = len(request.messages)
            return Reply(calls=(ToolCall(f"c{number}", tool, arguments),))
    if "garbage" in own:
        return ""
    if "decline" in own:
        raise Refused("it says that it may not")
    return f"You said: {own}" if not after else "The tools have shown it."


def verdicts(asked: str) -> str:
    """Yes for windows that hold the last word of what is asked."""
    listed = re.findall(r'^(\d+): "(.*)"$', asked, re.MULTILINE)
    if listed:
        about = last_word(asked.splitlines()[-1].rstrip("?"))
        return "\n".join(f"{n}: {yes_or_no(about, text)}" for n, text in listed)
    text = asked.partition('"')[2].rpartition('"')[0]
    return yes_or_no(last_word(asked.rstrip("?\n ")), text)


def yes_or_no(word: str, text: str) -> str:
    return "yes" if word.lower() in text.lower() else "no"


def last_word(text: str) -> str:
    words = re.findall(r"\w+", text)
    return words[-1] if words else ""


def function(messages: Sequence[Mapping[str, str]]) -> str:
    """The same as a function from messages to a reply, which has no form for tools of its own."""
    system, asked = messages[0]["content"], messages[-1]["content"]
    if system.startswith("You test a hypothesis"):
        return contrast(messages[1]["content"])
    if "turned up" in system:
        return json.dumps({"words": ["old", "bridge", "Paris", "ship"]})
    if "You talk with a researcher" in system:
        users = [m["content"] for m in messages if m["role"] == "user"]
        own = next(u for u in reversed(users) if not u.startswith('{"result of"'))
        after = asked.startswith('{"result of"')
        found = _CALL.search(own)
        if found is not None and not after and "You can call these tools" in system:
            call = {"tool": found.group(2), "arguments": json.loads(found.group(3))}
            return json.dumps({"next": call})
        said = "The tools have shown it." if after else f"You said: {own}"
        return json.dumps({"next": {"reply": said}}) if "You can call" in system else said
    return verdicts(asked)

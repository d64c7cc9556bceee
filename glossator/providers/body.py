"""The body of a reply: read as JSON, and made into a `Reply` or an error that quotes it.

What never was a reply, or was lost on its way, is a `ReplyError` that is `broken`: the model cannot
be told what it said, so the same request is sent again. What the model said in a wrong form is not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from glossator.errors import CutOff, ReplyError
from glossator.llm import Finish, Reply, Request, ToolCall
from glossator.providers.faults import Account, from_status
from glossator.types import Usage

SENT_WITH_200 = {
    "rate_limit_exceeded": 429,
    "overloaded_error": 529,
    "context_length_exceeded": 400,
    "invalid_prompt": 400,
}
"""Errors that came as a reply, by name; what is not here may pass."""
PAGE = re.compile(r"[\ufeff\s]*<(?:!doctype|\?xml|html|head|body)\b", re.IGNORECASE)
"""How a web page begins: it is from something between, and no model made it."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a server sent for a reply."""

    account: Account
    text: str
    data: Mapping[str, Any]
    """The JSON object that `text` is."""

    @classmethod
    def of(cls, account: Account, text: str) -> Self:
        """The body `text`.

        Raises:
            ReplyError: if it is no JSON object; quotes it.
            GlossatorError: what `from_status` gives, if it is an error sent with status 200.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            free = Usage() if PAGE.match(text) else None
            raise lost(account, text, _shown(account, text), free) from None
        if not isinstance(data, dict):
            raise lost(account, text, f"sent a JSON {type(data).__name__}, no reply")
        error = data.get("error")
        if error and isinstance(error, dict | str):
            raise from_status(account, _status(error), data)
        return cls(account, text, data)

    def wrong(self, what: str, usage: Usage | None = None, *, again: bool = True) -> ReplyError:
        """The error of a model that did not do as asked."""
        return ReplyError(what, self.text, usage, again=again)

    def no_reply(self, what: str, usage: Usage | None = None) -> ReplyError:
        """The error of a body of another shape than the protocol's."""
        return lost(self.account, self.text, what, usage)


def lost(account: Account, text: str, what: str, usage: Usage | None = None) -> ReplyError:
    """The error of a reply that did not come through."""
    return ReplyError(f"{account.title} {what}", text, usage, broken=True)


def _shown(account: Account, text: str) -> str:
    found = "an empty body" if not text.strip() else f"no JSON but {account.clean(text)[:80]!r}"
    return f"at {account.url} sent {found}"


def _status(error: dict[str, Any] | str) -> int:
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    if isinstance(code, int) and 400 <= code < 600:
        return code
    named = error.get("type") if isinstance(error, dict) else None
    return SENT_WITH_200.get(str(code), SENT_WITH_200.get(str(named), 500))


def reply_of(
    body: Body,
    request: Request,
    model: str,
    usage: Usage,
    *,
    text: str,
    finish: Finish,
    calls: tuple[ToolCall, ...] = (),
    answers: tuple[float, ...] = (),
    slots: tuple[tuple[float, ...], ...] = (),
) -> Reply:
    """The reply that `body` holds, of which a protocol's reader has taken out the parts.

    `model` is what was asked, for servers that do not say what they ran.

    Raises:
        ReplyError: if it calls tools that it may not, or none though it must.
        CutOff: if it calls none though it must, and the bound on its length was reached.
    """
    if calls and (not request.tools or request.tool_choice == "none"):
        raise body.wrong("it calls a tool, though none may be called", usage)
    if len({call.id for call in calls}) < len(calls):
        raise body.wrong("two of its calls have the same id", usage)
    if request.tools and request.tool_choice == "required" and not calls:
        wrong = "it calls no tool, though it must"
        if finish == "length":
            wrong += f"; it was cut off at {request.max_tokens} tokens"
            raise CutOff(wrong, body.text, usage)
        raise body.wrong(wrong, usage)
    said = storable(text)
    trimmed = cut(said, request)
    if calls:
        finish = "length" if finish == "length" else "tool_calls"
    elif trimmed != said:
        finish = "stop"
    ran = body.data.get("model")
    return Reply(
        text=trimmed,
        finish=finish,
        answers=answers,
        slots=slots,
        usage=usage,
        model=storable(ran) if isinstance(ran, str) else model,
        calls=calls,
    )


def storable(text: str) -> str:
    """`text` with lone surrogates, which no encoding takes, replaced."""
    return text.encode("utf-8", "replace").decode()


def cut(text: str, request: Request) -> str:
    """`text` up to the first stop behind the prefill, for servers that do not take all stops."""
    start = len(request.prefill) if text.startswith(request.prefill) else 0
    ends = [place for place in (text.find(s, start) for s in request.stop if s) if place >= 0]
    return text[: min(ends)] if ends else text

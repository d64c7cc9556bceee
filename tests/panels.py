"""Rules that know how to answer about one window, made to answer about several in one request."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from glossator.errors import ReplyError
from glossator.llm import Message, Reply, Request

Rule = Callable[[Request], Reply | str]
_FORM = re.compile(
    r"Texts:\n(?P<lines>.*)\n(?P<asked>Which contain|In which do the marked words fit): "
    r"(?P<about>.*)\?",
    re.DOTALL,
)
_LINE = re.compile(r'^(\d+): "(.*)"$', re.MULTILINE)
_SINGLE = {
    "Which contain": 'Text: "{}"\nDoes it contain {}?',
    "In which do the marked words fit": 'Text: "{}"\nDo the marked words fit: {}?',
}


def asked_windows(content: str) -> tuple[str, list[str], str]:
    """The description, the texts and the form of a question about one of them."""
    found = _FORM.fullmatch(content)
    assert found is not None, content
    texts = []
    for number, (said, text) in enumerate(_LINE.findall(found["lines"]), 1):
        assert int(said) == number
        texts.append(text)
    return found["about"], texts, _SINGLE[found["asked"]]


def by_line(rule: Rule) -> Rule:
    """`rule` asked about each window of a request by itself; a window it cannot do has no line."""

    def lines(request: Request) -> Reply | str:
        if not request.lines:
            return rule(request)
        # What follows in the conversation says what was wrong with an earlier reply.
        asked = next(
            m for m in request.messages if _FORM.fullmatch(m.content) and _last(m, request)
        )
        about, texts, form = asked_windows(asked.content)
        assert len(texts) == request.lines
        said: list[str] = []
        slots: list[tuple[float, ...]] = []
        for number, text in enumerate(texts, 1):
            message = Message("user", form.format(text, about))
            one = replace(request, messages=(message,), lines=0)
            try:
                found = rule(one)
            except ReplyError:
                slots.append(())
                continue
            reply = found if isinstance(found, Reply) else Reply(found)
            slots.append(reply.answers)
            said.append(f"{number}: {reply.text}")
        return Reply("\n".join(said), slots=tuple(slots) if request.answers else ())

    return lines


def _last(message: Message, request: Request) -> bool:
    """Whether no later message of `request` asks about windows."""
    later = request.messages[request.messages.index(message) + 1 :]
    return not any(_FORM.fullmatch(m.content) for m in later)

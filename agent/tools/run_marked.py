"""`run_marked`: does the feature fire on just this word of a text?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import MOST, quoted, together
from glossator.agent.tools.shown import marked
from glossator.agent.tools.table import Arguments, Cost
from glossator.errors import ConfigError
from glossator.evidence import About, Finding, Question

MOST_TEXTS = 32
OPEN, CLOSE = "<<", ">>"


class MarkedTexts(Arguments):
    """Texts with one marked word each."""

    texts: Annotated[
        list[Annotated[str, Field(min_length=5, max_length=2000)]],
        Field(min_length=1, max_length=MOST_TEXTS),
    ]
    """Each with one word or run of words marked <<like this>>."""


class RunMarked:
    """Reads texts and looks at the marked words alone."""

    name: ClassVar[str] = "run_marked"
    about: ClassVar[str] = (
        "Run the model on texts in which one word each is marked <<like this>>, and see whether "
        "the feature fires on the marked word. Use it where hypotheses agree on a text and not on "
        "which of its words counts."
    )
    arguments: ClassVar[type[Arguments]] = MarkedTexts

    def cost(self, arguments: MarkedTexts) -> Cost:
        """A pass for each text."""
        return Cost(len(arguments.texts))

    def questions(self, arguments: MarkedTexts) -> tuple[Question, ...]:
        """Does it fire on each marked word?

        Raises:
            ConfigError: for a text without a mark, or with several.
        """
        return tuple(question_of(text) for text in arguments.texts)

    async def run(self, arguments: MarkedTexts, lab: Lab) -> Finding:
        """The value is the strongest activation on the marked word."""
        asked = self.questions(arguments)
        read = await lab.live.activations([question.text for question in asked])
        threshold = lab.seen.threshold
        values: list[float | None] = []
        lines: list[str] = []
        room = min(300, max(24, (MOST - 40) // len(read) - 60))
        for question, acts in zip(asked, read, strict=True):
            inside = marks_of(acts.tokens, question)
            own = [v for v, mark in zip(acts.values, inside, strict=True) if mark]
            values.append(max(own) if own else None)
            word = question.text[slice(*question.span)] if question.span else ""
            fires = "?" if not own else "fires" if max(own) > threshold else "silent"
            line = marked(acts.tokens, acts.values, threshold, lab.seen.peak, room)
            lines.append(f"on {quoted(word)} {fires}; {line}")
        return Finding(
            together(lines),
            tuple(None if v is None else v > threshold for v in values),
            tuple(values),
            payload={
                "tokens": [list(a.tokens) for a in read],
                "activations": [[float(f"{v:.5g}") for v in a.values] for a in read],
            },
        )


def question_of(text: str) -> Question:
    """The question that a text with one mark asks.

    Raises:
        ConfigError: if it has none, or several, or marks nothing.
    """
    before, opened, rest = text.partition(OPEN)
    word, closed, after = rest.partition(CLOSE)
    if not opened or not closed or OPEN in after or CLOSE in after or not word.strip():
        raise ConfigError(f"each text has one word marked <<like this>>, unlike {text!r:.80}")
    lead = len(word) - len(word.lstrip())
    start = len(before) + lead
    return Question(About.FIRES, f"{before}{word}{after}", (start, start + len(word.strip())))


def marks_of(tokens: Sequence[str], question: Question) -> tuple[bool, ...]:
    """Which tokens share a character with what is marked; all False where nothing is."""
    if question.span is None:
        return (False,) * len(tokens)
    first, last = question.span
    found: list[bool] = []
    place = 0
    for token in tokens:
        begin = place + len(token) - len(token.lstrip())
        place += len(token)
        found.append(begin < last and place > first and bool(token.strip()))
    return tuple(found)

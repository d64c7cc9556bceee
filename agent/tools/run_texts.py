"""`run_texts`: what the feature does on texts, token by token."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import MOST, together
from glossator.agent.tools.shown import marked
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import About, Finding, Question

MOST_TEXTS = 32
MOST_CHARACTERS = 2000


class Texts(Arguments):
    """Texts to read."""

    texts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]],
        Field(min_length=1, max_length=MOST_TEXTS),
    ]
    """Each is read by itself."""


class RunTexts:
    """Reads texts with the model and gives the feature's activation at each token."""

    name: ClassVar[str] = "run_texts"
    about: ClassVar[str] = (
        "Run the model on texts of your own and see on which tokens the feature fires. Use it to "
        "test what a hypothesis expects: texts on which it should fire, and like ones on which it "
        "should not."
    )
    arguments: ClassVar[type[Arguments]] = Texts

    def cost(self, arguments: Texts) -> Cost:
        """A pass for each text."""
        return Cost(len(arguments.texts))

    def questions(self, arguments: Texts) -> tuple[Question, ...]:
        """Does it fire in each?"""
        return tuple(Question(About.FIRES, text) for text in arguments.texts)

    async def run(self, arguments: Texts, lab: Lab) -> Finding:
        """Peaks above the record's threshold count as firing."""
        read = await lab.live.activations(arguments.texts)
        threshold, peak = lab.seen.threshold, lab.seen.peak
        room = min(400, max(24, (MOST - 40) // len(read) - 22))
        lines = [marked(a.tokens, a.values, threshold, peak, room) for a in read]
        return Finding(
            together(lines),
            tuple(a.peak > threshold for a in read),
            tuple(a.peak for a in read),
            payload={
                "tokens": [list(a.tokens) for a in read],
                "activations": [[float(f"{v:.5g}") for v in a.values] for a in read],
            },
        )

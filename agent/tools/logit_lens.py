"""`logit_lens`: what the model is about to say at one token, layer by layer."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import listed, ranked, together
from glossator.agent.tools.required import inside_of
from glossator.agent.tools.run_texts import MOST_CHARACTERS
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import Finding, Question

LINES = 12
"""Layers that are written out, at most; the payload has all."""


class TextAndToken(Arguments):
    """A text, and where in it to look."""

    text: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
    at: Annotated[int, Field(ge=0, le=2048)] | None = None
    """Number of the token, from 0; the last one if it is not given."""


class LogitLens:
    """Reads the residual stream behind each layer through the final norm and the unembedding."""

    name: ClassVar[str] = "logit_lens"
    about: ClassVar[str] = (
        "See which next tokens the model leans to at one token of a text, layer by layer. Use it "
        "to see what is decided before and after the feature's layer."
    )
    arguments: ClassVar[type[Arguments]] = TextAndToken

    def cost(self, arguments: TextAndToken) -> Cost:
        """One pass, and a short one."""
        return Cost(2)

    def questions(self, arguments: TextAndToken) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: TextAndToken, lab: Lab) -> Finding:
        """Probabilities of the five likeliest."""
        found = await inside_of(lab).lens(arguments.text, arguments.at, 5)
        step = -(-len(found) // LINES)
        shown = [one for one in found if (len(found) - 1 - one.layer) % step == 0]
        lines = [f"layer {one.layer}: {ranked(one.tokens, '.2f', 3)}" for one in shown]
        where = "the last token" if arguments.at is None else f"token {arguments.at}"
        return Finding(
            together([f"Likeliest next tokens at {where}, read out behind each layer:", *lines]),
            payload={"layers": [[one.layer, listed(one.tokens)] for one in found]},
        )

"""`promoted_tokens`: what the feature's output direction adds to logits, on no text at all."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import listed, ranked, together
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import Finding, Question


class HowMany(Arguments):
    """How many tokens."""

    n: Annotated[int, Field(ge=1, le=50)] = 15
    """Of each list."""


class PromotedTokens:
    """Reads the feature's output direction through the unembedding (VocabProj)."""

    name: ClassVar[str] = "promoted_tokens"
    about: ClassVar[str] = (
        "List the tokens that more of the feature pushes up and down directly, by its output "
        "direction and the unembedding. Cheap, and needs no text; layers in between can undo it, "
        "so test what it suggests with steer."
    )
    arguments: ClassVar[type[Arguments]] = HowMany

    def cost(self, arguments: HowMany) -> Cost:
        """No pass."""
        return Cost(0)

    def questions(self, arguments: HowMany) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: HowMany, lab: Lab) -> Finding:
        """As z over the vocabulary."""
        found = await lab.live.promoted(arguments.n)
        return Finding(
            together(
                [
                    f"Promoted (z over the vocabulary): {ranked(found.promoted, most=15)}",
                    f"Suppressed: {ranked(found.suppressed, most=15)}",
                ]
            ),
            payload={
                "promoted": listed(found.promoted),
                "suppressed": listed(found.suppressed),
            },
        )

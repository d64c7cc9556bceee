"""`logit_attribution`: what the feature adds to the logits of next tokens on one text."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import listed, quoted, ranked, together
from glossator.agent.tools.required import inside_of
from glossator.agent.tools.run_texts import MOST_CHARACTERS
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import Finding, Question


class OneText(Arguments):
    """A text to read."""

    text: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]


class LogitAttribution:
    """Direct logit attribution at the text's strongest token."""

    name: ClassVar[str] = "logit_attribution"
    about: ClassVar[str] = (
        "On a text on which the feature fires, say how much it adds directly to the logits of "
        "which next tokens, at its strongest token. Use it to see whether the effect matters at "
        "the size that the feature has there."
    )
    arguments: ClassVar[type[Arguments]] = OneText

    def cost(self, arguments: OneText) -> Cost:
        """One pass."""
        return Cost(1)

    def questions(self, arguments: OneText) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: OneText, lab: Lab) -> Finding:
        """The final norm is as it is there."""
        found = await inside_of(lab).attributed(arguments.text, 20)
        share = f", {found.activation / lab.seen.peak:.2f} of peak" if lab.seen.peak > 0 else ""
        return Finding(
            together(
                [
                    f"At {quoted(found.tokens[found.at])} (token {found.at}) the feature is "
                    f"{found.activation:.3g}{share}. It adds to the logits of next tokens:",
                    f"most: {ranked(found.raised)}",
                    f"least: {ranked(found.lowered)}",
                ]
            ),
            payload={
                "tokens": list(found.tokens),
                "at": found.at,
                "activation": found.activation,
                "raised": listed(found.raised),
                "lowered": listed(found.lowered),
            },
        )

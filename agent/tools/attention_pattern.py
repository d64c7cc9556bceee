"""`attention_pattern`: where an attention head looks on texts."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import quoted, together
from glossator.agent.tools.required import inside_of
from glossator.agent.tools.run_texts import MOST_CHARACTERS
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import Finding, Question
from glossator.live import Attention
from glossator.types import JSON

LISTED = 3
"""Tokens that are listed for each one that looks."""


class HeadAndTexts(Arguments):
    """A head and texts to read."""

    layer: Annotated[int, Field(ge=0, le=1000)]
    head: Annotated[int, Field(ge=0, le=1000)]
    texts: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]],
        Field(min_length=1, max_length=8),
    ]


class AttentionPattern:
    """Reads the weights of one head."""

    name: ClassVar[str] = "attention_pattern"
    about: ClassVar[str] = (
        "See where one attention head looks from each token of a text, such as a head that "
        "upstream named. What is missing to 1 goes to the start of the text."
    )
    arguments: ClassVar[type[Arguments]] = HeadAndTexts

    def cost(self, arguments: HeadAndTexts) -> Cost:
        """A pass for each text."""
        return Cost(len(arguments.texts))

    def questions(self, arguments: HeadAndTexts) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: HeadAndTexts, lab: Lab) -> Finding:
        """For each token those it looks at most, the last tokens first."""
        inside = inside_of(lab)
        found = await inside.attention(arguments.layer, arguments.head, arguments.texts)
        looks = [[_most(one, i) for i in range(len(one.tokens))] for one in found]
        room = max(3, 16 // len(found))
        lines: list[str] = []
        for number, (one, most) in enumerate(zip(found, looks, strict=True)):
            lines.append(f"text {number}, last tokens first:")
            for i in reversed(range(max(0, len(one.tokens) - room), len(one.tokens))):
                at = ", ".join(f"{quoted(one.tokens[j])} {share:.2f}" for j, share in most[i])
                start = max(0.0, 1 - sum(one.weights[i]))
                lines.append(f"  {quoted(one.tokens[i])}: {at}; start {start:.2f}")
        kept = [_kept(one, most) for one, most in zip(found, looks, strict=True)]
        return Finding(together(lines), payload={"texts": kept})


def _most(found: Attention, i: int) -> list[tuple[int, float]]:
    """The places that token `i` looks at most, and the weights."""
    row = found.weights[i]
    best = sorted(range(i + 1), key=lambda j: -row[j])[:LISTED]
    return [(j, round(row[j], 4)) for j in best]


def _kept(found: Attention, looks: list[list[tuple[int, float]]]) -> JSON:
    return {
        "tokens": list(found.tokens),
        "most": [[[j, share] for j, share in most] for most in looks],
    }

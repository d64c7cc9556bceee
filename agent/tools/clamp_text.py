"""`clamp_text`: how the model goes on while the feature is held at a value."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import together, visible
from glossator.agent.tools.required import peak_of
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import Finding, Question
from glossator.live import NEUTRAL

Prompts = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(min_length=1, max_length=12)
]


class Clamp(Arguments):
    """Beginnings, and what the feature is held at."""

    prompts: Prompts | None = None
    """Beginnings of texts; neutral ones if none are given."""
    strength: Annotated[float, Field(ge=-20, le=20)] = 4.0
    """In train peaks; 0 ablates."""
    max_tokens: Annotated[int, Field(ge=1, le=40)] = 16
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] | None = None
    """Of the draw; the inquiry's own if none is given."""


class ClampText:
    """Draws continuations with and without the clamp."""

    name: ClassVar[str] = "clamp_text"
    about: ClassVar[str] = (
        "Let the model go on from beginnings of texts, as it is and with the feature held at a "
        "multiple of its peak. Use it to get an idea of what the feature makes the model say; "
        "test the idea with steer."
    )
    arguments: ClassVar[type[Arguments]] = Clamp

    def cost(self, arguments: Clamp) -> Cost:
        """A pass for each token that is made."""
        n = len(arguments.prompts or NEUTRAL[:4])
        return Cost(2 * n * arguments.max_tokens)

    def questions(self, arguments: Clamp) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: Clamp, lab: Lab) -> Finding:
        """Equal seeds draw equally, so that the clamp alone makes the difference."""
        value = arguments.strength * peak_of(lab)
        prompts = arguments.prompts or list(NEUTRAL[:4])
        seed = lab.seed if arguments.seed is None else arguments.seed
        drawn = [
            await lab.live.continuations(prompts, clamp, arguments.max_tokens, seed)
            for clamp in (None, value)
        ]
        lines = [f"Held at {arguments.strength:g} x peak:"]
        for prompt, before, after in zip(prompts, *drawn, strict=True):
            lines.append(f"{visible(prompt)[-80:]} ...")
            lines.append(f"  as it is:{visible(before)[:120]}")
            lines.append(f"  held:{visible(after)[:120]}")
        return Finding(
            together(lines),
            payload={
                "prompts": list(prompts),
                "as it is": list(drawn[0]),
                "held": list(drawn[1]),
                "value": value,
                "seed": seed,
            },
        )

"""`upstream`: the heads and neurons through which the feature differs between two texts."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import together
from glossator.agent.tools.required import inside_of
from glossator.agent.tools.run_texts import MOST_CHARACTERS
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import Finding, Question


class TwoTexts(Arguments):
    """Two texts of equally many tokens."""

    clean: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
    """One on which the feature fires."""
    corrupt: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
    """The same but for a token or two, so that it does not."""
    n: Annotated[int, Field(ge=1, le=40)] = 10
    """Components listed."""


class Upstream:
    """Attribution patching."""

    name: ClassVar[str] = "upstream"
    about: ClassVar[str] = (
        "Find the attention heads and neurons below the feature through which it differs between "
        "two texts of equally many tokens: one on which it fires, and one a token or two apart on "
        "which it does not. An estimate to first order; check the largest with patch_prompts."
    )
    arguments: ClassVar[type[Arguments]] = TwoTexts

    def cost(self, arguments: TwoTexts) -> Cost:
        """Two passes and one back."""
        return Cost(4)

    def questions(self, arguments: TwoTexts) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: TwoTexts, lab: Lab) -> Finding:
        """Effects as shares of the train peak where there is one."""
        found = await inside_of(lab).upstream(arguments.clean, arguments.corrupt, arguments.n)
        peak = lab.seen.peak
        unit, scale = ("of peak", peak) if peak > 0 else ("raw", 1.0)
        lines = [f"{one.component}: {one.effect / scale:+.3f} {unit}" for one in found]
        return Finding(
            together(
                ["What the feature would lose with a component as on the other text:", *lines]
            ),
            payload={"sources": [[one.component, one.effect] for one in found]},
        )

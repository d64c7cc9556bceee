"""`score_on_dev`: how well an explanation in words foretells dev text."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import together
from glossator.agent.tools.shown import plain
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import Effect, Finding, Question
from glossator.types import Explanation


class Said(Arguments):
    """An explanation."""

    text: Annotated[str, Field(min_length=1, max_length=1000, pattern=r"\S")]
    """One or two sentences: what makes the feature fire."""


class ScoreOnDev:
    """Scores words as any explanation is scored, on dev."""

    name: ClassVar[str] = "score_on_dev"
    about: ClassVar[str] = (
        "Score an explanation in words on held-out dev text, as in the end. "
        "Dear: it asks a language model many times, so keep it for explanations you would stand by."
    )
    arguments: ClassVar[type[Arguments]] = Said
    dear: ClassVar[bool] = True
    """Whatever the arguments are."""

    def cost(self, arguments: Said) -> Cost:
        """Calls to a language model."""
        return Cost(0, dear=True)

    def questions(self, arguments: Said) -> tuple[Question, ...]:
        """It foretells by itself."""
        return ()

    async def run(self, arguments: Said, lab: Lab) -> Finding:
        """One effect, the score with its interval.

        Raises:
            ProviderError, BudgetSpent: as the language model does that reads the explanation.
        """
        score = await lab.score_on_dev(Explanation(lab.seen.feature, arguments.text, "agent"))
        name = f"{score.scorer} on dev ({score.metric})" if score.metric else score.scorer
        note = plain(score.note)[:300]
        effect = Effect(name, score.value, score.low, score.high, score.n, note)
        lines = [f"{plain(arguments.text)[:200]!r}", effect.said]
        if score.null is not None:
            lines.append(f"wrong explanations reach {score.null:.3g} on the same text")
        if score.n_failed:
            lines.append(f"{score.n_failed} windows could not be judged")
        if note and score.value is not None:
            lines.append(note)
        return Finding(
            together(lines),
            effects=(effect,),
            payload={
                "text": arguments.text,
                "scorer": score.scorer,
                "simulator": score.simulator,
                "value": score.value,
                "null": score.null,
                "n_failed": score.n_failed,
            },
            usage=score.usage,
        )

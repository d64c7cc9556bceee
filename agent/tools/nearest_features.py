"""`nearest_features`: which other features write, or fire, most like this one."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import together
from glossator.agent.tools.table import Arguments, Cost
from glossator.errors import Unsupported
from glossator.evidence import Finding, Question


class Near(Arguments):
    """Near by what."""

    by: Literal["decoder", "firing"]
    """`decoder`: the cosine of what they write; `firing`: the correlation of their activations."""
    n: Annotated[int, Field(ge=1, le=20)] = 5


class NearestFeatures:
    """Ranks other features of the model."""

    name: ClassVar[str] = "nearest_features"
    about: ClassVar[str] = (
        "List the features most like this one, by what they write to the model (decoder) or by the "
        "tokens they fire on (firing). Use it to see whether others do the same, or split its work."
    )
    arguments: ClassVar[type[Arguments]] = Near

    def cost(self, arguments: Near) -> Cost:
        """None to compare what is written; some 200 windows to compare firing."""
        return Cost(200 if arguments.by == "firing" else 0)

    def questions(self, arguments: Near) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: Near, lab: Lab) -> Finding:
        """The nearest first."""
        if lab.nearest is None:
            raise Unsupported(
                f"{lab.seen.feature} has no model around it, and so no features beside it"
            )
        by_decoder = arguments.by == "decoder"
        ask = lab.nearest.by_decoder if by_decoder else lab.nearest.by_firing
        found = await ask(arguments.n)
        measure = "cosine of what is written" if by_decoder else "correlation of activations"
        lines = [f"{feature}: {value:+.2f}" for feature, value in found]
        return Finding(
            together([f"nearest by {measure}:", *(lines or ["none"])]),
            payload={
                "measure": measure,
                "features": [[str(feature), value] for feature, value in found],
            },
        )

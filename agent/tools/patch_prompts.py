"""`patch_prompts`: where in the model the difference between two texts reaches the feature."""

from __future__ import annotations

from typing import ClassVar, Literal

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import quoted, together
from glossator.agent.tools.required import inside_of
from glossator.agent.tools.table import Arguments, Cost
from glossator.agent.tools.upstream import TwoTexts
from glossator.evidence import Effect, Finding, Question


class Patching(TwoTexts):
    """Two texts of equally many tokens, and which run is put into which."""

    direction: Literal["denoise", "noise"] = "denoise"
    """`denoise` puts parts of the clean run into the corrupt one: what is enough for the feature;
    `noise` the other way round: what it needs."""


class PatchPrompts:
    """Activation patching."""

    name: ClassVar[str] = "patch_prompts"
    about: ClassVar[str] = (
        "Run one text with single parts of the other text's run put in (attention, MLP or stream "
        "of a layer, at one token or all), and see how much of the feature comes along: 0 nothing, "
        "1 all of the difference. Both texts have equally many tokens."
    )
    arguments: ClassVar[type[Arguments]] = Patching

    def cost(self, arguments: Patching) -> Cost:
        """Some hundred short texts at most."""
        return Cost(200)

    def questions(self, arguments: Patching) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: Patching, lab: Lab) -> Finding:
        """The strongest first."""
        tried = (arguments.clean, arguments.corrupt, arguments.direction)
        found = await inside_of(lab).patched(*tried, arguments.n)
        tokens = list(lab.cut(arguments.clean))
        lines = []
        for one in found:
            named = one.position is not None and one.position < len(tokens)
            at = f"token {one.position} {quoted(tokens[one.position or 0])}" if named else "all"
            share = "both texts alike" if one.recovered is None else f"{one.recovered:.2f}"
            lines.append(f"{one.component} at {at}: {share} (feature {one.activation:.3g})")
        single = [one for one in found if one.position is not None]
        best = Effect("share brought back by the best single place", None, note="none was tried")
        if single and single[0].recovered is not None:
            best = Effect(best.name, single[0].recovered, n=1)
        return Finding(
            together([f"{arguments.direction}: share of the difference brought along", *lines]),
            effects=(best,),
            payload={
                "patched": [
                    [one.component, one.position, one.activation, one.recovered] for one in found
                ]
            },
        )

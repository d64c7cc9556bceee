"""`patch_prompts`: where in the model the difference between two texts reaches the feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import quoted, together
from glossator.agent.tools.required import inside_of
from glossator.agent.tools.table import Arguments, Cost
from glossator.agent.tools.upstream import TwoTexts
from glossator.evidence import Effect, Finding, Question
from glossator.inside import Patched


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
        found = await inside_of(lab).patched(*tried, 1000)
        tokens = list(lab.cut(arguments.clean))
        parts = [one for one in found if not _is_stream(one)]
        lines = [
            f"{one.component} at {_place(one, tokens)}: {one.recovered:.2f}"
            for one in parts[: arguments.n]
        ]
        streams = _streams([one for one in found if _is_stream(one)], tokens)
        single = [one for one in found if one.position is not None]
        best = Effect("share brought back by the best single place", None, note="none was tried")
        if single:
            best = Effect(best.name, single[0].recovered, n=1)
        return Finding(
            together(
                [f"{arguments.direction}: share of the difference brought along", *streams, *lines]
            ),
            effects=(best,),
            payload={
                "patched": [
                    [one.component, one.position, one.activation, one.recovered] for one in found
                ]
            },
        )


def _is_stream(one: Patched) -> bool:
    return one.component.split(".")[-1].startswith("resid")


def _place(one: Patched, tokens: Sequence[str]) -> str:
    if one.position is None:
        return "all tokens"
    named = quoted(tokens[one.position]) if one.position < len(tokens) else ""
    return f"token {one.position} {named}".strip()


def _streams(found: Sequence[Patched], tokens: Sequence[str]) -> list[str]:
    """One line for each token: what the stream brings along there, layer by layer, a few layers."""
    lines = []
    for position in sorted({one.position for one in found if one.position is not None}):
        here = sorted(
            (one for one in found if one.position == position),
            key=lambda one: (int(one.component.split(".")[1]), one.component.endswith("post")),
        )
        step = -(-len(here) // 8)
        some = [f"{one.recovered:.2f} ({one.component})" for one in here[::-step][::-1]]
        lines.append(f"stream at {_place(here[0], tokens)}: {', '.join(some)}")
    return lines

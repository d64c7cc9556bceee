"""`exemplars`: windows of the train record, by how strongly the feature fires in them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import MOST, together
from glossator.agent.tools.shown import marked
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import Finding, Question
from glossator.scorers.sample import chance_for


class Stratum(Arguments):
    """Which windows."""

    stratum: Literal["top", "q5", "q4", "q3", "q2", "q1", "silent"]
    """`top` are the strongest; `q5` (strong) to `q1` (weak) are fifths of the others that fire."""
    n: Annotated[int, Field(ge=1, le=20)] = 8


class Exemplars:
    """Shows windows as they were collected. Not dev: hypotheses are compared on it later."""

    name: ClassVar[str] = "exemplars"
    about: ClassVar[str] = (
        "Show collected passages of one stratum: the strongest, a fifth of the other firing ones, "
        "or silent ones. Use it to see whether weak firing means the same as strong firing."
    )
    arguments: ClassVar[type[Arguments]] = Stratum

    def cost(self, arguments: Stratum) -> Cost:
        """No pass: activations are those of the record."""
        return Cost(0)

    def questions(self, arguments: Stratum) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: Stratum, lab: Lab) -> Finding:
        """Drawn at random from the stratum."""
        train = lab.seen.train
        own = [e for e in train.examples if e.stratum == arguments.stratum]
        chance = chance_for(lab.seed, "exemplars", lab.seen.feature)
        drawn = sorted(chance.permutation(len(own))[: arguments.n].tolist())
        chosen = [own[i] for i in drawn]
        of_all = sum(s.population for s in train.strata if s.name == arguments.stratum)
        head = (
            f"{arguments.stratum}: {len(chosen)} of {max(of_all, len(own))} train windows, each in "
            "its document"
        )
        room = max(60, (MOST - 160) // max(1, len(chosen)) - 20)
        lines = [
            marked(e.tokens, e.activations, train.threshold, lab.seen.peak, room) for e in chosen
        ]
        return Finding(
            together([head, *lines]),
            payload={
                "windows": [
                    {
                        "tokens": list(e.tokens),
                        "activations": [float(f"{v:.5g}") for v in e.activations],
                        "document": e.document,
                        "start": e.start,
                    }
                    for e in chosen
                ]
            },
        )

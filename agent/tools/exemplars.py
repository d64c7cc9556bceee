"""`exemplars`: windows of the train record, by how strongly the feature fires in them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import MOST, together
from glossator.agent.tools.shown import marked
from glossator.agent.tools.table import Arguments, Cost
from glossator.errors import Unsupported
from glossator.evidence import Finding, Question
from glossator.scorers.sample import chance_for


class Stratum(Arguments):
    """Which windows."""

    stratum: Literal["top", "q5", "q4", "q3", "q2", "q1", "silent"]
    """`top` are the strongest; `q5` (strong) to `q1` (weak) are fifths of the others that fire."""
    n: Annotated[int, Field(ge=1, le=20)] = 8
    """How many, at most."""
    pools: Literal["train", "train and dev"] = "train"
    """Which text. Hypotheses are compared on dev, so what was read off it has been seen before."""


class Exemplars:
    """Shows windows as they were collected, with what the feature was in their documents."""

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
        seen = lab.seen
        splits = [seen.train] if arguments.pools == "train" else [seen.train, seen.dev]
        if len(splits) > 1 and not lab.shows_dev:
            raise Unsupported("hypotheses are compared on dev windows here: ask for train")
        own = [
            (split, example)
            for split in splits
            for example in split.examples
            if example.stratum == arguments.stratum
        ]
        chance = chance_for(lab.seed, "exemplars", seen.feature)
        drawn = sorted(chance.permutation(len(own))[: arguments.n].tolist())
        chosen = [own[i] for i in drawn]
        counted = [s for split in splits for s in split.strata if s.name == arguments.stratum]
        of_all = max(len(own), sum(s.population for s in counted))
        head = (
            f"{arguments.stratum}: {len(chosen)} of {of_all} windows of {arguments.pools}, "
            "activations as in their documents"
        )
        room = max(60, (MOST - 160) // max(1, len(chosen)) - 20)
        lines = [
            marked(e.tokens, e.activations, split.threshold, seen.peak, room) for split, e in chosen
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
                        "pool": split.pool.value,
                    }
                    for split, e in chosen
                ]
            },
        )

"""`ablate`: what the model would say without the feature, where it fires and where it does not."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.intervals import difference_of, mean_of
from glossator.agent.tools.lists import listed, ranked, together
from glossator.agent.tools.run_texts import MOST_CHARACTERS
from glossator.agent.tools.table import Arguments, Cost
from glossator.errors import Unsupported
from glossator.evidence import Finding, Question
from glossator.live import NextToken
from glossator.types import Example

N_MOVED = 20
"""Tokens that are looked at for each text."""


class Ablation(Arguments):
    """Texts on which the feature is held at 0."""

    texts: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]],
            Field(min_length=1, max_length=16),
        ]
        | None
    ) = None
    """Texts on which it fires; those of the train split that it fires most on if none are given."""
    n: Annotated[int, Field(ge=2, le=16)] = 8
    """Texts of the train split of each kind, firing and silent."""


class Ablate:
    """Holds the feature at 0, at the token where it fires most, and compares with silent texts."""

    name: ClassVar[str] = "ablate"
    about: ClassVar[str] = (
        "Hold the feature at 0 on texts on which it fires, and see how much the model's next "
        "token changes (KL) and which tokens it made likelier, against texts on which it is "
        "silent. Use it to learn whether and how it matters where it fires by itself."
    )
    arguments: ClassVar[type[Arguments]] = Ablation

    def cost(self, arguments: Ablation) -> Cost:
        """Three passes for each text."""
        n = len(arguments.texts) if arguments.texts else arguments.n
        return Cost(3 * (n + arguments.n))

    def questions(self, arguments: Ablation) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: Ablation, lab: Lab) -> Finding:
        """Texts end at their strongest token, and silent ones about as far in.

        Raises:
            Unsupported: if it fires on none of the texts.
        """
        train = lab.seen.train
        given = arguments.texts or [_to_peak(e) for e in _strongest(train.firing, arguments.n)]
        read = await lab.live.activations(given) if given else ()
        fires: list[str] = []
        silent: list[str] = []
        for one in read:
            if one.peak > lab.seen.threshold:
                end = one.values.index(one.peak) + 1
                fires.append("".join(one.tokens[:end]))
            else:
                silent.append("".join(one.tokens))
        if not fires:
            raise Unsupported(
                f"{lab.seen.feature} fires on none of these texts, so holding it at 0 changes "
                "nothing of interest; give texts on which it fires, or use steer"
            )
        quiet = [_half(e) for e in train.silent[: arguments.n]]
        silent += [
            text
            for text, one in zip(quiet, await lab.live.activations(quiet), strict=True)
            if one.peak <= lab.seen.threshold
        ]
        changed = await lab.live.next_tokens([*fires, *silent], 0.0, N_MOVED)
        on, off = changed[: len(fires)], changed[len(fires) :]
        kl_on, kl_off = [c.kl for c in on], [c.kl for c in off]
        effects = (
            mean_of("KL where it fires (nats)", kl_on),
            mean_of("KL where it is silent (nats)", kl_off),
            difference_of("KL where it fires less where it is silent (nats)", kl_on, kl_off),
        )
        gains = _gains(on)
        lost = sorted(((t, -g) for t, g in gains.items() if g < 0), key=lambda x: -x[1])
        gained = sorted(((t, g) for t, g in gains.items() if g > 0), key=lambda x: -x[1])
        return Finding(
            together(
                [
                    *(effect.said for effect in effects),
                    f"It makes likelier there (mean probability): {ranked(lost, '+.4f', 12)}",
                    f"It makes less likely there: {ranked(gained, '.4f', 12)}",
                ]
            ),
            effects=effects,
            payload={
                "fires": list(fires),
                "silent": list(silent),
                "kl where it fires": list(kl_on),
                "kl where it is silent": list(kl_off),
                "made likelier": listed(lost[:40]),
                "made less likely": listed(gained[:40]),
            },
        )


def _strongest(examples: Sequence[Example], n: int) -> list[Example]:
    return sorted(examples, key=lambda e: -e.peak)[:n]


def _to_peak(example: Example) -> str:
    return "".join(example.tokens[: example.activations.index(example.peak) + 1])


def _half(example: Example) -> str:
    return "".join(example.tokens[: max(1, len(example.tokens) // 2)])


def _gains(changes: Sequence[NextToken]) -> dict[str, float]:
    """Mean change of probability without the feature, by token, of those that moved most."""
    total: defaultdict[str, float] = defaultdict(float)
    for change in changes:
        for shift in {s.token: s for s in (*change.raised, *change.lowered)}.values():
            total[shift.token] += (math.exp(shift.after) - math.exp(shift.before)) / len(changes)
    return dict(total)

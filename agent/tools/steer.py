"""`steer`: does holding the feature high make given tokens more probable?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.intervals import mean_of
from glossator.agent.tools.lists import quoted, together
from glossator.agent.tools.required import peak_of
from glossator.agent.tools.table import Arguments, Cost
from glossator.errors import ConfigError
from glossator.evidence import About, Effect, Finding, Question
from glossator.live import NEUTRAL, TokenShift

N_LIKE = 50
"""Tokens that each candidate is compared with."""
PERCENTILE = 95
"""A candidate counts as promoted if it gains more than so many percent of them."""


class Candidates(Arguments):
    """Tokens that may become more probable, and what the feature is held at."""

    tokens: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=60)]],
        Field(min_length=1, max_length=24),
    ]
    """Each one token of the model, with the space before it if it has one: ` river`."""
    strength: Annotated[float, Field(gt=0, le=20)] = 4.0
    """In train peaks."""
    prompts: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=1000)]],
            Field(min_length=3, max_length=32),
        ]
        | None
    ) = None
    """Beginnings of texts, at least three; neutral ones if none are given."""


class Steer:
    """Holds the feature high and compares log-probabilities of the next token, prompt by prompt.

    A token counts as promoted if the mean of its changes over the prompts has a 95% interval above
    0, and it gains more than 95% of 50 tokens that were about as probable before.
    """

    name: ClassVar[str] = "steer"
    about: ClassVar[str] = (
        "Hold the feature at a multiple of its peak and see whether given tokens become more "
        "probable to come next, more so than tokens about as probable before. Use it to test what "
        "a hypothesis says of the output: tokens it should promote, and like ones it should not. "
        "Write tokens with the space before them, such as ' river'."
    )
    arguments: ClassVar[type[Arguments]] = Candidates

    def cost(self, arguments: Candidates) -> Cost:
        """Two passes for each prompt."""
        return Cost(2 * len(arguments.prompts or NEUTRAL))

    def questions(self, arguments: Candidates) -> tuple[Question, ...]:
        """Is it promoted, for each token?"""
        return tuple(Question(About.PROMOTES, token) for token in arguments.tokens)

    async def run(self, arguments: Candidates, lab: Lab) -> Finding:
        """What is not one token has no answer.

        Raises:
            ConfigError: if none of them is one.
        """
        value = arguments.strength * peak_of(lab)
        prompts = arguments.prompts or list(NEUTRAL)
        pieces = {token: tuple(lab.cut(token)) for token in arguments.tokens}
        whole = [token for token, cut in pieces.items() if len(cut) == 1]
        if not whole:
            raise ConfigError(
                "none of these is one token of the model; they are cut so: "
                + "; ".join("|".join(cut) for cut in pieces.values())[:300]
            )
        shifts = await lab.live.shifts(prompts, whole, value, N_LIKE)
        found = {shift.token: _Judged.of(shift) for shift in shifts}
        lines = [
            f"Held at {arguments.strength:g} x peak on {len(prompts)} prompts; change of the "
            "natural-log probability of being next, and what 95% of like tokens stay below:"
        ]
        for token, cut in pieces.items():
            judged = found.get(token)
            said = f"not one token ({'|'.join(cut)})" if judged is None else judged.said
            lines.append(f"{quoted(token)}: {said}")
        return Finding(
            together(lines),
            tuple(_answers(arguments, found)),
            tuple(found[t].effect.value if t in found else None for t in arguments.tokens),
            tuple(judged.effect for judged in found.values()),
            payload={
                "value": value,
                "prompts": list(prompts),
                "tokens": {
                    token: {
                        "changes": [round(c, 5) for c in judged.shift.changes],
                        "before": [round(b, 5) for b in judged.shift.before],
                        "like": [round(c, 5) for c in judged.shift.like],
                        "bar": judged.bar,
                    }
                    for token, judged in found.items()
                },
            },
        )


@dataclass(frozen=True)
class _Judged:
    """One token's change, and whether it counts as promoted."""

    shift: TokenShift
    effect: Effect
    bar: float | None
    """What 95% of like tokens stay below; None where there are none."""

    @classmethod
    def of(cls, shift: TokenShift) -> _Judged:
        effect = mean_of(f"log-probability of {quoted(shift.token)} (nats)", shift.changes)
        bar = float(np.percentile(shift.like, PERCENTILE)) if shift.like else None
        return cls(shift, effect, bar)

    @property
    def promoted(self) -> bool | None:
        """None where there is no interval, or nothing to compare with."""
        value, low = self.effect.value, self.effect.low
        if value is None or low is None or self.bar is None:
            return None
        return low > 0 and value > self.bar

    @property
    def said(self) -> str:
        word = {True: "promoted", False: "not promoted", None: "cannot be told"}[self.promoted]
        low, high = self.effect.low, self.effect.high
        ends = "" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]"
        bar = "" if self.bar is None else f", like tokens {self.bar:+.2f}"
        return f"{self.effect.value:+.2f}{ends}{bar}: {word}"


def _answers(arguments: Candidates, found: Mapping[str, _Judged]) -> list[bool | None]:
    return [found[t].promoted if t in found else None for t in arguments.tokens]

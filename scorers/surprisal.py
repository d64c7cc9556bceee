"""The `surprisal` scorer: does the explanation make text less surprising where the feature fires?

A reader who knows what a text is about loses less on each of its tokens. Nothing is generated: the
language model gives the probability of the window's text behind the explanation, and behind others
of like length that have nothing to do with it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from glossator.errors import ReplyError
from glossator.llm import LLM, Can, Message, Reply, Request, ask, need
from glossator.scorers.asking import one_by_one
from glossator.scorers.layout import unbroken
from glossator.scorers.nulls import DECOYS, Wrong
from glossator.scorers.outcome import Frame, failed
from glossator.scorers.rated import (
    Figure,
    Reading,
    base_rate,
    precision_of_ratings,
    rated,
    rating,
)
from glossator.scorers.sample import chance_for, draw
from glossator.scorers.together import together
from glossator.types import Example, Explanation, Prediction, Scale, Score, Split, Usage

VERSION = "surprisal-1"
METRIC = "AUPRC of the loss that the explanation saves, weighted to the pool"
SYSTEM = "You write down a passage of a text, which may begin and end anywhere."
QUESTION = "Write a passage that contains {about}."


@dataclass(frozen=True)
class SurprisalScorer:
    """Average precision of the loss saved, in nats a token of the window.

    What is saved is the mean loss behind neutral explanations less the loss behind this one: some
    windows are easier than others whatever is said of them, and that is taken off.
    """

    headline: ClassVar[Figure] = staticmethod(precision_of_ratings)

    llm: LLM
    wrong: Wrong
    n_scored: int = 40
    n_neutral: int = 3
    """Neutral explanations of like length whose mean loss is the base line."""
    seed: int = 0
    precision: float = 0.0
    """Half of the interval's width that is narrow enough; 0 asks about all windows."""

    def __post_init__(self) -> None:
        need(
            self.llm,
            Can.ANSWERS,
            "the scorer surprisal",
            "--scorer detection, or a local model as the scorer's",
        )

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        """See `Scorer`; nothing is fitted, so `dev` is not read."""
        frame = Frame(explanation, "surprisal", "loss on the text", self.llm.name, METRIC)
        if why := frame.reason_against(split):
            return frame.nothing(why)
        examples = draw(split, self.n_scored, explanation.feature, self.seed)
        about = neutral(explanation.text, self.n_neutral, self.seed)
        base: dict[str, float | ReplyError] = {}
        locks = {e.key: asyncio.Lock() for e in examples}

        async def base_line(example: Example) -> Usage:
            """Puts the window's base line into `base`, once for all explanations."""
            async with locks[example.key]:
                if example.key in base:
                    return Usage()
                base[example.key], usage = await self._base_line(about, example)
                return usage

        async def rate(by: Explanation, example: Example) -> tuple[Prediction, Usage]:
            used = await base_line(example)
            before = base[example.key]
            if isinstance(before, ReplyError):
                return failed(example, before, Scale.LOG_ODDS.value, True), used
            loss, usage = await self._loss(by.text, example)
            if isinstance(loss, ReplyError):
                return failed(example, loss, Scale.LOG_ODDS.value, True), used + usage
            # What rounding leaves of two equal losses is no saving.
            return rating(example, round(before - loss, 9), Scale.LOG_ODDS.value), used + usage

        return await rated(
            frame, self.wrong, examples, one_by_one(rate), read, self.seed, precision=self.precision
        )

    async def _base_line(
        self, about: Sequence[str], example: Example
    ) -> tuple[float | ReplyError, Usage]:
        """The mean loss of the window behind each of `about`, or why there is none."""
        found = await together(self._loss(text, example) for text in about)
        usage = sum((u for _, u in found), Usage())
        losses: list[float] = []
        for loss, _ in found:
            if isinstance(loss, ReplyError):
                return loss, usage
            losses.append(loss)
        return sum(losses) / len(losses), usage

    async def _loss(self, text: str, example: Example) -> tuple[float | ReplyError, Usage]:
        """Nats a token of the window behind `text`, or why there are none."""
        request = request_for(text, example.text)
        try:
            # The same text has the same probability: asking again would mend nothing.
            total, usage = await ask(self.llm, request, loss_of, again=0)
        except ReplyError as error:
            return error, error.usage or Usage()
        return total / len(example.tokens), usage


def request_for(description: str, text: str) -> Request:
    """The question for the probability of `text`, which is not in the prompt."""
    about = unbroken(description).rstrip(".")
    messages = (Message("system", SYSTEM), Message("user", QUESTION.format(about=about)))
    return Request(messages, max_tokens=0, answers=(text.strip(),))


def neutral(text: str, n: int, seed: int) -> tuple[str, ...]:
    """`n` texts about as long as `text`, of decoys, which have most likely nothing to do with it.

    A longer prompt changes every loss a little, so what is compared must be of like length.
    """
    chance = chance_for(seed, "neutral", len(text))
    own = unbroken(text).rstrip(".")
    found: list[str] = []
    for _ in range(n):
        decoys = [DECOYS[i] for i in chance.permutation(len(DECOYS)) if DECOYS[i] != own]
        joined = [", or ".join(decoys[: i + 1]) for i in range(1, len(decoys))]
        fresh = [t for t in (*decoys, *joined) if t not in found]
        found.append(min(fresh, key=lambda t: abs(len(t) - len(own))))
    return tuple(found)


def read(own: Sequence[Prediction], on_dev: Sequence[Prediction]) -> Reading:
    """Average precision of what is saved; nothing is fitted."""
    return Reading(
        headline=precision_of_ratings,
        empty=base_rate,
        undefined="no average precision is defined",
        plain={"base rate": base_rate(own), **saved(own)},
    )


def saved(predictions: Sequence[Prediction]) -> dict[str, float | None]:
    """The mean saving in each stratum, nats a token."""
    worked = [p for p in predictions if not p.failure]
    means: dict[str, float | None] = {}
    for stratum in sorted({p.stratum for p in worked}):
        group = [p.predicted[0] for p in worked if p.stratum == stratum]
        means[f"nats a token saved in {stratum}"] = sum(group) / len(group)
    return means


def loss_of(reply: Reply) -> float:
    """Minus the log probability of the text, in nats.

    Raises:
        ReplyError: if it is missing, or the text is impossible.
    """
    if len(reply.answers) != 1 or not math.isfinite(reply.answers[0]):
        raise ReplyError("the probability of the text is missing", reply.text)
    return -reply.answers[0]

"""A simulator that reads the value of every token from one pass over the prompt.

The prompt lists `token<tab>unknown`; behind each tab the language model's probabilities of "0" to
"10" give the expected value (the all-at-once method of Bills et al. 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from glossator.errors import ReplyError
from glossator.llm import LLM, Can, Message, Request, need
from glossator.scorers.layout import slots, tab_lines, unbroken
from glossator.types import Explanation, Scale, Simulation

VERSION = "logprob-1"
VALUES = tuple(str(v) for v in range(11))
SYSTEM = (
    "A neuron in a language model reacts to some words and not to others. From a description of "
    "what it reacts to, give its activation at each word, from 0 (none) to 10 (strongest). Most "
    "activations are 0."
)
SHOTS = (
    (
        "words for animals",
        ((" the", 0), (" old", 0), (" dog", 10), (" and", 0), (" two", 0), (" kittens", 9),
         (" slept", 0), (" by", 0), (" a", 0), (" stable", 2), (".", 0)),
    ),
    (
        'the word "if" where it begins a condition',
        ((" Call", 0), (" me", 0), (" if", 10), (" you", 0), (" can", 0), (".", 0), (" As", 0),
         (" if", 3), (" nothing", 0), (" happened", 0)),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class LogprobSimulator:
    """Expected value over "0" to "10" behind each token, E[a] = sum v p(v) / sum p(v)."""

    scale: ClassVar[Scale] = Scale.TENTHS
    """0 to 10."""

    llm: LLM

    def __post_init__(self) -> None:
        need(
            self.llm,
            Can.PROMPT_LOGPROBS,
            "the simulator logprob",
            "--simulator reply, or a local model",
        )

    @property
    def model(self) -> str:
        """The language model's name."""
        return self.llm.name

    async def simulate(self, explanation: Explanation, tokens: tuple[str, ...]) -> Simulation:
        """The expected value at each token.

        Raises:
            ReplyError: if the probabilities of "0" to "10" are missing or all 0.
        """
        reply = await self.llm.reply(request_for(explanation.text, tokens, VALUES))
        if [len(row) for row in reply.slots] != [len(VALUES)] * len(tokens):
            raise ReplyError(
                f"{len(reply.slots)} distributions for {len(tokens)} tokens", "", reply.usage
            )
        try:
            predicted = tuple(expected(row) for row in reply.slots)
        except ReplyError as error:
            raise ReplyError(str(error), "", reply.usage) from error
        return Simulation(tokens, predicted, Scale.TENTHS, reply.usage)


def request_for(text: str, tokens: Sequence[str], answers: tuple[str, ...]) -> Request:
    """The prompt of `text` over `tokens`, with a slot behind each."""
    messages = [Message("system", SYSTEM)]
    for description, values in SHOTS:
        lines = "".join(f"{t.strip()}\t{v}\n" for t, v in values)
        messages += [
            Message("user", f"Description: {description}"),
            Message("assistant", lines.rstrip()),
        ]
    messages.append(Message("user", f"Description: {unbroken(text)}\n\n{tab_lines(tokens)}"))
    return Request(tuple(messages), max_tokens=0, answers=answers, slots=slots(tokens))


def expected(log_probs: Sequence[float]) -> float:
    """Expected value of the answers 0, 1, ... under `log_probs`, renormalised.

    Raises:
        ReplyError: if all are impossible.
    """
    top = max(log_probs)
    if not math.isfinite(top):
        raise ReplyError("no value from 0 to 10 has any probability")
    odds = [math.exp(p - top) for p in log_probs]
    return sum(v * p for v, p in enumerate(odds)) / sum(odds)

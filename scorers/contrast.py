"""A simulator for small models: how much likelier is yes under this description than under others?

Small models are biased, not blind: they like some words, whatever they are asked. What they say
under unrelated descriptions is taken off what they say under this one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from glossator.errors import ReplyError
from glossator.llm import LLM, Can, Message, Reply, Request, need
from glossator.scorers.layout import slots, tab_lines, unbroken
from glossator.scorers.together import together
from glossator.types import Explanation, Scale, Simulation, Usage

VERSION = "contrast-1"
ANSWERS = ("yes", "no")
SYSTEM = (
    "You mark words in a text. For each word you answer yes if it fits the description, and no if "
    "it does not. Few words fit."
)
SHOTS = (
    (
        "words for animals",
        ((" the", 0), (" old", 0), (" dog", 1), (" and", 0), (" two", 0), (" kittens", 1),
         (" slept", 0), (" by", 0), (" a", 0), (" wall", 0), (".", 0)),
    ),
    (
        'the word "if" and parts of words that look like it',
        ((" Call", 0), (" me", 0), (" if", 1), (" you", 0), (" can", 0), (".", 0), (" If", 1),
         (" nothing", 0), (" happens", 0), (" wait", 0)),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class ContrastSimulator:
    """Log odds of yes at each token, less their mean under unrelated explanations."""

    scale: ClassVar[Scale] = Scale.LOG_ODDS
    """A difference of log odds."""

    llm: LLM
    others: tuple[str, ...] = ()
    """Texts of unrelated explanations of the run; none makes it the plain log odds."""

    def __post_init__(self) -> None:
        need(
            self.llm,
            Can.PROMPT_LOGPROBS,
            "the simulator contrast",
            "--simulator reply, or a local model",
        )

    @property
    def model(self) -> str:
        """The language model's name."""
        return self.llm.name

    async def simulate(self, explanation: Explanation, tokens: tuple[str, ...]) -> Simulation:
        """The contrast at each token.

        Raises:
            ReplyError: if the probabilities of yes and no are missing.
        """
        texts = [explanation.text, *(o for o in self.others if o != explanation.text)]
        replies = await together(self.llm.reply(request_for(text, tokens)) for text in texts)
        usage = sum((r.usage for r in replies), Usage())
        try:
            own, *rest = [log_odds(r, len(tokens)) for r in replies]
        except ReplyError as error:
            raise ReplyError(str(error), "", usage) from error
        bias = [sum(column) / len(rest) for column in zip(*rest, strict=True)] if rest else None
        predicted = own if bias is None else [a - b for a, b in zip(own, bias, strict=True)]
        return Simulation(tokens, tuple(predicted), Scale.LOG_ODDS, usage)


def request_for(text: str, tokens: Sequence[str]) -> Request:
    """The prompt of `text` over `tokens`, with a slot for yes or no behind each."""
    messages = [Message("system", SYSTEM)]
    for description, values in SHOTS:
        lines = "".join(f"{t.strip()}\t{'yes' if v else 'no'}\n" for t, v in values)
        messages += [
            Message("user", f"Description: {description}"),
            Message("assistant", lines.rstrip()),
        ]
    messages.append(Message("user", f"Description: {unbroken(text)}\n\n{tab_lines(tokens)}"))
    return Request(tuple(messages), max_tokens=0, answers=ANSWERS, slots=slots(tokens))


def log_odds(reply: Reply, n_tokens: int) -> list[float]:
    """Natural-log odds of yes behind each token.

    Raises:
        ReplyError: if one is missing or impossible.
    """
    if [len(row) for row in reply.slots] != [len(ANSWERS)] * n_tokens:
        raise ReplyError(f"{len(reply.slots)} distributions for {n_tokens} tokens")
    found = [yes - no for yes, no in reply.slots]
    if not all(map(math.isfinite, found)):
        raise ReplyError("yes or no has no probability at some token")
    return found

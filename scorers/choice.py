"""Which of several descriptions fits? Asked with the options in several orders, for a fair answer.

Language models favour positions: each option stands at each place once if all orders are asked, and
what is said of it is averaged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from glossator.errors import ReplyError
from glossator.llm import LLM, Message, Reply, Request, ask, tells_probabilities
from glossator.scorers.layout import unbroken
from glossator.scorers.together import together
from glossator.types import Usage

LETTERS = "ABCDEFGHIJ"


async def choose(
    llm: LLM, messages: Sequence[Message], question: str, options: Sequence[str], n_orders: int
) -> tuple[tuple[float, ...], Usage]:
    """How much each of `options` is chosen, shape (n_options,), summing to 1; and what it cost.

    By log probabilities where the model gives them, else a vote for each order.

    Args:
        llm: who is asked.
        messages: what comes before the question.
        question: what is asked; the options follow, a letter each.
        options: two to ten.
        n_orders: rotations of the options that are asked, at most as many as there are.

    Raises:
        ReplyError: if no reply names an option. One order of several may fail.
    """
    n = len(options)
    orders = rotations(n, n_orders)
    asked = await together(_one(llm, messages, question, options, order) for order in orders)
    usage = sum((used for _, used in asked), Usage())
    shares = [found for found, _ in asked if not isinstance(found, ReplyError)]
    if not shares:
        (error, *_) = [found for found, _ in asked if isinstance(found, ReplyError)]
        raise type(error)(str(error), error.reply, usage) from error
    return tuple(sum(share[i] for share in shares) / len(shares) for i in range(n)), usage


def rotations(n: int, n_orders: int) -> list[list[int]]:
    """Up to `n_orders` orders of `n` options, shifted against each other as far as can be."""
    n_orders = max(1, min(n, n_orders))
    starts = [round(k * n / n_orders) % n for k in range(n_orders)]
    return [[(start + i) % n for i in range(n)] for start in starts]


async def _one(
    llm: LLM,
    messages: Sequence[Message],
    question: str,
    options: Sequence[str],
    order: Sequence[int],
) -> tuple[tuple[float, ...] | ReplyError, Usage]:
    letters = tuple(LETTERS[: len(options)])
    listed = "\n".join(
        f"{letter}: {unbroken(options[i])}" for letter, i in zip(letters, order, strict=True)
    )
    said = Message("user", f"{question}\n{listed}\nAnswer with one letter.")
    by_logprobs = tells_probabilities(llm)
    request = Request(
        (*messages, said),
        max_tokens=0 if by_logprobs else 5,
        answers=letters if by_logprobs else (),
    )

    def read(reply: Reply) -> tuple[float, ...]:
        by_letter = shares_of(reply, len(letters)) if by_logprobs else vote_of(reply, letters)
        places = {option: place for place, option in enumerate(order)}
        return tuple(by_letter[places[i]] for i in range(len(options)))

    try:
        return await ask(llm, request, read, again=0 if by_logprobs else 1)
    except ReplyError as error:
        return error, error.usage or Usage()


def shares_of(reply: Reply, n: int) -> tuple[float, ...]:
    """The probability of each letter given that it is one of them.

    Raises:
        ReplyError: if they are missing, or none is among the likely replies.
    """
    if len(reply.answers) != n or max(reply.answers) == -math.inf:
        raise ReplyError("the probabilities of the letters are missing", reply.text)
    most = max(reply.answers)
    odds = [math.exp(value - most) for value in reply.answers]
    return tuple(value / sum(odds) for value in odds)


def vote_of(reply: Reply, letters: Sequence[str]) -> tuple[float, ...]:
    """1 for the letter that the reply begins with.

    Raises:
        ReplyError: if it begins with none of them.
    """
    first = reply.text.strip().strip("\"'*`([").split(maxsplit=1)
    letter = first[0].strip(".,:;!)]\"'*`").upper() if first else ""
    if letter not in letters:
        raise ReplyError(f"it names none of the letters: {reply.text[:80]!r}", reply.text)
    return tuple(float(letter == each) for each in letters)

"""Log probabilities of given answers, from the likeliest tokens that a server lists."""

from __future__ import annotations

import math
from collections.abc import Sequence

from glossator.errors import Unsupported


def read_top(found: object) -> list[tuple[str, float]] | None:
    """The first token's likeliest texts with their log probabilities, or None if not as it should.

    Shape (n_listed,), the likeliest first.
    """
    content = found.get("content") if isinstance(found, dict) else None
    return read_listed(content[0]) if isinstance(content, list) and content else None


def read_listed(place: object) -> list[tuple[str, float]] | None:
    """The likeliest texts at one token of a reply, as `read_top`."""
    top = place.get("top_logprobs") if isinstance(place, dict) else None
    if not isinstance(top, list) or not top:
        return None
    listed: dict[str, float] = {}
    for entry in top:
        token = entry.get("token") if isinstance(entry, dict) else None
        value = entry.get("logprob") if isinstance(entry, dict) else None
        if not isinstance(token, str) or (log := log_probability(value)) is None:
            return None
        listed.setdefault(token, log)
    return sorted(listed.items(), key=lambda pair: -pair[1])


def log_probability(value: object) -> float | None:
    """`value` as the logarithm of a probability, at most 0, or None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    # Rounding may put it a little above 0.
    return None if math.isnan(found) or found > 1e-3 else min(0.0, found)


def match_answers(answers: Sequence[str], listed: Sequence[tuple[str, float]]) -> tuple[float, ...]:
    """Shape (n_answers,): log probability of each answer's first token, -inf where not listed.

    Tokens are compared without the space around them, so that ` yes` and `yes` count together;
    case counts. A token that is only the beginning of an answer stands for it if no other
    answer begins with it.

    Raises:
        Unsupported: if the likeliest token begins several answers and cannot tell them apart.
    """
    bare = [answer.strip() for answer in answers]
    exact: list[list[float]] = [[] for _ in bare]
    begun: list[list[float]] = [[] for _ in bare]
    for rank, (token, value) in enumerate(listed):
        start = token.strip()
        if not start:
            continue
        same = [i for i, answer in enumerate(bare) if answer == start]
        longer = [
            i for i, answer in enumerate(bare) if answer != start and answer.startswith(start)
        ]
        if rank == 0 and not same and len(longer) > 1:
            raise Unsupported(
                f"the answers {', '.join(repr(answers[i]) for i in longer)} begin with the same "
                f"token {token!r}: give answers that differ in their first token"
            )
        for i in same:
            exact[i].append(value)
        if not same and len(longer) == 1:
            begun[longer[0]].append(value)
    return tuple(log_sum(e or b) for e, b in zip(exact, begun, strict=True))


def log_sum(values: Sequence[float]) -> float:
    """The logarithm of the sum of what `values` are the logarithms of; at most 0."""
    top = max(values, default=-math.inf)
    if top == -math.inf:
        return top
    return min(0.0, top + math.log(sum(math.exp(v - top) for v in values)))

"""Log probabilities of answers on each line of a reply, from the likeliest tokens at each place."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from glossator.lines import words_by_number
from glossator.providers.answers import match_answers, read_listed


def read_lines(
    found: object, text: str, n: int, answers: Sequence[str]
) -> tuple[tuple[float, ...], ...] | None:
    """Shape (n, n_answers): log probability of each answer's first token on each line.

    A line that is not there, or at whose place none of the answers is likely, is empty.

    Args:
        found: `logprobs` of a chat completion as the server sent it.
        text: the reply, of which some servers give the log probabilities of the beginning alone.
        n: lines, numbered from 1.
        answers: as in `Request.answers`.

    Returns:
        None if `found` does not hold what it should.

    Raises:
        Unsupported: if the likeliest token begins several answers and cannot tell them apart.
    """
    content = found.get("content") if isinstance(found, dict) else None
    if not isinstance(content, list) or not content:
        return None
    tokens = [entry.get("token") if isinstance(entry, dict) else None for entry in content]
    texts = [token for token in tokens if isinstance(token, str)]
    if len(texts) < len(tokens):
        return None
    starts = [0, *accumulate(map(len, texts))]
    among = [answer.strip().lower() for answer in answers]
    words = words_by_number("".join(texts), n, among)
    if words_by_number(text, n, among).keys() - words.keys():
        return None
    rows: list[tuple[float, ...]] = []
    for number in range(1, n + 1):
        if number not in words:
            rows.append(())
            continue
        at = words[number][0]
        place = bisect_right(starts, at) - 1
        listed = read_listed(content[place])
        if listed is None:
            return None
        # What stands in one token with the answer is compared without it.
        before = texts[place][: at - starts[place]]
        row = match_answers(answers, [(t.removeprefix(before), v) for t, v in listed])
        rows.append(row if max(row) > -float("inf") else ())
    return tuple(rows)

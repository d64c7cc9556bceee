"""Distributions over answers at places of a prompt, from the `prompt_logprobs` of vLLM.

For each token of the prompt vLLM gives its text and the likeliest tokens at its place. The texts
together are the prompt, in which the last message is found again, and in it the slots. A slot that
ends where a token ends has the distribution at the next one; else there is none for it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from glossator.errors import Unsupported
from glossator.providers.answers import log_probability, log_sum

N_LISTED = 20
"""Likeliest tokens asked for at each place: what vLLM allows unless told otherwise."""
LOST = "\ufffd"
"""What a part of a character reads as, where a token ends inside one."""
_UNIT = re.compile(r"[^\x00-\x7f]+|[\x00-\x7f]")


@dataclass(frozen=True, slots=True)
class Place:
    """One token of a prompt."""

    text: str
    listed: tuple[tuple[str, float], ...]
    """Texts of the likeliest tokens at this place, with their log probabilities."""


def read_places(found: object) -> list[Place]:
    """The tokens of a prompt, the first one without a distribution.

    Raises:
        ValueError: says what is wrong with `found`.
    """
    if not isinstance(found, list) or not found:
        raise ValueError("no log probabilities of the prompt")
    return [_place(entry, first=i == 0) for i, entry in enumerate(found)]


def _place(entry: object, first: bool) -> Place:
    if entry is None and first:
        return Place("", ())
    if not isinstance(entry, dict) or not entry:
        raise ValueError("a token of the prompt without log probabilities")
    listed = []
    for token in entry.values():
        text = token.get("decoded_token") if isinstance(token, dict) else None
        log = log_probability(token.get("logprob")) if isinstance(token, dict) else None
        if not isinstance(text, str) or log is None:
            raise ValueError("log probabilities of the prompt that are none")
        listed.append((text, log))
    # The token of the prompt itself comes first, whatever its rank.
    return Place(listed[0][0], tuple(listed))


def read_slots(
    found: object, message: str, slots: Sequence[str], answers: Sequence[str], name: str
) -> tuple[tuple[float, ...], ...]:
    """Shape (n_slots, n_answers): log probability of each answer behind each slot.

    Args:
        found: `prompt_logprobs` as the server sent them.
        message: The last message, in which the slots are.
        slots: As in `Request.slots`.
        answers: As in `Request.answers`.
        name: Of the language model.

    Raises:
        ValueError: says why `found` is of no use, or which slot has no distribution.
        Unsupported: if an answer is not one token, but begins with one that is another answer.
    """
    places = read_places(found)
    wanted = behind([p.text for p in places], message, slots)
    seen = {text for place in places for text in (place.text, *(t for t, _ in place.listed))}
    for answer in answers:
        # In the prompt itself the answers stand as examples, so that one of one token is seen.
        if answer not in seen and any(answer != a and answer.startswith(a) for a in answers):
            raise Unsupported(
                f"for {name} the answer {answer!r} is several tokens, and begins with another "
                "answer; use --simulator reply, or a local model"
            )
    rows = [places[place].listed for place in wanted]
    return tuple(
        tuple(log_sum([v for t, v in listed if t == answer]) for answer in answers)
        for listed in rows
    )


def behind(pieces: Sequence[str], message: str, slots: Sequence[str]) -> list[int]:
    """For each slot, which of `pieces` comes right behind it.

    Args:
        pieces: Texts of the tokens of a prompt; what is no whole character reads as `LOST`.
        message: What a part of the prompt says.
        slots: Parts of `message`, in order.

    Raises:
        ValueError: if the prompt does not say it, or a slot ends inside a token.
    """
    begins = {at: i for i, at in reversed(list(enumerate(_starts(pieces))))}
    found = []
    for slot, end in zip(slots, _ends("".join(pieces), message, slots), strict=True):
        if end is None or end not in begins:
            raise ValueError(
                f"the slot {slot!r} ends inside a token; use --simulator reply, or a local model"
            )
        found.append(begins[end])
    return found


def _ends(prompt: str, message: str, slots: Sequence[str]) -> Iterator[int | None]:
    """Where in `prompt` each slot ends; None where that cannot be told."""
    there = _UNIT.findall(prompt)
    # Some chat templates strip what they are given.
    for sent in (message, message.strip()):
        said = _UNIT.findall(sent)
        # Runs of other characters than ASCII may read as something else: they are compared below.
        at = _masked(there).rfind(_masked(said))
        if at >= 0:
            break
    if at < 0 or not _same(said, there[at : at + len(said)]):
        raise ValueError("the server's prompt does not hold the message as it was sent")
    starts_said, starts_there = _starts(said), _starts(there)
    end = 0
    for slot in slots:
        begin = sent.find(slot, end)
        if begin < 0 or not slot:
            raise ValueError(f"the slot {slot!r} is not in the prompt")
        end = begin + len(slot)
        unit = bisect_right(starts_said, end - 1) - 1
        length = end - starts_said[unit]
        as_sent, as_read = said[unit], there[at + unit]
        start = starts_there[at + unit]
        if LOST not in as_sent[:length] and as_read.startswith(as_sent[:length]):
            yield start + length
        elif length == len(as_sent) and unit < len(said) - 1:
            yield start + len(as_read)
        else:
            yield None


def _same(said: Sequence[str], there: Sequence[str]) -> bool:
    """Whether the runs of the two are equal, as far as they can be read."""
    pairs = list(zip(said, there, strict=True))
    last = len(pairs) - 1
    return all(
        a == b or LOST in b or (i == 0 and b.endswith(a)) or (i == last and b.startswith(a))
        for i, (a, b) in enumerate(pairs)
    )


def _masked(units: Sequence[str]) -> str:
    return "".join(unit if unit < "\x80" else "\x80" for unit in units)


def _starts(parts: Sequence[str]) -> list[int]:
    """Where each of `parts` begins in all of them together."""
    return [0, *accumulate(len(part) for part in parts)][: len(parts)]

"""`search_corpus`: corpus text with a string, a pattern or a meaning, as the feature reads it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import MOST, together
from glossator.agent.tools.shares import base_rate, share_of, times
from glossator.agent.tools.shown import marked, plain
from glossator.agent.tools.table import Arguments, Cost
from glossator.errors import AssetError, Unsupported
from glossator.evidence import Finding, Question


class Search(Arguments):
    """What to look for."""

    kind: Literal["string", "pattern", "meaning"]
    """`string` tells no case, `pattern` is a regular expression, `meaning` is said in words."""
    query: Annotated[str, Field(min_length=1, max_length=300)]
    n: Annotated[int, Field(ge=1, le=32)] = 16
    """Windows, at most."""


class SearchCorpus:
    """Finds windows of train and dev text and reads each as a text of its own."""

    name: ClassVar[str] = "search_corpus"
    about: ClassVar[str] = (
        "Find passages of real text that contain a string, match a regular expression or are about "
        "something, and see in how many the feature fires, compared with all text. Use it to look "
        "for counterexamples: passages that fit a hypothesis where the feature stays silent."
    )
    arguments: ClassVar[type[Arguments]] = Search

    def cost(self, arguments: Search) -> Cost:
        """A pass for each window."""
        return Cost(arguments.n)

    def questions(self, arguments: Search) -> tuple[Question, ...]:
        """None: nobody knows yet which texts will be found."""
        return ()

    async def run(self, arguments: Search, lab: Lab) -> Finding:
        """Effects: the share that fires, and how many times the share of all windows that is.

        A window is read without what stood before it, so it may fire otherwise than in its record.
        """
        search = lab.search
        if search is None:
            raise Unsupported(
                "there is no corpus at hand to search; run_texts reads your own texts"
            )
        find = {
            "string": search.containing,
            "pattern": search.matching,
            "meaning": search.meaning,
        }[arguments.kind]
        try:
            found = [one for one in await find(arguments.query, arguments.n) if one.text.strip()]
        except AssetError as error:
            raise Unsupported(
                f"text cannot be found by {arguments.kind} here, for {error}; look for a string "
                "or a pattern"
            ) from error
        asked = f"{arguments.kind} {plain(arguments.query)[:80]!r}"
        read = await lab.live.activations([one.text for one in found]) if found else ()
        threshold, peak = lab.seen.threshold, lab.seen.peak
        fires = [a.peak > threshold for a in read]
        share = share_of("share of found windows that fire", fires)
        base = base_rate((lab.seen.train, lab.seen.dev))
        lift = times("times the share of all windows that fire", share, base)
        if not found:
            return Finding(f"{asked}: nothing found", effects=(share, lift))
        room = max(60, (MOST - 260) // len(read) - 20)
        looked_for = arguments.query if arguments.kind == "string" else ""
        places = [
            None if f else place_of(looked_for, a.tokens) for f, a in zip(fires, read, strict=True)
        ]
        order = sorted(range(len(read)), key=lambda i: -read[i].peak)
        lines = [
            f"{asked}: it fires in {sum(fires)} of {len(fires)} windows found",
            share.said,
            lift.said,
            *(
                marked(read[i].tokens, read[i].values, threshold, peak, room, places[i])
                for i in order
            ),
        ]
        return Finding(
            together(lines),
            effects=(share, lift),
            payload={
                "base_rate": base,
                "found": [
                    {
                        "text": one.text,
                        "document": one.document,
                        "start": one.start,
                        "pool": one.pool.value,
                        "tokens": list(a.tokens),
                        "activations": [float(f"{v:.5g}") for v in a.values],
                    }
                    for one, a in zip(found, read, strict=True)
                ],
            },
        )


def place_of(string: str, tokens: Sequence[str]) -> int | None:
    """The number of the token in which `string` begins, case ignored; None if it is not there."""
    text = "".join(tokens)
    begin = text.lower().find(string.strip().lower()) if string.strip() else -1
    if begin < 0 or len(text.lower()) != len(text):  # a few letters are longer in small
        return None
    ends = itertools.accumulate(map(len, tokens))
    return next(i for i, end in enumerate(ends) if end > begin)

"""`find_firing`: on which words the feature fires, by themselves and behind neutral beginnings."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import quoted, together
from glossator.agent.tools.shares import share_of
from glossator.agent.tools.table import Arguments, Cost
from glossator.evidence import About, Finding, Question
from glossator.live import NEUTRAL, Activations

CONTEXTS = NEUTRAL[1:9:2]
"""Beginnings that say nothing, behind each of which each word is put."""


class Words(Arguments):
    """Words to try."""

    words: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=60, pattern=r"\S")]],
        Field(min_length=1, max_length=24),
    ]
    """Words or short phrases, such as a trigger, its synonyms and its look-alikes."""


class FindFiring:
    """Reads each word alone and behind each of a few beginnings about nothing in particular."""

    name: ClassVar[str] = "find_firing"
    about: ClassVar[str] = (
        "Try words or short phrases: which make the feature fire by themselves, without a fitting "
        "context? Use it to tell a feature of single words from one that needs a context, and to "
        "see which synonyms or look-alikes it takes."
    )
    arguments: ClassVar[type[Arguments]] = Words

    def cost(self, arguments: Words) -> Cost:
        """A pass for each word alone and in each context."""
        return Cost(len(arguments.words) * (1 + len(CONTEXTS)))

    def questions(self, arguments: Words) -> tuple[Question, ...]:
        """Does it fire where the word stands behind the first beginning?"""
        return tuple(Question(About.FIRES, in_context(CONTEXTS[0], w)) for w in arguments.words)

    async def run(self, arguments: Words, lab: Lab) -> Finding:
        """In a context, only what the feature does at the word itself counts for its share."""
        words = [word.strip() for word in arguments.words]
        texts = [in_context(context, word) for word in words for context in CONTEXTS]
        read = await lab.live.activations([*words, *texts])
        alone, within = read[: len(words)], read[len(words) :]
        threshold = lab.seen.threshold
        scale = lab.seen.peak if lab.seen.peak > 0 else 1.0
        rows = []
        for i, word in enumerate(words):
            peaks = [
                peak_behind(a, len(context))
                for a, context in zip(within[i * len(CONTEXTS) :], CONTEXTS, strict=False)
            ]
            rows.append((word, alone[i].peak, peaks))
        share = share_of(
            "share of words that fire behind at least half of the neutral beginnings",
            [2 * sum(p > threshold for p in peaks) >= len(peaks) for _, _, peaks in rows],
        )
        ordered = sorted(rows, key=lambda row: -max(row[2]))
        lines = [share.said, "word: peak alone, mean peak behind beginnings (1 is train's peak), n"]
        lines += [
            f"{quoted(word)}: {by_itself / scale:.2f}, {sum(peaks) / len(peaks) / scale:.2f}, "
            f"fires in {sum(p > threshold for p in peaks)} of {len(peaks)}"
            for word, by_itself, peaks in ordered
        ]
        first = within[:: len(CONTEXTS)]
        return Finding(
            together(lines),
            tuple(a.peak > threshold for a in first),
            tuple(a.peak for a in first),
            (share,),
            payload={
                "contexts": list(CONTEXTS),
                "words": [
                    {"word": word, "alone": by_itself, "in_context": list(peaks)}
                    for word, by_itself, peaks in rows
                ],
            },
        )


def in_context(context: str, word: str) -> str:
    """`word` behind `context`."""
    return f"{context} {word.strip()}"


def peak_behind(read: Activations, n_characters: int) -> float:
    """The strongest activation at what stands behind the first `n_characters`."""
    at = 0
    found = []
    for token, value in zip(read.tokens, read.values, strict=True):
        at += len(token)
        if at > n_characters:
            found.append(value)
    return max(found, default=0.0)

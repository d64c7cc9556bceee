"""Excerpts with the tokens a feature fires on marked <<like this>>, and which ones to show."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence

from glossator.types import TOP, Example, Split

BEFORE, AFTER = 10, 5
"""Tokens shown before and after the strongest one."""
MARK_SHARE = 0.5
"""Tokens are marked that reach this share of the window's peak."""
_PLAIN = str.maketrans(dict.fromkeys("\n\t\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", " "))
_BRACKETS = re.compile("<{2,}|>{2,}")


def to_tenths(activation: float, peak: float) -> int:
    """`activation` from 0 to 10 where `peak` is 10, rounded down as in Bills et al. 2023."""
    if peak <= 0 or activation <= 0:
        return 0
    return min(10, int(10 * activation / peak + 1e-9))  # 10 * x / x may be a hair below 10


def shown(train: Split, n: int) -> tuple[Example, ...]:
    """`n` firing windows: two thirds from `top`, the rest from the two upper quantiles.

    The weakest firing tokens of a dense site are noise, so the other quantiles only fill up. No two
    come from one document while there are others.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in train.firing:
        groups[example.stratum].append(example)
    chosen: list[Example] = []
    seen: set[str] = set()

    def take(examples: Sequence[Example], wanted: int) -> None:
        for example in examples:
            if wanted > 0 and example.document not in seen:
                chosen.append(example)
                seen.add(example.document)
                wanted -= 1

    quantiles = sorted((g for g in groups if g != TOP), reverse=True)
    upper = quantiles[:2]
    take(groups.get(TOP, []), n if not upper else n - n // 3)
    for name in upper:
        take(groups[name], -(-(n - len(chosen)) // max(1, len(upper) - upper.index(name))))
    take(train.firing, n - len(chosen))
    left = [e for e in train.firing if e not in chosen]
    chosen.extend(left[: n - len(chosen)])
    return tuple(sorted(chosen, key=lambda e: -e.peak))


def marks(example: Example, threshold: float) -> list[bool]:
    """Which tokens are marked: those that fire, and reach half of the window's peak."""
    least = max(threshold, MARK_SHARE * example.peak)
    return [a > threshold and a >= least for a in example.activations]


def excerpt(example: Example, threshold: float, *, values: float | None = None) -> str:
    """The text around the strongest token on one line, firing tokens marked.

    With `values`, the feature's peak, each mark is followed by its value from 0 to 10.
    """
    marked = marks(example, threshold)
    center = example.activations.index(example.peak)
    low, high = max(0, center - BEFORE), min(len(example.tokens), center + AFTER + 1)
    parts: list[str] = []
    strongest: float | None = None
    tokens = plain(example.tokens)
    for i in range(low, high):
        token = tokens[i] if not marked[i] or tokens[i].strip() else blank(example.tokens[i])
        if marked[i] and strongest is None:
            body = token.lstrip()
            parts.append(token[: len(token) - len(body)] + "<<" + body)
            strongest = example.activations[i]
        elif marked[i]:
            parts.append(token)
            strongest = max(strongest or 0.0, example.activations[i])
        else:
            parts += [close(strongest, values), token]
            strongest = None
    return " ".join("".join([*parts, close(strongest, values)]).split())


def close(strongest: float | None, peak: float | None) -> str:
    """The end of a mark, with its value where `peak` is given; empty where none is open."""
    if strongest is None:
        return ""
    return ">>" if peak is None else f">>({to_tenths(strongest, peak)})"


def plain(tokens: Sequence[str]) -> list[str]:
    """`tokens` on one line, without anything that looks like a mark: corpus text is data.

    What looks like a mark may be spread over several tokens.
    """
    text = "".join(tokens).translate(_PLAIN)
    text = _BRACKETS.sub(lambda m: ("\u2039" if "<" in m[0] else "\u203a") * len(m[0]), text)
    ends = list(itertools.accumulate(map(len, tokens)))
    return [text[end - len(token) : end] for token, end in zip(tokens, ends, strict=True)]


def blank(token: str) -> str:
    """What stands for a marked `token` of white space, which could not be seen."""
    return "\u23ce" if "\n" in token else "\u21e5" if "\t" in token else "\u2423"


def marked_words(examples: Sequence[Example], threshold: float, n: int) -> list[tuple[str, int]]:
    """The `n` commonest marked runs of tokens, and in how many examples each stands."""
    counts: dict[str, int] = {}
    for example in examples:
        runs: list[str] = []
        before = False
        shown_tokens = plain(example.tokens)
        for i, mark in enumerate(marks(example, threshold)):
            token = shown_tokens[i] if shown_tokens[i].strip() else blank(example.tokens[i])
            if mark and before:
                runs[-1] += token
            elif mark:
                runs.append(token)
            before = mark
        for run in dict.fromkeys(r.strip() for r in runs if r.strip()):
            counts[run] = counts.get(run, 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])[:n]

"""Excerpts with the tokens a feature fires on marked <<like this>>, and which ones to show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from glossator.types import TOP, Example, Split

BEFORE, AFTER = 10, 5
"""Tokens shown before and after the strongest one."""
MARK_SHARE = 0.5
"""Tokens are marked that reach this share of the window's peak."""
_PLAIN = str.maketrans({"\n": " ", "\t": " ", "\r": " ", "\v": " ", "\f": " "})


def to_tenths(activation: float, peak: float) -> int:
    """`activation` from 0 to 10 where `peak` is 10, rounded down as in Bills et al. 2023."""
    if peak <= 0 or activation <= 0:
        return 0
    return min(10, int(10 * activation / peak))


def shown(train: Split, n: int) -> tuple[Example, ...]:
    """`n` firing windows: the strongest half from `top`, the rest spread over the quantiles.

    The upper quantiles come first, since the weakest firing tokens of a dense site are noise. No
    two come from one document while there are others.
    """
    groups: dict[str, list[Example]] = defaultdict(list)
    for example in train.firing:
        groups[example.stratum].append(example)
    chosen: list[Example] = []
    seen: set[str] = set()

    def take(examples: Sequence[Example], wanted: int) -> None:
        fresh = [e for e in examples if e.document not in seen][:wanted]
        chosen.extend(fresh)
        seen.update(e.document for e in fresh)

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
    for i in range(low, high):
        token = plain(example.tokens[i])
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


def plain(text: str) -> str:
    """`text` on one line, without anything that looks like a mark: corpus text is data."""
    return text.translate(_PLAIN).replace("<<", "\u2039\u2039").replace(">>", "\u203a\u203a")


def marked_words(examples: Sequence[Example], threshold: float, n: int) -> list[tuple[str, int]]:
    """The `n` commonest marked runs of tokens, and in how many examples each stands."""
    counts: dict[str, int] = {}
    for example in examples:
        runs: list[str] = []
        before = False
        for token, mark in zip(example.tokens, marks(example, threshold), strict=True):
            if mark and before:
                runs[-1] += plain(token)
            elif mark:
                runs.append(plain(token))
            before = mark
        for run in dict.fromkeys(r.strip() for r in runs if r.strip()):
            counts[run] = counts.get(run, 0) + 1
    return sorted(counts.items(), key=lambda item: -item[1])[:n]

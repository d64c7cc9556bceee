"""Experiments that might tell hypotheses apart, before anybody knows which of them does best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glossator.agent.foretell import NO_EFFECT
from glossator.agent.held_back import held_back
from glossator.agent.lab import Lab
from glossator.errors import Unsupported
from glossator.evidence import Hypothesis
from glossator.hard import nearest_silent, replaced_trigger
from glossator.scorers.sample import chance_for
from glossator.types import JSON, Example

LIKELIEST = 8
"""Tokens that the feature's output direction promotes most, which are asked about."""
MOST_STEERED = 24
NEAR = 3
"""Tokens; a silent word so near to one that fires is asked about."""
COMMON = ("the", "and", "of", "new", "first", "people", "water", "house", "very", "two")
"""Words that a feature seldom promotes, so that a hypothesis can be wrong about them."""


@dataclass(frozen=True, slots=True)
class Design:
    """A call of a tool that may be worth making."""

    tool: str
    arguments: dict[str, JSON]
    why: str


def texts(found: Sequence[str], why: str) -> Design:
    """Reading texts that somebody wrote."""
    return Design("run_texts", {"texts": list(found)}, why)


def replaced(lab: Lab, n: int, turn: int) -> Design | None:
    """Strong train windows as they are, and with what fires in them replaced by other words.

    It tells the word from what stands around it. None where nothing fires.
    """
    seen, train = lab.seen, held_back(lab.seen.train)
    chance = chance_for(lab.seed, "replaced", seen.feature, turn)
    firing = [train.firing[i] for i in chance.permutation(len(train.firing))]
    pairs: list[str] = []
    for example in firing:
        made = replaced_trigger(example, seen.threshold, chance)
        if made and len(pairs) + 2 <= n:
            pairs += [example.text, "".join(made)]
    kept = [text for text in pairs if text.strip()]
    if len(kept) < 2:
        return None
    return texts(kept, "whether it is the marked words or what stands around them")


def windows(lab: Lab, n: int, turn: int) -> Design | None:
    """Train windows that no prompt showed: firing ones of all strata, and silent ones like them."""
    seen, train = lab.seen, held_back(lab.seen.train)
    chance = chance_for(lab.seed, "windows", seen.feature, turn)
    firing = _spread(train.firing, n // 2, chance)
    near = nearest_silent(firing, train.silent, lab.embedder, 3 * n)
    silent = [near[i] for i in chance.permutation(len(near))[: n - len(firing)]]
    chosen = [e.text for e in (*firing, *silent) if e.text.strip()]
    if not firing or not silent:
        return None
    return texts(chosen, "whether it fires on text of the corpus as foretold")


def marks(lab: Lab, n: int, turn: int) -> Design | None:
    """Words of train windows that no prompt showed: some that fire, and some beside them.

    It tells hypotheses apart that agree on a text and not on which of its words counts. A window
    is read as a text of its own, so what fires in it may be other than what the record says.
    """
    seen, train = lab.seen, held_back(lab.seen.train)
    chance = chance_for(lab.seed, "marks", seen.feature, turn)
    made: list[str] = []
    for example in _spread(train.firing, 3 * n, chance):
        fires = [a > seen.threshold for a in example.activations]
        real = [any(map(str.isalnum, t)) for t in example.tokens]
        if any("<<" in t or ">>" in t for t in example.tokens):
            continue
        hot = [i for i, (f, r) in enumerate(zip(fires, real, strict=True)) if f and r]
        cold = [i for i, (f, r) in enumerate(zip(fires, real, strict=True)) if not f and r]
        # beside one that fires, or at the start, where positions show
        near = [i for i in cold if any(abs(i - j) <= NEAR for j in hot)] or cold
        wanted = (hot, near, cold[:1])[len(made) % 3]
        if wanted:
            made.append(_marked(example.tokens, wanted[chance.integers(len(wanted))]))
        if len(made) == n:
            break
    if len(made) < 2:
        return None
    why = "on which words of a text it fires"
    return Design("run_marked", {"texts": list(made)}, why)


def _marked(tokens: Sequence[str], at: int) -> str:
    token = tokens[at]
    lead = token[: len(token) - len(token.lstrip())]
    body = f"{lead}<<{token.strip()}>>{token[len(token.rstrip()) :]}"
    return "".join([*tokens[:at], body, *tokens[at + 1 :]])


async def searched(lab: Lab, first: Hypothesis, second: Hypothesis, n: int) -> Design | None:
    """Text of the corpus that is near in meaning to what either hypothesis names.

    None where there is no corpus at hand, or neither names a trigger.
    """
    if lab.search is None:
        return None
    found: list[str] = []
    for hypothesis in (first, second):
        if hypothesis.trigger:
            near = await lab.search.meaning(hypothesis.trigger, n // 2)
            found += [one.text for one in near if one.text.strip() and one.text not in found]
    if len(found) < 2:
        return None
    return texts(found[:n], "whether it fires on text that means what the hypotheses name")


async def output_words(lab: Lab, n: int) -> list[str]:
    """What the output direction promotes most, and common words; empty where there is no output."""
    try:
        promotion = await lab.live.promoted(LIKELIEST)
    except Unsupported:
        return []
    words = [t for t, _ in promotion.promoted if any(map(str.isalpha, t))]
    return list(dict.fromkeys(words))[:n]


def steer(lab: Lab, words: Sequence[str], why: str) -> Design | None:
    """Holding the feature high, to see whether words become likelier; None if none is one token."""
    tokens = (next((t for t in (f" {w.strip()}", w) if len(lab.cut(t)) == 1), "") for w in words)
    whole = [t for t in dict.fromkeys(tokens) if t.strip()]
    return Design("steer", {"tokens": list(whole[:MOST_STEERED])}, why) if whole else None


def has_effect(hypothesis: Hypothesis) -> bool:
    """Whether it says that there is an effect on the output."""
    return hypothesis.output_effect not in ("", NO_EFFECT)


def _spread(examples: Sequence[Example], n: int, chance: np.random.Generator) -> list[Example]:
    """Up to `n`, from all strata alike."""
    strata: dict[str, list[Example]] = {}
    for i in chance.permutation(len(examples)):
        strata.setdefault(examples[i].stratum, []).append(examples[i])
    found: list[Example] = []
    turns = sorted(strata)
    while len(found) < n and any(strata.values()):
        for name in turns:
            if strata[name] and len(found) < n:
                found.append(strata[name].pop())
    return found

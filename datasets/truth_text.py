"""Texts made up so that every planted feature and near miss has something to fire on.

They say nothing, and are for where no corpus is: for tests, and for the bench in a hurry.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from glossator.datasets.truth_claims import Planted
from glossator.datasets.truth_rules import Rule, filled

COMMON = (  # noqa: SIM905
    "is was are he she it they you said day year man one two many also when then which who not but "
    "or if so can will been don't it's I'm more than large new old house good first after before "
    "over under home city state game team water night work used made called small great most some "
    "his her their him up out about back"
).split()
"""Words of many lists, which broad descriptions fit by chance."""


def made_up(features: Sequence[Planted], n: int = 600, seed: int = 0) -> list[str]:
    """`n` documents of about a hundred words."""
    chance = random.Random(seed)
    true = [feature.function for feature in features]
    near = [claim.rule for feature in features for claim in feature.near]
    return [_document(true, near, chance) for _ in range(n)]


def sentence(rule: Rule, chance: random.Random) -> str:
    """One in which `rule` fires, if the words around its scrap let it."""
    before, behind = filled(chance, chance.randint(1, 4)), filled(chance, chance.randint(1, 4))
    text = f"{before} {rule.scrap(chance)} {chance.choice(COMMON)} {behind}"
    return f"{_sentence(text)}."


def _document(true: Sequence[Rule], near: Sequence[Rule], chance: random.Random) -> str:
    text = ""
    while text.count(" ") < 90:
        line = filled(chance, chance.randint(1, 3))
        for _ in range(chance.randint(1, 4)):
            kind = chance.random()
            rule = chance.choice(true if kind < 0.6 else near)
            line += f" {rule.scrap(chance)} {filled(chance, chance.randint(0, 2))}".rstrip()
            line += f" {chance.choice(COMMON)}"
            if chance.random() < 0.2:
                line += ","
        text += _sentence(line) + chance.choice([". ", ". ", ". ", "? ", ".\n\n"])
    return text.strip()


def _sentence(text: str) -> str:
    """`text` with a capital letter at its begin, and behind each full stop in it."""
    parts = [part.strip() for part in text.strip(" .").split(" . ")]
    return ". ".join(part[:1].upper() + part[1:] for part in parts if part)

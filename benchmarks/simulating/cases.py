"""What is predicted: a feature, descriptions of it, and windows with what it really did there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from glossator.explainers.unigram import mean_activations
from glossator.scorers.estimates import Pearson
from glossator.scorers.sample import draw
from glossator.scorers.symbolic import by_words
from glossator.types import SILENT, TOP, Example, FeatureId, FeatureRecord, Pool, Split

HELD_OUT, REAL, OTHER = "held out", "real", "other subject"
GROUNDS = (HELD_OUT, REAL, OTHER)
WINDOWS, FEW = 40, 16
"""Test windows of a case; language models, which are slow, read the few that are a part of them."""
WRONG = 3
"""Unrelated descriptions of a case."""
N_WORDS = 50
"""Tokens of the pattern that `symbolic` runs."""


@dataclass(frozen=True)
class Case:
    """One feature to predict."""

    ground: str
    name: str
    """A feature's id, or what a concept is called."""
    group: str
    """Kind of pattern, or family of concepts."""
    text: str
    """The true description, or a person's."""
    unrelated: tuple[str, ...]
    """Descriptions of others."""
    near: tuple[str, ...]
    """Nearly true ones; only where the truth is known."""
    threshold: float
    """A token fires above this."""
    windows: tuple[Example, ...]
    """Of test, weighted to the pool."""
    words: tuple[tuple[str, float], ...] = ()
    """Tokens with mean activations, from train windows: the pattern that `symbolic` runs."""
    told: float | None = None
    """Weighted Pearson of that pattern on dev windows: how far the feature is about words alone."""

    @property
    def texts(self) -> tuple[str, ...]:
        """All descriptions, the true one first."""
        return (self.text, *self.near, *self.unrelated)

    @property
    def feature(self) -> FeatureId:
        """An id for it; concepts have made-up ones."""
        if self.ground == HELD_OUT:
            return FeatureId("concepts", "rule", abs(hash_of(self.name)))
        return FeatureId.parse(self.name)

    def few(self) -> Case:
        """The same with the few windows that language models read, weighted to the pool again."""
        firing = tuple(e for e in self.windows if e.stratum != SILENT)
        silent = tuple(e for e in self.windows if e.stratum == SILENT)
        split = Split(Pool.TEST, self.threshold, firing, silent)
        return replace(self, windows=draw(split, FEW, self.feature))


def hash_of(name: str) -> int:
    """A number that depends on `name` alone."""
    return Random(name).getrandbits(40)


@dataclass(frozen=True)
class Written:
    """What a person wrote of a feature."""

    feature: str
    text: str
    kind: str

    @classmethod
    def read(cls, path: Path) -> tuple[Written, ...]:
        """All of the file."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            cls(row["feature"], row["description"], row["kind"]) for row in found["descriptions"]
        )


def inside(split: Split, ctx: int) -> Split:
    """`split` without windows that begin a chunk of `ctx` tokens.

    The first text token of some chunks is an attention sink, where most latents fire hundreds of
    times as strongly as anywhere else; one such window decides a correlation.
    """
    firing, silent = (
        tuple(e for e in some if e.start % ctx) for some in (split.firing, split.silent)
    )
    return Split(split.pool, split.threshold, firing, silent)


def written_cases(
    ground: str, written: Sequence[Written], records: Iterable[FeatureRecord]
) -> Iterator[Case]:
    """Cases of described features; unrelated are descriptions of others of the same ground."""
    by_id = {str(record.feature): record for record in records}
    here = [w for w in written if w.feature in by_id]
    for one in here:
        record = by_id[one.feature]
        ctx = int(record.provenance["ctx"])
        chance = Random(f"unrelated {one.feature}")
        others = [w.text for w in here if w.text != one.text]
        words = mean_activations(inside(record.train, ctx))[:N_WORDS]
        yield Case(
            ground,
            one.feature,
            one.kind,
            one.text,
            tuple(chance.sample(others, min(WRONG, len(others)))),
            (),
            record.threshold,
            draw(inside(record.test, ctx), WINDOWS, record.feature),
            words,
            _told(words, draw(inside(record.dev, ctx), WINDOWS, record.feature)),
        )


def _told(words: Sequence[tuple[str, float]], windows: Sequence[Example]) -> float | None:
    metric = Pearson.over(
        [e.activations for e in windows], [by_words(words, e.tokens) for e in windows]
    )
    value = float(metric(np.array([[e.weight for e in windows]]))[0])
    return value if np.isfinite(value) else None


def stratified(
    fires: Mapping[int, float], windows: Sequence[Example], chance: Random, n: int
) -> tuple[Example, ...]:
    """`n` of `windows`, half of them firing, weighted to all of them.

    Args:
        fires: the peaks of the windows that fire, by their numbers.
        windows: all.
        chance: draws.
        n: how many.
    """
    loud = sorted(fires)
    quiet = [i for i in range(len(windows)) if i not in fires]
    picked = chance.sample(loud, min(n // 2, len(loud)))
    silent = chance.sample(quiet, min(n - n // 2, len(quiet)))
    return (
        *(replace(windows[i], stratum=TOP, weight=len(loud) / len(picked)) for i in picked),
        *(replace(windows[i], stratum=SILENT, weight=len(quiet) / len(silent)) for i in silent),
    )


def write_cases(cases: Iterable[Case], path: Path) -> int:
    """Writes one case a line; how many there were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(_plain(case)) + "\n" for case in cases]
    path.write_text("".join(lines), encoding="utf-8")
    return len(lines)


def read_cases(path: Path) -> tuple[Case, ...]:
    """What `write_cases` wrote; none where there is no file."""
    if not path.is_file():
        return ()
    with path.open(encoding="utf-8") as file:
        return tuple(_case(json.loads(line)) for line in file)


def _plain(case: Case) -> dict[str, Any]:
    return vars(case) | {"windows": [e.to_json() for e in case.windows]}


def _case(row: dict[str, Any]) -> Case:
    return Case(
        **row
        | {
            "windows": tuple(Example.from_json(e) for e in row["windows"]),
            "words": tuple((word, float(value)) for word, value in row["words"]),
            "unrelated": tuple(row["unrelated"]),
            "near": tuple(row["near"]),
        }
    )

"""What is kept of predictions and scores, put together for tables."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from collecting import machine
from simulating import truths
from simulating.cases import FEW, GROUNDS, HELD_OUT, WINDOWS, Case, read_cases
from simulating.figures import (
    Figures,
    Row,
    Versus,
    figures_of,
    row_of,
    versus,
)
from simulating.predictions import Kept, Who

from glossator.types import Measure, to_json

TINY = Who("tiny")
FREE = (TINY, Who("lexical"), Who("embedding"), Who("symbolic"))
ASKING = tuple(
    Who(simulator, llm) for llm in ("local:small", "local") for simulator in ("logprob", "contrast")
)


FEWEST = 5
"""Features below which a part of a ground gets no table of its own."""
TOLD_BY_WORDS = "those told by words"
CLEAR = 0.3
"""A feature counts as told by words where its pattern reaches this Pearson on dev windows."""


@dataclass(frozen=True)
class Comparison:
    """Simulators side by side on the same windows of the same cases."""

    ground: str
    windows: int
    rows: tuple[Row, ...]
    differences: tuple[Versus, ...]
    """`tiny` less each other."""
    part: str
    """Which of the ground's cases; empty for all."""
    by_group: Mapping[str, Mapping[str, tuple[int, float, float]]]
    """By group and simulator: cases, mean Pearson, mean AUPRC of tokens."""


@dataclass(frozen=True)
class Found:
    """All that was measured."""

    facts: Mapping[str, Any]
    weights: str
    written: Mapping[str, Any]
    comparisons: tuple[Comparison, ...]
    truth: tuple[truths.TruthRow, ...]
    truth_versus: Mapping[str, Mapping[str, Measure]]
    """By other simulator and scorer."""
    speed: Mapping[str, Any]
    features: tuple[Mapping[str, Any], ...]
    """Each described feature with what simulators reach on it."""


def found(work: Path, written: Path) -> Found:
    """What is kept in `work`, put together."""
    kept = {who: Kept.read(work, who) for who in (*FREE, *ASKING)}
    comparisons, features = [], []
    for ground in GROUNDS:
        cases = read_cases(work / f"cases-{ground.replace(' ', '-')}.jsonl")
        if not cases:
            continue
        comparisons.append(_compared(ground, WINDOWS, cases, {w: kept[w] for w in FREE}))
        few = [case.few() for case in cases]
        asking = {w: kept[w] for w in (*FREE, *ASKING)}
        if any(figures_of(case, kept[who]) for who in ASKING for case in few):
            comparisons.append(_compared(ground, FEW, few, asking))
        if ground != HELD_OUT:
            free = {w: kept[w] for w in FREE}
            for part, some in parts_of(cases):
                comparisons.append(_compared(ground, WINDOWS, some, free, part))
            features += [_described(case, kept) for case in cases]
    rows, against = [], {}
    own = truths.read(work, TINY)
    for who in FREE[:3]:
        scored = truths.read(work, who)
        for scorer in truths.SCORERS:
            if any(s.scorer == scorer for s in scored):
                rows.append(truths.truth_row(str(who), scorer, scored))
                if who != TINY:
                    name = f"{scorer} by {who}"
                    against[name] = truths.truth_versus(scorer, own, scored)
    speed = work / "speed.json"
    return Found(
        machine.facts("cpu"),
        TINY.version,
        json.loads(written.read_text(encoding="utf-8")),
        tuple(comparisons),
        tuple(rows),
        against,
        json.loads(speed.read_text(encoding="utf-8")) if speed.is_file() else {},
        tuple(features),
    )


def parts_of(cases: Sequence[Case]) -> Iterator[tuple[str, list[Case]]]:
    """Neurons, latents, and features that are about words alone; where there are some of each."""
    clear = [case for case in cases if case.told is not None and case.told >= CLEAR]
    neurons = [case for case in cases if case.feature.coder is None]
    latents = [case for case in cases if case.feature.coder is not None]
    for part, some in (("neurons", neurons), ("latents", latents), (TOLD_BY_WORDS, clear)):
        if FEWEST <= len(some) < len(cases):
            yield part, some


def _compared(
    ground: str,
    windows: int,
    cases: Sequence[Case],
    kept: Mapping[Who, Kept],
    part: str = "",
) -> Comparison:
    figures = {
        who: {case.name: f for case in cases if (f := figures_of(case, some))}
        for who, some in kept.items()
    }
    figures = {who: of for who, of in figures.items() if of}
    own = figures.get(TINY, {})
    groups: dict[str, dict[str, tuple[int, float, float]]] = {}
    for group in sorted({case.group for case in cases}):
        groups[group] = {}
        for who, of in figures.items():
            some = [of[c.name] for c in cases if c.group == group and c.name in of]
            if some:
                pearson = float(np.mean([f.pearson for f in some]))
                area = float(np.mean([f.precision for f in some]))
                groups[group][str(who)] = (len(some), pearson, area)
    return Comparison(
        ground,
        windows,
        tuple(row_of(str(who), list(of.values())) for who, of in figures.items()),
        tuple(
            versus(str(who), [(own[name], of[name]) for name in of if name in own])
            for who, of in figures.items()
            if who != TINY and own
        ),
        part,
        groups,
    )


def _described(case: Case, kept: Mapping[Who, Kept]) -> dict[str, Any]:
    found: dict[str, Figures] = {}
    for who, some in kept.items():
        figures = figures_of(case if who in FREE else case.few(), some)
        if figures is not None:
            found[str(who)] = figures
    return {
        "feature": case.name,
        "description": case.text,
        "kind": case.group,
        "base": next((f.base for f in found.values()), None),
        "pearson": {who: round(f.pearson, 3) for who, f in found.items()},
        "auprc": {who: round(f.precision, 3) for who, f in found.items()},
    }


def plain(given: Found) -> dict[str, Any]:
    """All of it for `benchmarks/tiny.json`."""
    return {
        "machine": dict(given.facts),
        "weights": given.weights,
        "comparisons": [to_json(c) for c in given.comparisons],
        "truth": [to_json(row) for row in given.truth],
        "truth_versus": to_json(given.truth_versus),
        "speed": dict(given.speed),
        "features": list(given.features),
    }

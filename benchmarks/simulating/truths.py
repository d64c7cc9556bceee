"""`bench truth` with simulators that ask nobody: each feature's scores, kept as they come."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from simulating.predictions import Who

from glossator.bench.figures import above, mean_of, share_of
from glossator.bench.ranking import Bench, Ranked, Reader, unrelated_to
from glossator.datasets.corpora import load_corpus
from glossator.datasets.truth import LIBRARY, Ground, function_of, plant
from glossator.embedder import bundled
from glossator.experiments.of_function import live_function
from glossator.scorers.build import Settings
from glossator.types import Measure

SCORERS = ("simulation", "detection")
TOKENS, WINDOWS, UNRELATED = 200_000, 40, 3
"""As `glossator bench truth` has them by default."""


@dataclass(frozen=True)
class Scored:
    """What one feature's descriptions got, by one scorer with one simulator."""

    feature: str
    group: str
    scorer: str
    true: float | None
    near: tuple[tuple[str, float | None], ...]
    """Kind of near miss, and what it got."""
    unrelated: tuple[float | None, ...]

    @classmethod
    def of(cls, ranked: Ranked) -> Scored:
        """What a bench found."""
        return cls(
            ranked.feature.name,
            ranked.feature.group,
            ranked.reader.scorer,
            ranked.true.value,
            tuple((miss.value, score.value) for miss, score in ranked.near),
            tuple(score.value for score in ranked.unrelated),
        )

    @property
    def over_unrelated(self) -> float:
        """Share of unrelated descriptions below the true one."""
        return float(np.mean([above(self.true, v) for v in self.unrelated]))

    @property
    def over_near(self) -> float | None:
        """Share of near misses below the true one; None where the feature has none."""
        found = [above(self.true, v) for _, v in self.near]
        return float(np.mean(found)) if found else None


def planted(offline: bool) -> Ground:
    """The whole library on the default corpus."""
    return plant(LIBRARY, load_corpus("default", offline=offline), tokens=TOKENS)


async def bench(who: Who, ground: Ground, folder: Path, offline: bool) -> None:
    """Scores all descriptions of all features that are not kept yet."""
    path = folder / f"truth-{who.file}"
    done = {(s.feature, s.scorer) for s in read(folder, who)}
    pairs = list(ground.pairs())
    for feature, record in pairs:
        one = Bench(
            feature,
            record,
            unrelated_to(feature, pairs, UNRELATED, 0),
            Settings(WINDOWS),
            bundled(offline),
            live_function(function_of(feature.function), record),
        )
        for scorer in SCORERS:
            if (feature.name, scorer) in done:
                continue
            found = Scored.of(await one.rank(Reader(scorer, who.simulator), None))
            line = json.dumps({"version": who.version} | vars(found))
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
    print(f"{who}: {len(pairs)} planted features", flush=True)


def read(folder: Path, who: Who, version: str | None = None) -> list[Scored]:
    """What is kept of the version that is installed, or of `version`."""
    path = folder / f"truth-{who.file}"
    version = who.version if version is None else version
    if not path.is_file():
        return []
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [
        Scored(
            row["feature"],
            row["group"],
            row["scorer"],
            row["true"],
            tuple((miss, value) for miss, value in row["near"]),
            tuple(row["unrelated"]),
        )
        for row in rows
        if row["version"] == version
    ]


@dataclass(frozen=True)
class TruthRow:
    """One scorer with one simulator over all planted features."""

    who: str
    scorer: str
    n: int
    undefined: int
    over_unrelated: Measure
    over_near: Measure
    true: Measure
    """Mean score of the true description, 0 where it has none."""
    by_miss: dict[str, Measure]
    by_group: dict[str, tuple[int, float, float, float | None]]
    """Features, mean score of the truth, share over unrelated, share over near misses."""


def truth_row(who: str, scorer: str, scored: Sequence[Scored]) -> TruthRow:
    """The figures of one scorer."""
    mine = [s for s in scored if s.scorer == scorer]
    misses: dict[str, list[float]] = defaultdict(list)
    groups: dict[str, list[Scored]] = defaultdict(list)
    for one in mine:
        groups[one.group].append(one)
        for miss, value in one.near:
            misses[miss].append(above(one.true, value))
    return TruthRow(
        who,
        scorer,
        len(mine),
        sum(s.true is None for s in mine),
        share_of([s.over_unrelated for s in mine]),
        share_of([s.over_near for s in mine if s.over_near is not None]),
        mean_of([s.true or 0.0 for s in mine]),
        {miss: share_of(found) for miss, found in misses.items()},
        {group: _of_group(some) for group, some in groups.items()},
    )


def _of_group(some: Sequence[Scored]) -> tuple[int, float, float, float | None]:
    near = [s.over_near for s in some if s.over_near is not None]
    return (
        len(some),
        float(np.mean([s.true or 0.0 for s in some])),
        float(np.mean([s.over_unrelated for s in some])),
        float(np.mean(near)) if near else None,
    )


def truth_versus(scorer: str, own: Sequence[Scored], other: Sequence[Scored]) -> dict[str, Measure]:
    """Mean differences over planted features, paired."""
    by_name = {s.feature: s for s in other if s.scorer == scorer}
    pairs = [(s, by_name[s.feature]) for s in own if s.scorer == scorer and s.feature in by_name]
    near = [
        a.over_near - b.over_near
        for a, b in pairs
        if a.over_near is not None and b.over_near is not None
    ]
    return {
        "score of the truth": mean_of([(a.true or 0.0) - (b.true or 0.0) for a, b in pairs]),
        "true > unrelated": mean_of([a.over_unrelated - b.over_unrelated for a, b in pairs]),
        "true > near miss": mean_of(near),
    }

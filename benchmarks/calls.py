"""How many calls a feature takes for an interval of one width: asking for yes or no, or for P(yes).

    python benchmarks/calls.py --json benchmarks/calls.json --md benchmarks/calls.md
    python benchmarks/calls.py --llm local --features 14 --windows 40

Planted features are read by somebody who knows what each description means and is unsure all the
same (`Unsure`), or by a language model. The peer asks for yes or no, 5 windows in a request, on 100
windows each for detection and for fuzzing. Ours asks for the same windows with P(yes) of each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import platform
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import NormalDist, fmean

from glossator.bench.oracle import Oracle
from glossator.datasets.corpora import load_corpus
from glossator.datasets.truth import LIBRARY, Ground, plant, spread
from glossator.llm import LLM, Can, Reply, Request
from glossator.providers.journal import MemoryJournal
from glossator.providers.metered import Metered
from glossator.providers.table import make_llm
from glossator.scorers.detection import DetectionScorer
from glossator.scorers.fuzzing import FuzzingScorer
from glossator.scorers.judge import AskingJudge, Judge
from glossator.scorers.nulls import Wrong
from glossator.scorers.panel import PanelJudge
from glossator.types import Explanation, Measure, Score

LINE = re.compile(r'^\d+: "(.*)"$', re.MULTILINE)
SURE, SPREAD = 2.0, 1.5
"""Log odds of the right answer: their mean, and their standard deviation over windows."""
SCORERS = {"detection": DetectionScorer, "fuzzing": FuzzingScorer}
NOBODY = Wrong("shuffled", ())
PEER = "yes or no, 5 at a time"
WIDE = 0.3


@dataclass(frozen=True)
class Unsure:
    """Answers as the oracle does, in log odds with noise that the question decides."""

    oracle: Oracle
    can: frozenset[Can]
    name: str = "unsure"

    async def reply(self, request: Request) -> Reply:
        """See `LLM`."""
        exact = await self.oracle.reply(replace(request, answers=("yes", "no")))
        texts = LINE.findall(request.messages[-1].content)
        about = request.messages[-1].content.rpartition(": ")[2]
        odds = [
            (SURE if yes > no else -SURE) + SPREAD * normal(f"{about}\0{text}")
            for (yes, no), text in zip(exact.slots, texts, strict=True)
        ]
        said = "\n".join(f"{i}: {'yes' if o > 0 else 'no'}" for i, o in enumerate(odds, 1))
        slots = tuple((-math.log1p(math.exp(-o)), -math.log1p(math.exp(o))) for o in odds)
        return replace(exact, text=said, slots=slots if request.answers else ())


def normal(text: str) -> float:
    """A draw from the standard normal distribution that depends on `text` alone."""
    return NormalDist().inv_cdf((zlib.crc32(text.encode()) + 0.5) / 2**32)


@dataclass(frozen=True)
class Silenced:
    """A language model that tells no probabilities."""

    llm: LLM

    @property
    def name(self) -> str:
        """As the model inside."""
        return self.llm.name

    @property
    def can(self) -> frozenset[Can]:
        """What the model inside can, less that."""
        return self.llm.can - {Can.ANSWERS, Can.TOP_LOGPROBS}

    async def reply(self, request: Request) -> Reply:
        """As the model inside."""
        return await self.llm.reply(request)


@dataclass(frozen=True)
class Row:
    """One way of asking, mean over features."""

    way: str
    scorer: str
    features: int
    undefined: int
    failed: float
    value: float
    """Average precision."""
    half_width: float
    f1: float
    """Of calling firing what is likelier than not."""
    f1_half_width: float
    windows: float
    calls: float


def half_width(measure: Measure | Score) -> float:
    if measure.low is None or measure.high is None:
        return math.nan
    return (measure.high - measure.low) / 2


def row_of(way: str, scorer: str, scores: Sequence[Score]) -> Row:
    good = [s for s in scores if s.value is not None and s.low is not None]
    f1 = [s.measures["F1"] for s in good]
    f1 = [m for m in f1 if m.value is not None and m.low is not None]
    return Row(
        way,
        scorer,
        len(scores),
        len(scores) - len(good),
        fmean(s.n_failed for s in scores),
        fmean(s.value for s in good if s.value is not None),
        fmean(map(half_width, good)),
        fmean(m.value for m in f1 if m.value is not None),
        fmean(map(half_width, f1)),
        fmean(s.n for s in good),
        fmean(s.usage.calls for s in scores),
    )


async def measured(ground: Ground, llm: LLM, n_scored: int, names: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for name in names:
        ways: dict[str, list[Score]] = {}
        for feature, record in ground.pairs():
            claim = Explanation(record.feature, feature.true.text, "truth")
            for way, judge, precision in judges(llm):
                scorer = SCORERS[name](judge, NOBODY, n_scored, 0, precision=precision)
                score: Score = await scorer.score(claim, record.test)
                ways.setdefault(way, []).append(score)
            print(f"{name}: {feature.true.text}", flush=True)
        rows += [row_of(way, name, scores) for way, scores in ways.items()]
    return rows


def judges(llm: LLM) -> list[tuple[str, Judge, float]]:
    """Ways of asking, each with the half width at which it stops."""
    ways: list[tuple[str, Judge, float]] = [(PEER, PanelJudge(Silenced(llm), 5, votes=1), 0.0)]
    if Can.ANSWERS in llm.can:
        ways.append(("P(yes), one at a time", AskingJudge(llm), 0.0))
    ways += [(f"P(yes), {n} at a time", PanelJudge(llm, n), 0.0) for n in (5, 12, 20)]
    ways.append((f"P(yes), 20 at a time, until ± {WIDE}", PanelJudge(llm, 20), WIDE))
    return ways


def table(rows: Sequence[Row], name: str, command: str) -> str:
    lines = [
        f"## {name}",
        "",
        f"    {command}",
        "",
        "| scorer | asked | features | average precision | F1 | windows | failed | calls |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r.scorer} | {r.way} | {r.features - r.undefined} of {r.features} | {r.value:.2f} ± "
        f"{r.half_width:.2f} | {r.f1:.2f} ± {r.f1_half_width:.2f} | {r.windows:.0f} | "
        f"{r.failed:.1f} | {r.calls:.1f} |"
        for r in rows
    ]
    totals: dict[str, float] = {}
    for r in rows:
        totals[r.way] = totals.get(r.way, 1.0) + r.calls
    whole = totals[PEER]
    lines += ["", "| asked | calls a feature, with one that explains | share |"]
    lines += ["| --- | --- | --- |"]
    lines += [f"| {way} | {calls:.1f} | {calls / whole:.2f} |" for way, calls in totals.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llm", default="", help="a language model; empty for the unsure oracle")
    parser.add_argument("--base-url", default="")
    parser.add_argument("--features", type=int, default=len(LIBRARY))
    parser.add_argument("--windows", type=int, default=100)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--md", type=Path, help="a table is added to it, in place of its own")
    parser.add_argument("--scorer", action="append", choices=list(SCORERS), help="(default: both)")
    options = parser.parse_args()
    names = options.scorer or list(SCORERS)
    ground = plant(spread(LIBRARY, options.features), load_corpus("default"), tokens=200_000)
    name = options.llm or "the unsure oracle"

    async def whole() -> list[Row]:
        if not options.llm:
            able = frozenset({Can.TOP_LOGPROBS})
            return await measured(ground, Unsure(Oracle.of(ground), able), options.windows, names)
        llm = make_llm(options.llm, base_url=options.base_url or None)
        metered = Metered(llm, MemoryJournal())
        return await measured(ground, metered, options.windows, names)

    rows = asyncio.run(whole())
    command = (
        f"python benchmarks/calls.py --features {options.features} --windows {options.windows}"
    )
    if options.llm:
        command += f" --llm {options.llm}"
    known = {}
    if options.json and options.json.exists():
        known = json.loads(options.json.read_text(encoding="utf-8"))
    known[name] = {
        "command": command,
        "python": platform.python_version(),
        "rows": [asdict(row) for row in rows],
    }
    if options.json:
        options.json.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    tables = [
        table([Row(**row) for row in entry["rows"]], reader, entry["command"])
        for reader, entry in known.items()
    ]
    text = "# Calls for an interval of one width\n\n" + "\n".join(tables)
    if options.md:
        options.md.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

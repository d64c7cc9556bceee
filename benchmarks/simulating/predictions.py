"""What simulators predict, kept as it comes, so that nobody is asked twice."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simulating.cases import Case

from glossator.embedder import bundled
from glossator.errors import ReplyError
from glossator.llm import LLM
from glossator.providers.journal import MemoryJournal
from glossator.providers.metered import Metered
from glossator.providers.prices import price_of
from glossator.providers.table import make_llm
from glossator.scorers.build import build_simulator
from glossator.scorers.together import together
from glossator.types import Explanation

Key = tuple[str, str, str]
"""Ground, case and description."""
Windows = dict[str, tuple[float, ...]]
"""By the key of a window, one value a token; empty where a simulator could not say."""


@dataclass(frozen=True)
class Who:
    """A simulator, with the language model that it asks."""

    simulator: str
    llm: str = ""

    def __str__(self) -> str:
        return f"{self.simulator} {self.llm}".strip()

    @classmethod
    def parse(cls, text: str) -> Who:
        """What prints as `text`."""
        simulator, _, llm = text.partition(" ")
        return cls(simulator, llm)

    @property
    def file(self) -> str:
        """Name of the file of its predictions."""
        return str(self).replace(" ", "-").replace(":", "-").replace("/", "-") + ".jsonl"

    @property
    def version(self) -> str:
        """What its predictions depend on beside its code: the trained weights of `tiny`."""
        if self.simulator != "tiny":
            return ""
        from glossator.scorers.tiny import weights

        content = (Path(weights.__file__).parent / weights.SHIPPED).read_bytes()
        return hashlib.sha256(content).hexdigest()[:16]


@dataclass
class Kept:
    """The predictions of one simulator, in a file of lines."""

    path: Path
    version: str
    found: dict[Key, Windows] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, who: Who, version: str | None = None) -> Kept:
        """What is there, of the version that is installed; with a `version`, of that one."""
        kept = cls(folder / who.file, who.version if version is None else version)
        if kept.path.is_file():
            for line in kept.path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                if row["version"] == kept.version:
                    key = (row["ground"], row["case"], row["text"])
                    windows = {k: tuple(v) for k, v in row["predicted"].items()}
                    kept.found.setdefault(key, {}).update(windows)
        return kept

    def add(self, key: Key, windows: Windows) -> None:
        """Writes one more line."""
        self.found.setdefault(key, {}).update(windows)
        row = {"version": self.version, "ground": key[0], "case": key[1], "text": key[2]}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"predicted": windows}) + "\n")


def metered(spec: str, offline: bool) -> Metered | None:
    """The language model called `spec`, whose replies are kept in memory; None if it is empty."""
    if not spec:
        return None
    inner = make_llm(spec, offline=offline)
    return Metered(inner, MemoryJournal(), price=price_of(inner), limit=4096)


async def predict(
    who: Who, cases: Sequence[Case], kept: Kept, llm: LLM | None, *, wrong: int, offline: bool
) -> None:
    """Asks for all that is not kept yet; a language model for all true descriptions first.

    `wrong` of the near and unrelated descriptions are asked about, of each sort.
    """
    wrong_ones = [
        (case, text) for case in cases for text in (*case.near[:wrong], *case.unrelated[:wrong])
    ]
    turns = [*((case, case.text) for case in cases), *wrong_ones]
    if llm is None:
        # what is read of a case's windows is still in memory
        place = {case.name: i for i, case in enumerate(cases)}
        turns.sort(key=lambda turn: place[turn[0].name])
    for case, text in turns:
        key = (case.ground, case.name, text)
        known = kept.found.get(key, {})
        missing = [e for e in case.windows if e.key not in known]
        if not missing or (who.simulator == "symbolic" and (not case.words or text != case.text)):
            continue
        began = time.perf_counter()
        found = await _asked(who, case, text, [e.tokens for e in missing], llm, offline)
        kept.add(key, {e.key: p for e, p in zip(missing, found, strict=True)})
        print(f"{who} {case.name} {text[:40]!r} {time.perf_counter() - began:.1f} s", flush=True)


async def _asked(
    who: Who,
    case: Case,
    text: str,
    windows: Sequence[tuple[str, ...]],
    llm: LLM | None,
    offline: bool,
) -> list[tuple[float, ...]]:
    words = case.words if who.simulator == "symbolic" else ()
    explanation = Explanation(case.feature, text, "human", words=words)
    # whichever is asked about, the others are the rest of the same four
    others = tuple(t for t in (case.text, *case.unrelated) if t != text)
    simulator = build_simulator(who.simulator, llm, others, bundled(offline))

    async def one(tokens: tuple[str, ...]) -> tuple[float, ...]:
        try:
            return (await simulator.simulate(explanation, tokens)).predicted
        except ReplyError:
            return ()

    return await together(one(tokens) for tokens in windows)

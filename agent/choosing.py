"""Which experiment an inquiry makes next: of all designs, the one that is expected to tell most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glossator.agent import designing, prompts
from glossator.agent.asking import Asking
from glossator.agent.beliefs import expected_gain
from glossator.agent.designing import Design
from glossator.agent.executor import arguments_of, digest_of, tool_called
from glossator.agent.foretell import Foreteller
from glossator.agent.lab import Lab
from glossator.agent.settings import Settings
from glossator.agent.state import State, beliefs_of
from glossator.agent.written import Written
from glossator.evidence import Experiment, Hypothesis
from glossator.types import JSON

GIVEN_UP_AFTER = 2
"""Contrast sets that could not be used, after which none is asked for."""
GIVEN_UP = 0.002
"""Below this probability a hypothesis is foretold for no more."""
WORTH = 0.01
"""Nats; an experiment that is expected to tell less tells nothing."""


@dataclass(frozen=True)
class Choosing:
    """Designs experiments, has everybody foretell them, and takes one."""

    lab: Lab
    foreteller: Foreteller
    asking: Asking
    written: Written
    settings: Settings

    async def best(self, state: State, number: int, name: str) -> Experiment | None:
        """Of the designs at hand, the one with the greatest expected gain; None if none is new."""
        beliefs = beliefs_of(state)
        shares = beliefs.probabilities
        alive = [h for h in self.written.alive(state) if shares[h.id] > GIVEN_UP]
        best: tuple[float, Experiment] | None = None
        untested = not self.written.outputs(state) and any(map(designing.has_effect, alive))
        for design in await self._designs(state, number, alive):
            if digest_of(design.tool, design.arguments) in state.get("ran", []):
                continue
            tool = tool_called(design.tool)
            questions = tool.questions(arguments_of(tool, design.arguments))
            foretold = [(await self.foreteller.foretell(h, questions))[0] for h in alive]
            gain = expected_gain(beliefs, foretold, self.settings.seed)
            # What a hypothesis says of the output is tried at least once.
            if design.tool == "steer" and untested:
                gain += 10.0
            experiment = Experiment(
                name, design.tool, design.arguments, design.why, questions, tuple(foretold)
            )
            if best is None or gain > best[0]:
                best = (gain, experiment)
        if best is None or (best[0] < WORTH and len(alive) > 1 and state["n_tested"] >= 2):
            return None
        return best[1]

    async def _designs(
        self, state: State, number: int, alive: Sequence[Hypothesis]
    ) -> list[Design]:
        n = self.settings.n_texts
        lab = self.lab
        first, second, writes = self._pair(state, number, alive)
        found: list[Design | None] = []
        doubts = self.written.notebook.get(f"doubts {number - 1}")
        if doubts is not None and isinstance(written := doubts.content["texts"], list):
            texts = [str(t) for t in written]
            found.append(designing.texts(texts[:n], f"whether {first.id} stands up to doubt"))
        if first is not second and writes:
            written = self.settings.n_written
            request = prompts.contrast(first, second, written, state.get("notes", [])[-3:])
            key = f"contrast {first.id} {second.id}"
            made = await self.asking.ask(key, request, prompts.read_texts)
            if made:
                why = f"which of {first.id} and {second.id} holds"
                found.append(designing.texts(made[:n], why))
        found.append(designing.windows(lab, n, number))
        found.append(designing.marks(lab, 3 * n // 2, number))
        found.append(designing.replaced(lab, n, number))
        if first is not second:
            found.append(await designing.searched(lab, first, second, n))
        found.append(await self._steering(state, number, alive))
        return [design for design in found if design is not None]

    def _pair(
        self, state: State, number: int, alive: Sequence[Hypothesis]
    ) -> tuple[Hypothesis, Hypothesis, bool]:
        """The two that this round is to tell apart, and whether texts are asked for.

        It is written down, for what is asked in the round changes what would be chosen next.
        """
        key = f"round {number}"
        if (entry := self.written.notebook.get(key)) is None:
            shares = beliefs_of(state).probabilities
            ranked = sorted(alive, key=lambda h: -shares[h.id])
            first = ranked[0]
            others = [h for h in ranked[1:] if h.trigger.lower() != first.trigger.lower()]
            new = [h for h in others if not self._contrasted(first, h)]
            second = next(iter([*new, *others]), first)
            said: dict[str, JSON]
            said = {"first": first.id, "second": second.id, "writes": self._writes()}
            self.written.notebook.put(key, "round", said)
        else:
            said = dict(entry.content)
        named = {h.id: h for h in alive}
        return named[str(said["first"])], named[str(said["second"])], bool(said["writes"])

    def _contrasted(self, first: Hypothesis, second: Hypothesis) -> bool:
        """Whether texts between the two were asked for before."""
        keys = (f"contrast {a.id} {b.id}" for a, b in ((first, second), (second, first)))
        return any(self.written.notebook.get(f"{k} {w}") for k in keys for w in ("said", "failed"))

    def _writes(self) -> bool:
        """Whether the language model writes contrast texts that can be used; else it costs time."""
        failed = [e for e in self.written.notebook.entries() if e.kind == "failure"]
        return sum(e.key.startswith("contrast") for e in failed) < GIVEN_UP_AFTER

    async def _steering(
        self, state: State, number: int, alive: Sequence[Hypothesis]
    ) -> Design | None:
        effects = [h for h in alive if designing.has_effect(h)]
        known = await designing.output_words(self.lab, self.settings.n_texts)
        if not effects or not known:
            return None
        n = self.settings.n_texts
        request = prompts.effect_words(effects, n)
        named = await self.asking.ask(f"words {number}", request, prompts.read_words) or []
        words = [*named[:n], *known[: n // 2], *designing.COMMON[: n // 2]]
        return designing.steer(self.lab, words, "whether it does to the output what is supposed")

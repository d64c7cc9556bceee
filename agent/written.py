"""What an inquiry has written down, read back: hypotheses, experiments, and what they showed."""

from __future__ import annotations

from dataclasses import dataclass

from glossator.agent.designing import has_effect
from glossator.agent.state import State
from glossator.evidence import Effect, Evidence, Experiment, Hypothesis
from glossator.notebook import Notebook


@dataclass(frozen=True)
class Written:
    """The notebook of one inquiry."""

    notebook: Notebook

    def outputs(self, state: State) -> dict[str, Effect]:
        """Of each hypothesis with an output effect, the last experiment's word on it."""
        found: dict[str, Effect] = {}
        for evidence in self.all_evidence(state):
            if evidence.experiment.tool == "steer" and evidence.finding is not None:
                found |= evidence.effects
        effects = {h.id for h in self.alive(state) if has_effect(h)}
        return {i: effect for i, effect in found.items() if i in effects}

    def unused(self) -> str:
        """How often the language model gave nothing usable: what stands is then not its work."""
        failed = [e for e in self.notebook.entries() if e.key.endswith(" failed")]
        if not failed:
            return ""
        first = failed[0]
        said = " ".join(str(first.content.get("message", "")).split())[:120]
        asked = first.key.removesuffix(" failed")
        times = "once" if len(failed) == 1 else f"{len(failed)} times"
        return f"; the language model could not be used {times}, first for {asked!r}: {said}"

    def write(self, hypothesis: Hypothesis) -> None:
        """Writes down what is supposed."""
        self.notebook.put(hypothesis.id, "proposed", hypothesis.to_json())

    def hypothesis(self, name: str) -> Hypothesis:
        """The hypothesis of that id, with its pattern if it has one."""
        entry = self.notebook.get(name)
        assert entry is not None, f"{name} is in the state and not in the notebook"
        return Hypothesis.from_json(entry.content)

    def alive(self, state: State) -> list[Hypothesis]:
        """Those that the state holds."""
        return [self.hypothesis(str(h["id"])) for h in state.get("hypotheses", [])]

    def experiment(self, name: str) -> Experiment:
        """The experiment of that id as it was planned."""
        entry = self.notebook.get(name)
        assert entry is not None, f"{name} was to be planned before it is run"
        return Experiment.from_json(entry.content)

    def evidence(self, name: str) -> Evidence | None:
        """What the experiment of that id showed; None if it was not run."""
        entry = self.notebook.get(f"{name} found")
        return None if entry is None else Evidence.from_json(entry.content)

    def all_evidence(self, state: State) -> list[Evidence]:
        """What all experiments of the state showed, in order."""
        found = (self.evidence(name) for name in state.get("evidence", []))
        return [evidence for evidence in found if evidence is not None]

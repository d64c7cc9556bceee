"""The steps of an inquiry into one feature. Each gives the fields of the state that it changes.

All that a step makes is in the notebook before the next begins, under a key of its own, so that a
step which is done again after a kill finds it and neither pays nor experiments twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from glossator.agent import designing, prompts
from glossator.agent.asking import Asking
from glossator.agent.beliefs import Beliefs, alike, effect_of
from glossator.agent.choosing import GIVEN_UP, Choosing
from glossator.agent.concluding import conclusion_of, supported
from glossator.agent.deciding import Same, borne_out, decide
from glossator.agent.executor import carry_out, digest_of
from glossator.agent.foretell import Foreteller
from glossator.agent.lab import Lab
from glossator.agent.looking import look_around
from glossator.agent.observing import (
    drafts_of,
    dull_hypotheses,
    excerpts_of,
    known_effects,
    own_words,
)
from glossator.agent.on_dev import DevTest
from glossator.agent.settings import Settings
from glossator.agent.state import State, beliefs_of, kept, noted
from glossator.agent.written import Written
from glossator.evidence import (
    Conclusion,
    Effect,
    Ending,
    Evidence,
    Foretold,
    Hypothesis,
)
from glossator.llm import LLM
from glossator.notebook import Notebook

MOVED = 0.02
"""A round in which no probability changes by more has moved nothing."""
STILL = 2
"""Such rounds in a row end an inquiry."""
SURE = 0.6
"""Above this probability the sceptic doubts the leader."""
SAME = 0.1
"""Hypotheses whose foretold probabilities differ by less on average say the same."""


@dataclass(frozen=True)
class Inquiry:
    """One feature under inquiry."""

    lab: Lab
    llm: LLM
    foreteller: Foreteller
    notebook: Notebook
    settings: Settings
    clock: Callable[[], float] = time.monotonic

    # -- the steps ---------------------------------------------------------------------------------

    async def observe(self, state: State) -> State:
        """What is known before anybody supposes anything."""
        seen = self.lab.seen
        if not seen.train.firing or not seen.dev.firing or not seen.dev.silent:
            why = "it does not fire in both train and dev text; read more text with --tokens"
            return _ended(Ending.SILENT, why)
        effects = await known_effects(self.lab)
        self.notebook.put(
            "seen",
            "seen",
            {
                "feature": str(seen.feature),
                "kind": seen.kind.value,
                "density": seen.density,
                "threshold": seen.threshold,
                "peak": seen.peak,
                "effects": list(effects),
            },
        )
        return {"round": 0, "still": 0, "stuck": 0, "looks": 0, "n_tested": 0, "n_proposed": 0}

    async def look(self, state: State) -> State:
        """What the language model wants to see before it proposes."""
        firing, silent = excerpts_of(self.lab, self.settings.n_shown)
        found = await look_around(self.lab, self._asking, firing, silent, self.settings.n_looks)
        return {
            "evidence": [e.id for e in found],
            "ran": [digest_of(e.experiment.tool, e.experiment.arguments) for e in found],
            "notes": noted(state, map(prompts.summary, found)),
        }

    async def propose(self, state: State) -> State:
        """Hypotheses of the language model, and the dull ones."""
        dull = await dull_hypotheses(self.lab)
        firing, silent = excerpts_of(self.lab, self.settings.n_shown)
        effects = await known_effects(self.lab)
        request = prompts.propose(
            self.settings.n_hypotheses, firing, silent, effects, state.get("notes", [])
        )
        said = await self._asking.ask("propose", request, prompts.read_hypotheses)
        said = own_words(said or [], firing)[: self.settings.n_hypotheses]
        drafts = await drafts_of(self.lab, self.llm, self.notebook, self.settings.n_shown)
        given = [("explainer", trigger, effect) for trigger, effect in said]
        for by, text in drafts:
            if text.lower() not in {trigger.lower() for _, trigger, _ in given}:
                given.append((by, text, ""))
        proposed = [
            _hypothesis(i + 1, trigger, effect, by) for i, (by, trigger, effect) in enumerate(given)
        ]
        numbered = [replace(h, id=f"H{len(proposed) + i + 1}") for i, h in enumerate(dull)]
        every = [*proposed, *numbered]
        if not every:
            return _ended(Ending.UNUSABLE, "nothing was proposed in a form that could be read")
        for hypothesis in every:
            self._written.write(hypothesis)
        return {
            "hypotheses": kept(every),
            "weights": dict(Beliefs.at_first(every).weights),
            "n_proposed": len(every),
            "notes": noted(state, [] if given else ["the language model proposed nothing usable"]),
        }

    async def design(self, state: State) -> State:
        """The experiment that is expected to tell most, with what everybody foretells of it."""
        number = state["round"] + 1
        begun = self.clock()
        name = f"E{len(state.get('evidence', [])) + 1}"
        if self.notebook.get(name) is None:
            found = await self._choosing.best(state, number, name)
            if found is None:
                return {"round": number, "pending": "", "stuck": state["stuck"] + 1}
            self.notebook.put(name, "experiment", found.to_json())
        return {"round": number, "pending": name, "stuck": 0, **self._spent(state, begun)}

    async def run(self, state: State) -> State:
        """Runs the planned experiment, once."""
        begun = self.clock()
        planned = self._written.experiment(state["pending"])
        if self._written.evidence(planned.id) is None:
            evidence = await carry_out(planned, self.lab)
            evidence = replace(evidence, effects=self._borne_out(evidence))
            self.notebook.put(f"{planned.id} found", "evidence", evidence.to_json())
        return {
            "evidence": [*state.get("evidence", []), planned.id],
            "ran": [*state.get("ran", []), digest_of(planned.tool, planned.arguments)],
            "n_tested": state["n_tested"] + 1,
            **self._spent(state, begun),
        }

    async def update(self, state: State) -> State:
        """What the result makes of the beliefs."""
        evidence = self._written.evidence(state["pending"])
        before = beliefs_of(state)
        if evidence is None or evidence.finding is None:
            failed = [prompts.summary(evidence)] if evidence is not None else []
            return {"still": state["still"] + 1, "notes": noted(state, failed)}
        after = before.after(evidence.experiment.foretold, evidence.finding.answers)
        moved = max(abs(after.probabilities[i] - before.probabilities[i]) for i in before.weights)
        self.notebook.put(
            f"{evidence.id} beliefs",
            "beliefs",
            {"before": dict(before.probabilities), "after": dict(after.probabilities)},
        )
        return {
            "weights": dict(after.weights),
            "still": 0 if moved > MOVED else state["still"] + 1,
            "notes": noted(state, [prompts.summary(evidence)]),
        }

    async def doubt(self, state: State) -> State:
        """The sceptic: texts against the leader, and perhaps a better hypothesis."""
        beliefs = beliefs_of(state)
        number = state["round"]
        if beliefs.probabilities[beliefs.leader] < SURE and state["still"] == 0:
            return {}
        begun = self.clock()
        leader = self._written.hypothesis(beliefs.leader)
        request = prompts.sceptic(leader, state.get("notes", []), self.settings.n_written)
        said = await self._asking.ask(f"doubt {number}", request, prompts.read_doubts)
        if said is None:
            return self._spent(state, begun)
        texts, better = said
        self.notebook.put(f"doubts {number}", "doubts", {"texts": list(texts)})
        alive = self._written.alive(state)
        known = {(h.trigger.lower(), h.output_effect.lower()) for h in alive}
        new = [(t, e) for t, e in better[:1] if (t.lower(), e.lower()) not in known]
        if len(alive) >= self.settings.most_hypotheses:
            new = []
        count = state["n_proposed"]
        joined = beliefs
        for trigger, effect in new:
            count += 1
            hypothesis = _hypothesis(count, trigger, effect, "sceptic")
            self._written.write(hypothesis)
            alive = [*alive, hypothesis]
            joined = joined.joined_by(hypothesis)
        return {
            "hypotheses": kept(alive),
            "weights": dict(joined.weights),
            "n_proposed": count,
            **self._spent(state, begun),
        }

    async def decide(self, state: State) -> State:
        """Whether to go on."""
        begun = self.clock()
        beliefs = beliefs_of(state)
        looks = state["looks"]
        why = ""
        if state["n_tested"] >= 2 or state["stuck"] or state["still"]:
            looks += 1
            dev = self._dev
            shares = beliefs.probabilities
            alive = {h.id: h for h in self._written.alive(state)}
            on_dev = {i: await self._on_dev(h) for i, h in alive.items() if shares[i] > GIVEN_UP}
            decision = decide(
                beliefs,
                alive,
                dev,
                on_dev,
                self._written.outputs(state),
                self._same(state, on_dev),
                looks,
                self.settings.confidence,
            )
            self.notebook.put(
                f"look {looks}",
                "decision",
                {
                    "leader": decision.leader,
                    "decided": decision.decided,
                    "why": decision.why,
                    "numbers": dict(decision.numbers),
                },
            )
            why = decision.why
            # Those that foretold alike are one answer only once nobody finds a test between them.
            spent_half = 2 * state["n_tested"] >= self.settings.most_experiments
            tried = state["stuck"] or state["still"] or spent_half or not decision.same
            if decision.decided and tried:
                ended = _ended(Ending.DECIDED, why)
                return {**ended, "looks": looks, "leader": decision.leader}
        spent = self._spent(state, begun)
        if state["still"] >= STILL:
            ended = _ended(Ending.STALLED, f"two experiments in a row changed nothing; {why}")
        elif state["stuck"] >= STILL:
            ended = _ended(Ending.LOOPING, f"no experiment is left that was not made; {why}")
        elif state["n_tested"] >= self.settings.most_experiments:
            ended = _ended(Ending.EXPERIMENTS, f"after {state['n_tested']} experiments, {why}")
        elif spent["seconds"] > self.settings.seconds:
            ended = _ended(Ending.TIME, f"after {spent['seconds']:.0f} s, {why}")
        else:
            ended = {}
        return {**ended, "looks": looks, **spent}

    async def conclude(self, state: State) -> State:
        """Writes down how it ended."""
        if self.notebook.get("conclusion") is None:
            concluded = await self._conclusion(state)
            self.notebook.put("conclusion", "conclusion", concluded.to_json())
        return {}

    @property
    def concluded(self) -> Conclusion | None:
        """How it ended, if it has."""
        entry = self.notebook.get("conclusion")
        return None if entry is None else Conclusion.from_json(entry.content)

    # -- what they are made of ---------------------------------------------------------------------

    def _borne_out(self, evidence: Evidence) -> dict[str, Effect]:
        """By hypothesis, how what was foretold yes differs from what was foretold no."""
        finding = evidence.finding
        if finding is None or not finding.values:
            return {}
        steered = evidence.experiment.tool == "steer"
        scale = 1.0 if steered or self.lab.seen.peak <= 0 else self.lab.seen.peak
        unit = "nats" if steered else "share of train peak"
        return {
            said.hypothesis: effect_of(said, finding.values, scale, unit)
            for said in evidence.experiment.foretold
            if any(p is not None for p in said.probabilities)
        }

    def _same(self, state: State, on_dev: Mapping[str, Sequence[float | None]]) -> Same:
        """Whether two hypotheses foretold alike wherever both were asked."""
        told = {i: list(said) for i, said in on_dev.items()}
        for evidence in self._written.all_evidence(state):
            said = {f.hypothesis: f.probabilities for f in evidence.experiment.foretold}
            nothing = [None] * len(evidence.experiment.questions)
            for i, so_far in told.items():
                so_far += said.get(i, nothing)

        def same(i: str, j: str) -> bool:
            apart = alike(told[i], told[j])
            effects = [designing.has_effect(self._written.hypothesis(k)) for k in (i, j)]
            return apart is not None and apart < SAME and effects[0] == effects[1]

        return same

    async def _on_dev(self, hypothesis: Hypothesis) -> tuple[float | None, ...]:
        """What a hypothesis foretells of the dev windows."""
        key = f"{hypothesis.id} dev"
        if (entry := self.notebook.get(key)) is None:
            read = await self.foreteller.on_texts(hypothesis, self._dev.windows)
            self.notebook.put(key, "dev", read.to_json())
            return read.probabilities
        return Foretold.from_json(entry.content).probabilities

    @property
    def _dev(self) -> DevTest:
        seen = self.lab.seen
        return DevTest.of(seen.dev, self.settings.n_dev, seen.feature, self.settings.seed)

    async def _conclusion(self, state: State) -> Conclusion:
        alive = self._written.alive(state)
        ending = Ending(state["ending"])
        evidence = self._written.all_evidence(state)
        said = None
        leader: Hypothesis | None = None
        if ending is Ending.DECIDED:
            leader = self._written.hypothesis(state["leader"])
            effect = self._written.outputs(state).get(leader.id)
            if designing.has_effect(leader) and (effect is None or not borne_out(effect)):
                leader = replace(leader, output_effect="")
            said = await self._asking.ask(
                "conclude", prompts.conclude(leader, evidence), prompts.read_claims
            )
            said = said or supported(leader, evidence)
        return conclusion_of(
            self.lab.seen.feature,
            ending,
            state.get("why", "") + self._written.unused(),
            leader,
            alive,
            beliefs_of(state).probabilities,
            evidence,
            said or [],
            self.llm.name,
            state.get("seconds", 0.0),
        )

    @property
    def _asking(self) -> Asking:
        return Asking(self.llm, self.notebook)

    @property
    def _written(self) -> Written:
        return Written(self.notebook)

    @property
    def _choosing(self) -> Choosing:
        return Choosing(self.lab, self.foreteller, self._asking, self._written, self.settings)

    def _spent(self, state: State, begun: float) -> State:
        return {"seconds": state.get("seconds", 0.0) + self.clock() - begun}


def _hypothesis(number: int, trigger: str, effect: str, by: str) -> Hypothesis:
    parts = [trigger] if trigger else []
    if effect == "none":
        parts.append("without an effect on the next word")
    elif effect:
        parts.append(f"makes more likely next: {effect}")
    return Hypothesis(f"H{number}", "; ".join(parts), trigger, effect, by=by)


def _ended(ending: Ending, why: str) -> State:
    return {"ending": ending.value, "why": why.strip().rstrip(";, ")}

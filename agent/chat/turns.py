"""The steps of one turn of a conversation. Each gives the fields of the state that it changes.

All that a step makes is in the notebook before the next begins, under a key of its own. So a step
that is done again after a kill finds it, and neither pays nor experiments twice:

`T3 user` what the user said, `T3.1 said` the first reply, `T3.1.0 approval` and `T3.1.0 plan` of
its first call, `E4` and `E4 found` the experiments of it, `T3.1.0 result`, `T3 answer`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from glossator.agent import prompts as inquiry_prompts
from glossator.agent.asking import Asking
from glossator.agent.chat import prompts
from glossator.agent.chat.contrast import Planned, Planner
from glossator.agent.chat.events import Called, Calling, Event, Judgement, Said, Troubled
from glossator.agent.chat.limits import Limits
from glossator.agent.chat.state import State
from glossator.agent.chat.supposing import NAME, Supposition, hypothesis_of
from glossator.agent.chat.verdict import Judged, Verdict, judged, together
from glossator.agent.executor import arguments_of, carry_out, digest_of, tool_called
from glossator.agent.foretell import Foreteller
from glossator.agent.lab import Lab
from glossator.agent.observing import excerpts_of, known_effects
from glossator.errors import ConfigError, ReplyError
from glossator.evidence import Evidence, Experiment, Hypothesis
from glossator.llm import LLM, Reply, ToolCall
from glossator.notebook import Notebook
from glossator.types import JSON

PIECE = 80
"""Characters of an answer that are told at a time."""
MOST_NOTES = 8
MOST_OF_A_NOTE = 300
MOST_SAID = 20_000
"""Characters of what a user says in one turn."""

CALLS_AT_ONCE = 32
"""Calls in one reply that get a result each; those above the limits of a turn are not run."""

Tell = Callable[[Event], None]


@dataclass(frozen=True)
class Turns:
    """A conversation about one feature."""

    lab: Lab
    llm: LLM
    foreteller: Foreteller
    notebook: Notebook
    limits: Limits = field(default_factory=Limits)

    # -- the steps ---------------------------------------------------------------------------------

    async def hear(self, state: State, tell: Tell) -> State:
        """What the user says: words for the language model, or one call that they make."""
        await self._look_once()
        return {"calls": len(self.calls_of(state["turn"], 0))}

    async def think(self, state: State, tell: Tell) -> State:
        """One reply of the language model: an answer, or calls."""
        turn, step = state["turn"], state["step"] + 1
        steps = [self._step(turn, i) for i in range(1, step)]
        spent = state["n_run"] >= self.limits.calls or state["repeats"] >= self.limits.repeats
        last = step >= self.limits.replies or spent
        request = prompts.talk(
            self._seen_lines(),
            self._past(turn),
            self._text(f"T{turn} user"),
            steps,
            self.limits.max_tokens,
            last,
        )
        key = f"T{turn}.{step}"
        reply = await Asking(self.llm, self.notebook).ask(key, request, read_reply)
        if reply is None:
            failed = self.notebook.get(f"{key} failed")
            kind = str(failed.content["kind"]) if failed is not None else ""
            why = str(failed.content["message"]) if failed is not None else ""
            return self._give_up(state, kind, unusable(kind, why), tell)
        if reply.calls and last:
            return self._give_up(state, "Looping", LOOPING, tell)
        for piece in pieces(reply.text):
            tell(Said(piece))
        if not reply.calls:
            return self._answer(state, reply.text)
        return {"step": step, "calls": len(reply.calls), "at": 0}

    async def plan(self, state: State, tell: Tell) -> State:
        """What the next call comes to: experiments with what is foretold, or why there are none."""
        key, call = self.key_of(state), self._call(state)
        if self.notebook.get(f"{key} plan") is None:
            self.notebook.put(f"{key} plan", "plan", await self._planned(state, key, call))
        content = self._content(f"{key} plan")
        if content["hypothesis"] is not None:
            hypothesis = Hypothesis.from_json(content["hypothesis"])
            self.notebook.put(hypothesis.id, "proposed", hypothesis.to_json())
        for experiment in _experiments(content):
            self.notebook.put(experiment.id, "experiment", experiment.to_json())
        return {}

    async def run(self, state: State, tell: Tell) -> State:
        """Makes the planned experiments that were not made, each once."""
        key, call = self.key_of(state), self._call(state)
        content = self._content(f"{key} plan")
        planned = _experiments(content)
        if planned:
            passes = sum(_passes(experiment) for experiment in planned)
            tell(Calling(key, call.name, arguments_in(call) or {}, passes))
        for experiment in planned:
            if self.notebook.get(f"{experiment.id} found") is None:
                evidence = await carry_out(experiment, self.lab, self.limits.seconds)
                evidence = self._with_effects(evidence)
                self.notebook.put(f"{experiment.id} found", "evidence", evidence.to_json())
        return {}

    async def settle(self, state: State, tell: Tell) -> State:
        """The one result of the call."""
        key, call = self.key_of(state), self._call(state)
        content = self._content(f"{key} plan")
        found = [self.evidence(e.id) for e in _experiments(content)]
        hypothesis = content["hypothesis"]
        text, verdict = str(content["why_not"]), ""
        if hypothesis is not None and found:
            verdict, told = self._held_against(found)
            text = "\n".join([*told, f"So this is {verdict}." if verdict else ""]).strip()
        elif found:
            text = "\n".join(_result(evidence) for evidence in found)
        self.notebook.put(
            f"{key} result",
            "result",
            {"call": call.id, "tool": call.name, "text": text, "verdict": verdict},
        )
        ids = tuple(e.id for e in found)
        shown = tuple(x for e in found for x in _effects(e))
        if call.name == NAME:
            name = str(hypothesis["id"]) if isinstance(hypothesis, Mapping) else ""
            tell(Judgement(key, name, verdict, text, ids, shown))
        else:
            costs = [e.finding.usage.cost for e in found if e.finding is not None]
            cost = None if None in costs else sum(c for c in costs if c is not None)
            seconds = sum(e.seconds for e in found)
            tell(Called(key, call.name, text, ids, shown, seconds, cost))
        notes = [inquiry_prompts.summary(e)[:MOST_OF_A_NOTE] for e in found]
        if verdict and isinstance(hypothesis, Mapping):
            notes.append(f"{hypothesis['id']} is {verdict}"[:MOST_OF_A_NOTE])
        repeated = bool(content["repeated"])
        ran = [f"{_digest(call)} {ids[0]}"] if ids else []
        return {
            "at": state["at"] + 1,
            "n_run": state["n_run"] + bool(found),
            "repeats": state["repeats"] + repeated,
            "ran": [*state["ran"], *ran],
            "notes": [*state["notes"], *notes][-MOST_NOTES:],
            "experiments": self._last("E", state.get("experiments", 0)),
            "hypotheses": self._last("H", state.get("hypotheses", 0)),
        }

    async def close(self, state: State, tell: Tell) -> State:
        """The answer to a call that the user made: its result."""
        turn = state["turn"]
        return self._answer(state, str(self._content(f"T{turn}.0.0 result")["text"]), by="program")

    # -- what follows ------------------------------------------------------------------------------

    def following(self, state: State) -> str:
        """The step after `hear`, `think` and `settle`."""
        if state["done"]:
            return "end"
        if state["at"] < state["calls"]:
            return "approve" if self.asks_first(self.key_of(state), self._call(state)) else "plan"
        return "close" if state["step"] == 0 and state["calls"] else "think"

    def asks_first(self, key: str, call: ToolCall) -> bool:
        """Whether a person is to be asked about the call and was not."""
        return bool(dear_because(call)) and self.notebook.get(f"{key} approval") is None

    def key_of(self, state: State) -> str:
        """Of the call that is next."""
        return f"T{state['turn']}.{state['step']}.{state['at']}"

    def calls_of(self, turn: int, step: int) -> tuple[ToolCall, ...]:
        """What was called in a step; step 0 is the user's own call."""
        if step == 0:
            entry = self.notebook.get(f"T{turn} user")
            given = entry.content.get("call") if entry is not None else None
            if not isinstance(given, Mapping):
                return ()
            arguments = json.dumps(given["arguments"])
            return (ToolCall(f"user-{turn}", str(given["tool"]), arguments),)
        said = self.notebook.get(f"T{turn}.{step} said")
        given_calls: Any = said.content["calls"] if said is not None else []
        return tuple(ToolCall(c["id"], c["name"], c["arguments"]) for c in given_calls)

    def evidence(self, name: str) -> Evidence:
        """The experiment of that id, which was run."""
        return Evidence.from_json(self._content(f"{name} found"))

    # -- what they are made of ---------------------------------------------------------------------

    async def _planned(self, state: State, key: str, call: ToolCall) -> dict[str, JSON]:
        arguments = arguments_in(call)
        approval = self.notebook.get(f"{key} approval")
        if approval is not None and not approval.content["approved"]:
            return _refused("not run: the user did not approve it")
        if state["n_run"] >= self.limits.calls:
            return _refused("not run: no calls are left in this turn")
        if arguments is None:
            return _refused("not run: the arguments are no JSON object")
        before = dict(line.split(" ", 1) for line in state["ran"])
        if (earlier := before.get(_digest(call))) is not None:
            return _refused(f"not run: that was called before, as {earlier}", repeated=True)
        first = self._last("E", state.get("experiments", 0)) + 1
        if call.name == NAME:
            return await self._planned_test(state, key, arguments, first)
        try:
            arguments_of(tool_called(call.name), arguments)
        except ConfigError as error:
            return _refused(f"not run: {error}")
        experiment = Experiment(f"E{first}", call.name, arguments, "asked for in a conversation")
        return {**_refused(""), "experiments": [experiment.to_json()]}

    async def _planned_test(
        self, state: State, key: str, arguments: dict[str, JSON], first: int
    ) -> dict[str, JSON]:
        try:
            given = Supposition.model_validate(arguments)
        except ValueError:
            return _refused(f"not run: {NAME} takes a trigger and an output_effect, texts both")
        if not given.trigger.strip() and not given.output_effect.strip():
            return _refused(
                "the hypothesis predicts nothing: say on which words the feature fires, or which "
                "words it makes more likely"
            )
        number = self._last("H", state.get("hypotheses", 0)) + 1
        hypothesis = hypothesis_of(number, given)
        asking = Asking(self.llm, self.notebook)
        planner = Planner(self.lab, asking, self.foreteller, self.limits.n_texts)
        planned: Planned = await planner.plan(hypothesis, first, key)
        return {
            "experiments": [e.to_json() for e in planned.experiments],
            "why_not": planned.why_not and f"{hypothesis.id} was not tested: {planned.why_not}",
            "repeated": False,
            "hypothesis": hypothesis.to_json(),
        }

    def _with_effects(self, evidence: Evidence) -> Evidence:
        if evidence.finding is None or not evidence.finding.values:
            return evidence
        peak = self.lab.seen.peak
        effects = {
            said.hypothesis: judged(evidence, said, peak).effect
            for said in evidence.experiment.foretold
        }
        return Evidence(evidence.experiment, evidence.finding, "", effects, evidence.seconds)

    def _held_against(self, found: list[Evidence]) -> tuple[str, list[str]]:
        parts: list[Judged] = []
        lines: list[str] = []
        for evidence in found:
            if evidence.finding is None:
                lines.append(f"{evidence.id}: it could not be run: {evidence.failure}")
                continue
            (foretold,) = evidence.experiment.foretold
            parts.append(judged(evidence, foretold, self.lab.seen.peak))
            lines.append(parts[-1].text)
        verdict = together([p.verdict for p in parts])
        if len(parts) < len(found) and verdict is Verdict.SUPPORTED:
            verdict = Verdict.UNDECIDED
        return verdict.value, lines

    async def _look_once(self) -> None:
        if self.notebook.get("seen") is not None:
            return
        seen = self.lab.seen
        firing: list[str] = []
        silent: list[str] = []
        if seen.train.firing:
            firing, silent = excerpts_of(self.lab, self.limits.n_shown)
        content: dict[str, JSON] = {
            "feature": str(seen.feature),
            "kind": seen.kind.value,
            "density": seen.density,
            "threshold": seen.threshold,
            "peak": seen.peak,
            "effects": list(await known_effects(self.lab)),
            "firing": list(firing),
            "silent": list(silent),
        }
        self.notebook.put("seen", "seen", content)

    def _seen_lines(self) -> list[str]:
        seen = self._content("seen")
        lines = [f"{seen['feature']}; {seen['kind']}; fires on {seen['density']:.3%} of tokens"]
        lines += [f"its effect on the next word: {line}" for line in seen["effects"]]
        lines += [f"it fires: {line}" for line in seen["firing"]]
        return lines + [f"it does not fire: {line}" for line in seen["silent"]]

    def _past(self, turn: int) -> list[prompts.Past]:
        found = []
        for number in range(max(1, turn - self.limits.turns_told), turn):
            answer = self.notebook.get(f"T{number} answer")
            if answer is None:
                continue
            content: Mapping[str, Any] = answer.content
            said = str(content["text"]) or "(no answer)"
            notes = tuple(str(n) for n in content["notes"])
            user = self._text(f"T{number} user")
            found.append(prompts.Past(user, said, notes, content["by"] != "model"))
        return found

    def _step(self, turn: int, step: int) -> prompts.Step:
        calls = self.calls_of(turn, step)
        said = self._content(f"T{turn}.{step} said")
        results = []
        for i in range(len(calls)):
            entry = self.notebook.get(f"T{turn}.{step}.{i} result")
            results.append("not run" if entry is None else str(entry.content["text"]))
        return prompts.Step(str(said["text"]), calls, tuple(results))

    def _answer(self, state: State, text: str, by: str = "model", failure: str = "") -> State:
        content: dict[str, JSON] = {
            "text": text,
            "by": by,
            "notes": list(state["notes"]),
            "failure": failure,
        }
        self.notebook.put(f"T{state['turn']} answer", "assistant", content)
        return {"done": True}

    def _give_up(self, state: State, kind: str, text: str, tell: Tell) -> State:
        tell(Troubled(kind, text))
        return self._answer(state, text, by="program", failure=kind)

    def _call(self, state: State) -> ToolCall:
        return self.calls_of(state["turn"], state["step"])[state["at"]]

    def _text(self, key: str) -> str:
        return str(self._content(key)["text"])

    def _content(self, key: str) -> Mapping[str, Any]:
        entry = self.notebook.get(key)
        assert entry is not None, f"{key} was to be written down before"
        return entry.content

    def _last(self, letter: str, known: int) -> int:
        """The highest number in use, from one that is known to be."""
        while self.notebook.get(f"{letter}{known + 1}") is not None:
            known += 1
        return known


LOOPING = (
    "The language model kept calling tools and gave no answer. What the tools found stands above; "
    "ask something narrower, or test it yourself with /test"
)


def unusable(kind: str, why: str) -> str:
    """What is said where no reply could be used."""
    if kind == "Refused":
        return (
            f"The language model declined to answer ({why:.200}). Say it in other words, or take "
            "another model with --llm; commands such as /test need less of it"
        )
    return (
        f"No reply of the language model could be used ({why:.200}). Say it in other words, or "
        "take another model with --llm; commands such as /test need less of it"
    )


def read_reply(reply: Reply) -> Reply:
    """`reply`, if it says or calls anything.

    Raises:
        ReplyError: if it does neither, gives two calls one id, or calls too much at once.
    """
    if len(reply.calls) > CALLS_AT_ONCE:
        raise ReplyError(f"it calls more than {CALLS_AT_ONCE} tools at once", reply.text)
    if not reply.calls and not reply.text.strip():
        raise ReplyError("it is empty", reply.text)
    if len({call.id for call in reply.calls}) < len(reply.calls):
        raise ReplyError("two of its calls have the same id", reply.text)
    return reply


def dear_because(call: ToolCall) -> str:
    """Why a person is asked before the call is made; empty if nobody is."""
    arguments = arguments_in(call)
    if call.name == NAME or arguments is None:
        return ""
    try:
        tool = tool_called(call.name)
        cost = tool.cost(arguments_of(tool, arguments))
    except ConfigError:
        return ""  # it gets a result that says so, and costs nothing
    return "it asks a language model many times, or takes minutes" if cost.dear else ""


def arguments_in(call: ToolCall) -> dict[str, JSON] | None:
    """The arguments as the model wrote them; None if they are no JSON object."""
    try:
        value = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def pieces(text: str) -> list[str]:
    """`text` in pieces of about `PIECE` characters that end behind white space."""
    found: list[str] = []
    rest = text
    while len(rest) > PIECE:
        cut = max(rest.rfind(mark, 0, PIECE) for mark in (" ", "\n")) + 1 or PIECE
        found.append(rest[:cut])
        rest = rest[cut:]
    return [*found, rest] if rest else found


def _refused(why: str, repeated: bool = False) -> dict[str, JSON]:
    return {"experiments": [], "why_not": why, "repeated": repeated, "hypothesis": None}


def _experiments(content: Mapping[str, Any]) -> list[Experiment]:
    return [Experiment.from_json(e) for e in content["experiments"]]


def _digest(call: ToolCall) -> str:
    return digest_of(call.name, arguments_in(call) or {})


def _passes(experiment: Experiment) -> int:
    tool = tool_called(experiment.tool)
    return tool.cost(arguments_of(tool, experiment.arguments)).passes


def _result(evidence: Evidence) -> str:
    if evidence.finding is None:
        return f"{evidence.id}: failed: {evidence.failure}"
    return f"{evidence.id}: {evidence.finding.text}"


def _effects(evidence: Evidence) -> tuple[Any, ...]:
    own = tuple(evidence.effects.values())
    return own or (evidence.finding.effects[:4] if evidence.finding is not None else ())

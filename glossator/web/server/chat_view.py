"""What the page of a conversation shows, read from its notebook; no model is needed for that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from glossator.agent.chat.supposing import NAME
from glossator.evidence import Evidence, Hypothesis
from glossator.llm import ToolCall
from glossator.notebook import Entry
from glossator.runs import Run
from glossator.store import Store
from glossator.types import Example, Explanation, FeatureId, Score
from glossator.web.figures import shaded

MOST_DRAWN = 12
"""Texts of an experiment that are drawn."""
MOST_TOKENS = 400
"""Of a text that is drawn."""


@dataclass(frozen=True, slots=True)
class Made:
    """One experiment of a call."""

    id: str
    tool: str
    arguments: str
    """As JSON, over several lines."""
    told_yes: int
    """Answers that the hypothesis foretold as yes, before it ran."""
    told_no: int
    evidence: Evidence | None
    """None while it is not run."""
    drawn: tuple[Markup, ...]
    """Texts shaded by activation."""

    @property
    def effects(self) -> tuple[Any, ...]:
        """Sizes with their intervals."""
        found = self.evidence
        if found is None or found.finding is None:
            return ()
        return tuple(found.effects.values()) or found.finding.effects[:4]

    @property
    def cost(self) -> float | None:
        """US dollars of language models that it asked itself."""
        found = self.evidence
        return 0.0 if found is None or found.finding is None else found.finding.usage.cost


@dataclass(frozen=True, slots=True)
class Card:
    """A call of a tool."""

    key: str
    tool: str
    arguments: str
    by_user: bool
    hypothesis: Hypothesis | None
    made: tuple[Made, ...]
    result: str | None
    """None while there is none."""
    verdict: str
    asks: str
    """Why a person is asked first, while nobody has answered."""
    approved: bool | None


@dataclass(frozen=True, slots=True)
class Spoken:
    """One reply of the language model: text, then calls."""

    text: str
    cards: tuple[Card, ...]


@dataclass(frozen=True, slots=True)
class TurnView:
    """What a user said, and all that came of it."""

    number: int
    user: str
    steps: tuple[Spoken, ...]
    answer: str | None
    """None while there is none; empty where a card is the answer."""
    by: str
    failure: str
    made: str
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True)
class Supposed:
    """A hypothesis, how it was tested, and where it is kept."""

    hypothesis: Hypothesis
    tests: tuple[tuple[str, tuple[str, ...]], ...]
    """Verdict and evidence ids of each test."""
    run: str
    """That has it as an explanation; empty if none has."""
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class ChatView:
    """The whole conversation."""

    name: str
    feature: FeatureId
    llm: str
    run: Run | None
    turns: tuple[TurnView, ...]
    supposed: tuple[Supposed, ...]

    @property
    def asked(self) -> Card | None:
        """The call that waits for a yes or no."""
        last = self.turns[-1] if self.turns else None
        if last is None or last.answer is not None or not last.steps:
            return None
        for card in last.steps[-1].cards:
            if card.result is None:
                return card if card.asks else None
        return None

    @property
    def is_cut_off(self) -> bool:
        """Whether the last turn has no answer."""
        return bool(self.turns) and self.turns[-1].answer is None


def view_of(store: Store, name: str) -> ChatView | None:
    """The conversation `name` as the store has it; None if it has none."""
    notebook = store.notebooks.find(name)
    opened = None if notebook is None else notebook.get("opened")
    if notebook is None or opened is None:
        return None
    reader = _Reader({entry.key: entry for entry in notebook.entries()})
    content: Mapping[str, Any] = opened.content
    run = next((r for r in store.runs() if r.id == content["run"]), None)
    feature = FeatureId.parse(content["feature"])
    turns: list[TurnView] = []
    while f"T{len(turns) + 1} user" in reader.entries:
        turns.append(reader.turn(len(turns) + 1))
    return ChatView(
        *(name, feature, str(content["config"].get("llm", "")), run, tuple(turns)),
        _supposed(store, run, feature, reader, turns),
    )


@dataclass(frozen=True)
class _Reader:
    """Reads turns out of the entries of a notebook."""

    entries: Mapping[str, Entry]

    def content(self, key: str) -> Mapping[str, Any] | None:
        entry = self.entries.get(key)
        return None if entry is None else entry.content

    def turn(self, number: int) -> TurnView:
        user = self.entries[f"T{number} user"]
        given: Any = user.content.get("call")
        steps = []
        if given is not None:
            call = ToolCall("", str(given["tool"]), json.dumps(given["arguments"]))
            steps.append(Spoken("", (self.card(f"T{number}.0.0", call, by_user=True),)))
        step = 1
        while (said := self.content(f"T{number}.{step} said")) is not None:
            cards = tuple(
                self.card(
                    f"T{number}.{step}.{i}",
                    ToolCall(str(c["id"]), str(c["name"]), str(c["arguments"])),
                )
                for i, c in enumerate(said["calls"])
            )
            # The last reply, which calls nothing, is the answer.
            if cards:
                steps.append(Spoken(str(said["text"]), cards))
            step += 1
        answer = self.content(f"T{number} answer")
        text = None if answer is None else str(answer["text"])
        if text is not None and given is not None:
            text = ""  # its card says the same
        return TurnView(
            *(number, str(user.content["text"]), tuple(steps), text),
            by=str((answer or {}).get("by", "")),
            failure=str((answer or {}).get("failure", "")),
            made=user.made,
        )

    def card(self, key: str, call: ToolCall, by_user: bool = False) -> Card:
        # The tools take long to import, and most pages have none.
        from glossator.agent.chat.turns import dear_because

        plan = self.content(f"{key} plan")
        result = self.content(f"{key} result")
        approval = self.content(f"{key} approval")
        supposed: Any = plan["hypothesis"] if plan is not None else None
        waits = result is None and approval is None
        return Card(
            *(key, call.name, _pretty(call.arguments), by_user),
            hypothesis=None if supposed is None else Hypothesis.from_json(supposed),
            made=tuple(self.made(e) for e in plan["experiments"]) if plan is not None else (),
            result=None if result is None else str(result["text"]),
            verdict="" if result is None else str(result["verdict"]),
            asks=dear_because(call) if waits else "",
            approved=None if approval is None else bool(approval["approved"]),
        )

    def made(self, planned: Mapping[str, Any]) -> Made:
        name = str(planned["id"])
        found: Any = self.content(f"{name} found")
        evidence = None if found is None else Evidence.from_json(found)
        told = [p for f in planned["foretold"] for p in f["probabilities"] if p is not None]
        yes = sum(p >= 0.5 for p in told)
        return Made(
            id=name,
            tool=str(planned["tool"]),
            arguments=_pretty(json.dumps(planned["arguments"])),
            told_yes=yes,
            told_no=len(told) - yes,
            evidence=evidence,
            drawn=self.drawn(evidence),
        )

    def drawn(self, evidence: Evidence | None) -> tuple[Markup, ...]:
        finding = None if evidence is None else evidence.finding
        seen = self.content("seen")
        if finding is None or seen is None:
            return ()
        texts: Any = finding.payload.get("tokens")
        values: Any = finding.payload.get("activations")
        if not (isinstance(texts, list) and isinstance(values, list)):
            return ()
        return tuple(
            shaded(
                Example(tuple(tokens[:MOST_TOKENS]), tuple(acts[:MOST_TOKENS]), "", 0, "", 1.0),
                float(seen["peak"]),
                float(seen["threshold"]),
            )
            for tokens, acts in zip(texts[:MOST_DRAWN], values[:MOST_DRAWN], strict=False)
            if isinstance(tokens, list) and isinstance(acts, list)
            if tokens and len(tokens) == len(acts)
        )


def _supposed(
    store: Store,
    run: Run | None,
    feature: FeatureId,
    reader: _Reader,
    turns: Sequence[TurnView],
) -> tuple[Supposed, ...]:
    cards = [c for t in turns for s in t.steps for c in s.cards if c.tool == NAME]
    kept = _kept(store, run, feature)
    found: list[Supposed] = []
    while (content := reader.content(f"H{len(found) + 1}")) is not None:
        hypothesis = Hypothesis.from_json(content)
        tests = [
            (c.verdict, tuple(m.id for m in c.made))
            for c in cards
            if c.hypothesis is not None and c.hypothesis.id == hypothesis.id and c.made
        ]
        place, scores = kept.get(hypothesis.text, ("", ()))
        found.append(Supposed(hypothesis, tuple(tests), place, scores))
    return tuple(found)


def _kept(
    store: Store, run: Run | None, feature: FeatureId
) -> dict[str, tuple[str, tuple[Score, ...]]]:
    """By text: the run that has it as an explanation by a person, and its scores there."""
    found: dict[str, tuple[str, tuple[Score, ...]]] = {}
    for one in store.runs() if run is not None else ():
        if run is None or one.config_digest != run.config_digest:
            continue
        said: Explanation | None = store.explanation_of(one.id, feature, "human")
        if said is not None:
            scores = (s for s in store.scores_of(one.id) if s.feature == feature)
            found[said.text] = (one.id, tuple(s for s in scores if s.explainer == "human"))
    return found


def _pretty(arguments: str) -> str:
    """JSON over several lines; what is none stays as it is."""
    try:
        value = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return arguments
    return "" if value == {} else json.dumps(value, indent=1, ensure_ascii=False)

"""A language model that does all that an agent asks of one well, and is told nothing.

It reads descriptions as they are meant, as the oracle does, and words by the effects that it knows.
What it proposes it finds in the prompt: the descriptions of the library that agree best with what
is marked, and the effects whose words are listed, in an order that chance gives. It does not know
which feature it is asked about, nor whether that has a description at all.

It goes by the schema of the reply that is wanted and by the lines of data in the prompt (`| `).
"""

from __future__ import annotations

import functools
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glossator.bench.oracle import ABLE, OR, Oracle, said_of, usage_of
from glossator.bench.roles import Told, cited, numbered_words, sections, told_in
from glossator.datasets.planted import word_pieces
from glossator.datasets.truth import LIBRARY, Ground, page_of
from glossator.datasets.truth_causal import CausalGround, effects
from glossator.datasets.truth_claims import Claim, Planted
from glossator.datasets.truth_effects import NONE, Effect
from glossator.datasets.truth_rules import FILLERS, Either, Rule, Words
from glossator.datasets.truth_text import COMMON, sentence
from glossator.errors import ReplyError
from glossator.evidence import Part
from glossator.llm import Can, Reply, Request

SEES = 0.5
"""F1 on the marks from which on it takes a description for the pattern."""
N_NAMED = 3
"""Words of an effect that a list holds where it is no chance."""
N_RANKED = 12
TRIES = 40
"""Sentences made for each one that is wanted, at most."""
_PROMOTES = re.compile(r"; (?:promotes|makes more likely:?) .*$")
_QUOTED = re.compile(r'"([^"\n]+)"')
_LOWERED = re.compile(r"^\W*(?:suppress|lower|less|fell|falls)", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Competent:
    """See `glossator.llm.LLM`."""

    oracle: Oracle
    outputs: Mapping[str, Effect]
    """All effects that it can read, by their text."""
    library: tuple[Planted, ...] = LIBRARY
    """What it thinks of: a description and those that are nearly the same."""
    seed: int = 0
    name: str = "competent"
    can: frozenset[Can] = ABLE
    _kin: dict[str, tuple[Claim, ...]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for feature in self.library:
            family = (feature.true, *feature.near)
            for claim in family:
                others = tuple(c for c in family if c.text != claim.text)
                self._kin[claim.text] = (*self._kin.get(claim.text, ()), *others)

    @classmethod
    def of(cls, *grounds: Ground | CausalGround, seed: int = 0) -> Competent:
        """One that has the text of `grounds` to find windows in, and knows the whole library."""
        plain = [g.ground if isinstance(g, CausalGround) else g for g in grounds]
        documents = {name: tokens for g in plain for name, tokens in g.documents.items()}
        # The names of features that act say what is true of them: they are not for its eyes.
        known = [f for g in grounds if isinstance(g, Ground) for f in g.features]
        oracle = Oracle.of(Ground(tuple(known), (), documents))
        return cls(oracle, effects(), seed=seed)

    def legible(self, text: str) -> bool:
        """Whether it knows what `text` means: a trigger, an effect, or both."""
        bare = _PROMOTES.sub("", text)
        return self.oracle.legible(bare) or bare.removeprefix("promotes ") in self.outputs

    async def reply(self, request: Request) -> Reply:
        """See `LLM`.

        Raises:
            ReplyError: if the question has none of the forms that it knows.
        """
        used = usage_of(request)
        said = request.messages[-1].content
        if request.tools:
            return Reply("I have seen enough.", usage=used, model=self.name)
        wanted = _properties(request.schema)
        if role := self._role(wanted):
            if said.startswith("That reply"):
                said = next(m.content for m in request.messages if m.role == "user")
            return Reply(json.dumps(role(said)), usage=used, model=self.name)
        if (effect := self._effect_in(said)) is not None and (request.answers or request.lines):
            return replace(self._covered(said, effect, request), usage=used, model=self.name)
        if request.prefill in ("Trigger:", "The neuron promotes"):
            return Reply(await self._both(request), usage=used, model=self.name)
        return replace(await self.oracle.reply(request), model=self.name)

    # -- what descriptions mean ----------------------------------------------------------------

    def rule_of(self, trigger: str) -> Rule | None:
        """What a trigger means: as the library has it, or the words that it quotes."""
        parts = trigger.split(OR)
        known = self.oracle.known
        if all(part in known for part in parts):
            rules = tuple(known[part].rule for part in parts)
            return rules[0] if len(rules) == 1 else Either(rules)
        quoted = tuple(_QUOTED.findall(trigger))
        return Words(quoted) if quoted else None

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        texts = sorted(self.outputs, key=lambda text: (-len(text), text))
        return re.compile("|".join(map(re.escape, texts)))

    def _effect_in(self, said: str) -> Effect | None:
        """The effect that `said` asks about; None where it asks about a trigger."""
        found = self._pattern.search(said)
        if found is None or self.oracle.described(said.replace(found[0], "")) is not None:
            return None
        return self.outputs[found[0]]

    def _covered(self, said: str, effect: Effect, request: Request) -> Reply:
        """Of each word in the question whether the effect names it."""
        words = numbered_words(said.replace(effect.said, ""))
        fits = [float(self._names(effect, word)) for word in words]
        if request.lines:
            if len(fits) != request.lines:
                raise ReplyError(f"it finds {len(fits)} words of {request.lines}", said)
            text = "\n".join(f"{i}: {'yes' if f else 'no'}" for i, f in enumerate(fits, 1))
            slots = [said_of(request.answers, f) for f in fits] if request.answers else []
            return Reply(text, slots=tuple(slots))
        if not fits:
            raise ReplyError("it finds no word in the question", said)
        return Reply(answers=said_of(request.answers, fits[0]))

    def _names(self, effect: Effect, text: str) -> bool:
        words = {word.lower() for word in effect.words}
        return (
            any(piece.strip().lower() in words for piece in word_pieces(text)) is not effect.falls
        )

    # -- the roles of an agent -----------------------------------------------------------------

    def _role(self, wanted: frozenset[str]) -> Any:
        return {
            frozenset({"hypotheses"}): self._proposed,
            frozenset({"texts"}): self._contrasted,
            frozenset({"words"}): self._words,
            frozenset({"texts", "hypotheses"}): self._doubted,
            frozenset({"claims"}): self._concluded,
        }.get(wanted)

    def _proposed(self, said: str) -> Mapping[str, Any]:
        parts = sections(said)
        marked = [line for lines in parts.values() for line in lines if "<<" in line]
        silent = [line for head, lines in parts.items() if "not fire" in head for line in lines]
        listed = [line for head, lines in parts.items() if "effect" in head for line in lines]
        known = {(one.trigger, one.effect) for one in told_in(said)}
        n = _number(said, 4)
        ideas = self._ideas(self.oracle.agreeing([*marked, *silent]), listed)
        chosen: list[tuple[str, str]] = []
        for idea in ideas:
            if idea not in known and idea not in chosen and len(chosen) < n:
                chosen.append(idea)
        self._chance(said).shuffle(chosen)
        return {"hypotheses": [{"trigger": t, "output_effect": e} for t, e in chosen]}

    def _ideas(
        self, ranked: Sequence[tuple[float, Claim]], listed: Sequence[str]
    ) -> Iterator[tuple[str, str]]:
        """Pairs of trigger and effect, what the evidence speaks for first."""
        sees = bool(ranked) and ranked[0][0] >= SEES
        triggers = [claim.text for _, claim in ranked[:N_RANKED]]
        named = self._named(listed)
        effect = named[0] if named else NONE if listed else ""
        other = NONE if named else ""
        if not sees and named:
            yield "", effect
        yield triggers[0], effect
        yield triggers[1], effect
        if other:
            yield triggers[0], other
            yield triggers[1], other
        if sees and named:
            yield "", effect
        for trigger in triggers[2:]:
            yield trigger, effect

    def _named(self, lines: Sequence[str]) -> list[str]:
        """Effects of which the lists hold several words, the one with most first."""
        up = [line for line in lines if not _LOWERED.match(line)]
        down = [line for line in lines if _LOWERED.match(line)]
        found = []
        for said, effect in self.outputs.items():
            words = _words_of(down if effect.falls else up)
            n = sum(word.lower() in words for word in effect.words)
            if n >= N_NAMED:
                found.append((n, said))
        return [said for _, said in sorted(found, key=lambda one: -one[0])]

    def _contrasted(self, said: str) -> Mapping[str, Any]:
        first, second = (*told_in(said), Told("", "", ""), Told("", "", ""))[:2]
        rules = (self.rule_of(first.trigger), self.rule_of(second.trigger))
        n, chance = _number(said, 8), self._chance(said)
        texts = [
            *self._sentences(rules[0], rules[1], n // 2, chance),
            *self._sentences(rules[1], rules[0], n - n // 2 - 1, chance),
        ]
        return {"texts": self._filled(texts, rules, n, chance)}

    def _doubted(self, said: str) -> Mapping[str, Any]:
        (leader, *_) = (*told_in(said), Told("", "", ""))
        rule = self.rule_of(leader.trigger)
        n, chance = _number(said, 8), self._chance(said)
        texts = self._sentences(rule, None, n // 2, chance)
        for claim in self._kin.get(leader.trigger, ()):
            texts += self._sentences(claim.rule, rule, max(1, n // 4), chance)
        found = [line for line in said.splitlines() if "<<" in line]
        better: list[dict[str, str]] = []
        if found:
            ranked = self.oracle.agreeing([line.partition(": ")[2] or line for line in found])
            mine = next((f1 for f1, claim in ranked if claim.text == leader.trigger), 0.0)
            if ranked[0][0] > mine + 0.1:
                better = [{"trigger": ranked[0][1].text, "output_effect": leader.effect}]
        return {"texts": self._filled(texts, (rule,), n, chance), "hypotheses": better}

    def _words(self, said: str) -> Mapping[str, Any]:
        chance, n = self._chance(said), _number(said, 8)
        named = [
            e for text, e in self.outputs.items() if re.search(f": {re.escape(text)}$", said, re.M)
        ]
        plain = [word for word in (*COMMON, *FILLERS) if word.isalpha()]
        groups = [list(effect.words) for effect in named] or [plain]
        found: list[str] = []
        for i in range(n - n // 4):
            group = groups[i % len(groups)]
            left = [word for word in group if word not in found]
            found += left[:1]
        found += chance.sample(plain, n - len(found))
        return {"words": found}

    def _concluded(self, said: str) -> Mapping[str, Any]:
        (leader, *_) = (*told_in(said), Told("", "", ""))
        read, held = cited(said)
        claims_: list[dict[str, Any]] = []
        if leader.trigger:
            text = f"It fires on {leader.trigger}."
            claims_.append({"part": Part.TRIGGER.value, "text": text, "evidence": read})
        if leader.effect:
            does = "It does not change what comes next."
            if leader.effect != NONE:
                does = f"It makes more likely next: {leader.effect}."
            claims_.append({"part": Part.OUTPUT.value, "text": does, "evidence": held})
        return {"claims": claims_}

    # -- texts ---------------------------------------------------------------------------------

    def _sentences(
        self, rule: Rule | None, bar: Rule | None, n: int, chance: random.Random
    ) -> list[str]:
        """Up to `n` sentences in which one rule fires and the other does not."""
        found: list[str] = []
        for _ in range(TRIES * n if rule is not None else 0):
            assert rule is not None
            text = sentence(rule, chance)
            if len(found) < n and _fires(rule, text) and not _fires(bar, text):
                found.append(text)
        return found

    def _filled(
        self, texts: Sequence[str], bars: Sequence[Rule | None], n: int, chance: random.Random
    ) -> list[str]:
        """`texts` and as many others, in which no rule fires if that can be, as make `n`."""
        found = list(dict.fromkeys(texts))[: n - 1]
        plain: list[str] = []
        for _ in range(TRIES * n):
            text = sentence(Words(tuple(COMMON)), chance)
            plain.append(text)
            if len(found) < n and not any(_fires(bar, text) for bar in bars):
                found.append(text)
        found += plain[: n - len(found)]
        chance.shuffle(found)
        return found

    def _chance(self, said: str) -> random.Random:
        return random.Random(f"{self.seed} {said}")

    # -- explainers that look at the output ----------------------------------------------------

    async def _both(self, request: Request) -> str:
        said = request.messages[-1].content
        named = self._named(said.rpartition("OUTPUT")[2].splitlines())
        if request.prefill != "Trigger:":
            return f"{request.prefill} {named[0] if named else 'nothing clear'}."
        trigger = (await self.oracle.reply(request)).text
        return f"{trigger}\nEffect: {named[0] if named else NONE}"


def _fires(rule: Rule | None, text: str) -> bool:
    return rule is not None and any(v > 0 for v in rule.values(page_of(tuple(word_pieces(text)))))


def _properties(schema: str) -> frozenset[str]:
    """The names of what an object is to hold; empty where no object is wanted."""
    if not schema:
        return frozenset()
    properties = json.loads(schema).get("properties", {})
    return frozenset(properties)


def _number(said: str, default: int) -> int:
    """The number in the last line, which is not data."""
    found = re.search(r"\d+", said.strip().splitlines()[-1])
    return int(found[0]) if found else default


def _words_of(lines: Sequence[str]) -> set[str]:
    return {word.lower() for line in lines for word in re.findall(r"[^\W\d_]+", line)}

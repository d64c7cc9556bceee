"""Experiments that test one hypothesis, with what it foretells of them before any of them runs.

Texts come from a language model, which writes some that fit and some that nearly fit, and from the
train windows; where the model writes none that can be used, program-made ones take their place.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from glossator.agent import designing
from glossator.agent.asking import Asking
from glossator.agent.designing import Design
from glossator.agent.executor import arguments_of, tool_called
from glossator.agent.foretell import Foreteller
from glossator.agent.lab import Lab
from glossator.agent.prompts import DATA, effect_words, read_words, value_of
from glossator.errors import ConfigError, ReplyError
from glossator.evidence import Experiment, Foretold, Hypothesis
from glossator.llm import Message, Reply, Request

VERSION = "chat-contrast-1"
CONTRAST = (
    "You test a hypothesis about a feature of a language model: a number said to be high on "
    "texts that contain what the hypothesis names. Write short texts, a sentence each. `fits` are "
    "texts that contain it, each in another way. `near` are texts of the same kind and subjects, "
    f"each of which comes near to it and does not contain it. {DATA} Reply with one JSON object."
)
LONGEST = 400
"""Characters of a text that a language model writes."""

_LIST = {"type": "array", "items": {"type": "string"}}
_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"fits": _LIST, "near": _LIST},
        "required": ["fits", "near"],
        "additionalProperties": False,
    }
)


@dataclass(frozen=True, slots=True)
class Planned:
    """What is going to be run, or why nothing can be."""

    experiments: tuple[Experiment, ...] = ()
    why_not: str = ""


@dataclass(frozen=True)
class Planner:
    """Makes plans for one feature."""

    lab: Lab
    asking: Asking
    foreteller: Foreteller
    n_texts: int

    async def plan(self, hypothesis: Hypothesis, first: int, key: str) -> Planned:
        """The experiments that test `hypothesis`, called E`first` and on.

        Raises:
            ProviderError, BudgetSpent: as the language model does.
        """
        designs: list[Design] = []
        if hypothesis.trigger:
            designs += await self._of_trigger(hypothesis, first, key)
        if designing.has_effect(hypothesis):
            designs += await self._of_effect(hypothesis, key)
        if not designs:
            return Planned(why_not=NOTHING_TO_RUN)
        found: list[Experiment] = []
        flat = ""
        for design in designs:
            try:
                tool = tool_called(design.tool)
                questions = tool.questions(arguments_of(tool, design.arguments))
            except ConfigError as error:
                flat = str(error)
                continue
            foretold, _ = await self.foreteller.foretell(hypothesis, questions)
            if flat_of(foretold):
                flat = flat_of(foretold)
                continue
            name = f"E{first + len(found)}"
            found.append(
                Experiment(name, design.tool, design.arguments, design.why, questions, (foretold,))
            )
        return Planned(tuple(found)) if found else Planned(why_not=flat)

    async def _of_trigger(self, hypothesis: Hypothesis, turn: int, key: str) -> list[Design]:
        n = self.n_texts
        request = contrast_request(hypothesis, n // 2)
        written = await self.asking.ask(f"{key} contrast", request, read_contrast)
        windows = designing.windows(self.lab, n, turn)
        own = list(chain.from_iterable([] if written is None else _turns(*written)))
        of_corpus = _texts_of(windows)
        if not own:
            of_corpus += _texts_of(designing.replaced(self.lab, n, turn))
        texts = list(dict.fromkeys([*own[:n], *of_corpus[: 2 * n]]))
        if len(texts) < 2:
            marks = designing.marks(self.lab, n, turn)
            return [] if marks is None else [marks]
        return [designing.texts(texts, f"whether {hypothesis.id} holds: {hypothesis.trigger}")]

    async def _of_effect(self, hypothesis: Hypothesis, key: str) -> list[Design]:
        n = self.n_texts
        asked = effect_words([hypothesis], n)
        named = await self.asking.ask(f"{key} words", asked, read_words) or []
        known = await designing.output_words(self.lab, n)
        words = [*named[:n], *known[:n], *designing.COMMON[:n]]
        why = f"whether {hypothesis.id} holds: more likely next: {hypothesis.output_effect}"
        made = designing.steer(self.lab, words, why)
        return [] if made is None else [made]


NOTHING_TO_RUN = (
    "no text could be made to test it on: the language model wrote none that could be used, and "
    'the feature fires nowhere in the train text; give texts of your own: /test "a text"'
)


def flat_of(foretold: Foretold) -> str:
    """Why what is foretold could not be shown wrong; empty if it could."""
    told = [p >= 0.5 for p in foretold.probabilities if p is not None]
    if not told:
        return (
            "the hypothesis predicts nothing that can be read off a text: say on which words or "
            "texts the feature should fire"
        )
    if all(told) or not any(told):
        same = "it should fire on" if told[0] else "it should be silent on"
        return (
            f"the hypothesis predicts nothing that could turn out wrong: by its words {same} all "
            f"{len(told)} texts; say on which words it fires and on which like ones it does not"
        )
    return ""


def contrast_request(hypothesis: Hypothesis, n: int) -> Request:
    """The request for `n` texts of each kind."""
    said = [f"The hypothesis: it fires on {' '.join(hypothesis.trigger.split())}"]
    said.append(f"Write {n} texts in `fits` and {n} texts in `near`.")
    messages = (Message("system", CONTRAST), Message("user", "\n".join(said)))
    return Request(messages, max_tokens=120 * n + 80, schema=_SCHEMA)


def read_contrast(reply: Reply) -> tuple[list[str], list[str]]:
    """Texts that fit, and texts that nearly do.

    Raises:
        ReplyError: if there are fewer than two of either.
    """
    value = value_of(reply)
    fits, near = (_usable(value.get(key)) for key in ("fits", "near"))
    if len(fits) < 2 or len(near) < 2:
        raise ReplyError("it holds fewer than two texts of a kind", reply.text)
    return fits, near


def _usable(given: object) -> list[str]:
    items = given if isinstance(given, list) else []
    texts = [t.strip()[:LONGEST] for t in items if isinstance(t, str)]
    return list(dict.fromkeys(t for t in texts if any(map(str.isalnum, t))))


def _turns(fits: Sequence[str], near: Sequence[str]) -> list[list[str]]:
    """One of each in turn, so that however many are taken there are of both."""
    return [[t for t in pair if t] for pair in zip_longest(fits, near, fillvalue="")]


def _texts_of(design: Design | None) -> list[str]:
    given = design.arguments.get("texts") if design is not None else None
    return [str(t) for t in given] if isinstance(given, list) else []

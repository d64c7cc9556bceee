"""What an agent supposes of a feature, what it foretells, and what experiments then showed.

A hypothesis foretells by a probability for each yes-or-no question of an experiment. The
probabilities are written down before the experiment starts, and never changed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from glossator.types import JSON, Explanation, FeatureId, Jsonable, NgramPath, Usage


class About(StrEnum):
    """What a question asks."""

    FIRES = "fires"
    """Does the feature fire somewhere in this text?"""
    PROMOTES = "promotes"
    """Does holding the feature high make this token more probable to come next?"""


@dataclass(frozen=True, slots=True)
class Question(Jsonable):
    """What an experiment answers with yes or no."""

    about: About
    text: str
    """A text to read, or a token that may come next."""
    span: tuple[int, int] | None = None
    """First character of a word of the text, and the one behind its last, where it is asked whether
    the feature fires on that word; None where it may fire anywhere."""


@dataclass(frozen=True, slots=True)
class Hypothesis(Jsonable):
    """What somebody supposes that a feature does."""

    id: str
    """`H1`, `H2`, ... in one inquiry."""
    text: str
    """In words, whole."""
    trigger: str = ""
    """What in the input makes it fire; empty where only an effect is supposed."""
    output_effect: str = ""
    """What it does to the output; empty where nothing is supposed of it."""
    dull: bool = False
    """A single token, a position, a format: what should be ruled out before anything clever."""
    by: str = "explainer"
    """Who proposed it: `explainer`, `sceptic`, `unigram`, `n2g`, `user`."""
    words: tuple[tuple[str, float], ...] = ()
    """Of a dull one, the pattern that foretells as a program; see `Explanation.words`."""
    paths: tuple[NgramPath, ...] = ()
    """The same; see `Explanation.paths`."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("a hypothesis says something")


@dataclass(frozen=True, slots=True)
class Foretold(Jsonable):
    """What one hypothesis expects of an experiment."""

    hypothesis: str
    """Its id."""
    probabilities: tuple[float | None, ...]
    """Shape (n_questions,): that the answer is yes, in [0, 1]; None where it says nothing."""

    def __post_init__(self) -> None:
        if any(p is not None and not 0 <= p <= 1 for p in self.probabilities):
            raise ValueError("what is foretold is a probability between 0 and 1")


@dataclass(frozen=True, slots=True)
class Experiment(Jsonable):
    """A tool's work on a feature, as it is asked for before it starts.

    An experiment without questions is an observation: it may give ideas, and moves no hypothesis.
    """

    id: str
    """`E1`, `E2`, ... in one inquiry: what claims cite."""
    tool: str
    arguments: Mapping[str, JSON]
    why: str = ""
    """What it is to find out, in words."""
    questions: tuple[Question, ...] = ()
    foretold: tuple[Foretold, ...] = ()

    def __post_init__(self) -> None:
        for said in self.foretold:
            if len(said.probabilities) != len(self.questions):
                raise ValueError(
                    f"{said.hypothesis} foretells {len(said.probabilities)} answers to "
                    f"{len(self.questions)} questions"
                )


@dataclass(frozen=True, slots=True)
class Effect(Jsonable):
    """How large something was, with its 95% interval."""

    name: str
    """What it is and in which unit, such as `peak, foretold yes less no (share of train peak)`."""
    value: float | None
    """None where it is undefined; `note` says why."""
    low: float | None = None
    high: float | None = None
    n: int = 0
    """Texts, prompts or tokens that it rests on."""
    note: str = ""

    def __post_init__(self) -> None:
        for number in (self.value, self.low, self.high):
            if number is not None and not math.isfinite(number):
                raise ValueError("an effect is a finite number or None")

    @property
    def said(self) -> str:
        """`NAME 0.31 [0.10, 0.52], n 12`."""
        if self.value is None:
            return f"{self.name}: none ({self.note})" if self.note else f"{self.name}: none"
        ends = ""
        if self.low is not None and self.high is not None:
            ends = f" [{self.low:.3g}, {self.high:.3g}]"
        elif self.note:
            ends = f" (no interval: {self.note})"
        return f"{self.name} {self.value:.3g}{ends}, n {self.n}"


@dataclass(frozen=True, slots=True)
class Finding(Jsonable):
    """What a tool gives back."""

    text: str
    """For whoever reads it, a language model among them: numbers and short text."""
    answers: tuple[bool | None, ...] = ()
    """Shape (n_questions,): what happened; None where it could not be told."""
    values: tuple[float | None, ...] = ()
    """Shape (n_questions,): the number behind each answer."""
    effects: tuple[Effect, ...] = ()
    payload: Mapping[str, JSON] = field(default_factory=dict)
    """All of it, for pages and further work: per-token activations and the like."""
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Evidence(Jsonable):
    """An experiment that was run, or why it could not be."""

    experiment: Experiment
    finding: Finding | None
    failure: str = ""
    """Why there is no finding."""
    effects: Mapping[str, Effect] = field(default_factory=dict)
    """By hypothesis: how what it foretold yes differs from what it foretold no."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if (self.finding is None) != bool(self.failure):
            raise ValueError("evidence holds a finding, or why there is none")

    @property
    def id(self) -> str:
        """The experiment's."""
        return self.experiment.id


class Part(StrEnum):
    """What of an explanation a claim is about."""

    TRIGGER = "trigger"
    OUTPUT = "output effect"
    SENSE = "sense"
    EXCEPTION = "exception"
    SIGN = "sign"


@dataclass(frozen=True, slots=True)
class Claim(Jsonable):
    """A sentence of a conclusion, and what it rests on."""

    part: Part
    text: str
    evidence: tuple[str, ...]
    """Ids of experiments; never empty in a conclusion."""


class Ending(StrEnum):
    """Why an inquiry ended."""

    DECIDED = "decided"
    """One hypothesis beats the others on dev with the asked confidence."""
    STALLED = "nothing moves"
    EXPERIMENTS = "experiments spent"
    BUDGET = "budget spent"
    TIME = "time spent"
    LOOPING = "the language model repeats itself"
    UNUSABLE = "no reply of the language model could be used"
    SILENT = "the feature does not fire"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Conclusion(Jsonable):
    """How an inquiry ended."""

    feature: FeatureId
    ending: Ending
    explanation: Explanation
    """By `agent`; an abstention that begins with `undecided` where nothing was decided."""
    claims: tuple[Claim, ...] = ()
    struck: tuple[str, ...] = ()
    """Claims that cited no evidence that there is, as they were written."""
    probabilities: Mapping[str, float] = field(default_factory=dict)
    """Of each hypothesis, at the end."""
    n_experiments: int = 0
    usage: Usage = Usage()
    seconds: float = 0.0

    @property
    def decided(self) -> bool:
        """Whether there is an explanation."""
        return not self.explanation.abstained

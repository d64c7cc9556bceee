"""What an explanation says of what a feature does, held against what it does.

An explanation that says nothing of the output is taken to say that there is no effect: so those
that look at text alone are right about every feature that does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glossator.datasets.truth_causal import EFFECTS
from glossator.datasets.truth_effects import NONE, Causal, Effect
from glossator.datasets.truth_rules import Page, Rule
from glossator.errors import ReplyError
from glossator.llm import LLM
from glossator.scorers.judge import AskingJudge, Verdict, Window
from glossator.scorers.symbolic import by_paths, by_words
from glossator.types import Explanation

N_WORDS = 6
"""Words of the effect that are asked about, and as many of others."""
RIGHT = 0.75
"""The share of them, of either kind alike, from which on an effect is named."""
SAME = 0.95
"""F1 over all tokens from which on two triggers mean the same on this text."""

RuleOf = Callable[[str], Rule | None]
"""What a trigger means, if that is known."""


@dataclass(frozen=True)
class Judged:
    """One feature by one explainer."""

    feature: Causal
    explainer: str
    explanation: Explanation | None
    """None if no reply of the language model could be used."""
    acts: bool = False
    """Whether it says that there is an effect."""
    words: float | None = None
    """Share of the words that the named effect says rightly, of those that change and of others
    alike; None where there is no effect, or none is named."""
    trigger: bool | None = None
    """Whether it names the right trigger, or none where there is none; None if nobody can tell."""
    failure: str = ""

    @property
    def undecided(self) -> bool:
        """Whether it says nothing at all."""
        return self.explanation is None or bool(self.explanation.abstained)

    @property
    def output(self) -> bool:
        """Whether it is right about the output: which words change, or that none do."""
        if self.undecided:
            return False
        if self.feature.effect is None:
            return not self.acts
        return self.acts and self.words is not None and self.words >= RIGHT

    @property
    def identified(self) -> bool | None:
        """Whether all of it is right; of a feature that has no rule, whether it says nothing."""
        if not self.feature.describable:
            return self.explanation is not None and self.undecided
        if self.undecided:
            return False
        return None if self.trigger is None else self.output and self.trigger


def effect_said(explanation: Explanation) -> str:
    """What it says becomes likelier; empty for nothing."""
    said = explanation.output_effect.strip()
    return "" if said.lower().rstrip(".") == NONE else said


def trigger_said(explanation: Explanation) -> str:
    """What it says sets the feature off; empty for nothing."""
    if explanation.trigger or explanation.output_effect:
        return explanation.trigger
    return explanation.text


async def judged(
    feature: Causal,
    explainer: str,
    explanation: Explanation,
    llm: LLM,
    rule_of: RuleOf | None,
    documents: Sequence[Sequence[str]],
) -> Judged:
    """Holds `explanation` against what `feature` does.

    Args:
        feature: what is known of it.
        explainer: who explains.
        explanation: of it.
        llm: who says which words a description of an effect covers.
        rule_of: what triggers mean; None where nobody knows.
        documents: tokens of text on which triggers are compared.

    Raises:
        ProviderError, BudgetSpent: as the language model does.
    """
    if explanation.abstained:
        return Judged(feature, explainer, explanation)
    said = effect_said(explanation)
    words = None
    if said and feature.effect is not None:
        words = await covered(said, feature.effect, explanation, llm)
    trigger = None
    if rule_of is not None:
        trigger = same_trigger(feature, explanation, rule_of, documents)
    return Judged(feature, explainer, explanation, bool(said), words, trigger)


async def covered(said: str, effect: Effect, explanation: Explanation, llm: LLM) -> float | None:
    """Mean of two shares: words that the effect makes likelier and `said` covers, and others.

    None if no question could be answered.
    """
    own = effect.words[:N_WORDS]
    others = [e for e in EFFECTS if e.text != effect.text]
    other = [others[i].words[i % len(others[i].words)] for i in range(N_WORDS)]
    # Of what falls, all other words are the likelier ones.
    risen, rest = (other, own) if effect.falls else (own, other)
    about = Explanation(explanation.feature, said, explanation.explainer)
    windows = [Window((word,)) for word in (*risen, *rest)]
    verdicts = await AskingJudge(llm).judge(about, windows)
    yes: list[bool | None] = []
    for verdict in verdicts:
        yes.append(None if isinstance(verdict, ReplyError) else _says_yes(verdict))
    hits = [y for y in yes[: len(risen)] if y is not None]
    spared = [not y for y in yes[len(risen) :] if y is not None]
    if not hits or not spared:
        return None
    return (sum(hits) / len(hits) + sum(spared) / len(spared)) / 2


def same_trigger(
    feature: Causal, explanation: Explanation, rule_of: RuleOf, documents: Sequence[Sequence[str]]
) -> bool:
    """Whether a trigger means, on this text, what sets the feature off; a pattern is run."""
    said = trigger_said(explanation)
    if feature.trigger is None or not said:
        return feature.trigger is None and not said
    rule = None if explanation.runs else rule_of(said)
    if rule is None and not explanation.runs:
        return False
    both = mine = its = 0
    for tokens in documents:
        page = Page(tokens)
        told = _by_pattern(explanation, page.tokens) if rule is None else rule.values(page)
        for a, b in zip(told, feature.rule.values(page), strict=True):
            both += a > 0 and b > 0
            mine += a > 0
            its += b > 0
    return 2 * both >= SAME * (mine + its) > 0


def _by_pattern(explanation: Explanation, tokens: Sequence[str]) -> Sequence[float]:
    if explanation.paths:
        return by_paths(explanation.paths, tokens)
    return by_words(explanation.words, tokens)


def _says_yes(verdict: Verdict) -> bool:
    return verdict.value > 0.5

"""How likely each hypothesis is, by how well it foretold what happened.

Bayes' rule with two cautions. A reader of a hypothesis errs now and then, so a probability counts
as at most `SURE`; and the answers of one experiment are not independent, so that all together count
as at most `MOST_COUNTED` of them (a tempered likelihood; Grünwald 2012, "The Safe Bayesian").
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from glossator.agent.tools.intervals import welch
from glossator.evidence import Effect, Foretold, Hypothesis

SURE = 0.9
"""The probability that a foretold certainty counts as."""
MOST_COUNTED = 5
"""Answers of one experiment that count, at most."""
DULL_SHARE = 0.25
"""What the dull hypotheses are given at the start, together."""
N_DRAWS = 400


@dataclass(frozen=True)
class Beliefs:
    """Log weights of hypotheses, up to a constant."""

    weights: Mapping[str, float]

    @classmethod
    def at_first(cls, hypotheses: Sequence[Hypothesis]) -> Beliefs:
        """Before any experiment: all alike, but for the dull ones, which share `DULL_SHARE`."""
        dull = [h.id for h in hypotheses if h.dull]
        clever = [h.id for h in hypotheses if not h.dull]
        share = DULL_SHARE if dull and clever else 1.0
        weights = {i: math.log(share / len(dull)) for i in dull}
        rest = 1 - DULL_SHARE if dull else 1.0
        return cls(weights | {i: math.log(rest / len(clever)) for i in clever})

    @property
    def probabilities(self) -> dict[str, float]:
        """Of each hypothesis; they sum to 1."""
        if not self.weights:
            return {}
        highest = max(self.weights.values())
        grown = {i: math.exp(w - highest) for i, w in self.weights.items()}
        total = sum(grown.values())
        return {i: g / total for i, g in grown.items()}

    @property
    def leader(self) -> str:
        """The likeliest; of equal ones the first."""
        return max(self.weights, key=lambda i: self.weights[i])

    def ranked(self) -> list[str]:
        """All, the likeliest first."""
        return sorted(self.weights, key=lambda i: -self.weights[i])

    def after(self, foretold: Iterable[Foretold], answers: Sequence[bool | None]) -> Beliefs:
        """What they are once the answers are known. Whoever foretold nothing is as if unsure."""
        said = {f.hypothesis: f for f in foretold}
        gained = {
            i: log_likelihood(said[i].probabilities, answers) if i in said else _unsure(answers)
            for i in self.weights
        }
        return Beliefs({i: w + gained[i] for i, w in self.weights.items()})

    def joined_by(self, new: Hypothesis, share: float = 0.2) -> Beliefs:
        """With one hypothesis more, which gets `share` of the whole."""
        highest = max(self.weights.values(), default=0.0)
        total = sum(math.exp(w - highest) for w in self.weights.values()) or 1.0
        weight = highest + math.log(total * share / (1 - share))
        return Beliefs({**self.weights, new.id: weight})

    def without(self, gone: str, into: str | None = None) -> Beliefs:
        """Without one, whose weight goes to another if `into` names it."""
        rest = {i: w for i, w in self.weights.items() if i != gone}
        if into is not None:
            rest[into] = float(np.logaddexp(rest[into], self.weights[gone]))
        return Beliefs(rest)


def softened(probability: float | None) -> float:
    """What a foretold probability counts as: 0.5 for none, and never surer than `SURE`."""
    if probability is None:
        return 0.5
    return 1 - SURE + (2 * SURE - 1) * probability


def log_likelihood(probabilities: Sequence[float | None], answers: Sequence[bool | None]) -> float:
    """Of `answers` under what was foretold, natural log, tempered to `MOST_COUNTED` of them.

    Where nothing was foretold, what the answers before it make likely counts (Krichevsky and
    Trofimov 1981): else who says always no would beat who says nothing wherever most are no.
    """
    yes = n = 0
    total = 0.0
    for probability, answer in zip(probabilities, answers, strict=True):
        if answer is None:
            continue
        rate = (yes + 0.5) / (n + 1)
        p = rate if probability is None else softened(probability)
        total += math.log(p if answer else 1 - p)
        yes, n = yes + answer, n + 1
    return total * min(1.0, MOST_COUNTED / n) if n else 0.0


def expected_gain(beliefs: Beliefs, foretold: Sequence[Foretold], seed: int) -> float:
    """Nats that the answers are expected to tell about which hypothesis holds (Lindley 1956).

    By Monte Carlo: a hypothesis is drawn by its probability and the answers by what it foretells.
    """
    ids = [f.hypothesis for f in foretold if f.hypothesis in beliefs.weights]
    if len(ids) < 2:
        return 0.0
    chance = np.random.default_rng(seed)
    all_of = beliefs.probabilities
    prior = np.array([all_of[i] for i in ids])
    prior = prior / prior.sum()  # (n_hypotheses,)
    said = {f.hypothesis: f.probabilities for f in foretold}
    p = np.array([[softened(q) for q in said[i]] for i in ids])  # (n_hypotheses, n_questions)
    if p.shape[1] == 0:
        return 0.0
    temper = min(1.0, MOST_COUNTED / p.shape[1])
    true = chance.choice(len(ids), size=N_DRAWS, p=prior)
    answers = chance.random((N_DRAWS, p.shape[1])) < p[true]  # (n_draws, n_questions)
    logs = temper * (answers @ np.log(p).T + ~answers @ np.log1p(-p).T)  # (n_draws, n_hypotheses)
    post = np.log(prior) + logs
    post -= np.logaddexp.reduce(post, axis=1, keepdims=True)
    before = -float((prior * np.log(prior)).sum())
    after = -(np.exp(post) * post).sum(axis=1).mean()
    return max(0.0, before - float(after))


def alike(first: Sequence[float | None], second: Sequence[float | None]) -> float | None:
    """Mean distance of what two hypotheses foretold; None where they share no question."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    return sum(abs(a - b) for a, b in both) / len(both) if both else None


def effect_of(
    foretold: Foretold, values: Sequence[float | None], scale: float, unit: str
) -> Effect:
    """How much higher `values` are where yes was foretold than where no was, over `scale`.

    The interval is Welch's.
    """
    pairs = [
        (p, v / scale)
        for p, v in zip(foretold.probabilities, values, strict=True)
        if p is not None and v is not None
    ]
    yes = [v for p, v in pairs if p >= 0.5]
    no = [v for p, v in pairs if p < 0.5]
    name = f"where foretold less elsewhere ({unit})"
    if not yes or not no:
        return Effect(name, None, n=len(pairs), note="it foretold the same everywhere")
    value = float(np.mean(yes) - np.mean(no))
    if len(yes) < 2 or len(no) < 2 or (np.ptp(yes) == 0 and np.ptp(no) == 0):
        return Effect(name, value, n=len(pairs), note="too few, or all alike")
    half = welch(yes, no)
    return Effect(name, value, value - half, value + half, len(pairs))


def _unsure(answers: Sequence[bool | None]) -> float:
    return log_likelihood([None] * len(answers), answers)

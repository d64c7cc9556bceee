"""The baseline that every other explainer has to beat: the tokens it is strongest on."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from glossator.explainers.abstention import NEVER_FIRES
from glossator.types import SILENT, Explanation, FeatureId, Split


@dataclass(frozen=True)
class UnigramExplainer:
    """Names the tokens with the largest mean activation on the training windows; no LLM.

    The explanation carries the means as its pattern, which the `symbolic` simulator runs.
    """

    n_words: int = 50
    """Tokens in the pattern."""
    n_named: int = 8
    """Tokens named in the text."""

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        """The pattern, or an abstention where nothing fires."""
        words = mean_activations(train)[: self.n_words]
        if not words:
            return Explanation(feature, "", "unigram", abstained=NEVER_FIRES)
        named = dict.fromkeys(w.strip() or repr(w)[1:-1] for w, _ in words)
        text = "the tokens " + ", ".join(f'"{w}"' for w in list(named)[: self.n_named])
        return Explanation(feature, text, "unigram", words=words)


def mean_activations(train: Split) -> tuple[tuple[str, float], ...]:
    """Tokens that fire at least once and their weighted mean activation, the strongest first.

    Means are in raw units. A token seen a few times says little, and one seen only in windows that
    were chosen for firing says too much, so each mean is drawn to the mean over all tokens with
    the strength of one window of average weight.
    """
    if not train.firing:
        return ()
    total: dict[str, float] = defaultdict(float)
    weight: dict[str, float] = defaultdict(float)
    fires = set()
    for example in train.examples:
        for token, activation in zip(example.tokens, example.activations, strict=True):
            total[token] += example.weight * activation
            weight[token] += example.weight
            if activation > train.threshold:
                fires.add(token)
    middle = sum(total.values()) / sum(weight.values())
    loud = [e.weight for e in train.firing if e.stratum != SILENT]
    pull = sum(loud) / len(loud)
    means = {t: (total[t] + pull * middle) / (weight[t] + pull) for t in fires if t.strip()}
    ranked = sorted(means.items(), key=lambda item: (-item[1], item[0]))
    return tuple((t, m) for t, m in ranked if m > 0)

"""A simulator without a language model: the explanation's own pattern, run as a program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from glossator.errors import ReplyError
from glossator.types import Explanation, NgramPath, Scale, Simulation


@dataclass(frozen=True)
class SymbolicSimulator:
    """What the explanation's pattern gives for a token, in raw units; 0 where it gives nothing.

    Of `Explanation.paths`, the longest that ends at the token counts, as in Neuron to Graph (Foote
    et al. 2023). Without any, `Explanation.words` is looked up: the token as it is, then without
    case and surrounding spaces.
    """

    scale: ClassVar[Scale] = Scale.RAW
    """The subject's own units."""

    @property
    def model(self) -> str:
        """None: it asks nobody."""
        return ""

    async def simulate(self, explanation: Explanation, tokens: tuple[str, ...]) -> Simulation:
        """The activation that the pattern gives each token, 0 for those not in it.

        Raises:
            ReplyError: if the explanation has no pattern.
        """
        if not explanation.runs:
            raise ReplyError(
                "the explanation has no pattern to run; use the simulator lexical, or an explainer "
                "such as unigram"
            )
        if explanation.paths:
            predicted = by_paths(explanation.paths, tokens)
        else:
            predicted = by_words(explanation.words, tokens)
        return Simulation(tokens, predicted, Scale.RAW)


def by_words(words: Iterable[tuple[str, float]], tokens: Sequence[str]) -> tuple[float, ...]:
    """What a list of tokens and activations gives for each of `tokens`."""
    exact: dict[str, float] = {}
    folded: dict[str, float] = {}
    for word, value in words:
        exact[word] = value
        folded.setdefault(word.strip().lower(), value)
    return tuple(exact.get(t, folded.get(t.strip().lower(), 0.0)) for t in tokens)


def by_paths(paths: Iterable[NgramPath], tokens: Sequence[str]) -> tuple[float, ...]:
    """What paths give for each of `tokens`, of which a path may see those before."""
    ending: dict[str, list[NgramPath]] = {}
    for path in paths:
        for token in path.steps[-1]:
            ending.setdefault(token, []).append(path)
    for some in ending.values():
        some.sort(key=lambda path: path.detail, reverse=True)
    return tuple(
        next((p.activation for p in ending.get(t, ()) if p.ends_at(tokens, i)), 0.0)
        for i, t in enumerate(tokens)
    )

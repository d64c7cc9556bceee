"""A simulator without a language model: the explanation's own pattern, run as a program."""

from __future__ import annotations

from dataclasses import dataclass

from glossator.errors import ReplyError
from glossator.types import Explanation, Scale, Simulation


@dataclass(frozen=True)
class SymbolicSimulator:
    """The mean activation that `Explanation.words` gives for a token, in raw units, else 0.

    A token is looked up as it is, then without case and surrounding spaces.
    """

    @property
    def scale(self) -> Scale:
        """The subject's own units."""
        return Scale.RAW

    @property
    def model(self) -> str:
        """None: it asks nobody."""
        return ""

    async def simulate(self, explanation: Explanation, tokens: tuple[str, ...]) -> Simulation:
        """The mean activation of each token, 0 for those not in the pattern.

        Raises:
            ReplyError: if the explanation has no pattern.
        """
        if not explanation.words:
            raise ReplyError(
                "the explanation has no pattern to run; use the simulator lexical, or an explainer "
                "such as unigram"
            )
        exact = dict(explanation.words)
        folded: dict[str, float] = {}
        for word, value in explanation.words:
            folded.setdefault(word.strip().lower(), value)
        predicted = tuple(exact.get(t, folded.get(t.strip().lower(), 0.0)) for t in tokens)
        return Simulation(tokens, predicted, Scale.RAW)

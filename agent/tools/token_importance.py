"""`token_importance`: which tokens of a text the feature needs, by masking and by gradient."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar

from glossator.agent.lab import Lab
from glossator.agent.tools.lists import quoted, ranked, together
from glossator.agent.tools.logit_attribution import OneText
from glossator.agent.tools.table import Arguments, Cost
from glossator.errors import ConfigError, Unsupported
from glossator.evidence import Finding, Question
from glossator.live import Activations

WORDS, MARKS = ("and", "it", "so"), (";", "-", "/")
"""What stands in for a token: words for words and their pieces, marks for marks, so that a word
before it stays what it is. The mean of what the first two others do counts."""
N_FILLERS = 2
MOST_TOKENS = 64


class TokenImportance:
    """Replaces each token in turn, and asks for gradient times input where there is a model."""

    name: ClassVar[str] = "token_importance"
    about: ClassVar[str] = (
        "Find out which tokens of a text make the feature fire at its strongest token: each token "
        "is replaced in turn and the loss measured; where there is a model, gradient times input "
        "is told, too. Use it on a text on which the feature fires, of at most 64 tokens."
    )
    arguments: ClassVar[type[Arguments]] = OneText

    def cost(self, arguments: OneText) -> Cost:
        """A pass for each token and filler."""
        return Cost(N_FILLERS * min(MOST_TOKENS, 1 + len(arguments.text) // 4))

    def questions(self, arguments: OneText) -> tuple[Question, ...]:
        """It only looks."""
        return ()

    async def run(self, arguments: OneText, lab: Lab) -> Finding:
        """Losses as shares of what the feature is on the text as it is.

        Raises:
            ConfigError: if the text has too many tokens, or it does not fire there.
        """
        (whole,) = await lab.live.activations([arguments.text])
        if len(whole.tokens) > MOST_TOKENS:
            raise ConfigError(
                f"the text has {len(whole.tokens)} tokens, and at most {MOST_TOKENS} are replaced "
                "one by one: cut it around its strongest token"
            )
        if whole.peak <= max(0.0, lab.seen.threshold):
            raise ConfigError("the feature does not fire on this text, so nothing makes it fire")
        at = whole.values.index(whole.peak)
        if lab.inside is not None:  # a model that reads forwards: what is behind does not matter
            whole = Activations(whole.tokens[: at + 1], whole.values[: at + 1])
        masked = [
            replaced(whole.tokens, i, filler)
            for i, token in enumerate(whole.tokens)
            for filler in fillers(token)
        ]
        read = await lab.live.activations(masked)
        n = N_FILLERS
        losses = []
        for i in range(len(whole.tokens)):
            left = [at_same_place(whole.tokens, at, i, one) for one in read[n * i : n * (i + 1)]]
            losses.append((whole.peak - fmean(left)) / whole.peak)
        slopes, missing = await self._slopes(arguments.text, at, lab)
        order = sorted(range(len(losses)), key=lambda i: -abs(losses[i]))
        lines = [
            f"Strongest at {quoted(whole.tokens[at])} (token {at}): {whole.peak:.3g}.",
            "Share lost when a token is replaced: "
            + ranked([(whole.tokens[i], losses[i]) for i in order], "+.2f", 12),
        ]
        if slopes:
            best = sorted(range(len(slopes)), key=lambda i: -abs(slopes[i]))
            lines.append(
                "Gradient times input (share): "
                + ranked([(whole.tokens[i], slopes[i] / whole.peak) for i in best], "+.2f", 12)
            )
        else:
            lines.append(f"No gradient: {missing}")
        return Finding(
            together(lines),
            payload={
                "tokens": list(whole.tokens),
                "activations": list(whole.values),
                "at": at,
                "lost": [round(x, 5) for x in losses],
                "gradient times input": [round(x, 6) for x in slopes],
            },
        )

    async def _slopes(self, text: str, at: int, lab: Lab) -> tuple[Sequence[float], str]:
        """Gradient times input of each token, raw; or why there is none."""
        if lab.inside is None:
            return (), "the feature is a function of the text"
        try:
            return (await lab.inside.importance(text, at)).values[: at + 1], ""
        except (Unsupported, ConfigError) as error:
            return (), str(error)


def fillers(token: str) -> list[str]:
    """What stands in for `token`, `N_FILLERS` of them."""
    some = WORDS if any(map(str.isalnum, token)) else MARKS
    return [filler for filler in some if filler != token.strip()][:N_FILLERS]


def replaced(tokens: Sequence[str], i: int, filler: str) -> str:
    """The text of `tokens` with one of them replaced by a word, its space before it kept."""
    space = tokens[i][: len(tokens[i]) - len(tokens[i].lstrip())]
    return "".join([*tokens[:i], space + filler, *tokens[i + 1 :]])


def at_same_place(tokens: Sequence[str], at: int, i: int, read: Activations) -> float:
    """What the feature is where token `at` of `tokens` ended, in a text that has `i` replaced.

    A text that was changed may be cut into other tokens, so the place is found by characters.
    """
    end = sum(map(len, tokens[: at + 1]))
    if i <= at:
        end += sum(map(len, read.tokens)) - sum(map(len, tokens))
    begun = 0
    for token, value in zip(read.tokens, read.values, strict=True):
        begun += len(token)
        if begun >= end:
            return value
    return read.values[-1]

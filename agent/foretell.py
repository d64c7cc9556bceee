"""What each hypothesis expects of an experiment, judged from its words before the experiment runs.

Whoever reads the words is who judges windows for the scorers: so nobody foretells what suits them,
and a hypothesis is held to what it says. One that carries a pattern foretells by running it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from glossator.agent.tools.run_marked import marks_of
from glossator.errors import ReplyError
from glossator.evidence import About, Foretold, Hypothesis, Question
from glossator.scorers.judge import Judge, Window
from glossator.scorers.symbolic import by_paths, by_words
from glossator.types import Example, Explanation, FeatureId, Usage

NO_EFFECT = "none"
"""What a hypothesis says that supposes no effect; where it says nothing, it cannot tell."""
SURE, UNSURE = 0.95, 0.5


@dataclass(frozen=True)
class Foreteller:
    """Reads hypotheses about one feature."""

    feature: FeatureId
    threshold: float
    """Firing means above this, raw units."""
    judge: Callable[[Explanation], Judge]
    cut: Callable[[str], Sequence[str]]
    """From a text to its tokens, as the feature's model cuts it."""

    async def foretell(
        self, hypothesis: Hypothesis, questions: Sequence[Question]
    ) -> tuple[Foretold, Usage]:
        """A probability for each question; None for those that it says nothing of.

        Raises:
            ProviderError, BudgetSpent: as the language model does.
        """
        found: dict[int, float | None] = {}
        usage = Usage()
        fires = [i for i, q in enumerate(questions) if q.about is About.FIRES]
        moves = [i for i, q in enumerate(questions) if q.about is About.PROMOTES]
        if hypothesis.words or hypothesis.paths:
            found |= {i: self._by_pattern(hypothesis, questions[i]) for i in fires}
        elif hypothesis.trigger:
            windows = [self._window(questions[i]) for i in fires]
            told, used = await self._judged(hypothesis.trigger, windows)
            found |= dict(zip(fires, told, strict=True))
            usage += used
        if hypothesis.output_effect == NO_EFFECT:
            found |= dict.fromkeys(moves, 1 - SURE)
        elif hypothesis.output_effect:
            words = [Window((questions[i].text.strip() or questions[i].text,)) for i in moves]
            told, used = await self._judged(hypothesis.output_effect, words)
            found |= dict(zip(moves, told, strict=True))
            usage += used
        said = tuple(found.get(i) for i in range(len(questions)))
        return Foretold(hypothesis.id, said), usage

    async def on_texts(self, hypothesis: Hypothesis, windows: Sequence[Example]) -> Foretold:
        """The same for windows of a record, which are cut into tokens already."""
        if hypothesis.words or hypothesis.paths:
            said = tuple(self._by_tokens(hypothesis, w.tokens) for w in windows)
            return Foretold(hypothesis.id, said)
        asked = [Question(About.FIRES, w.text) for w in windows]
        return (await self.foretell(hypothesis, asked))[0]

    def _window(self, question: Question) -> Window:
        tokens = tuple(self.cut(question.text)) or (question.text,)
        return Window(tokens, marks_of(tokens, question) if question.span is not None else ())

    def _by_pattern(self, hypothesis: Hypothesis, question: Question) -> float:
        tokens = tuple(self.cut(question.text))
        marks = marks_of(tokens, question) if question.span is not None else ()
        return self._by_tokens(hypothesis, tokens, marks)

    def _by_tokens(
        self, hypothesis: Hypothesis, tokens: tuple[str, ...], marks: tuple[bool, ...] = ()
    ) -> float:
        values: Sequence[float] = ()
        if hypothesis.paths:
            values = by_paths(hypothesis.paths, tokens)
        elif hypothesis.words:
            values = by_words(hypothesis.words, tokens)
        asked = [v for v, m in zip(values, marks, strict=True) if m] if marks else values
        highest = max(asked, default=0.0)
        if highest > self.threshold:
            return SURE
        return UNSURE if highest > 0 else 1 - SURE

    async def _judged(
        self, description: str, windows: Sequence[Window]
    ) -> tuple[list[float | None], Usage]:
        if not windows:
            return [], Usage()
        explanation = Explanation(self.feature, description, "agent")
        judge = self.judge(explanation)
        verdicts = await judge.judge(explanation, windows)
        usage = Usage()
        found: list[float | None] = []
        for verdict in verdicts:
            if isinstance(verdict, ReplyError):
                usage += verdict.usage or Usage()
                found.append(None)
                continue
            usage += verdict.usage
            if judge.scale == "probability":
                found.append(verdict.value)
            else:
                found.append(SURE if verdict.value > judge.threshold else 1 - SURE)
        return found, usage

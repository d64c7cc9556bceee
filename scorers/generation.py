"""The `generation` scorer: does text that is written from the explanation set the feature off?

A language model writes texts in which the explained thing occurs, and twins of them in which it
does not; the live subject reads both. Each text counts by its strongest activation. The value is
the responsiveness: the mean share of the feature's own peak that the written texts reach. A twin is
as much like its text as can be, so that the AUC of written against avoided texts does not reward a
topic or a style. It says whether an explanation is enough, and not whether it is needed: one that
is too narrow scores as well as one that is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glossator.errors import Refused, ReplyError
from glossator.live import Live
from glossator.llm import LLM
from glossator.scorers.bounded import auc_of, mean_of
from glossator.scorers.nulls import Wrong
from glossator.scorers.outcome import Findings, Frame, score_of
from glossator.scorers.sample import chance_for
from glossator.scorers.together import together
from glossator.types import Explanation, Measure, Prediction, Score, Split, Usage
from glossator.writing import VERSION as WRITING
from glossator.writing import write, write_without

VERSION = f"generation-1, {WRITING}"
METRIC = "responsiveness: share of the train peak that written texts reach"
WRITTEN, AVOIDED = "written", "avoided"


@dataclass(frozen=True)
class GenerationScorer:
    """Mean share of the feature's train peak that texts written from the explanation reach.

    No text of the corpus is used, and what is read comes from the explanation alone.
    """

    llm: LLM
    live: Live
    wrong: Wrong
    n_texts: int = 10
    """Texts written from each explanation, and as many twins."""
    seed: int = 0

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        """See `Scorer`. The windows of `split` are not looked at."""
        frame = Frame(explanation, "generation", "live subject", self.llm.name, METRIC)
        if explanation.abstained:
            return frame.nothing(f"the explainer abstained: {explanation.abstained}")
        if self.live.peak <= 0:
            return frame.nothing("the feature never fires on train text, so there is no peak")
        found = await together(
            self._predictions(e) for e in (explanation, *self.wrong.explanations)
        )
        usage = sum((used for _, used in found), Usage())
        (own, _), *others = found
        fitting = [p for p in own if p.stratum == WRITTEN and not p.failure]
        if not fitting:
            return frame.nothing("no texts could be had from the language model", own, usage)
        chance = chance_for(self.seed, "generation", *sorted(p.example for p in own))
        peaks = [p.actual[0] for p in fitting]
        apart = [p.actual[0] for p in own if p.stratum == AVOIDED and not p.failure]
        measures = {
            "AUC, written against avoided": auc_of(peaks, apart, chance),
            "share reached, avoided": mean_of(self._shares(apart), chance),
            "share of written texts that fire": Measure(
                sum(peak > split.threshold for peak in peaks) / len(peaks)
            ),
        }
        kept = [
            (wrong, predictions)
            for wrong, (predictions, _) in zip(self.wrong.explanations, others, strict=True)
            if any(p.stratum == WRITTEN and not p.failure for p in predictions)
        ]
        values = [
            mean_of(self._shares(_written(predictions)), chance).value for _, predictions in kept
        ]
        findings = Findings(
            mean_of(self._shares(peaks), chance),
            measures,
            values,
            None,
            (f"peak {self.live.peak:.3g}, of train text",),
        )
        judged = Wrong(self.wrong.kind, tuple(wrong for wrong, _ in kept))
        return score_of(frame, findings, judged, own, usage, "no text could be read")

    def _shares(self, peaks: Sequence[float]) -> list[float]:
        return [min(1.0, max(0.0, peak / self.live.peak)) for peak in peaks]

    async def _predictions(self, explanation: Explanation) -> tuple[list[Prediction], Usage]:
        """Each written text and each twin, with the activation that it reached."""
        usage = Usage()
        try:
            written, usage = await write(self.llm, explanation.text, self.n_texts)
        except ReplyError as error:
            return [_failed(WRITTEN, error)], error.usage or Usage()
        failures = []
        twins: dict[int, str] = {}
        try:
            twins, more = await write_without(self.llm, explanation.text, written)
            usage += more
        except ReplyError as error:
            usage += error.usage or Usage()
            failures = [_failed(AVOIDED, error)]
        texts = [*written, *twins.values()]
        read = await self.live.activations(texts)
        numbers = [*range(len(written)), *twins]
        found = []
        for place, (number, one) in enumerate(zip(numbers, read, strict=True)):
            stratum = WRITTEN if place < len(written) else AVOIDED
            found.append(
                Prediction(
                    f"{stratum}:{number}",
                    stratum,
                    1.0,
                    f"text {number}",
                    (one.peak,),
                    (float(stratum == WRITTEN),),
                    "probability",
                    one.tokens,
                )
            )
        return [*found, *failures], usage


def _written(predictions: Sequence[Prediction]) -> list[float]:
    return [p.actual[0] for p in predictions if p.stratum == WRITTEN and not p.failure]


def _failed(stratum: str, error: ReplyError) -> Prediction:
    """What stands in the place of texts that could not be had."""
    kind = "refused" if isinstance(error, Refused) else "parse"
    return Prediction(
        f"{stratum}:none",
        stratum,
        1.0,
        "no text",
        (0.0,),
        (),
        "probability",
        failure=kind,
        raw=error.reply or str(error)[:2000],
    )

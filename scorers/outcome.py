"""From per-example predictions of right and wrong explanations to a `Score`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from glossator.errors import ReplyError
from glossator.scorers.bootstrap import Resampling
from glossator.scorers.nulls import Wrong, lift, null_of, permutation_p
from glossator.scorers.sample import chance_for, working
from glossator.types import Example, Explanation, Measure, Null, Prediction, Score, Split, Usage


def failed(example: Example, error: ReplyError, scale: str, whole: bool) -> Prediction:
    """What stands in the place of a prediction that could not be made."""
    actual = (example.peak,) if whole else example.activations
    return Prediction(
        example.key,
        example.stratum,
        example.weight,
        example.document,
        actual,
        (),
        scale,
        example.tokens,
        failure=error.kind,
        raw=error.reply or str(error)[:2000],
    )


@dataclass(frozen=True)
class Frame:
    """What every score of a scorer has in common."""

    explanation: Explanation
    scorer: str
    simulator: str
    model: str
    metric: str

    def score(
        self, value: float | None, note: str, predictions: Sequence[Prediction], usage: Usage
    ) -> Score:
        """A score of that value, to which its interval and what it is compared with are added."""
        failures = Counter(p.failure for p in predictions if p.failure)
        return Score(
            self.explanation.feature,
            self.explanation.explainer,
            self.scorer,
            self.simulator,
            self.metric,
            self.model,
            value,
            n=sum(not p.failure for p in predictions),
            n_failed=failures.total(),
            failures=dict(failures),
            note=note,
            predictions=tuple(predictions),
            usage=usage,
        )

    def nothing(
        self, why: str, predictions: Sequence[Prediction] = (), usage: Usage | None = None
    ) -> Score:
        """A score without a value."""
        return self.score(None, why, predictions, usage or Usage())

    def reason_against(self, split: Split) -> str:
        """Why nothing can be scored, before anything is asked; empty if it can."""
        if self.explanation.abstained:
            return f"the explainer abstained: {self.explanation.abstained}"
        if not split.firing:
            return f"the feature never fires in the {split.pool.value} pool, so there is no value"
        if not split.silent:
            return f"the feature fires in every window of the {split.pool.value} pool"
        return ""


@dataclass(frozen=True)
class Findings:
    """Figures of one explanation on its windows."""

    headline: Measure
    measures: Mapping[str, Measure]
    wrong_values: Sequence[float | None]
    empty: float | None
    """What a constant answer would score, None where it has no value."""
    notes: Sequence[str] = field(default=())


def score_of(
    frame: Frame,
    findings: Findings,
    wrong: Wrong,
    predictions: Sequence[Prediction],
    usage: Usage,
    undefined: str,
) -> Score:
    """The score, with null, lift, p and health; `undefined` says why there is no value if none."""
    n_failed = sum(bool(p.failure) for p in predictions)
    null = null_of(wrong, findings.wrong_values)
    value = findings.headline.value
    notes = list(findings.notes)
    if value is None:
        notes.insert(0, undefined)
    if wrong.kind == "decoys":
        notes.append("the null is of fixed decoys: the run has under two other explanations")
    if n_failed:
        notes.append(f"{n_failed} of {len(predictions)} examples could not be judged")
    return replace(
        frame.score(value, "; ".join(notes), predictions, usage),
        low=findings.headline.low,
        high=findings.headline.high,
        null=null.value,
        lift=None if value is None else lift(value, null.value),
        p=None if value is None else permutation_p(value, null),
        measures=dict(findings.measures),
        nulls=(null, Null("empty", findings.empty)),
    )


def resample(predictions: Sequence[Prediction], seed: int) -> Resampling | None:
    """What might have been drawn in place of the predictions that worked; None if none did.

    Each stratum keeps its share of the pool, also where some of its replies failed.
    """
    usable = working(predictions)
    if not usable:
        return None
    return Resampling.of(usable, chance_for(seed, "bootstrap", *sorted(p.example for p in usable)))

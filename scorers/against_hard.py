"""Figures on hard silent windows, beside a score whose estimate stays on random ones.

An explanation that is a little too broad passes where silent windows are about something else. Hard
ones show it, each kind in its way; they are no sample of the pool, so they enter no estimate.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from glossator.hard import HardText
from glossator.scorers.asking import Rate, ratings
from glossator.scorers.sample import chance_for
from glossator.scorers.wilson import wilson
from glossator.types import SILENT, Example, Explanation, Measure, Prediction, Score, Split

ON_RANDOM = "false alarms on random silent windows, unweighted"
FAILED_HARD = "hard silent windows that could not be judged"


def alarms_on(kind: str) -> str:
    """The name of the figure on hard windows of that `kind` of `hard.KINDS`."""
    return f"false alarms on {kind}, not of the pool"


async def against_hard(
    score: Score,
    explanation: Explanation,
    split: Split,
    rate: Rate[Example],
    source: HardText | None,
    seed: int,
    company: Sequence[Example] = (),
) -> Score:
    """`score` with the share of hard silent windows that are called firing, by kind.

    The hard ones are none of those that were scored, and called at the score's own threshold; its
    predictions, value and interval are as they were. The note says which kinds are missing, and
    why. Where several windows are asked about in one request, as many of `company` are asked about
    among the hard ones: a request of hard ones alone would have them compared with one another.

    Raises:
        ProviderError, BudgetSpent, Unsupported: as the language model does.
        AssetError: if the embedder could not be had.
    """
    threshold = score.measures.get("threshold", Measure(None)).value
    if source is None or score.value is None or threshold is None:
        return score
    seen = {p.example for p in score.predictions}
    found = await source.of(split, seen, chance_for(seed, "hard", explanation.feature))
    windows = [w for hard in found for w in hard.windows]
    # Not the window that a hard one was made from: the two side by side would tell them apart.
    others = [w for w in company if w.key not in {h.key for h in windows}]
    chance = chance_for(seed, "company", explanation.feature)
    beside = [others[i] for i in chance.permutation(len(others))[: len(windows)]]
    said, usage = await ratings(rate, explanation, [*windows, *beside])
    said = said[: len(windows)]
    silent = [p for p in score.predictions if p.stratum == SILENT]
    measures = {ON_RANDOM: called(silent, threshold)}
    left = iter(said)
    for hard in found:
        of_kind = list(itertools.islice(left, len(hard.windows)))
        if of_kind:
            measures[alarms_on(hard.kind)] = called(of_kind, threshold)
    measures[FAILED_HARD] = Measure(float(sum(bool(p.failure) for p in said)))
    missing = [f"no {hard.kind}: {hard.missing}" for hard in found if not hard.windows]
    return replace(
        score,
        measures={**score.measures, **measures},
        usage=score.usage + usage,
        note="; ".join(filter(None, [score.note, *missing])),
    )


def called(predictions: Sequence[Prediction], threshold: float) -> Measure:
    """Share of the windows that worked which are rated above `threshold`, with its interval."""
    worked = [p.predicted[0] > threshold for p in predictions if not p.failure]
    if not worked:
        return Measure(None)
    share = sum(worked) / len(worked)
    return Measure(share, *wilson(share, len(worked)))

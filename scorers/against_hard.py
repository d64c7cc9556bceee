"""Figures on hard silent windows, beside a score whose estimate stays on random ones.

An explanation that is a little too broad passes where silent windows are about something else. The
silent windows nearest in meaning to firing ones show it; they are no sample of the pool, so they
enter no estimate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from glossator.embedder import Embedder
from glossator.hard import nearest_silent
from glossator.scorers.asking import Rate, ratings
from glossator.scorers.wilson import wilson
from glossator.types import SILENT, Example, Explanation, Measure, Prediction, Score, Split

ON_HARD = "false alarms on hard silent windows, not of the pool"
ON_RANDOM = "false alarms on random silent windows, unweighted"
FAILED_HARD = "hard silent windows that could not be judged"


async def against_hard(
    score: Score,
    explanation: Explanation,
    split: Split,
    rate: Rate[Example],
    embedder: Embedder | None,
    n: int,
) -> Score:
    """`score` with the share of `n` hard silent windows that are called firing, if there are any.

    The hard ones are of the windows of `split` that were not scored, and called at the score's own
    threshold; its predictions, value and interval are as they were.

    Raises:
        ProviderError, BudgetSpent, Unsupported: as the language model does.
        AssetError: if the embedder could not be had.
    """
    threshold = score.measures.get("threshold", Measure(None)).value
    if n < 1 or embedder is None or score.value is None or threshold is None:
        return score
    seen = {p.example for p in score.predictions}
    left = [e for e in split.silent if e.key not in seen]
    hard = await asyncio.to_thread(nearest_silent, split.firing, left, embedder, n)
    found, usage = await ratings(rate, explanation, hard)
    silent = [p for p in score.predictions if p.stratum == SILENT]
    measures = {
        ON_HARD: called(found, threshold),
        ON_RANDOM: called(silent, threshold),
        FAILED_HARD: Measure(float(sum(bool(p.failure) for p in found))),
    }
    return replace(score, measures={**score.measures, **measures}, usage=score.usage + usage)


def called(predictions: Sequence[Prediction], threshold: float) -> Measure:
    """Share of the windows that worked which are rated above `threshold`, with its interval."""
    worked = [p.predicted[0] > threshold for p in predictions if not p.failure]
    if not worked:
        return Measure(None)
    share = sum(worked) / len(worked)
    return Measure(share, *wilson(share, len(worked)))

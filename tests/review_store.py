"""A small store for the review pages: features with and without text, explanations and scores."""

from __future__ import annotations

import random
from collections.abc import Sequence

from glossator.config import RunConfig
from glossator.runs import Run
from glossator.store import Store
from glossator.types import (
    SILENT,
    TOP,
    Example,
    Explanation,
    FeatureId,
    FeatureRecord,
    FeatureSummary,
    Kind,
    Null,
    Pool,
    Prediction,
    Score,
    Split,
    Stratum,
    Usage,
)

SITES = ("layers.2.mlp.neurons", "layers.11.mlp.neurons")
TEXTS = ("names of rivers", "Rivers and lakes", "the word résumé", "numbers in a table", "%_ signs")
TOKENS = (" the", " river", " Seine", " in", " Paris")


def feature_of(number: int, site: str = SITES[0]) -> FeatureId:
    """A made-up feature."""
    return FeatureId("made-up", site, number)


def record_of(feature: FeatureId, kind: Kind, tokens: Sequence[str] = TOKENS) -> FeatureRecord:
    """A record with three firing windows and a silent one in each split."""
    rest = [0.0] * (len(tokens) - 3)

    def split(pool: Pool) -> Split:
        firing = tuple(
            Example(tuple(tokens), (0.0, 2.0 + i, 0.5, *rest), f"{pool}{i}", 0, TOP, 1.0)
            for i in range(3)
        )
        silent = (Example((" a", " b", " c"), (0.0, 0.0, 0.0), f"{pool}s", 0, SILENT, 9.0),)
        return Split(pool, 1.0, firing, silent, (Stratum(TOP, 3, 3), Stratum(SILENT, 9, 1)))

    return FeatureRecord(
        feature,
        train=split(Pool.TRAIN),
        dev=split(Pool.DEV),
        test=split(Pool.TEST),
        density=0.04,
        threshold=1.0,
        threshold_rule="99th percentile of 50 train tokens",
        peak=4.0,
        mean=0.1,
        std=0.5,
        n_tokens=36,
        kind=kind,
        histogram_edges=(0.0, 1.0, 4.0),
        histogram=(27, 9),
        provenance={"corpus": "default", "hook": "down_proj"},
    )


def score_of(
    record: FeatureRecord,
    explainer: str,
    scorer: str = "simulation",
    value: float | None = 0.5,
    *,
    half: float = 0.1,
    null: float | None = 0.05,
    simulator: str = "lexical",
) -> Score:
    """A score of windows predicted token by token, by detection as wholes."""
    whole = scorer == "detection"
    predictions = tuple(
        Prediction(
            *(e.key, e.stratum, e.weight, e.document),
            (e.peak,) if whole else e.activations,
            (0.25,) if whole else tuple(float(i) for i in range(len(e.tokens))),
            "probability" if whole else "tenths",
            e.tokens,
        )
        for e in record.test.examples
    )
    return Score(
        *(record.feature, explainer, scorer, simulator, "a metric", "local"),
        value=value,
        low=None if value is None else value - half,
        high=None if value is None else value + half,
        null=null,
        n=4,
        note="" if value is not None else "nothing fired",
        nulls=() if null is None else (Null("shuffled", null, (null,)),),
        predictions=predictions,
    )


def fill(store: Store, n: int = 60, seed: int = 0, **config: object) -> Run:
    """A run of `n` features drawn by `seed`, of which some have text, explanations and scores."""
    draw = random.Random(seed)
    options: dict[str, object] = {"explainers": ("max-act", "unigram")}
    run = store.begin_run(RunConfig(**{**options, **config}), collection="key", budget=2.0)  # type: ignore[arg-type]
    kinds = list(Kind)
    for number in range(n):
        feature = feature_of(number, SITES[number % 2])
        record = record_of(feature, kinds[number % len(kinds)])
        if number % 3 == 0:
            store.put_record("key", record)
        # Equal values, that only the number of the row tells apart.
        density, peak = draw.choice((0.001, 0.01, 0.1)), round(draw.uniform(0, 9), 1)
        summary = FeatureSummary(feature, record.kind, density, 1.0, peak, 0.1, 0.5, 36)
        store.put_summaries("key", [summary])
        asked = ("max-act",) if number % 21 == 0 else ("max-act", "unigram")
        for explainer in asked if number % 5 else ():
            abstained = explainer == "max-act" and number % 7 == 0
            said = Explanation(
                feature,
                "" if abstained else f"{draw.choice(TEXTS)} {number}",
                explainer,
                abstained="no pattern" if abstained else "",
                model="local",
                usage=Usage(calls=1, cost=0.25),
            )
            store.put_explanation(run.id, said)
            for scorer in () if abstained else ("simulation", "detection"):
                value = draw.choice((None, -0.25, 0.0, 0.25, 0.5, 0.75))
                null = draw.choice((None, 0.0, 0.25))
                store.put_score(run.id, score_of(record, explainer, scorer, value, null=null))
        if number % 11 == 0:
            store.put_failure(run.id, feature, "score", "max-act/rubric", "ReplyError", "no number")
    return run

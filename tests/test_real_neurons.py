"""The main job on the bundled model: nothing here is planted, and nothing is asked of an LLM."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import glossator as gl
from glossator.datasets.collect import collect
from glossator.types import FeatureRecord

pytestmark = [pytest.mark.assets, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def records() -> Sequence[FeatureRecord]:
    subject = gl.load_subject("smollm2-135m", device="cpu")
    return collect(
        subject, "layers.12.mlp.neurons", range(10), tokens=24_000, calibration_tokens=8_000
    )


def test_ten_neurons_of_the_bundled_model_fire_in_every_pool(
    records: Sequence[FeatureRecord],
) -> None:
    for record in records:
        assert record.train.firing
        assert record.dev.firing
        assert record.test.firing
        # the threshold is the 99th percentile of the calibration tokens, not of all
        assert 0.003 < record.density < 0.03
        assert record.provenance["model"] == "smollm2-135m"


def test_no_document_is_in_two_pools_of_a_real_record(records: Sequence[FeatureRecord]) -> None:
    for record in records:
        pools = [{e.document for e in s.examples} for s in (record.train, record.dev, record.test)]
        assert sum(map(len, pools)) == len(set.union(*pools))


def test_a_wrong_explanation_is_not_above_its_null_on_nine_of_ten_neurons(
    records: Sequence[FeatureRecord],
) -> None:
    wrong = 'names of months, prices and rivers, and the words "the", "said" and "they"'
    above = 0
    for record in records:
        explanation = gl.Explanation.written_by_hand(record.feature, wrong)
        scores = gl.run_sync(
            gl.score(explanation, record, llm=None, simulator="lexical", n_scored=120)
        )
        assert {s.scorer for s in scores} == {"simulation", "detection"}
        assert all(s.value is not None for s in scores)
        # above: even the lower end of the interval exceeds what every unfitting text reaches
        nulls = {s.scorer: next(n for n in s.nulls if n.kind == "decoys") for s in scores}
        above += any(s.low is not None and s.low > max(nulls[s.scorer].values) for s in scores)
    assert above <= 1


def test_the_unigram_baseline_is_above_its_null_on_some_real_neurons(
    records: Sequence[FeatureRecord],
) -> None:
    explanations = [gl.run_sync(gl.explain(r, explainer="unigram", llm=None)) for r in records]
    found = []
    for record, explanation in zip(records, explanations, strict=True):
        (score,) = gl.run_sync(
            gl.score(
                explanation,
                record,
                ["simulation"],
                llm=None,
                others=explanations,
                n_scored=120,
                n_shuffled=9,
            )
        )
        null = next(n for n in score.nulls if n.kind == "shuffled")
        assert len(null.values) == 9
        found.append(score.low is not None and score.low > max(null.values))
    assert sum(found) >= 2

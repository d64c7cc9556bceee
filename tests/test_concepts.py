"""Features found for a concept: by what tells texts apart, and by what was said of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from glossator.config import RunConfig, RunLimits
from glossator.datasets.concepts import (
    check_examples,
    contrast_of,
    peaks_of,
    probe_of,
)
from glossator.errors import ConfigError
from glossator.finding import by_explanation, find_features
from glossator.store import Store
from glossator.subject import load_subject
from glossator.types import Explanation, FeatureId

N = 400
FEATURES = tuple(FeatureId("m", "s", i) for i in range(N))
HAVING = [f"King John walked to {place}" for place in ("Paris", "war", "market", "bread", "ship")]
LACKING = [f"rain fell on {what}" for what in ("stones", "bread", "the river", "a bridge", "war")]


class Letters:
    """Meanings by letters: texts with the same letters are alike."""

    name = "letters"

    def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        rows = np.array([[t.lower().count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for t in texts])
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(lengths, 1e-9), np.float32)


def drawn(n_texts: int, planted: bool) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    chance = np.random.default_rng(0)
    peaks = chance.exponential(size=(n_texts, N)).astype(np.float32)
    has = np.arange(n_texts) % 2 == 0
    if planted:
        peaks[has, 7] += 6.0
    return peaks, has


def test_the_feature_that_tells_texts_apart_is_found_first_by_both_ways() -> None:
    peaks, has = drawn(24, planted=True)
    best = contrast_of(FEATURES, peaks, has).best(5)
    assert best[0].feature.index == 7
    assert "AUC 1.00" in best[0].why
    assert probe_of(FEATURES, peaks, has, 5)[0].feature.index == 7


def test_where_no_feature_does_none_is_named_though_there_are_many() -> None:
    peaks, has = drawn(24, planted=False)
    assert contrast_of(FEATURES, peaks, has).best(5) == []


def test_a_feature_that_is_the_same_everywhere_is_never_named() -> None:
    peaks, has = drawn(24, planted=True)
    peaks[:, 3] = 2.0
    assert 3 not in [m.feature.index for m in contrast_of(FEATURES, peaks, has).best(N)]
    still = np.ones_like(peaks)
    assert contrast_of(FEATURES, still, has).best(5) == []
    assert probe_of(FEATURES, still, has, 5) == []


def test_too_few_examples_and_texts_of_both_kinds_are_refused() -> None:
    for having, lacking, said in (
        (["a"], ["b"], "of each kind"),
        (list("abcd"), list("efg"), "without the concept"),
        (list("abcd"), list("defg"), "both with and without"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_examples(having, lacking)


def test_both_tails_of_a_signed_site_are_read_and_padding_is_not(folder: Path) -> None:
    subject = load_subject(str(folder / "subject"), dtype="float32")
    site = "layers.0.mlp.neurons"
    features, alone = peaks_of(subject, site, [HAVING[0]], 64)
    _, beside = peaks_of(subject, site, [HAVING[0], "the " * 40], 64)
    width = subject.resolve(site).width
    assert len(features) == 2 * width
    assert features[width] == FeatureId(subject.name, site, 0, negative=True)
    np.testing.assert_allclose(alone[0], beside[0], atol=1e-5)
    with pytest.raises(ConfigError, match="no token"):
        peaks_of(subject, site, [""], 64)


def test_explanations_that_mean_the_concept_or_hold_its_words_are_found(store: Store) -> None:
    run = store.begin_run(RunConfig())
    for i, text in enumerate(["names of rivers", "zzz qqq", "a violin (zzz)"]):
        feature = FeatureId("smollm2-135m", "layers.0.mlp.neurons", i)
        store.put_explanation(run.id, Explanation(feature, text, "max-act"))
    embedder = Letters()
    model = "smollm2-135m"
    (first, *_) = by_explanation(store, model, "the names of rivers", embedder)
    assert first.feature.index == 0
    assert "max-act says: names of rivers" in first.why
    assert by_explanation(store, model, "xx", embedder) == []
    assert by_explanation(store, "another", "names of rivers", embedder) == []


@pytest.mark.assets
def test_a_concept_given_by_examples_opens_features_of_the_subject(
    folder: Path, store: Store
) -> None:
    config = RunConfig(
        model=str(folder / "subject"),
        corpus=str(folder / "texts.jsonl"),
        sites=("layers.0.mlp.neurons",),
        dtype="float32",
        ctx=64,
        window=16,
    )
    work = find_features("", HAVING, LACKING, config, RunLimits(offline=True), store)
    found = asyncio.run(work)
    assert found.matches
    assert found.matches[0].how == "contrast"
    assert any("better than chance" in note for note in found.notes)
    with pytest.raises(ConfigError, match="describe a concept"):
        asyncio.run(find_features(" ", (), (), config, RunLimits(), store))

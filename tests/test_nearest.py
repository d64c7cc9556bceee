"""Features like another, where it is known which are."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from glossator.agent.lab import Nearest
from glossator.datasets.collect import collect
from glossator.datasets.corpora import Corpus
from glossator.datasets.directions import Direction, projector
from glossator.datasets.readings import Coder
from glossator.errors import ConfigError, Unsupported
from glossator.experiments import Experiments, SubjectNearest
from glossator.sae import SparseCoder
from glossator.subject import Subject, load_subject
from glossator.types import FeatureId
from tests.tiny_llama import save_tiny_llama, some_texts

_Result = TypeVar("_Result")

SITE, NEURONS = "layers.0.resid_post", "layers.1.mlp.neurons"
TEXTS = tuple(some_texts(20, 30, seed=7))
TWIN, OPPOSITE, ZERO = 23, 11, 30


def get(work: Coroutine[Any, Any, _Result]) -> _Result:
    return asyncio.run(work)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    """Neuron 9 does what neuron 5 does, and neuron 2 the opposite."""
    folder = save_tiny_llama(tmp_path_factory.mktemp("nearest") / "tiny")
    subject = load_subject(str(folder), device="cpu", dtype="float32")
    mlp = subject.model.model.layers[1].mlp
    with torch.no_grad():
        for twin, sign in ((9, 1), (2, -1)):
            mlp.gate_proj.weight[twin] = mlp.gate_proj.weight[5]
            mlp.up_proj.weight[twin] = sign * mlp.up_proj.weight[5]
            mlp.down_proj.weight[:, twin] = sign * mlp.down_proj.weight[:, 5]
    return subject


@pytest.fixture(scope="module")
def experiments(subject: Subject) -> Experiments:
    return Experiments(subject, ctx=24, batch=7)


def a_coder(subject: Subject, **others: Any) -> SparseCoder:
    """Latent 23 is latent 7 twice as large; latent 11 writes the opposite; latent 30 is dead."""
    chance = torch.Generator().manual_seed(0)
    d = subject.d_model
    encoder = torch.randn(d, 40, generator=chance) / 4
    decoder = torch.randn(40, d, generator=chance)
    encoder[:, TWIN] = 2 * encoder[:, 7]
    encoder[:, ZERO] = 0
    decoder[TWIN] = decoder[7] / 2
    decoder[OPPOSITE] = -decoder[7]
    decoder[ZERO] = 0
    return SparseCoder(
        **{
            "name": "mine",
            "architecture": "standard",
            "activation": "relu",
            "W_enc": encoder,
            "b_enc": torch.zeros(40),
            "W_dec": decoder,
            "b_dec": torch.zeros(d),
            **others,
        }
    )


def nearest(
    experiments: Experiments, place: str, coder: Coder | None = None, negative: bool = False
) -> SubjectNearest:
    site, _, index = place.rpartition("/")
    name = coder.name if coder is not None else None
    feature = FeatureId(experiments.subject.name, site, int(index), name, negative)
    return SubjectNearest(experiments, feature, TEXTS, coder)


def test_a_duplicated_latent_is_its_own_nearest_by_both(experiments: Experiments) -> None:
    like: Nearest = nearest(experiments, f"{SITE}/7", a_coder(experiments.subject))
    twin = FeatureId(experiments.subject.name, SITE, TWIN, "mine")
    for found in (get(like.by_decoder(3)), get(like.by_firing(3))):
        assert found[0][0] == twin
        assert found[0][1] == pytest.approx(1, abs=1e-5)
        assert found[1][1] < 0.99
        assert [value for _, value in found] == sorted((v for _, v in found), reverse=True)


def test_latents_that_write_the_opposite_or_nothing_are_not_near(experiments: Experiments) -> None:
    like = nearest(experiments, f"{SITE}/7", a_coder(experiments.subject))
    by_decoder, by_firing = get(like.by_decoder(99)), get(like.by_firing(99))
    assert by_decoder[-1][0].index == OPPOSITE
    assert by_decoder[-1][1] == pytest.approx(-1, abs=1e-5)
    for found in (by_decoder, by_firing):
        assert {f.index for f, _ in found} == set(range(40)) - {7, ZERO}
        assert not any(f.negative for f, _ in found)


@pytest.mark.parametrize("negative", [False, True])
def test_a_duplicated_neuron_is_nearest_and_so_is_the_other_tail_of_its_opposite(
    experiments: Experiments, negative: bool
) -> None:
    like = nearest(experiments, f"{NEURONS}/5", negative=negative)
    for found in (get(like.by_decoder(3)), get(like.by_firing(3))):
        assert {(f.index, f.negative) for f, _ in found[:2]} == {(9, negative), (2, not negative)}
        assert [value for _, value in found[:2]] == pytest.approx([1, 1], abs=1e-5)
        assert found[2][1] < 0.99


def test_neurons_of_other_layers_that_write_alike_are_near(experiments: Experiments) -> None:
    subject = experiments.subject
    above, below = (layer.mlp.down_proj.weight for layer in subject.model.model.layers[::-1])
    before = below[:, 3].clone()
    try:
        with torch.no_grad():
            below[:, 3] = -2 * above[:, 6]
        found = get(nearest(experiments, "layers.1.mlp.neurons/6").by_decoder(4))
        back = get(nearest(experiments, "layers.0.mlp.neurons/3").by_decoder(1))
    finally:
        with torch.no_grad():
            below[:, 3] = before
    other = FeatureId(subject.name, "layers.0.mlp.neurons", 3, negative=True)
    assert found[0][0] == other
    assert found[0][1] == pytest.approx(1, abs=1e-5)
    assert {f.site for f, _ in found[1:]} <= {f"layers.{i}.mlp.neurons" for i in (0, 1)}
    assert back[0][0] == FeatureId(subject.name, "layers.1.mlp.neurons", 6, negative=True)


@pytest.mark.parametrize("coded", [False, True])
def test_correlations_are_numpys_over_all_tokens(experiments: Experiments, coded: bool) -> None:
    subject = experiments.subject
    coder = a_coder(subject, activation="topk", k=5) if coded else None
    site = SITE if coded else "layers.0.attn.heads"
    like = nearest(experiments, f"{site}/1", coder)
    rows = []
    for text in TEXTS:
        ids = subject.tokenizer(text, add_special_tokens=False)["input_ids"]
        for start in range(0, len(ids), 24):
            acts = subject.read([ids[start : start + 24]], site)[site][0].float()
            rows.append((coder.encode(acts) if coder else acts).double().numpy())
    values = np.concatenate(rows)  # (n_tokens, n_features)
    found = get(like.by_firing(99))
    assert found
    for feature, value in found:
        expected = np.corrcoef(values[:, 1], values[:, feature.index])[0, 1]
        assert value == pytest.approx(expected, abs=1e-5)
    vary = {i for i in range(values.shape[1]) if np.ptp(values[:, i]) > 0} - {1}
    assert {f.index for f, _ in found} == vary


def test_windows_of_a_record_are_read_firing_and_silent_ones(experiments: Experiments) -> None:
    (record,) = collect(
        experiments.subject,
        NEURONS,
        [5],
        tokens=None,
        corpus=Corpus.of(some_texts(60, 90, seed=3)),
        ctx=24,
        window=8,
    )
    like = SubjectNearest.of(experiments, record.feature, record.train, record.dev, n_windows=40)
    firing = {e.text for e in (*record.train.firing, *record.dev.firing)}
    silent = {e.text for e in (*record.train.silent, *record.dev.silent)}
    assert len(like.texts) == 40
    assert sum(text in firing for text in like.texts) >= min(20, len(firing)) > 5
    assert any(text in silent for text in like.texts)
    assert set(like.texts) <= firing | silent
    assert get(like.by_firing(1))[0][1] == pytest.approx(1, abs=1e-5)


def test_as_many_are_given_as_were_asked_for(experiments: Experiments) -> None:
    like = nearest(experiments, f"{NEURONS}/5")
    for n in (-1, 0, 1, 4):
        assert len(get(like.by_decoder(n))) == len(get(like.by_firing(n))) == max(0, n)


def test_what_writes_no_one_direction_says_so(experiments: Experiments) -> None:
    for place in ("layers.1.attn.heads/1", "layers.0.resid_post/3", "layers.1.mlp.out/3"):
        with pytest.raises(Unsupported, match="no direction"):
            get(nearest(experiments, place).by_decoder(3))
        assert get(nearest(experiments, place).by_firing(3))


def test_a_feature_that_nothing_can_be_like_says_so(experiments: Experiments) -> None:
    subject = experiments.subject
    dead = nearest(experiments, f"{SITE}/{ZERO}", a_coder(subject))
    with pytest.raises(Unsupported, match="writes nothing"):
        get(dead.by_decoder(3))
    with pytest.raises(Unsupported, match="the same at each token"):
        get(dead.by_firing(3))
    with pytest.raises(Unsupported, match="the same at each token of the 0 windows"):
        get(replace(nearest(experiments, f"{NEURONS}/5"), texts=()).by_firing(3))
    alone = projector(Direction("mine", SITE, torch.ones(subject.d_model)))
    for ask in ("by_decoder", "by_firing"):
        with pytest.raises(Unsupported, match="stands alone"):
            get(getattr(nearest(experiments, f"{SITE}/0", alone), ask)(3))


def test_a_feature_that_is_not_there_is_refused(experiments: Experiments) -> None:
    with pytest.raises(ConfigError, match="none numbered"):
        nearest(experiments, f"{NEURONS}/99999")

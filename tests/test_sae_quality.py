"""How good a coder is: each figure against a direct computation, and against coders made for it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import glossator as package
from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.windows import chunks
from glossator.errors import ConfigError, CorpusError
from glossator.sae import load_coder
from glossator.sae.coder import SparseCoder
from glossator.sae.quality import CoderReport, quality
from glossator.subject import Subject, intervening, load_subject
from glossator.types import Pool
from tests.tiny_llama import save_tiny_llama, some_texts

SITE = "layers.0.resid_post"
WIDTH = 16


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    model = save_tiny_llama(tmp_path_factory.mktemp("model"))
    return load_subject(str(model), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.of(some_texts(150))


@pytest.fixture(scope="module")
def rows(subject: Subject, corpus: Corpus) -> Tensor:
    """All activations of the dev pool's text, read one document at a time, shape (n, width)."""
    found = []
    for chunk in chunks(corpus, subject.tokenizer, 64):
        if chunk.pool is Pool.DEV:
            ids = torch.tensor([[subject.start_token_id, *chunk.token_ids]])
            with torch.no_grad():
                hidden = subject.model(ids, output_hidden_states=True).hidden_states[1]
            plain = [token not in subject.left_out_ids for token in chunk.token_ids]
            found.append(hidden[0, 1:][torch.tensor(plain)])
    return torch.cat(found)


def relu_coder(
    encoder: Tensor, decoder: Tensor, b_dec: Tensor | None = None, **more: Any
) -> SparseCoder:
    """A coder without biases, but for the decoder's."""
    return SparseCoder(
        name="made",
        architecture="standard",
        activation="relu",
        W_enc=encoder,
        b_enc=torch.zeros(encoder.shape[1]),
        W_dec=decoder,
        b_dec=torch.zeros(decoder.shape[1]) if b_dec is None else b_dec,
        **{"site": SITE, **more},
    )


def identity() -> SparseCoder:
    """Gives back what it reads: a latent for each direction and one for its opposite."""
    both = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)], dim=1)  # (width, 2 width)
    return relu_coder(both, both.T.contiguous())


def constant(value: Tensor, latents: int = 8) -> SparseCoder:
    """Gives the same whatever it reads; no latent ever fires."""
    return relu_coder(torch.zeros(WIDTH, latents), torch.zeros(latents, WIDTH), value)


def some_coder(latents: int = 40) -> SparseCoder:
    generator = torch.Generator().manual_seed(3)
    encoder = torch.randn(WIDTH, latents, generator=generator)
    coder = relu_coder(encoder, 0.05 * torch.randn(latents, WIDTH, generator=generator))
    # From never to nearly always.
    threshold = torch.linspace(-1, 40, latents)
    return replace(coder, activation="jumprelu", threshold=threshold)


def test_figures_equal_those_computed_from_all_activations_at_once(
    subject: Subject, corpus: Corpus, rows: Tensor
) -> None:
    coder = some_coder()
    report = quality(subject, coder, SITE, corpus, ctx=64, batch=4, loss_tokens=0)
    assert report.tokens == len(rows)
    wide = rows.double()
    pre = wide @ coder.W_enc.double()
    assert coder.threshold is not None
    latents = torch.where(pre > coder.threshold.clamp(min=0).double(), pre, 0.0)
    made = latents @ coder.W_dec.double()
    unexplained = (wide - made).square().sum() / (wide - wide.mean(0)).square().sum()
    assert report.fvu == pytest.approx(unexplained.item(), rel=1e-5)
    cosine = torch.cosine_similarity(wide, made).mean()
    assert report.cosine == pytest.approx(cosine.item(), rel=1e-5)
    ratio = made.norm(dim=1).mean() / wide.norm(dim=1).mean()
    assert report.norm_ratio == pytest.approx(ratio.item(), rel=1e-5)
    l0 = (latents > 0).sum(1)
    assert report.l0 == pytest.approx(l0.double().mean().item(), rel=1e-4)
    for name, value in report.l0_quantiles.items():
        assert value == torch.quantile(l0.double(), float(name), interpolation="higher").item()
    fired = (latents > 0).sum(0)
    assert report.n_dead == int((fired == 0).sum()) > 0
    assert report.dead_share == report.n_dead / 40
    assert sum(report.density_counts) == 40 - report.n_dead
    logs = [math.log10(n / len(rows)) for n in fired.tolist() if n]
    pairs = zip(report.density_edges, report.density_edges[1:], strict=False)
    for (low, high), count in zip(pairs, report.density_counts, strict=True):
        assert count == sum(low <= log < high or (high == 0 and log == 0) for log in logs)


def test_an_identity_loses_nothing_and_the_mean_recovers_nothing(
    subject: Subject, corpus: Corpus, rows: Tensor
) -> None:
    good = quality(subject, identity(), SITE, corpus, ctx=64)
    assert good.fvu == pytest.approx(0, abs=1e-9)
    assert good.cosine == pytest.approx(1)
    assert good.l0 == pytest.approx(WIDTH)
    assert good.losses is not None
    assert good.losses.recovered_zero == pytest.approx(1, abs=1e-4)
    assert good.losses.recovered_mean == pytest.approx(1, abs=1e-4)
    assert good.losses.kl == pytest.approx(0, abs=1e-6)
    assert not good.warnings
    poor = quality(subject, constant(rows.mean(0)), SITE, corpus, ctx=64)
    assert poor.fvu == pytest.approx(1, rel=1e-4)
    assert poor.n_dead == 8
    assert poor.losses is not None
    assert poor.losses.recovered_mean == pytest.approx(0, abs=1e-3)
    nothing = quality(subject, constant(torch.zeros(WIDTH)), SITE, corpus, ctx=64)
    assert nothing.losses is not None
    assert nothing.losses.recovered_zero == pytest.approx(0, abs=1e-4)


def test_losses_equal_those_of_the_model_run_text_by_text(subject: Subject, corpus: Corpus) -> None:
    coder = some_coder()
    report = quality(subject, coder, SITE, corpus, ctx=64, loss_tokens=10**6)
    assert report.losses is not None
    clean = spliced = zero = 0.0
    n = 0
    for chunk in chunks(corpus, subject.tokenizer, 64):
        if chunk.pool is not Pool.DEV:
            continue
        ids = torch.tensor([[subject.start_token_id, *chunk.token_ids]])
        text = torch.tensor([token not in subject.left_out_ids for token in chunk.token_ids])

        def splice(acts: Tensor, text: Tensor = text) -> Tensor:
            changed = acts.clone()
            changed[0, 1:][text] = coder.decode(coder.encode(acts[0, 1:][text]))
            return changed

        def empty(acts: Tensor, text: Tensor = text) -> Tensor:
            changed = acts.clone()
            changed[0, 1:][text] = 0
            return changed

        with torch.no_grad():
            clean += loss(subject, ids)
            with intervening(subject, SITE, splice):
                spliced += loss(subject, ids)
            with intervening(subject, SITE, empty):
                zero += loss(subject, ids)
        n += len(chunk.token_ids) - 1
    assert report.losses.tokens == n
    assert report.losses.clean == pytest.approx(clean / n, rel=1e-4)
    assert report.losses.spliced == pytest.approx(spliced / n, rel=1e-4)
    assert report.losses.zero_ablated == pytest.approx(zero / n, rel=1e-4)
    recovered = (zero - spliced) / (zero - clean)
    assert report.losses.recovered_zero == pytest.approx(recovered, rel=1e-3)


def loss(subject: Subject, ids: Tensor) -> float:
    """Summed over all predictions but the start token's, shape of `ids` (1, 1 + n)."""
    logits = subject.model(ids).logits[0, 1:-1]
    return float(torch.nn.functional.cross_entropy(logits, ids[0, 2:], reduction="sum"))


def test_sinks_count_for_nothing_and_are_not_spliced(subject: Subject, corpus: Corpus) -> None:
    def stretch(acts: Tensor) -> Tensor:
        changed = acts.clone()
        changed[:, 2:3] *= 1000  # the text's second token
        return changed

    plain = quality(subject, identity(), SITE, corpus, ctx=64)
    # The coder is wrong on what is long, so the figures would show it.
    cut = replace(identity(), activation="topk", k=WIDTH)
    with intervening(subject, SITE, stretch):
        report = quality(subject, cut, SITE, corpus, ctx=64)
    assert plain.left_out["sink"] == 0
    assert report.left_out["sink"] > 10
    assert report.tokens + report.left_out["sink"] == plain.tokens
    assert report.norm_ratio == pytest.approx(1)


def test_a_report_is_the_same_after_a_trip_through_json(subject: Subject, corpus: Corpus) -> None:
    report = quality(subject, some_coder(), SITE, corpus, ctx=64, loss_tokens=200)
    again = CoderReport.from_json(json.loads(json.dumps(report.to_json())))
    assert again == report
    with pytest.raises(ValueError, match="fvu"):
        CoderReport.from_json({k: v for k, v in report.to_json().items() if k != "fvu"})


def test_pools_are_kept_apart_and_tokens_are_a_limit(subject: Subject, corpus: Corpus) -> None:
    dev, test = (
        quality(subject, some_coder(), SITE, corpus, pool=pool, ctx=64, loss_tokens=0)
        for pool in (Pool.DEV, Pool.TEST)
    )
    assert (dev.pool, test.pool) == ("dev", "test")
    assert test.tokens > dev.tokens
    assert quality(subject, some_coder(), SITE, corpus, tokens=77, loss_tokens=0).tokens == 77


def test_a_coder_worse_than_the_mean_is_warned_about_in_words(
    subject: Subject, corpus: Corpus
) -> None:
    far = constant(torch.full((WIDTH,), 1e3))
    report = quality(subject, far, SITE, corpus, ctx=64, loss_tokens=0)
    assert report.fvu is not None
    assert report.fvu > 1
    assert "worse than the mean" in report.warnings[0]
    moved = quality(subject, identity(), "layers.1.resid_post", corpus, ctx=64, loss_tokens=0)
    assert "says it was made for layers.0.resid_post" in moved.warnings[0]


def test_a_coder_of_another_width_is_refused_with_both_widths(
    subject: Subject, corpus: Corpus
) -> None:
    with pytest.raises(ConfigError, match=r"vectors of 16, but layers\.0\.mlp\.neurons .* has 24"):
        quality(subject, identity(), "layers.0.mlp.neurons", corpus)


def test_activations_that_are_no_numbers_are_refused(subject: Subject, corpus: Corpus) -> None:
    def spoil(acts: Tensor) -> Tensor:
        return torch.full_like(acts, float("nan"))

    with intervening(subject, SITE, spoil), pytest.raises(ConfigError, match="no finite numbers"):
        quality(subject, identity(), SITE, corpus)


def test_a_pool_without_text_is_said(subject: Subject) -> None:
    lone = next(text for text in some_texts(50) if next(iter(Corpus.of([text]))).pool is Pool.TEST)
    with pytest.raises(CorpusError, match="dev pool"):
        quality(subject, identity(), SITE, Corpus.of([lone]))


def test_activations_that_never_vary_have_no_fraction_of_variance(
    subject: Subject, corpus: Corpus
) -> None:
    with intervening(subject, SITE, torch.ones_like):
        report = quality(subject, identity(), SITE, corpus, loss_tokens=0)
    assert report.fvu is None
    assert "the same at every token" in report.warnings[0]


def test_a_transcoder_is_held_against_the_site_it_predicts(
    subject: Subject, corpus: Corpus
) -> None:
    """The MLP's down projection is linear, so a coder that copies it transcodes without loss."""
    weight = subject.model.model.layers[0].mlp.down_proj.weight.detach()  # (width, d_mlp)
    d_mlp = weight.shape[1]
    both = torch.cat([torch.eye(d_mlp), -torch.eye(d_mlp)], dim=1)
    coder = relu_coder(
        both,
        torch.cat([weight.T, -weight.T]),
        transcodes=True,
        site="layers.0.mlp.neurons",
        site_out="layers.0.mlp.out",
    )
    report = quality(subject, coder, "layers.0.mlp.neurons", corpus, ctx=64)
    assert (report.site, report.site_out) == ("layers.0.mlp.neurons", "layers.0.mlp.out")
    assert report.fvu == pytest.approx(0, abs=1e-9)
    assert report.losses is not None
    assert report.losses.spliced == pytest.approx(report.losses.clean, abs=1e-5)
    assert report.losses.kl == pytest.approx(0, abs=1e-6)
    with pytest.raises(ConfigError, match="does not say which site it predicts"):
        quality(subject, replace(coder, site_out=None), "layers.0.mlp.neurons", corpus)


# The coder that comes with the package


DEFAULT = Path(package.__file__).parent / "sae" / "default"
"""What was measured of it is in `report.json`, as `glossator sae report` printed it."""


def test_the_bundled_coder_is_small_and_has_the_latents_it_should() -> None:
    coder = load_coder("default")
    assert (coder.d_in, coder.d_sae) == (576, 4608)
    assert coder.site == "layers.14.resid_post"
    assert coder.activation == "jumprelu"
    assert sum(file.stat().st_size for file in DEFAULT.iterdir()) <= 11_000_000


def test_the_report_of_the_bundled_coder_is_of_that_coder_and_good_enough() -> None:
    document = json.loads((DEFAULT / "report.json").read_text(encoding="utf-8"))
    coder = load_coder("default")
    assert document["coder"]["command"].startswith("glossator sae train --site layers.14.resid_po")
    assert document["command"].startswith("glossator sae report default")
    reports = [CoderReport.from_json(report) for report in document["reports"]]
    assert [report.pool for report in reports] == ["dev", "test"]
    for report in reports:
        assert report.digest == coder.digest
        assert report.tokens >= 100_000
        assert report.fvu is not None
        assert report.fvu < 0.20
        assert 30 <= report.l0 <= 34
        assert report.dead_share < 0.01
        assert report.losses is not None
        assert report.losses.recovered_mean is not None
        assert report.losses.recovered_mean > 0.9
        assert not report.warnings


@pytest.mark.assets
def test_the_bundled_coder_explains_held_out_activations_of_the_bundled_subject() -> None:
    subject = load_subject("smollm2-135m", device="cpu")
    corpus = load_corpus("default")
    coder = load_coder("default")
    report = quality(
        subject, coder, "layers.14.resid_post", corpus, tokens=4000, loss_tokens=0, seed=1
    )
    assert report.tokens == 4000
    assert report.fvu is not None
    assert report.fvu < 0.20
    assert 28 <= report.l0 <= 36

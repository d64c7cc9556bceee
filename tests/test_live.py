"""Experiments on a live subject: the numbers of a record, and a model that is left as it was."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

from glossator.datasets.collect import collect
from glossator.datasets.corpora import Corpus
from glossator.datasets.directions import Direction, projector
from glossator.datasets.readings import Coder
from glossator.errors import ConfigError, Unsupported
from glossator.experiments import Experiments, SubjectLive, live_function
from glossator.experiments.clamping import clamped
from glossator.experiments.passes import ids_of, next_log_probabilities
from glossator.hooks import recording
from glossator.live import NEUTRAL
from glossator.sae import SparseCoder
from glossator.subject import Subject, load_subject
from glossator.types import FeatureId, FeatureRecord
from tests.tiny_llama import save_tiny_llama, some_texts

_Result = TypeVar("_Result")

TEXTS = ("the old river said that", "bread cost two pence", "King John walked to the market")
CTX = 24


def get(work: Coroutine[Any, Any, _Result]) -> _Result:
    return asyncio.run(work)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = save_tiny_llama(tmp_path_factory.mktemp("live") / "tiny")
    return load_subject(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def experiments(subject: Subject) -> Experiments:
    return Experiments(subject, ctx=CTX)


def a_coder(subject: Subject, normalisation: Any = "none", **others: Any) -> SparseCoder:
    chance = torch.Generator().manual_seed(0)
    d = subject.d_model
    return SparseCoder(
        name="mine",
        architecture="standard",
        activation="relu",
        W_enc=torch.randn(d, 40, generator=chance) / 4,
        b_enc=torch.zeros(40),
        W_dec=torch.randn(40, d, generator=chance),
        b_dec=torch.zeros(d),
        normalisation=normalisation,
        **others,
    )


def a_direction(subject: Subject) -> Coder:
    vector = torch.randn(subject.d_model, generator=torch.Generator().manual_seed(1))
    return projector(Direction("mine", "layers.1.resid_post", vector))


def live_of(experiments: Experiments, site: str, coder: Coder | None = None) -> SubjectLive:
    name = coder.name if coder is not None else None
    negative = site.endswith("-")
    place, _, index = site.removesuffix("-").rpartition("/")
    feature = FeatureId(experiments.subject.name, place, int(index), name, negative)
    return experiments.on(feature, 1.0, coder)


SORTS = {
    "neuron": ("layers.1.mlp.neurons/5", None),
    "negative tail": ("layers.1.mlp.neurons/5-", None),
    "coordinate": ("layers.0.resid_post/3", None),
    "what the MLP adds": ("layers.1.mlp.out/3", None),
    "head": ("layers.1.attn.heads/1", None),
    "latent": ("layers.0.resid_post/7", a_coder),
    "latent behind a norm": ("layers.0.resid_post/7", lambda s: a_coder(s, "layer_norm")),
    "direction": ("layers.1.resid_post/0", a_direction),
    "negative tail of a direction": ("layers.1.resid_post/0-", a_direction),
}
every_sort = pytest.mark.parametrize("sort", SORTS)


def live_sort(experiments: Experiments, sort: str) -> SubjectLive:
    site, coder = SORTS[sort]
    return live_of(experiments, site, coder(experiments.subject) if coder else None)


def logits(subject: Subject) -> Tensor:
    return next_log_probabilities(subject, ids_of(subject, NEUTRAL))


# -- activations -----------------------------------------------------------------------------------


@every_sort
def test_activations_are_those_of_the_record_where_the_document_is_read_whole(
    experiments: Experiments, sort: str
) -> None:
    live = live_sort(experiments, sort)
    texts = some_texts(30, 90, seed=3)
    corpus = Corpus.of(texts)
    (record,) = collect(
        experiments.subject,
        live.feature.site,
        [live.feature],
        tokens=None,
        corpus=corpus,
        ctx=CTX,
        window=8,
        n_silent=5,
        coder=live.coder,
    )
    documents = {document.id: document.text for document in corpus}
    shown = (*record.train.examples, *record.test.examples)
    assert len({example.start for example in shown}) > CTX // 8
    read = get(live.activations([documents[example.document] for example in shown]))
    for example, found in zip(shown, read, strict=True):
        inside = slice(example.start, example.start + len(example.tokens))
        assert found.tokens[inside] == example.tokens
        assert "".join(found.tokens) == documents[example.document]
        # other texts in a batch change the last bits
        assert found.values[inside] == pytest.approx(example.activations, rel=1e-4, abs=1e-5)


def test_a_window_alone_is_a_document_of_its_own(experiments: Experiments) -> None:
    live = live_of(experiments, "layers.1.mlp.neurons/5")
    (alone,) = get(live.activations([" walked to the market"]))
    (in_context,) = get(live.activations(["King John walked to the market"]))
    n = len(alone.tokens)
    assert alone.tokens[-n:] == in_context.tokens[-n:]
    assert alone.values[-n:] != pytest.approx(in_context.values[-n:], rel=1e-3)
    among = get(live.activations(["zzz", " walked to the market", *TEXTS]))[1]
    assert among.values == pytest.approx(alone.values, rel=1e-4, abs=1e-5)


def test_a_text_without_tokens_is_refused_and_no_text_is_nothing(experiments: Experiments) -> None:
    live = live_of(experiments, "layers.1.mlp.neurons/5")
    with pytest.raises(ConfigError, match="no token"):
        get(live.activations(["a", ""]))
    assert get(live.activations([])) == ()
    assert get(live.next_tokens([], 1.0)) == ()
    with pytest.raises(ConfigError, match="at most 511"):
        get(live.next_tokens(["the " * 600], 1.0))


# -- clamping --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sort", [s for s in SORTS if s != "latent behind a norm"])
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_a_clamped_feature_has_that_value_at_every_token_but_the_start(
    experiments: Experiments, sort: str, value: float
) -> None:
    live = live_sort(experiments, sort)
    if "latent" in sort:
        # A decoder that writes along its encoder moves its own latent by as much as is written.
        live = _tied(live)
    before = _read(live, None)
    after = _read(live, value)
    wanted = [value] * after[:, 1:].numel()
    assert after[:, 1:].flatten().tolist() == pytest.approx(wanted, rel=1e-3, abs=1e-3)
    assert torch.equal(after[:, 0], before[:, 0])


def _tied(live: SubjectLive) -> SubjectLive:
    coder: Any = live.coder
    decoder = coder.W_dec.clone()
    encoder = coder.W_enc[:, live.feature.index]
    decoder[live.feature.index] = encoder / (encoder @ encoder)
    # latents below 0 are cut off, so that only without the cut the sum is exact
    bias = torch.full_like(coder.b_enc, 50.0)
    return replace(live, coder=replace(coder, W_dec=decoder, b_enc=bias))


def _read(live: SubjectLive, value: float | None) -> Tensor:
    """The feature behind its clamp, start token first, shape (batch, 1 + ctx)."""
    subject, feature = live.experiments.subject, live.feature
    ids = torch.tensor([[subject.start_token_id, *ids_of(subject, [t])[0]] for t in TEXTS[:1]])
    with (
        clamped(subject, feature, live.coder, value),
        recording(subject, feature.site) as kept,
        torch.inference_mode(),
    ):
        subject.body(input_ids=ids)
    acts = kept[feature.site]
    if live.coder is not None:
        acts = live.coder.encode(acts)
    found = acts[:, :, feature.index].float()
    return -found if feature.negative else found


def test_the_norm_of_a_coder_is_put_back_on_what_is_added(experiments: Experiments) -> None:
    subject = experiments.subject
    live = live_sort(experiments, "latent behind a norm")
    coder: Any = live.coder
    ids = torch.tensor([[subject.start_token_id, *ids_of(subject, TEXTS[:1])[0]]])
    with recording(subject, live.feature.site) as kept, torch.inference_mode():
        subject.body(input_ids=ids)
    acts = kept[live.feature.site]
    latents = coder.encode(acts)
    changed = latents.clone()
    changed[:, :, 7] = 3.0
    wanted = acts + coder.decode(changed, acts) - coder.decode(latents, acts)
    with (
        clamped(subject, live.feature, coder, 3.0),
        recording(subject, live.feature.site) as kept,
        torch.inference_mode(),
    ):
        subject.body(input_ids=ids)
    assert torch.allclose(kept[live.feature.site][:, 1:], wanted[:, 1:], atol=1e-4)


def test_a_transcoder_is_read_at_one_site_and_clamped_at_another(
    experiments: Experiments,
) -> None:
    subject = experiments.subject
    site, site_out = "layers.1.attn.out", "layers.1.mlp.out"
    coder = a_coder(subject, transcodes=True, site=site, site_out=site_out)
    live = live_of(experiments, f"{site}/7", coder)
    ids = torch.tensor([[subject.start_token_id, *ids_of(subject, TEXTS[:1])[0]]])

    def passed(value: float | None) -> dict[str, Tensor]:
        with (
            clamped(subject, live.feature, coder, value),
            recording(subject, [site, site_out]) as kept,
            torch.inference_mode(),
        ):
            subject.body(input_ids=ids)
        return dict(kept)

    before, after = passed(None), passed(4.0)
    assert torch.equal(before[site], after[site])
    missing = 4.0 - coder.encode(before[site])[:, 1:, 7:8]
    added = after[site_out][:, 1:] - before[site_out][:, 1:]
    assert torch.allclose(added, missing * coder.W_dec[7], atol=1e-4)
    blind = live_of(experiments, f"{site}/7", a_coder(subject, transcodes=True))
    with pytest.raises(Unsupported, match="does not say"):
        get(blind.next_tokens(TEXTS, 1.0))


@every_sort
def test_the_model_is_left_as_it_was_to_the_bit(experiments: Experiments, sort: str) -> None:
    subject = experiments.subject
    live = live_sort(experiments, sort)
    before = logits(subject)
    changed = get(live.next_tokens(TEXTS, 5.0))
    get(live.continuations(TEXTS, 5.0, 3, seed=1))
    get(live.activations(TEXTS))
    if sort == "head":
        get(live.attention(TEXTS))
    assert torch.equal(logits(subject), before)
    assert max(one.kl for one in changed) > 1e-4


def test_the_model_is_left_as_it_was_where_an_experiment_fails(experiments: Experiments) -> None:
    subject = experiments.subject
    before = logits(subject)
    implementation = subject.model.config._attn_implementation
    live = live_of(experiments, "layers.1.mlp.neurons/5")
    with pytest.raises(Unsupported, match="finite"):
        get(live.next_tokens(TEXTS, float("inf")))
    with pytest.raises(ZeroDivisionError), clamped(subject, live.feature, None, 9.0):
        1 / 0  # noqa: B018
    assert torch.equal(logits(subject), before)
    assert subject.model.config._attn_implementation == implementation


# -- what comes next -------------------------------------------------------------------------------


def test_next_tokens_say_what_an_edited_model_says(experiments: Experiments) -> None:
    """The oracle: the neuron's weights behind it are cut, which is what ablating it means."""
    subject = experiments.subject
    live = live_of(experiments, "layers.1.mlp.neurons/5")
    ids = ids_of(subject, TEXTS[:1])
    given = torch.tensor([[subject.start_token_id, *ids[0]]])
    with torch.no_grad():
        plain = subject.model(given).logits[0, -1].log_softmax(-1)
        down = subject.model.model.layers[1].mlp.down_proj.weight
        column = down[:, 5].clone()
        down[:, 5] = 0
        cut = subject.model(given).logits[0, -1].log_softmax(-1)
        down[:, 5] = column
    (found,) = get(live.next_tokens(TEXTS[:1], 0.0, n=5))
    kl = torch.nn.functional.kl_div(cut, plain, log_target=True, reduction="sum")
    # the start token keeps its neuron here, which changes what others take from it in later layers
    # only: layer 1 is the last, so nothing
    assert found.kl == pytest.approx(float(kl), rel=1e-3, abs=1e-6)
    best = int((cut.exp() - plain.exp()).argmax())
    assert found.raised[0].token == subject.tokenizer.decode([best])
    assert found.raised[0].before == pytest.approx(float(plain[best]), abs=1e-4)
    assert found.raised[0].after == pytest.approx(float(cut[best]), abs=1e-4)
    assert all(shift.after > shift.before for shift in found.raised[:1])
    assert all(shift.after < shift.before for shift in found.lowered[:1])


def test_promoted_tokens_are_those_whose_logits_rise_when_the_neuron_does(
    experiments: Experiments,
) -> None:
    """In the last layer nothing comes between, so the clamp has to agree with the unembedding."""
    subject = experiments.subject
    live = live_of(experiments, "layers.1.mlp.neurons/5")
    found = get(live.promoted(10))
    assert [z for _, z in found.promoted] == sorted((z for _, z in found.promoted), reverse=True)
    assert found.suppressed[0][1] < 0 < found.promoted[0][1]
    ids = ids_of(subject, NEUTRAL)
    with clamped(subject, live.feature, None, 1000.0):
        held = next_log_probabilities(subject, ids)
    winner = subject.tokenizer.decode([int(held.mean(dim=0).argmax())])
    assert winner == found.promoted[0][0]
    turned = get(live_of(experiments, "layers.1.mlp.neurons/5-").promoted(10))
    assert [t for t, _ in turned.promoted] == [t for t, _ in found.suppressed]
    assert turned.promoted[0][1] == pytest.approx(-found.suppressed[0][1])


def test_the_z_of_all_tokens_is_that_of_each_alone(experiments: Experiments) -> None:
    outputs = experiments.outputs
    assert outputs is not None
    for layer_norm in (False, True):
        readout = replace(outputs.readout, centred=layer_norm)
        direction = torch.randn(experiments.subject.d_model, generator=torch.Generator())
        ids = torch.arange(0, 257, 7)
        few = readout.effects(direction[None], ids[None])[0]
        assert torch.allclose(readout.on_all(direction)[ids], few, atol=1e-5)


def test_what_the_heads_mixed_promotes_through_the_projection_behind_it(
    experiments: Experiments,
) -> None:
    subject = experiments.subject
    projection = subject.model.model.layers[1].self_attn.o_proj.weight[:, 4].detach()
    direction = projector(Direction("column", "layers.1.resid_post", projection))
    wanted = get(live_of(experiments, "layers.1.resid_post/0", direction).promoted(5))
    found = get(live_of(experiments, "layers.1.attn.z/4").promoted(5))
    assert [t for t, _ in found.promoted] == [t for t, _ in wanted.promoted]


# -- going on --------------------------------------------------------------------------------------


def test_going_on_greedily_is_what_the_model_itself_makes(experiments: Experiments) -> None:
    subject = experiments.subject
    live = live_of(experiments, "layers.1.mlp.neurons/5")
    made = get(live.continuations(TEXTS, None, 6))
    for text, found in zip(TEXTS, made, strict=True):
        ids = [subject.start_token_id, *ids_of(subject, [text])[0]]
        for _ in range(6):
            with torch.no_grad():
                token = int(subject.model(torch.tensor([ids])).logits[0, -1].argmax())
            if token in subject.left_out_ids:
                break
            ids.append(token)
        whole = subject.tokenizer.decode(ids[1:])
        assert text + found == whole


def test_a_draw_depends_on_its_seed_and_text_alone(experiments: Experiments) -> None:
    live = live_of(experiments, "layers.1.mlp.neurons/5")
    before = torch.random.get_rng_state()
    alone = get(live.continuations(TEXTS[:1], 2.0, 8, seed=3))
    among = get(live.continuations(TEXTS[::-1], 2.0, 8, seed=3))
    assert alone[0] == among[-1]
    assert alone != get(live.continuations(TEXTS[:1], 2.0, 8, seed=4))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_steering_holds_at_the_tokens_that_are_made(experiments: Experiments) -> None:
    subject = experiments.subject
    live = live_of(experiments, "layers.1.mlp.neurons/5")
    (token, _), *_ = get(live.promoted(1)).promoted
    made = get(live.continuations(TEXTS, 1000.0, 4))
    assert all(text == token * 4 for text in made), (token, made)
    assert subject.tokenizer.decode([0]) not in made


# -- attention -------------------------------------------------------------------------------------


def test_a_head_looks_back_and_no_more_than_it_has(experiments: Experiments) -> None:
    subject = experiments.subject
    live = live_of(experiments, "layers.1.attn.heads/1")
    (found,) = get(live.attention(TEXTS[:1]))
    n = len(found.tokens)
    assert "".join(found.tokens) == TEXTS[0]
    assert all(found.weights[q][k] == 0 for q in range(n) for k in range(q + 1, n))
    assert all(0 < sum(row) <= 1 + 1e-6 for row in found.weights)
    for other in ("layers.1.mlp.neurons/5", "layers.0.resid_post/3"):
        with pytest.raises(Unsupported, match="no attention head"):
            get(live_of(experiments, other).attention(TEXTS))
    assert subject.model.config._attn_implementation == "sdpa"


def test_a_head_writes_what_its_values_are_by_where_it_looks(experiments: Experiments) -> None:
    """The oracle: weights times values, with the start token's share, is what the head mixed."""
    subject = experiments.subject
    live = live_of(experiments, "layers.1.attn.heads/1")
    ids = torch.tensor([[subject.start_token_id, *ids_of(subject, TEXTS[:1])[0]]])
    value, z = "model.layers.1.self_attn.v_proj", "layers.1.attn.z"
    with recording(subject, [value, z]) as kept, torch.no_grad():
        subject.body(input_ids=ids)
    (found,) = get(live.attention(TEXTS[:1]))
    weights = torch.tensor(found.weights)
    start = 1 - weights.sum(dim=1, keepdim=True)
    mixed = torch.cat([start, weights], dim=1) @ kept[value][0]  # one group of values for both
    assert torch.allclose(mixed, kept[z][0, 1:, 8:], atol=1e-4)


# -- what a planted feature has --------------------------------------------------------------------


def test_a_planted_feature_has_activations_and_says_what_it_cannot_do() -> None:
    live = live_function(lambda tokens: [float(t.strip() == "river") for t in tokens])
    (found,) = get(live.activations(["the river, the bank"]))
    assert found.tokens == ("the", " river", ",", " the", " bank")
    assert found.values == (0, 1, 0, 0, 0)
    asked: Sequence[Coroutine[Any, Any, Any]] = (
        live.promoted(),
        live.next_tokens(TEXTS, 1.0),
        live.shifts(TEXTS, [" river"], 1.0),
        live.continuations(TEXTS),
        live.attention(TEXTS),
    )
    for one in asked:
        with pytest.raises(Unsupported, match="function of the text"):
            get(one)


def test_a_feature_that_is_not_there_is_refused(experiments: Experiments) -> None:
    with pytest.raises(ConfigError, match="none numbered 999"):
        live_of(experiments, "layers.1.mlp.neurons/999")
    with pytest.raises(ConfigError, match="no coder"):
        experiments.on(FeatureId(experiments.subject.name, "layers.0.resid_post", 0, "lost"))
    with pytest.raises(ConfigError, match="at most 511"):
        Experiments(experiments.subject, ctx=512)


# -- the bundled model -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> tuple[Experiments, FeatureRecord]:
    subject = load_subject("smollm2-135m", device="cpu", dtype="float32")
    records = collect(
        subject, "layers.12.mlp.neurons", [3], tokens=12_000, calibration_tokens=4_000
    )
    return Experiments(subject), records[0]


@pytest.mark.assets
def test_latents_of_the_bundled_coder_are_read_held_and_taken_apart() -> None:
    from glossator.explainers.n2g import N2GExplainer
    from glossator.sae import load_coder

    subject = load_subject("smollm2-135m", device="cpu", dtype="float32")
    coder = load_coder("default")
    assert coder.site is not None
    records = collect(subject, coder.site, range(0, 400, 8), tokens=12_000, coder=coder)
    record = max(records, key=lambda r: len(r.train.firing) if r.density < 0.01 else 0)
    live = Experiments(subject).on(record.feature, record.train.peak, coder)
    example = record.train.firing[0]
    (read,) = get(live.activations([example.text]))
    assert read.peak > 0
    before = logits(subject)
    ablated, held = (get(live.next_tokens([example.text], k * live.peak))[0] for k in (0, 4))
    assert 0 < ablated.kl < held.kl
    assert len(get(live.promoted(5)).promoted) == 5
    found = get(N2GExplainer(live, n_examples=3).explain(record.feature, record.train))
    assert found.paths or found.abstained
    assert torch.equal(logits(subject), before)


@pytest.mark.assets
def test_experiments_on_the_bundled_model(real: tuple[Experiments, FeatureRecord]) -> None:
    experiments, record = real
    live = experiments.on(record.feature, record.train.peak)
    before = logits(experiments.subject)
    mild, strong = (get(live.next_tokens(NEUTRAL[:8], k * live.peak)) for k in (1, 8))
    assert 0 < sum(n.kl for n in mild) < sum(n.kl for n in strong)
    assert len(get(live.promoted(5)).promoted) == 5
    made = get(live.continuations(NEUTRAL[:3], None, 5))
    assert all(text.startswith(" ") for text in made)
    assert torch.equal(logits(experiments.subject), before)

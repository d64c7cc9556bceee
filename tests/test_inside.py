"""The model around a feature, against oracles that know nothing of hooks or gradients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from glossator.errors import ConfigError, Unsupported
from glossator.experiments import Experiments
from glossator.experiments.passes import ids_of, next_log_probabilities
from glossator.experiments.probing import Probe
from glossator.inside import Inside
from glossator.live import NEUTRAL
from glossator.sae import SparseCoder
from glossator.subject import Subject, load_subject
from glossator.types import FeatureId
from tests.test_live import SORTS, every_sort, live_of, live_sort
from tests.tiny_llama import save_tiny_llama
from tests.tiny_models import MODELS, tiny_model, tiny_tokenizer

_Result = TypeVar("_Result")

TEXT = "the old river said that"
CLEAN, CORRUPT = "the old river said that", "the old bridge said that"
CLEAN_TOKENS = ["th", "e", " old", " river", " said", " that"]


FIRES, SILENT = "Paris said that", "war said that"
"""On the first, the latents that are tried fire at once."""


def get(work: Coroutine[Any, Any, _Result]) -> _Result:
    return asyncio.run(work)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = save_tiny_llama(tmp_path_factory.mktemp("inside") / "tiny")
    return load_subject(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def experiments(subject: Subject) -> Experiments:
    return Experiments(subject, ctx=24)


def inside_of(experiments: Experiments, site: str, coder: Any = None) -> Inside:
    return experiments.inside(live_of(experiments, site, coder))


def logits(subject: Subject) -> Tensor:
    return next_log_probabilities(subject, ids_of(subject, NEUTRAL))


def our_hooks(subject: Subject) -> int:
    """Hooks of ours; transformers adds some of its own for good when it is asked for attention."""
    return sum(
        hook.__module__.startswith("glossator")
        for module in subject.model.modules()
        for kind in (module._forward_hooks, module._forward_pre_hooks)
        for hook in kind.values()
    )


def strongest(values: Any) -> int:
    """Where the feature is read on `CLEAN`: its strongest token from the first unlike one on."""
    first = CLEAN_TOKENS.index(" river")
    return first + int(np.argmax(values[first:]))


@contextmanager
def embedded(subject: Subject, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Changes what leaves the embedding, shape (batch, 1 + ctx, d_model): torch's own hook."""
    layer = subject.model.get_input_embeddings()
    handle = layer.register_forward_hook(lambda _, __, out: change(out))
    try:
        yield
    finally:
        handle.remove()


# -- importance ------------------------------------------------------------------------------------


@every_sort
def test_importance_is_what_finite_differences_say(experiments: Experiments, sort: str) -> None:
    live = live_sort(experiments, sort)
    found = get(experiments.inside(live).importance(TEXT))
    (plain,) = get(live.activations([TEXT]))
    assert found.tokens == plain.tokens
    assert found.activation == pytest.approx(plain.peak, rel=1e-4, abs=1e-5)
    assert found.at == int(np.argmax(plain.values))
    step = 1e-3
    for i in range(len(found.tokens)):

        def scaled(by: float, i: int = i) -> float:
            def change(acts: Tensor) -> Tensor:
                acts = acts.clone()
                acts[:, 1 + i] *= by
                return acts

            with embedded(experiments.subject, change):
                (read,) = get(live.activations([TEXT]))
            return read.values[found.at]

        slope = (scaled(1 + step) - scaled(1 - step)) / (2 * step)
        assert found.values[i] == pytest.approx(slope, rel=0.03, abs=0.01 * abs(found.activation))


def test_importance_is_told_at_any_token_and_is_0_behind_it(experiments: Experiments) -> None:
    inside = inside_of(experiments, "layers.1.mlp.neurons/5")
    found = get(inside.importance(TEXT, at=2))
    assert found.at == 2
    assert found.values[3:] == (0.0,) * (len(found.tokens) - 3)
    assert any(found.values[:3])
    for at in (-1, len(found.tokens)):
        with pytest.raises(ConfigError, match="has tokens 0 to"):
            get(inside.importance(TEXT, at))


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "gated", "topk", "abstopk", "groupmax"])
def test_every_sort_of_coder_lets_gradients_through(
    experiments: Experiments, activation: Any
) -> None:
    chance = torch.Generator().manual_seed(0)
    d = experiments.subject.d_model
    coder = SparseCoder(
        name="mine",
        architecture="standard",
        activation=activation,
        W_enc=torch.randn(d, 40, generator=chance),
        b_enc=torch.full((40,), 0.1),
        W_dec=torch.randn(40, d, generator=chance),
        b_dec=torch.zeros(d),
        threshold=torch.full((40,), 0.01) if activation == "jumprelu" else None,
        k={"topk": 38, "abstopk": 38, "groupmax": 20}.get(activation),
        r_mag=torch.zeros(40) if activation == "gated" else None,
        b_mag=torch.zeros(40) if activation == "gated" else None,
    )
    found = get(inside_of(experiments, "layers.0.resid_post/7", coder).importance(TEXT))
    assert found.activation > 0
    assert any(abs(v) > 1e-4 for v in found.values)


@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_can_be_asked(name: str) -> None:
    subject = Subject.of(tiny_model(name), tiny_tokenizer("start"), name=name)
    experiments = Experiments(subject, ctx=16)
    before = logits(subject)
    inside = experiments.inside(experiments.on(FeatureId(name, "layers.1.resid_post", 3)))
    assert any(get(inside.importance("the old river")).values)
    assert get(inside.upstream("the river", "the bread" if len_of(subject) else "the sleet"))
    lens = get(inside.lens("the old river"))
    ids = ids_of(subject, ["the old river"])
    assert lens[-1].tokens[0][1] == pytest.approx(
        float(next_log_probabilities(subject, ids).exp().max()), rel=1e-4
    )
    assert torch.equal(logits(subject), before)


def len_of(subject: Subject) -> bool:
    first, second = ids_of(subject, ["the river", "the bread"])
    return len(first) == len(second)


def test_a_feature_before_the_first_layer_has_nothing_that_leads_to_it(
    experiments: Experiments,
) -> None:
    inside = inside_of(experiments, "model.embed_tokens/3")
    with pytest.raises(Unsupported, match="before the first layer"):
        get(inside.importance(TEXT))


# -- upstream --------------------------------------------------------------------------------------


def exactly(experiments: Experiments, live: Any, source: str) -> float:
    """What the feature loses where the component is as on the other text: the plain patch."""
    from glossator.hooks import recording

    subject = experiments.subject
    site, _, index = source.rpartition("/")
    i = int(index)
    part = slice(8 * i, 8 * i + 8) if site.endswith("heads") else slice(i, i + 1)
    site = site.removesuffix("heads") + "z" if site.endswith("heads") else site
    ids = [torch.tensor([[subject.start_token_id, *x]]) for x in ids_of(subject, [CLEAN, CORRUPT])]
    with recording(subject, site) as kept, torch.no_grad():
        subject.body(input_ids=ids[1])

    def change(acts: Tensor) -> Tensor:
        acts = acts.clone()
        acts[:, :, part] = kept[site][:, :, part]
        return acts

    probe = Probe(subject, live.feature, live.coder)
    before = probe.read(ids[0])[0]
    after = probe.read(ids[0], [(site, change)])[0]
    at = 1 + strongest(before[1:].tolist())
    return float(before[at] - after[at])


SITES = pytest.mark.parametrize("site", ["layers.1.mlp.neurons/5", "layers.1.resid_post/3"])


@SITES
def test_attribution_patching_ranks_as_patching_does(experiments: Experiments, site: str) -> None:
    live = live_of(experiments, site)
    found = get(experiments.inside(live).upstream(CLEAN, CORRUPT, n=100))
    assert [abs(s.effect) for s in found] == sorted((abs(s.effect) for s in found), reverse=True)
    guessed = [s.effect for s in found]
    true = [exactly(experiments, live, s.component) for s in found]
    assert stats.spearmanr(guessed, true).statistic > 0.8
    assert guessed[0] * true[0] > 0


@SITES
def test_attribution_patching_is_patching_where_texts_are_near(
    experiments: Experiments, site: str
) -> None:
    live = live_of(experiments, site)
    with nearly_alike(experiments.subject):
        found = get(experiments.inside(live).upstream(CLEAN, CORRUPT, n=100))
        true = [exactly(experiments, live, s.component) for s in found]
    largest = max(map(abs, true))
    for source, wanted in zip(found, true, strict=True):
        assert source.effect == pytest.approx(wanted, rel=0.05, abs=0.01 * largest)


@contextmanager
def nearly_alike(subject: Subject) -> Iterator[None]:
    """Moves one of the two tokens in which the texts differ to the other, but for a hundredth."""
    first, second = (subject.tokenizer(t)["input_ids"][0] for t in (" river", " bridge"))
    rows = subject.model.get_input_embeddings().weight
    before = rows[second].detach().clone()
    with torch.no_grad():
        rows[second] = rows[first] + 0.01 * (before - rows[first])
    try:
        yield
    finally:
        with torch.no_grad():
            rows[second] = before


def test_attribution_patching_is_exact_where_the_path_is_linear(experiments: Experiments) -> None:
    """From the last MLP's neurons to the last stream there is one matrix and nothing else."""
    live = live_of(experiments, "layers.1.resid_post/3")
    found = get(experiments.inside(live).upstream(CLEAN, CORRUPT, n=100))
    linear = [s for s in found if s.component.startswith("layers.1.mlp.neurons")]
    assert len(linear) == 24
    for source in linear:
        true = exactly(experiments, live, source.component)
        assert source.effect == pytest.approx(true, rel=1e-3, abs=1e-4)


def test_a_component_above_the_feature_is_no_source(experiments: Experiments) -> None:
    found = get(inside_of(experiments, "layers.0.mlp.neurons/5").upstream(CLEAN, CORRUPT, n=100))
    assert {s.component for s in found} == {"layers.0.attn.heads/0", "layers.0.attn.heads/1"}


def test_texts_of_unlike_length_or_alike_are_refused(experiments: Experiments) -> None:
    inside = inside_of(experiments, "layers.1.mlp.neurons/5")
    for ask in (
        inside.upstream(CLEAN, CLEAN + " that"),
        inside.patched(CLEAN, CLEAN + " that", "noise"),
    ):
        with pytest.raises(ConfigError, match="equally many tokens"):
            get(ask)
    with pytest.raises(ConfigError, match="are the same"):
        get(inside.upstream(CLEAN, CLEAN))
    with pytest.raises(ConfigError, match="at most 24"):
        get(inside.importance("the " * 60))
    with pytest.raises(ConfigError, match="no token"):
        get(inside.importance(""))


# -- patching --------------------------------------------------------------------------------------


@every_sort
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_all_of_the_embedding_brings_the_other_run_back(
    experiments: Experiments, sort: str, direction: Literal["denoise", "noise"]
) -> None:
    live = live_sort(experiments, sort)
    found = get(experiments.inside(live).patched(FIRES, SILENT, direction, n=1000))
    read = get(live.activations([FIRES, SILENT]))
    at = int(np.argmax(read[0].values))
    target = read[0 if direction == "denoise" else 1].values[at]
    (whole,) = [p for p in found if p.component == "layers.0.resid_pre" and p.position is None]
    assert whole.recovered == 1.0
    assert whole.activation == pytest.approx(target, rel=1e-4, abs=1e-5)


def test_a_patch_at_one_place_is_what_torch_makes_of_it(experiments: Experiments) -> None:
    """The oracle: the MLP's output at one token, put there by a hook of torch's own."""
    subject = experiments.subject
    live = live_of(experiments, "layers.1.mlp.neurons/5")
    found = get(experiments.inside(live).patched(CLEAN, CORRUPT, "denoise", n=1000))
    ids = [torch.tensor([[subject.start_token_id, *x]]) for x in ids_of(subject, [CLEAN, CORRUPT])]
    mlp = subject.model.model.layers[0].mlp
    kept: list[Tensor] = []
    with torch.no_grad():
        handle = mlp.register_forward_hook(lambda _, __, out: kept.append(out.clone()))
        subject.model(ids[0])
        handle.remove()
    read = get(live.activations([CLEAN, CORRUPT]))
    at = strongest(read[0].values)
    tried = [p for p in found if p.component == "layers.0.mlp.out" and p.position is not None]
    assert tried
    for patch in tried:
        assert patch.position is not None

        def put(_: Any, __: Any, out: Tensor, i: int = 1 + patch.position) -> Tensor:
            out = out.clone()
            out[:, i] = kept[0][:, i]
            return out

        handle = mlp.register_forward_hook(put)
        (after,) = get(live.activations([CORRUPT]))
        handle.remove()
        assert patch.activation == pytest.approx(after.values[at], rel=1e-3, abs=1e-4)
        wanted = (after.values[at] - read[1].values[at]) / (read[0].values[at] - read[1].values[at])
        assert patch.recovered == pytest.approx(wanted, rel=1e-2, abs=1e-3)


def test_where_places_are_many_the_foremost_are_patched(
    experiments: Experiments, monkeypatch: pytest.MonkeyPatch
) -> None:
    from glossator.experiments import patching

    inside = inside_of(experiments, "layers.1.resid_post/3")
    every = get(inside.patched(CLEAN, CORRUPT, "noise", n=1000))
    monkeypatch.setattr(patching, "MOST_TOKENS", 40)
    few = get(inside.patched(CLEAN, CORRUPT, "noise", n=1000))
    assert len(few) < len(every)
    places = {(p.component, p.position) for p in few}
    best = next(p for p in every if p.position is not None)
    assert (best.component, best.position) in places


# -- lens and direct effects -----------------------------------------------------------------------


def test_the_lens_at_the_last_layer_is_the_model_itself(experiments: Experiments) -> None:
    subject = experiments.subject
    found = get(inside_of(experiments, "layers.1.mlp.neurons/5").lens(TEXT, n=400))
    shares = next_log_probabilities(subject, ids_of(subject, [TEXT]))[0].exp()
    assert [lens.layer for lens in found] == [0, 1]
    wanted = sorted(shares.tolist(), reverse=True)
    assert [p for _, p in found[-1].tokens] == pytest.approx(wanted, rel=1e-4, abs=1e-7)
    assert found[-1].tokens[0][0] == subject.tokenizer.decode([int(shares.argmax())])


def test_the_lens_behind_a_layer_is_the_norm_and_the_unembedding(experiments: Experiments) -> None:
    subject = experiments.subject
    ids = torch.tensor([[subject.start_token_id, *ids_of(subject, [TEXT])[0]]])
    with torch.no_grad():
        given = subject.model.model(ids, output_hidden_states=True).hidden_states[1][0, 3]
        logits = subject.model.lm_head(subject.model.model.norm(given))
    found = get(inside_of(experiments, "layers.1.mlp.neurons/5").lens(TEXT, at=2))
    wanted = logits.softmax(-1).topk(5).values.tolist()
    assert [p for _, p in found[0].tokens] == pytest.approx(wanted, rel=1e-4)


def test_what_all_coordinates_of_the_last_stream_add_is_the_logit(subject: Subject) -> None:
    """A linear read-out is the sum of its parts, so nothing is lost or counted twice."""
    experiments = Experiments(subject, ctx=24)
    token = " river"
    total, places = 0.0, []
    texts = [" river"]  # one token, at which each coordinate has to be read
    for i in range(subject.d_model):
        inside = inside_of(experiments, f"layers.1.resid_post/{i}")
        found = get(inside.attributed(texts[0], n=10_000))
        places.append(found.at)
        total += dict(found.raised)[token]
    assert set(places) == {0}
    ids = torch.tensor([[subject.start_token_id, *ids_of(subject, texts)[0]]])
    with torch.no_grad():
        logit = float(subject.model(ids).logits[0, -1, subject.tokenizer(token)["input_ids"][0]])
    assert total == pytest.approx(logit, rel=1e-4)


def test_a_latent_adds_its_size_along_its_decoder(experiments: Experiments) -> None:
    subject = experiments.subject
    row = subject.model.lm_head.weight[subject.tokenizer(" river")["input_ids"][0]].detach()
    coder = SparseCoder(
        name="mine",
        architecture="standard",
        activation="relu",
        W_enc=torch.ones(subject.d_model, 1),
        b_enc=torch.full((1,), 50.0),
        W_dec=row[None].clone(),
        b_dec=torch.zeros(subject.d_model),
    )
    found = get(inside_of(experiments, "layers.1.resid_post/0", coder).attributed(TEXT, 400))
    assert found.raised[0][0] == " river"
    ids = torch.tensor([[subject.start_token_id, *ids_of(subject, [TEXT])[0]]])
    with torch.no_grad():
        hidden = []
        norm = subject.model.model.norm
        handle = norm.register_forward_hook(lambda _, args, __: hidden.append(args[0]))
        subject.model(ids)
        handle.remove()
        stream = hidden[0][0, 1 + found.at]
        rms = float((stream.pow(2).mean() + norm.variance_epsilon).sqrt())
    wanted = found.activation * float(row @ (norm.weight * row).detach()) / rms
    assert found.raised[0][1] == pytest.approx(wanted, rel=1e-3)


def test_a_head_has_no_one_direction(experiments: Experiments) -> None:
    with pytest.raises(Unsupported, match="one direction"):
        get(inside_of(experiments, "layers.1.attn.heads/1").attributed(TEXT))


# -- attention -------------------------------------------------------------------------------------


def test_any_head_can_be_looked_at_and_no_other(experiments: Experiments) -> None:
    inside = inside_of(experiments, "layers.1.mlp.neurons/5")
    wanted = get(live_of(experiments, "layers.0.attn.heads/1").attention([TEXT]))
    assert get(inside.attention(0, 1, [TEXT])) == wanted
    for layer, head in ((2, 0), (0, 2), (-1, 0)):
        with pytest.raises(ConfigError, match="layers 0 to 1, each with heads 0 to 1"):
            get(inside.attention(layer, head, [TEXT]))


# -- what is left behind ---------------------------------------------------------------------------


@every_sort
def test_nothing_is_left_on_the_model(experiments: Experiments, sort: str) -> None:
    subject = experiments.subject
    wanted = [p.requires_grad for p in subject.model.parameters()]
    before = logits(subject)
    inside = experiments.inside(live_sort(experiments, sort))
    get(inside.importance(TEXT))
    get(inside.upstream(FIRES, SILENT))
    get(inside.patched(FIRES, SILENT, "noise"))
    get(inside.lens(TEXT))
    get(inside.attention(1, 0, [TEXT]))
    if SORTS[sort][0] != "layers.1.attn.heads/1":
        get(inside.attributed(TEXT))
    assert all(p.grad is None for p in subject.model.parameters())
    assert [p.requires_grad for p in subject.model.parameters()] == wanted
    assert our_hooks(subject) == 0
    assert torch.equal(logits(subject), before)


def test_a_hook_of_ours_is_counted(subject: Subject) -> None:
    from glossator.hooks import intervening

    with intervening(subject, "layers.0.mlp.out", lambda acts: acts):
        assert our_hooks(subject) == 3  # one at the site, two on the body that note the shape
    assert our_hooks(subject) == 0


def test_hooks_are_gone_after_a_pass_that_fails(experiments: Experiments) -> None:
    subject = experiments.subject
    before = logits(subject)

    class Broken:
        name, d_in, d_sae = "broken", subject.d_model, 1

        def encode(self, acts: Tensor, columns: Any = None) -> Tensor:
            raise ZeroDivisionError

    inside = inside_of(experiments, "layers.1.resid_post/0", Broken())
    for ask in (
        inside.importance(TEXT),
        inside.upstream(CLEAN, CORRUPT),
        inside.patched(CLEAN, CORRUPT, "noise"),
    ):
        with pytest.raises(ZeroDivisionError):
            get(ask)
    assert our_hooks(subject) == 0
    assert torch.equal(logits(subject), before)

"""What passes a site is shown, kept and changed, and nothing of it stays behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from glossator.errors import ConfigError
from glossator.heads import HeadNorms
from glossator.hooks import out_of_memory, watching
from glossator.subject import Subject, intervening, recording
from tests.tiny_models import tiny_model, tiny_tokenizer

NEURONS = "layers.1.mlp.neurons"
TEXTS = [[5, 9, 20, 7], [30, 8]]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def subject() -> Subject:
    return Subject.of(tiny_model("llama"), tiny_tokenizer("start"), name="tiny")


@pytest.fixture(scope="module")
def falcon() -> Subject:
    """Adds what attention gave to what the MLP gave in place."""
    return Subject.of(tiny_model("falcon"), tiny_tokenizer("start"), name="falcon")


def logits(subject: Subject) -> Tensor:
    with torch.inference_mode():
        found: Tensor = subject.model(torch.tensor([[1, 5, 9, 20, 7]])).logits
    return found


def n_hooks(subject: Subject) -> int:
    modules = subject.model.modules()
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


def test_a_scan_shows_every_site_once_in_the_order_of_the_pass(subject: Subject) -> None:
    order: list[str] = []
    subject.scan(TEXTS, subject.sites(), lambda site, acts: order.append(site))
    assert sorted(order) == sorted(subject.sites())
    parts = ("resid_pre", "attn.out", "mlp.neurons", "mlp.out", "resid_post")
    wanted = [f"layers.{layer}.{part}" for layer in (0, 1) for part in parts]
    assert [site for site in order if site in wanted] == wanted


def test_a_scan_shows_what_a_read_gives_and_a_recording_keeps(subject: Subject) -> None:
    shown: dict[str, Tensor] = {}
    subject.scan(TEXTS, subject.sites(), lambda site, acts: shown.update({site: acts.clone()}))
    read = subject.read(TEXTS, subject.sites())
    with recording(subject, subject.sites()) as kept, torch.no_grad():
        subject.model(torch.tensor([[1, *TEXTS[0]]]))
    for site in subject.sites():
        assert torch.equal(shown[site], read[site])
        assert torch.allclose(kept[site][0, 1:], read[site][0], atol=1e-4)


def test_activations_go_by_the_name_they_were_asked_for(subject: Subject) -> None:
    lens, path = "blocks.1.mlp.hook_post", "model.layers.*.mlp.down_proj:in"
    read = subject.read(TEXTS, [lens, NEURONS, path])
    assert list(read) == [lens, NEURONS, "layers.0.mlp.neurons"]
    assert torch.equal(read[lens], read[NEURONS])
    with recording(subject, [lens, NEURONS]) as kept:
        logits(subject)
    assert list(kept) == [lens, NEURONS]
    shown: list[str] = []
    subject.scan(TEXTS, [lens, NEURONS], lambda site, acts: shown.append(site))
    assert shown == [NEURONS]


def test_a_scan_copies_nothing_and_holds_nothing(subject: Subject) -> None:
    tensors: list[weakref.ref[Tensor]] = []
    whole: list[bool] = []

    def see(site: str, acts: Tensor) -> None:
        whole.append(acts.is_contiguous())
        tensors.append(weakref.ref(acts))

    subject.scan(TEXTS, ["layers.0.mlp.neurons", "layers.1.resid_post"], see)
    gc.collect()
    assert whole == [False, False]  # views that leave the start token out
    assert [reference() for reference in tensors] == [None, None]


def test_a_scan_ends_after_the_last_site_and_runs_no_head(subject: Subject) -> None:
    ran: list[str] = []
    watched = {
        "layer 1": subject.model.model.layers[1],
        "final norm": subject.model.model.norm,
        "head": subject.model.lm_head,
    }
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.append(name))
        for name, module in watched.items()
    ]
    subject.scan(TEXTS, "layers.0.resid_post", lambda site, acts: None)
    assert ran == []
    subject.scan(TEXTS, ["layers.1.resid_post", "layers.0.resid_pre"], lambda site, acts: None)
    assert ran == ["layer 1"]
    subject.scan(TEXTS, "model.norm", lambda site, acts: None)
    assert "head" not in ran
    for handle in handles:
        handle.remove()


def test_what_is_read_can_be_added_to_and_trained_on(subject: Subject) -> None:
    made: list[Tensor] = []

    def see(site: str, acts: Tensor) -> None:
        made.append(acts.sum(dim=(1, 2)))
        made[0].add_(made[-1])

    subject.scan(TEXTS, ["layers.0.mlp.neurons", NEURONS], see)
    made[0].add_(1)  # which a tensor of inference mode would refuse
    linear = torch.nn.Linear(24, 3)
    loss = linear(subject.read(TEXTS, NEURONS)[NEURONS]).sum()
    loss.backward()
    assert linear.weight.grad is not None


def test_what_is_kept_is_not_changed_by_the_model_later(falcon: Subject) -> None:
    sites = ["layers.0.attn.out", "layers.0.mlp.out"]
    block = falcon.model.transformer.h[0]
    alone: list[Tensor] = []
    handle = block.mlp.register_forward_hook(lambda _, args, out: alone.append(out.clone()))
    with recording(falcon, sites) as kept, torch.no_grad():
        falcon.model(torch.tensor([[1, 5, 9]]))
    read = falcon.read([[5, 9]], [*sites, "layers.1.resid_post"])
    handle.remove()
    assert torch.equal(kept["layers.0.mlp.out"], alone[0])
    assert torch.equal(read["layers.0.mlp.out"], alone[1][:, 1:])


def test_a_batch_that_a_model_lays_flat_has_its_shape_back() -> None:
    opt = Subject.of(tiny_model("opt"), tiny_tokenizer("start"), name="opt")
    shapes: list[torch.Size] = []

    def edit(acts: Tensor) -> Tensor:
        shapes.append(acts.shape)
        return acts * 2

    before = logits(opt)
    with intervening(opt, NEURONS, edit):
        inside = logits(opt)
    assert shapes == [(1, 5, 24)]
    assert inside.shape == before.shape
    assert not torch.allclose(inside, before)
    assert opt.read(TEXTS, NEURONS)[NEURONS].shape == (2, 4, 24)
    assert opt.resolve("model.decoder.layers.0.activation_fn").width == 24


def test_an_edit_at_one_site_is_seen_by_the_sites_behind_it(subject: Subject) -> None:
    with intervening(subject, "layers.0.resid_post", torch.zeros_like):
        read = subject.read(TEXTS, "layers.1.resid_pre")
    assert not read["layers.1.resid_pre"].any()


def test_an_exception_leaves_the_model_as_it_was(subject: Subject) -> None:
    before, hooks_before = logits(subject), n_hooks(subject)

    def broken(acts: Tensor) -> Tensor:
        raise RuntimeError("in the edit")

    def blind(site: str, acts: Tensor) -> None:
        raise KeyError("in see")

    with pytest.raises(RuntimeError, match="mine"), recording(subject, subject.sites()):
        raise RuntimeError("mine")
    with pytest.raises(RuntimeError, match="in the edit"), intervening(subject, NEURONS, broken):
        logits(subject)
    with pytest.raises(KeyError, match="in see"):
        subject.scan(TEXTS, NEURONS, blind)
    with (
        pytest.raises(ConfigError, match="shape"),
        intervening(subject, NEURONS, lambda acts: acts[:, :1]),
    ):
        logits(subject)
    subject.read(TEXTS, NEURONS)
    assert torch.equal(before, logits(subject))
    assert n_hooks(subject) == hooks_before
    assert not torch.is_inference_mode_enabled()


def test_a_recording_that_stops_leaves_its_block_and_has_what_it_came_for(
    subject: Subject,
) -> None:
    sites = ["layers.0.mlp.neurons", "layers.0.resid_post"]
    after = []
    with recording(subject, sites, stop=True) as kept:
        logits(subject)
        after.append(1)
    assert sorted(kept) == sites
    assert not after


def test_a_place_the_pass_does_not_come_to_is_an_error_and_not_a_silence(subject: Subject) -> None:
    with pytest.raises(ConfigError, match=r"without coming to lm_head"):
        subject.scan(TEXTS, "lm_head", lambda site, acts: None)
    places = [subject.resolve(NEURONS)]
    with (
        pytest.raises(ConfigError, match="without coming"),
        watching(subject.body, places, lambda site, acts: None),
    ):
        pass


@pytest.mark.parametrize("site", ["model.rotary_emb", "model", "model.layers"])
def test_what_is_no_vector_for_each_token_is_refused(subject: Subject, site: str) -> None:
    with pytest.raises(ConfigError):
        subject.resolve(site)


def test_a_module_of_unknown_width_is_measured(subject: Subject) -> None:
    for site, width in {
        "model.layers.1.mlp.act_fn": 24,
        "model.layers.1.input_layernorm": 16,
        "model.layers.1.self_attn:in": 16,
        "model.layers.1.mlp:in": 16,
        "model.embed_tokens": 16,
        "model.norm": 16,
    }.items():
        place = subject.resolve(site)
        assert (place.site, place.width) == (site, width)
        assert subject.read(TEXTS, site)[site].shape == (2, 4, width)


def test_heads_of_rank_below_their_width_have_norms_too() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 2 * 5, generator=generator)  # d_model 3, two heads of 5
    z = torch.randn(2, 4, 10, generator=generator)
    expected = [(z[..., h * 5 : h * 5 + 5] @ weight[:, h * 5 : h * 5 + 5].T) for h in (0, 1)]
    norms = HeadNorms(weight, 2)(z)
    assert torch.allclose(norms, torch.stack([e.norm(dim=-1) for e in expected], dim=-1), atol=1e-5)
    assert not HeadNorms(weight, 2)(torch.zeros(1, 1, 10)).any()
    with pytest.raises(ConfigError, match="no multiple of 3 heads"):
        HeadNorms(weight, 3)


def test_out_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert out_of_memory(caught.value)
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert out_of_memory(MemoryError())
    assert not out_of_memory(RuntimeError("shapes do not fit"))
    assert not out_of_memory(ValueError("not enough memory"))

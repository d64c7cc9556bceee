"""Every site of every architecture, held against the model's own modules and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from glossator.architectures import linear_weight, linear_widths
from glossator.errors import ConfigError
from glossator.sites import PARTS, TRANSFORMER_LENS
from glossator.subject import Subject, intervening
from tests.tiny_models import MAX_CTX, MODELS, tiny_model, tiny_tokenizer

TEXTS = [[5, 9, 20, 7, 30, 8, 90], [30, 8, 41]]
EXPERTS = {"mixtral": (0, 1), "qwen3-moe": (0,)}
"""Layers whose MLP is a mixture of experts."""
FINAL_NORMS = ("norm", "ln_f", "final_layer_norm", "final_layernorm", "norm_f")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads wait for each other longer than a model of two layers takes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def subject_of(name: str) -> Subject:
    return Subject.of(tiny_model(name), tiny_tokenizer("start"), name=name)


@pytest.fixture(params=MODELS)
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_of(request.param)


def passing(module: nn.Module, run: Callable[[], object]) -> tuple[Tensor, Tensor]:
    """What enters and what leaves `module` when `run` is called, by a plain hook of torch."""
    seen: list[tuple[Tensor, Tensor]] = []

    def hook(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = args[0] if args else kwargs["hidden_states"]
        left = output[0] if isinstance(output, tuple) else output
        seen.append((given.clone(), left.clone()))

    handle = module.register_forward_hook(hook, with_kwargs=True)
    with torch.no_grad():
        run()
    handle.remove()
    return seen[-1]


def first_text(subject: Subject) -> Tensor:
    return torch.tensor([[subject.start_token_id, *TEXTS[0]]])


def whole(subject: Subject) -> Any:
    """What the whole model gives for the first text, its start token included."""
    with torch.no_grad():
        return subject.model(first_text(subject), output_hidden_states=True)


def read(subject: Subject, *parts: str, layer: int = 1) -> list[Tensor]:
    """The first text at parts of a layer, each of shape (ctx, width)."""
    sites = [f"layers.{layer}.{part}" for part in parts]
    found = subject.read(TEXTS[:1], sites)
    return [found[site][0] for site in sites]


def close(actual: Tensor, expected: Tensor) -> bool:
    return torch.allclose(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def dense_layers(subject: Subject) -> list[int]:
    return [layer for layer in (0, 1) if layer not in EXPERTS.get(subject.name, ())]


def test_residual_sites_are_the_hidden_states(subject: Subject) -> None:
    states = whole(subject).hidden_states
    for layer in (0, 1):
        (before,) = read(subject, "resid_pre", layer=layer)
        assert close(before, states[layer][0, 1:])
    (between,), (last,) = (read(subject, "resid_post", layer=layer) for layer in (0, 1))
    assert close(between, states[1][0, 1:])
    norm = next((getattr(subject.body, n) for n in FINAL_NORMS if hasattr(subject.body, n)), None)
    after = last if norm is None else norm(last)
    projected = getattr(subject.body, "project_out", None)
    assert close(after if projected is None else projected(after), states[2][0, 1:])


def test_attention_and_mlp_add_up_to_what_the_layer_changes(subject: Subject) -> None:
    for layer in (0, 1):
        parts = ("resid_pre", "attn.out", "mlp.out", "resid_post")
        before, attention, mlp, after = read(subject, *parts, layer=layer)
        total = before + attention + mlp
        if subject.name == "opt-norm-after":  # its norms are behind the sums
            block: Any = subject.architecture.blocks[layer]
            total = block.final_layer_norm(block.self_attn_layer_norm(before + attention) + mlp)
        assert close(total, after)


def mlp_of(block: Any) -> Any:
    return next(getattr(block, n) for n in ("mlp", "ffn") if hasattr(block, n))


def neurons_by_hand(block: Any, given: Tensor) -> Tensor:
    """From what enters the MLP to its neurons, by the model's own weights."""
    mlp = block if hasattr(block, "fc1") else mlp_of(block)
    names = ("act_fn", "activation_fn", "act", "gelu_impl")
    act = next(getattr(mlp, name) for name in names if hasattr(mlp, name))
    if hasattr(mlp, "gate_proj"):
        return act(mlp.gate_proj(given)) * mlp.up_proj(given)  # type: ignore[no-any-return]
    up = next(n for n in ("up_proj", "dense_h_to_4h", "c_fc", "fc1") if hasattr(mlp, n))
    return act(getattr(mlp, up)(given))  # type: ignore[no-any-return]


def test_neurons_are_what_the_mlp_computes_from_its_input(subject: Subject) -> None:
    for layer in dense_layers(subject):
        block: Any = subject.architecture.blocks[layer]
        first = block.fc1 if hasattr(block, "fc1") else mlp_of(block)
        given, _ = passing(first, lambda: whole(subject))
        with torch.no_grad():
            expected = neurons_by_hand(block, given.reshape(-1, subject.d_model))[1:]
        (neurons,) = read(subject, "mlp.neurons", layer=layer)
        assert neurons.shape[1] == subject.resolve(f"layers.{layer}.mlp.neurons").width
        assert close(neurons, expected)


def test_the_down_projection_of_the_neurons_is_what_leaves_the_mlp(subject: Subject) -> None:
    for layer in dense_layers(subject):
        (neurons,) = read(subject, "mlp.neurons", layer=layer)
        down: Any = subject.resolve(f"layers.{layer}.mlp.neurons").module
        _, left = passing(down, lambda: whole(subject))
        with torch.no_grad():
            assert close(down(neurons), left.reshape(-1, subject.d_model)[1:])


def test_heads_are_the_norms_of_what_each_adds(subject: Subject) -> None:
    z, norms = read(subject, "attn.z", "attn.heads")
    projection: Any = subject.resolve("layers.1.attn.z").module
    n_heads = subject.architecture.n_heads
    assert norms.shape[1] == n_heads == subject.resolve("layers.1.attn.heads").width
    bias = torch.zeros(subject.d_model) if projection.bias is None else projection.bias
    together = torch.zeros(len(TEXTS[0]), subject.d_model)
    with torch.no_grad():
        for head in range(n_heads):
            mine = torch.zeros_like(z)
            share = slice(head * z.shape[1] // n_heads, (head + 1) * z.shape[1] // n_heads)
            mine[:, share] = z[:, share]
            added = projection(mine) - bias
            assert close(norms[:, head], added.norm(dim=-1))
            together += added
        _, left = passing(projection, lambda: whole(subject))
        assert close(together + bias, left[0, 1:])


def test_a_padded_batch_reads_as_its_texts_alone(subject: Subject) -> None:
    sites = subject.sites()
    together = subject.read(TEXTS, sites)
    for row, text in enumerate(TEXTS):
        alone = subject.read([text], sites)
        for site in sites:
            assert close(together[site][row, : len(text)], alone[site][0]), site


def test_sites_are_all_parts_but_the_neurons_of_experts(subject: Subject) -> None:
    missing = {f"layers.{layer}.mlp.neurons" for layer in EXPERTS.get(subject.name, ())}
    every = {f"layers.{layer}.{part}" for layer in (0, 1) for part in PARTS}
    assert set(subject.sites()) == every - missing
    for site in missing:
        with pytest.raises(ConfigError, match=r"mixture of experts.*mlp\.out.*resid_post"):
            subject.resolve(site)


def test_a_star_means_the_layers_that_have_the_part() -> None:
    assert subject_of("qwen3-moe").expand("layers.*.mlp.neurons") == ["layers.1.mlp.neurons"]
    with pytest.raises(ConfigError, match="mixture of experts"):
        subject_of("mixtral").expand("layers.*.mlp.neurons")


def test_transformer_lens_names_are_ours(subject: Subject) -> None:
    for theirs, ours in TRANSFORMER_LENS.items():
        if f"layers.1.{ours}" in subject.sites():
            assert subject.resolve(f"blocks.1.{theirs}") == subject.resolve(f"layers.1.{ours}")
            assert subject.expand(f"blocks.*.{theirs}") == subject.expand(f"layers.*.{ours}")


def test_module_paths_of_our_sites_are_ours(subject: Subject) -> None:
    paths = {module: name for name, module in subject.model.named_modules()}
    for site in subject.sites():
        place = subject.resolve(site)
        named = paths[place.module] + (":in" if place.side == "input" else ":out")
        found = subject.resolve(named)
        assert (found.module, found.side) == (place.module, place.side)
        if not site.endswith("attn.heads"):
            assert found == place


def test_any_linear_layer_can_be_read_by_its_path(subject: Subject) -> None:
    path = subject.architecture.blocks_path
    for name, module in subject.architecture.blocks[1].named_modules():
        if not linear_widths(module):
            continue
        site = f"{path}.1.{name}"
        given, left = passing(module, lambda: whole(subject))
        for named, expected in ((f"{site}:in", given), (site, left)):
            place = subject.resolve(named)
            acts = subject.read(TEXTS[:1], named)[named][0]
            assert acts.shape[1] == place.width == expected.shape[-1]
            assert close(acts, expected.reshape(-1, place.width)[1:])


def test_setting_a_site_to_zero_changes_the_logits_until_the_block_is_left(
    subject: Subject,
) -> None:
    before = whole(subject).logits
    for site in subject.sites():
        if site.endswith("attn.heads"):
            with pytest.raises(ConfigError, match=r"attn\.z"), intervening(subject, site, abs):
                pass
            continue
        with intervening(subject, site, torch.zeros_like):
            inside = whole(subject).logits
        assert not torch.allclose(before, inside, atol=1e-3), site
        with intervening(subject, site, lambda acts: acts):
            assert torch.equal(before, whole(subject).logits), site
    assert torch.equal(before, whole(subject).logits)


def test_an_edit_sees_what_is_read_and_what_it_returns_is_what_goes_on(subject: Subject) -> None:
    ids = first_text(subject)
    mine: list[Tensor] = []

    def replace(acts: Tensor) -> Tensor:
        mine.append(acts.clone())
        return constant

    for site in [s for s in subject.sites() if not s.endswith("attn.heads")]:
        place = subject.resolve(site)
        constant = torch.full((*ids.shape, place.width), 0.5)
        with intervening(subject, site, replace), torch.no_grad():
            seen = whole(subject)
            again = subject.read(TEXTS[:1], "layers.1.resid_post")["layers.1.resid_post"]
        assert close(mine[-1][0, 1:], subject.read(TEXTS[:1], site)[site][0]), site
        assert torch.equal(constant, torch.full_like(constant, 0.5)), "the caller's own was changed"
        assert again.isfinite().all()
        assert seen.logits.shape[:2] == ids.shape


def test_one_token_more_than_the_context_is_refused_with_both_numbers(subject: Subject) -> None:
    if subject.name == "bloom":
        assert subject.max_ctx is None
        subject.read([[5] * (MAX_CTX + 8)], "layers.0.resid_pre")
        return
    assert subject.max_ctx == MAX_CTX
    subject.read([[5] * (MAX_CTX - 1)], "layers.1.resid_post")
    with pytest.raises(ConfigError, match=f"{MAX_CTX + 1} with the start token.*{MAX_CTX}"):
        subject.read([[5], [5] * MAX_CTX], "layers.0.resid_pre")


def test_a_window_that_slides_is_no_limit_of_length() -> None:
    subject = subject_of("mistral")
    assert subject.model.config.sliding_window == 4
    assert subject.read(TEXTS, "layers.1.resid_post")["layers.1.resid_post"].isfinite().all()


def test_layers_of_an_image_tower_are_not_taken_for_the_models() -> None:
    subject = subject_of("gemma3-with-images")
    assert subject.architecture.blocks_path == "model.language_model.layers"


def test_a_model_whose_layers_are_not_found_is_read_by_module_paths() -> None:
    model = tiny_model("llama")
    model.config.num_hidden_layers = 3  # as if the configuration counted otherwise
    subject = Subject.of(model, tiny_tokenizer("start"), name="odd")
    assert subject.sites() == []
    with pytest.raises(ConfigError, match=r"give the path of a module.*model\.layers\.0\."):
        subject.resolve("layers.0.mlp.neurons")
    path = "model.layers.1.mlp.down_proj:in"
    model.config.num_hidden_layers = 2
    neurons = subject.read(TEXTS, path)[path]
    assert torch.equal(neurons, subject_of("llama").read(TEXTS, path)[path])


def test_weights_that_are_no_plain_matrix_are_refused_where_heads_need_them() -> None:
    linear = nn.Linear(4, 3)
    assert linear_weight(linear).shape == (3, 4)
    linear.weight = nn.Parameter(torch.zeros(12, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ConfigError, match="unquantized"):
        linear_weight(linear)


def test_heads_follow_a_change_of_the_weights() -> None:
    subject = Subject.of(tiny_model("gpt2"), tiny_tokenizer("start"), name="changing")
    site = "layers.1.attn.heads"
    before = subject.read(TEXTS, site)[site]
    with torch.no_grad():
        linear_weight(subject.resolve(site).module).mul_(2)
    assert close(subject.read(TEXTS, site)[site], 2 * before)


def test_an_encoder_is_refused() -> None:
    model = tiny_model("llama")
    model.config.is_encoder_decoder = True
    with pytest.raises(ConfigError, match="decoder-only"):
        Subject.of(model, tiny_tokenizer("start"), name="t5")

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from glossator.errors import ConfigError, Unsupported
from glossator.sae import SparseCoder, load_coder
from glossator.sae.coder import Activation
from glossator.sae.saving import save_saelens
from glossator.sae.sites import hook_name, site_of

D_IN, D_SAE, K = 12, 40, 5
ACTIVATIONS: tuple[Activation, ...] = ("relu", "gated", "topk", "jumprelu", "abstopk", "groupmax")
Floats = npt.NDArray[np.float64]


def coder(activation: Activation = "relu", seed: int = 0, **changes: Any) -> SparseCoder:
    chance = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=chance)

    d_out = changes.pop("d_out", D_IN)
    parts: dict[str, Any] = {
        "W_enc": normal(D_IN, D_SAE) / 3,
        "b_enc": normal(D_SAE) / 4,
        "W_dec": normal(D_SAE, d_out) / 3,
        "b_dec": normal(d_out),
        "threshold": torch.rand(D_SAE, generator=chance) if activation == "jumprelu" else None,
        "k": K if activation in ("topk", "abstopk", "groupmax") else None,
        "r_mag": normal(D_SAE) / 4 if activation == "gated" else None,
        "b_mag": normal(D_SAE) / 4 if activation == "gated" else None,
    }
    made: dict[str, Any] = {"name": "made", "architecture": activation, "activation": activation}
    return SparseCoder(**{**made, **parts, **changes})


def acts(*shape: int, seed: int = 1) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (30,)), D_IN, generator=chance) * 2 + 1


def wide(tensor: Tensor | None) -> Floats:
    assert tensor is not None
    return tensor.double().numpy()


def by_the_papers(made: SparseCoder, x: Tensor) -> Floats:
    """Latents of each token by the formulas, one token at a time, in float64."""
    found = []
    for token in wide(x).reshape(-1, D_IN):
        centred = token - wide(made.b_dec) if made.apply_b_dec_to_input else token
        pre = centred @ wide(made.W_enc) + wide(made.b_enc)
        z = np.zeros(D_SAE)
        match made.activation:
            case "relu":
                z = np.maximum(pre, 0)
            case "jumprelu":
                z = np.where(pre > wide(made.threshold), np.maximum(pre, 0), 0)
            case "gated":
                W_mag = wide(made.W_enc) * np.exp(wide(made.r_mag))  # noqa: N806
                z = np.where(pre > 0, np.maximum(centred @ W_mag + wide(made.b_mag), 0), 0)
            case "topk":
                kept = np.argsort(pre)[-K:]
                z[kept] = np.maximum(pre[kept], 0)
            case "abstopk":
                kept = np.argsort(np.abs(pre))[-K:]
                z[kept] = pre[kept]
            case "groupmax":
                for start in range(0, D_SAE, D_SAE // K):
                    best = start + int(np.argmax(pre[start : start + D_SAE // K]))
                    z[best] = max(pre[best], 0)
        found.append(z)
    return np.stack(found)


@pytest.mark.parametrize("takes_bias_off", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_latents_are_those_of_the_formula(activation: Activation, takes_bias_off: bool) -> None:
    made = coder(activation, apply_b_dec_to_input=takes_bias_off)
    latents = made.encode(acts())
    assert latents.dtype is torch.float32
    assert latents.shape == (30, D_SAE)
    expected = by_the_papers(made, acts())
    assert 0 < (expected != 0).mean() < 1
    np.testing.assert_allclose(latents.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_chosen_columns_are_those_of_all_latents(activation: Activation) -> None:
    made = coder(activation, apply_b_dec_to_input=True)
    x = acts(2, 7)
    whole = made.encode(x)  # (2, 7, d_sae)
    chosen = [39, 0, 7, 7, 21]
    for columns in (chosen, torch.tensor(chosen)):
        torch.testing.assert_close(made.encode(x, columns), whole[..., chosen])
    torch.testing.assert_close(made.encode(x, slice(3, 11)), whole[..., 3:11])
    assert made.encode(x, []).shape == (2, 7, 0)


@given(seed=st.integers(0, 2**20), n_tokens=st.integers(0, 9))
def test_top_k_fires_at_most_k_and_only_positive(seed: int, n_tokens: int) -> None:
    latents = coder("topk", seed).encode(acts(n_tokens, seed=seed))
    assert latents.shape == (n_tokens, D_SAE)
    assert bool(((latents > 0).sum(dim=-1) <= K).all())
    assert bool((latents >= 0).all())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_no_tokens_have_no_latents(activation: Activation) -> None:
    made = coder(activation)
    assert made.encode(acts(0, 4)).shape == (0, 4, D_SAE)
    assert made.decode(torch.zeros(0, D_SAE)).shape == (0, D_IN)


def test_one_threshold_for_all_and_one_for_each_are_the_same_rule() -> None:
    common = coder("jumprelu", threshold=torch.full((D_SAE,), 0.5))
    nearly = coder("jumprelu", threshold=torch.tensor([0.5] * (D_SAE - 1) + [0.25]))
    torch.testing.assert_close(
        common.encode(acts())[:, :-1], nearly.encode(acts())[:, :-1], rtol=0, atol=0
    )


def test_a_latent_at_its_threshold_or_at_zero_is_silent() -> None:
    eye = torch.eye(3)
    pre = torch.tensor([[0.5, 0.0, -1.0], [0.75, 1e-9, -0.1]])
    zeros = torch.zeros(3)
    for threshold, expected in (
        (torch.full((3,), 0.5), [[0, 0, 0], [0.75, 0, 0]]),
        (torch.tensor([0.5, -2.0, -2.0]), [[0, 0, 0], [0.75, 1e-9, 0]]),
    ):
        made = SparseCoder("x", "jumprelu", "jumprelu", eye, zeros, eye, zeros, threshold=threshold)
        assert torch.equal(made.encode(pre), torch.tensor(expected))


def test_a_bias_much_larger_than_what_is_left_costs_no_accuracy_that_float32_has() -> None:
    made = coder("relu", apply_b_dec_to_input=True, b_dec=torch.full((D_IN,), 300.0))
    x = acts() + 300
    expected = by_the_papers(made, x)
    largest = float((x.abs() @ made.W_enc.abs()).max())
    assert np.abs(made.encode(x).numpy() - expected).max() < 4 * 2**-24 * largest


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_encoding_changes_neither_its_input_nor_the_coder(
    activation: Activation, dtype: torch.dtype
) -> None:
    made, x = coder(activation, apply_b_dec_to_input=True).to("cpu", dtype), acts()
    before = x.clone(), made.b_enc.clone(), made.W_enc.clone()
    first = made.encode(x)
    kept = first.clone()
    made.decode(first, x)
    assert torch.equal(made.encode(x), kept)
    assert torch.equal(first, kept)
    assert torch.equal(x, before[0])
    assert torch.equal(made.b_enc, before[1])
    assert torch.equal(made.W_enc, before[2])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_activations_of_any_dtype_are_computed_in_float32(dtype: torch.dtype) -> None:
    made, x = coder("jumprelu", apply_b_dec_to_input=True), acts().to(dtype)
    latents = made.encode(x)
    assert latents.dtype is torch.float32
    torch.testing.assert_close(latents, made.encode(x.float()))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_coder_in_bfloat16_is_close_and_answers_in_float32(activation: Activation) -> None:
    exact = coder(activation, apply_b_dec_to_input=True)
    if activation == "jumprelu":
        exact = replace(exact, threshold=torch.full((D_SAE,), 0.1))
    made = exact.to("cpu", torch.bfloat16)
    assert made.dtype is torch.bfloat16
    assert made.b_enc.dtype is torch.float32
    found, expected = made.encode(acts()), exact.encode(acts())
    assert found.dtype is torch.float32
    both = (found != 0) & (expected != 0)
    assert both.sum() > 0.9 * (expected != 0).sum()
    torch.testing.assert_close(found[both], expected[both], rtol=0.05, atol=0.1)
    assert made.decode(found, acts()).dtype is torch.float32


def test_half_weights_do_not_lose_a_large_bias_that_is_taken_off() -> None:
    made = coder("relu", apply_b_dec_to_input=True, b_dec=torch.full((D_IN,), 1000.0))
    found = made.to("cpu", torch.bfloat16).encode(acts() + 1000)
    torch.testing.assert_close(found, made.encode(acts() + 1000), rtol=0.05, atol=0.1)


def test_float64_stays_float64_and_agrees_with_the_formula_to_its_precision() -> None:
    made = coder("gated", apply_b_dec_to_input=True).to("cpu", torch.float64)
    latents = made.encode(acts().double())
    assert latents.dtype is torch.float64
    np.testing.assert_allclose(latents.numpy(), by_the_papers(made, acts()), atol=1e-13)


def test_moving_to_where_it_is_gives_the_same_object() -> None:
    made = coder()
    assert made.to("cpu") is made


def test_decoding_is_the_sum_of_decoder_rows_and_bias() -> None:
    made, latents = coder(), torch.zeros(2, 3, D_SAE)
    latents[1, 2, 4] = 2.0
    latents[1, 2, 9] = 0.5
    out = made.decode(latents)
    assert out.shape == (2, 3, D_IN)
    torch.testing.assert_close(out[0, 0], made.b_dec)
    torch.testing.assert_close(out[1, 2], 2 * made.W_dec[4] + 0.5 * made.W_dec[9] + made.b_dec)


def test_a_skip_transcoder_adds_its_linear_part_of_the_raw_input() -> None:
    W_skip = torch.randn(7, D_IN, generator=torch.Generator().manual_seed(3))  # noqa: N806
    made = coder("relu", transcodes=True, d_out=7, W_skip=W_skip)
    latents = made.encode(acts())
    plain = replace(made, W_skip=None).decode(latents)
    torch.testing.assert_close(made.decode(latents, acts()), plain + acts() @ W_skip.T)
    assert made.decode_needs_acts
    with pytest.raises(ConfigError, match="give acts"):
        made.decode(latents)


def test_layer_norm_is_undone_after_decoding() -> None:
    made = coder("relu", normalisation="layer_norm", apply_b_dec_to_input=True)
    x = acts()
    mean, std = x.mean(dim=-1, keepdim=True), x.std(dim=-1, keepdim=True)
    plain = replace(made, normalisation="none")
    latents = plain.encode((x - mean) / (std + 1e-5))
    torch.testing.assert_close(made.encode(x), latents)
    torch.testing.assert_close(made.decode(latents, x), plain.decode(latents) * std + mean)
    with pytest.raises(ConfigError, match="give acts"):
        made.decode(latents)


def test_inputs_are_brought_to_a_constant_norm_and_back() -> None:
    made = coder("topk", normalisation="constant_norm_rescale")
    x = acts()
    factor = D_IN**0.5 / x.norm(dim=-1, keepdim=True)
    plain = replace(made, normalisation="none")
    torch.testing.assert_close(made.encode(x), plain.encode(x * factor))
    latents = made.encode(x)
    torch.testing.assert_close(made.decode(latents, x), plain.decode(latents) / factor)


def test_gradients_pass_through_encoding_and_decoding() -> None:
    made = coder("jumprelu")
    x = acts().requires_grad_()
    made.decode(made.encode(x), x).sum().backward()  # type: ignore[no-untyped-call]
    fires = (made.encode(x) > 0).float().detach()
    expected = (fires * made.W_dec.sum(dim=1)) @ made.W_enc.T
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected)


def test_a_wrong_width_is_told_with_the_coder_and_its_site() -> None:
    made = replace(coder(), site="layers.3.resid_post")
    with pytest.raises(ConfigError, match=r"made reads vectors of 12 \(layers.3.resid_post\).*13"):
        made.encode(torch.zeros(4, 13))
    with pytest.raises(ConfigError, match=r"has 40 latents.*41"):
        made.decode(torch.zeros(4, 41))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"b_enc": torch.zeros(D_SAE + 1)}, r"b_enc has shape \(41,\)"),
        ({"W_dec": torch.zeros(D_SAE - 1, D_IN)}, r"W_dec has shape \(39, 12\)"),
        ({"b_dec": torch.zeros(3)}, r"b_dec has shape \(3,\)"),
        ({"W_enc": torch.zeros(D_IN)}, "are matrices"),
        ({"W_dec": torch.zeros(D_SAE, 7), "b_dec": torch.zeros(7)}, "only a transcoder"),
        ({"activation": "topk"}, "a topk coder needs k"),
        ({"activation": "gated"}, "needs r_mag and b_mag"),
        ({"activation": "jumprelu"}, "needs threshold"),
        ({"activation": "topk", "k": 41}, "k is 41, but there are 40"),
        ({"activation": "groupmax", "k": 7}, "into 7 equal groups"),
        ({"activation": "softmax"}, "no activation is called 'softmax'.*jumprelu"),
    ],
)
def test_parts_that_do_not_fit_are_no_coder(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        replace(coder(), **changes)


def test_metadata_cannot_be_changed() -> None:
    made = coder(metadata={"model_name": "tiny"})
    with pytest.raises(TypeError):
        made.metadata["model_name"] = "other"  # type: ignore[index]


SAVED: dict[str, Callable[[], SparseCoder]] = {
    "standard": lambda: coder("relu", apply_b_dec_to_input=True),
    "gated": lambda: coder("gated"),
    "topk": lambda: coder("topk", apply_b_dec_to_input=True),
    "abstopk": lambda: coder("abstopk"),
    "jumprelu": lambda: coder("jumprelu", normalisation="layer_norm"),
    "batchtopk": lambda: coder("jumprelu", architecture="batchtopk"),
    "transcoder": lambda: coder("relu", transcodes=True, d_out=7, site_out="layers.3.mlp.out"),
    "skip_transcoder": lambda: coder(
        "jumprelu", transcodes=True, d_out=7, W_skip=torch.ones(7, D_IN)
    ),
}


@pytest.mark.parametrize("kind", SAVED)
def test_what_is_saved_in_float32_is_read_back_the_same(kind: str, tmp_path: Path) -> None:
    made = replace(SAVED[kind](), site="layers.3.resid_post")
    save_saelens(made, tmp_path / "kept", torch.float32, {"model_name": "tiny"})
    back = load_coder(str(tmp_path / "kept"), d_in=D_IN)
    assert back.name == "kept"
    for name in ("architecture", "activation", "site", "site_out", "normalisation", "transcodes"):
        assert getattr(back, name) == getattr(made, name)
    assert back.metadata["model_name"] == "tiny"
    latents = back.encode(acts())
    assert torch.equal(latents, made.encode(acts()))
    assert torch.equal(back.decode(latents, acts()), made.decode(latents, acts()))


def test_matrices_are_kept_in_halves_and_vectors_whole(tmp_path: Path) -> None:
    made = coder("jumprelu", apply_b_dec_to_input=True)
    path = save_saelens(made, tmp_path)
    back = load_coder(str(tmp_path))
    assert torch.equal(back.W_enc, made.W_enc.half().float())
    assert back.threshold is not None
    assert made.threshold is not None
    assert torch.equal(back.threshold, made.threshold)
    assert path.stat().st_size < 2 * 2 * D_IN * D_SAE + 4 * (2 * D_SAE + D_IN) + 1000


def test_equal_coders_give_equal_bytes_and_their_digest(tmp_path: Path) -> None:
    first = save_saelens(coder(), tmp_path / "a", metadata={"b": 1, "a": 2})
    second = save_saelens(coder(), tmp_path / "b", metadata={"a": 2, "b": 1})
    for name in ("cfg.json", "sae_weights.safetensors"):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()
    assert sorted(p.name for p in first.parent.iterdir()) == ["cfg.json", "sae_weights.safetensors"]
    one, other = load_coder(str(tmp_path / "a")), load_coder(str(tmp_path / "b"))
    assert one.digest == other.digest
    assert len(one.digest) == 16
    changed = save_saelens(coder(seed=9), tmp_path / "a")
    assert load_coder(str(changed)).digest != other.digest


def test_the_layout_says_how_others_shall_compute(tmp_path: Path) -> None:
    save_saelens(replace(coder("jumprelu"), site="layers.3.resid_post"), tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    assert config["dtype"] == "float32"
    assert config["architecture"] == "jumprelu"
    assert config["metadata"]["hook_name"] == "blocks.3.hook_resid_post"


def test_what_the_layout_cannot_say_is_not_saved(tmp_path: Path) -> None:
    for made in (coder("groupmax"), coder("topk", transcodes=True)):
        with pytest.raises(Unsupported, match=r"has no layout.*standard"):
            save_saelens(made, tmp_path / "none")
    with pytest.raises(ConfigError, match="W_enc has values that are not finite in float16"):
        save_saelens(coder(W_enc=torch.full((D_IN, D_SAE), 1e6)), tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("hook", "site"),
    [
        ("blocks.14.hook_resid_post", "layers.14.resid_post"),
        ("blocks.0.hook_resid_pre", "layers.0.resid_pre"),
        ("blocks.3.hook_mlp_out", "layers.3.mlp.out"),
        ("blocks.3.hook_attn_out", "layers.3.attn.out"),
        ("blocks.3.mlp.hook_post", "layers.3.mlp.neurons"),
        ("blocks.3.attn.hook_z", "layers.3.attn.z"),
    ],
)
def test_hooks_have_our_names_and_back(hook: str, site: str) -> None:
    assert site_of(hook) == site
    assert site_of(site) == site
    assert hook_name(site) == hook


def test_a_hook_that_is_no_site_has_none() -> None:
    assert site_of("blocks.3.ln2.hook_normalized") is None
    assert site_of("hook_embed") is None
    assert site_of(None) is None
    assert hook_name("layers.3.attn.heads") is None

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from glossator.errors import AssetError, ConfigError
from glossator.sae import SparseCoder, load_coder
from glossator.sae.hub import FILES

D, S, K = 12, 40, 5


def random_tensors(names: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    found = {name: torch.randn(shape, generator=chance) / 3 for name, shape in names.items()}
    return {n: t.abs() if n.endswith("threshold") else t for n, t in found.items()}


def acts(n_tokens: int = 30) -> Tensor:
    return torch.randn(n_tokens, D, generator=torch.Generator().manual_seed(7)) * 2 + 0.5


def top(pre: Tensor, k: int = K) -> Tensor:
    """Each row with only its k largest entries left."""
    kth = pre.sort(dim=-1, descending=True).values[:, k - 1 : k]
    return torch.where(pre >= kth, pre, 0)


# What each library stores, as its documentation and its published files lay it out.

SAE_LENS = {"W_enc": (D, S), "b_enc": (S,), "W_dec": (S, D), "b_dec": (D,)}


def saelens(
    folder: Path, architecture: str = "standard", tensors: Mapping[str, Tensor] | None = None,
    **settings: Any,
) -> dict[str, Tensor]:  # fmt: skip
    extra: dict[str, dict[str, tuple[int, ...]]] = {
        "gated": {"b_gate": (S,), "b_mag": (S,), "r_mag": (S,)},
        "jumprelu": {"threshold": (S,)},
        "skip_transcoder": {"W_skip": (D, D)},
        "jumprelu_transcoder": {"threshold": (S,)},
        "jumprelu_skip_transcoder": {"threshold": (S,), "W_skip": (D, D)},
    }
    kept = dict(tensors or random_tensors({**SAE_LENS, **extra.get(architecture, {})}))
    if architecture == "gated":
        kept.pop("b_enc", None)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(kept, folder / "sae_weights.safetensors")
    transcodes = {"d_out": D, "apply_b_dec_to_input": False}
    config = {
        "architecture": architecture,
        "d_in": D,
        "d_sae": S,
        "dtype": "float32",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **({"k": K} if architecture in ("topk", "abstopk") else {}),
        **(transcodes if "transcoder" in architecture else {}),
        "metadata": {"sae_lens_version": "6.0.0", "hook_name": "blocks.3.hook_resid_post"},
        **settings,
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    return kept


def sparsify(
    folder: Path, tensors: Mapping[str, Tensor] | None = None, **settings: Any
) -> dict[str, Tensor]:
    names = {"encoder.weight": (S, D), "encoder.bias": (S,), "W_dec": (S, D), "b_dec": (D,)}
    kept = dict(tensors or random_tensors({**names, "W_skip": (D, D)}))
    if not settings.get("skip_connection"):
        kept.pop("W_skip", None)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(kept, folder / "sae.safetensors")
    config = {"activation": "topk", "expansion_factor": 32, "num_latents": S, "k": K, "d_in": D}
    (folder / "cfg.json").write_text(json.dumps({**config, **settings}))
    return kept


def gemma_scope(folder: Path) -> dict[str, Tensor]:
    kept = random_tensors({**SAE_LENS, "threshold": (S,)})
    folder.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in kept.items()}
    np.savez(folder / "params.npz", **arrays)
    return kept


LINEAR = {"encoder.weight": (S, D), "decoder.weight": (D, S)}
DICTIONARIES: dict[str, dict[str, tuple[int, ...]]] = {
    "AutoEncoder": {**LINEAR, "encoder.bias": (S,), "bias": (D,)},
    "AutoEncoderNew": {**LINEAR, "encoder.bias": (S,), "decoder.bias": (D,)},
    "GatedAutoEncoder": {**LINEAR, "decoder_bias": (D,), "r_mag": (S,), "gate_bias": (S,),
                         "mag_bias": (S,)},
    "AutoEncoderTopK": {**LINEAR, "encoder.bias": (S,), "b_dec": (D,)},
    "BatchTopKSAE": {**LINEAR, "encoder.bias": (S,), "b_dec": (D,), "threshold": ()},
    "MatryoshkaBatchTopKSAE": {**SAE_LENS, "threshold": ()},
    "JumpReluAutoEncoder": {**SAE_LENS, "threshold": (S,)},
}  # fmt: skip
BUFFERS = {
    "AutoEncoderTopK": {"k": torch.tensor(K, dtype=torch.int), "threshold": torch.tensor(-1.0)},
    "BatchTopKSAE": {"k": torch.tensor(K, dtype=torch.int)},
    "MatryoshkaBatchTopKSAE": {
        "k": torch.tensor(K, dtype=torch.int),
        "group_sizes": torch.tensor([10, 30]),
    },
}


def dictionary_learning(
    folder: Path, kind: str, tensors: Mapping[str, Tensor] | None = None, **settings: Any
) -> dict[str, Tensor]:
    kept = dict(tensors or {**random_tensors(DICTIONARIES[kind]), **BUFFERS.get(kind, {})})
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(kept, folder / "ae.pt")
    trainer = {
        "dict_class": kind,
        "activation_dim": D,
        "dict_size": S,
        "k": K,
        "layer": 3,
        "submodule_name": "resid_post_layer_3",
        **settings,
    }
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    return kept


# SAELens


@pytest.mark.parametrize("takes_bias_off", [False, True])
def test_saelens_standard(tmp_path: Path, takes_bias_off: bool) -> None:
    kept = saelens(tmp_path / "mine", apply_b_dec_to_input=takes_bias_off)
    coder = load_coder(str(tmp_path / "mine"))
    x = acts() - kept["b_dec"] * takes_bias_off
    latents = (x @ kept["W_enc"] + kept["b_enc"]).relu()
    torch.testing.assert_close(coder.encode(acts()), latents)
    torch.testing.assert_close(coder.decode(latents), latents @ kept["W_dec"] + kept["b_dec"])
    assert (coder.name, coder.architecture, coder.site) == (
        "mine",
        "standard",
        "layers.3.resid_post",
    )
    assert (coder.d_in, coder.d_sae, coder.d_out) == (D, S, D)


def test_saelens_gated(tmp_path: Path) -> None:
    kept = saelens(tmp_path, "gated")
    x = acts() - kept["b_dec"]
    open_ = (x @ kept["W_enc"] + kept["b_gate"]) > 0
    magnitude = (x @ (kept["W_enc"] * kept["r_mag"].exp()) + kept["b_mag"]).relu()
    torch.testing.assert_close(load_coder(str(tmp_path)).encode(acts()), open_ * magnitude)


def test_saelens_jumprelu(tmp_path: Path) -> None:
    kept = saelens(tmp_path, "jumprelu")
    pre = (acts() - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]
    expected = pre.relu() * (pre > kept["threshold"])
    torch.testing.assert_close(load_coder(str(tmp_path)).encode(acts()), expected)


@pytest.mark.parametrize("rescales", [False, True])
def test_saelens_topk_may_rank_by_what_a_latent_writes(tmp_path: Path, rescales: bool) -> None:
    kept = saelens(tmp_path, "topk", rescale_acts_by_decoder_norm=rescales)
    norms = kept["W_dec"].norm(dim=1) if rescales else torch.ones(S)
    pre = ((acts() - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]) * norms
    coder = load_coder(str(tmp_path))
    latents = top(pre).relu()
    torch.testing.assert_close(coder.encode(acts()), latents)
    decoded = (latents / norms) @ kept["W_dec"] + kept["b_dec"]
    torch.testing.assert_close(coder.decode(latents), decoded)


def test_saelens_abstopk_keeps_signs(tmp_path: Path) -> None:
    kept = saelens(tmp_path, "abstopk", apply_b_dec_to_input=False)
    pre = acts() @ kept["W_enc"] + kept["b_enc"]
    expected = torch.where(top(pre.abs()) > 0, pre, 0)
    assert (expected < 0).any()
    torch.testing.assert_close(load_coder(str(tmp_path)).encode(acts()), expected)


@pytest.mark.parametrize("architecture", ["batchtopk", "matryoshka_batchtopk"])
def test_saelens_checkpoints_of_batch_top_k_use_the_learned_threshold(
    tmp_path: Path, architecture: str
) -> None:
    tensors = random_tensors(SAE_LENS) | {"topk_threshold": torch.tensor(0.7, dtype=torch.float64)}
    kept = saelens(tmp_path, architecture, tensors, k=5.0, rescale_acts_by_decoder_norm=True)
    pre = (acts() - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]
    pre = pre * kept["W_dec"].norm(dim=1)
    coder = load_coder(str(tmp_path))
    assert coder.activation == "jumprelu"
    torch.testing.assert_close(coder.encode(acts()), pre * (pre > 0.7))


@pytest.mark.parametrize("architecture", ["transcoder", "jumprelu_skip_transcoder"])
def test_saelens_transcoders(tmp_path: Path, architecture: str) -> None:
    metadata = {
        "hook_name": "blocks.3.ln2.hook_normalized",
        "hook_name_out": "blocks.3.hook_mlp_out",
    }
    kept = saelens(tmp_path, architecture, metadata=metadata)
    coder = load_coder(str(tmp_path))
    pre = acts() @ kept["W_enc"] + kept["b_enc"]
    latents = pre.relu() * (pre > kept.get("threshold", torch.zeros(S)))
    torch.testing.assert_close(coder.encode(acts()), latents)
    out = latents @ kept["W_dec"] + kept["b_dec"]
    if "skip" in architecture:
        out = out + acts() @ kept["W_skip"].T
    torch.testing.assert_close(coder.decode(latents, acts()), out)
    assert (coder.site, coder.site_out) == (None, "layers.3.mlp.out")


def test_saelens_layer_norm(tmp_path: Path) -> None:
    kept = saelens(tmp_path, normalize_activations="layer_norm")
    mean, std = acts().mean(dim=-1, keepdim=True), acts().std(dim=-1, keepdim=True)
    x = (acts() - mean) / (std + 1e-5) - kept["b_dec"]
    latents = (x @ kept["W_enc"] + kept["b_enc"]).relu()
    coder = load_coder(str(tmp_path))
    torch.testing.assert_close(coder.encode(acts()), latents)
    decoded = (latents @ kept["W_dec"] + kept["b_dec"]) * std + mean
    torch.testing.assert_close(coder.decode(latents, acts()), decoded)


def test_saelens_constant_norm(tmp_path: Path) -> None:
    kept = saelens(tmp_path, normalize_activations="constant_norm_rescale")
    factor = D**0.5 / acts().norm(dim=-1, keepdim=True)
    latents = ((acts() * factor - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]).relu()
    coder = load_coder(str(tmp_path))
    torch.testing.assert_close(coder.encode(acts()), latents)
    decoded = (latents @ kept["W_dec"] + kept["b_dec"]) / factor
    torch.testing.assert_close(coder.decode(latents, acts()), decoded)


def test_saelens_inputs_of_a_common_scale_need_the_factor_that_made_them_so(tmp_path: Path) -> None:
    kept = saelens(tmp_path, normalize_activations="expected_average_only_in")
    with pytest.raises(AssetError, match=r"expected_average_only_in.*activation_scaler.json"):
        load_coder(str(tmp_path))
    (tmp_path / "activation_scaler.json").write_text('{"scaling_factor": 0.25}')
    coder = load_coder(str(tmp_path))
    latents = ((acts() * 0.25 - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]).relu()
    torch.testing.assert_close(coder.encode(acts()), latents)
    decoded = (latents @ kept["W_dec"] + kept["b_dec"]) / 0.25
    torch.testing.assert_close(coder.decode(latents), decoded)


def test_saelens_settings_from_before_release_6(tmp_path: Path) -> None:
    kept = saelens(tmp_path)
    early = {
        "model_name": "gpt2-small",
        "hook_point": "blocks.8.attn.hook_z",
        "d_in": D,
        "d_sae": S,
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": K},
        "normalize_activations": False,
        "dtype": "torch.float32",
    }
    (tmp_path / "cfg.json").write_text(json.dumps(early))
    coder = load_coder(str(tmp_path))
    assert (coder.architecture, coder.site) == ("topk", "layers.8.attn.z")
    assert coder.metadata["model_name"] == "gpt2-small"
    pre = (acts() - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]
    torch.testing.assert_close(coder.encode(acts()), top(pre).relu())


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"architecture": "temporal"}, r"no architecture 'temporal'.*jumprelu.*transcoder"),
        ({"architecture": ["x"]}, "no architecture"),
        ({"normalize_activations": "covariance_whitening"}, "'covariance_whitening' cannot be"),
        ({"reshape_activations": "hook_q"}, "reshape_activations 'hook_q'"),
        ({"activation_fn": "tanh-relu"}, "activation_fn 'tanh-relu'"),
        ({"metadata": {"hook_head_index": 3, "hook_name": "blocks.1.attn.hook_z"}}, "head 3 of"),
        ({"d_in": 99}, "d_in 99 where the weights have 12"),
        ({"d_sae": 99, "d_in": 1}, r"d_in 1 .*d_sae 99 where the weights have 40"),
        ({"apply_b_dec_to_input": "yes"}, "apply_b_dec_to_input should be true or false"),
        ({"architecture": "topk", "k": None}, "k should be a whole number"),
        ({"architecture": "topk", "k": 41}, "k is 41, but there are 40"),
        ({"architecture": "jumprelu"}, r"lacks threshold; it has W_dec, W_enc, b_dec, b_enc"),
        ({"architecture": "gated"}, "lacks b_gate"),
    ],
)
def test_saelens_settings_that_cannot_be_honoured_are_named(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    saelens(
        tmp_path, **{"architecture": "standard", **settings, "tensors": random_tensors(SAE_LENS)}
    )
    with pytest.raises(AssetError, match=told):
        load_coder(str(tmp_path))


def test_saelens_finetuning_scale_is_not_silently_dropped(tmp_path: Path) -> None:
    kept = random_tensors(SAE_LENS)
    saelens(tmp_path, tensors={**kept, "scaling_factor": torch.ones(S)})
    assert load_coder(str(tmp_path)).d_sae == S
    saelens(tmp_path, tensors={**kept, "scaling_factor": torch.full((S,), 1.1)})
    with pytest.raises(AssetError, match="finetuning_scaling_factor"):
        load_coder(str(tmp_path))


# Gemma Scope


def test_gemma_scope_takes_nothing_off_the_input(tmp_path: Path) -> None:
    folder = tmp_path / "gemma-scope-2b-pt-res" / "layer_20" / "width_16k" / "average_l0_71"
    kept = gemma_scope(folder)
    pre = acts() @ kept["W_enc"] + kept["b_enc"]
    for spec in (folder, folder / "params.npz"):
        coder = load_coder(str(spec))
        latents = coder.encode(acts())
        torch.testing.assert_close(latents, pre * (pre > kept["threshold"]))
        torch.testing.assert_close(coder.decode(latents), latents @ kept["W_dec"] + kept["b_dec"])
        assert coder.site == "layers.20.resid_post"


@pytest.mark.parametrize(
    ("repository", "site", "transcodes"),
    [
        ("gemma-scope-2b-pt-att", "layers.4.attn.z", False),
        ("gemma-scope-2b-pt-mlp", "layers.4.mlp.out", False),
        ("gemma-scope-2b-pt-transcoders", None, True),
    ],
)
def test_gemma_scope_tells_its_site_in_the_path(
    tmp_path: Path, repository: str, site: str | None, transcodes: bool
) -> None:
    folder = tmp_path / repository / "layer_4" / "width_16k" / "average_l0_1"
    gemma_scope(folder)
    coder = load_coder(str(folder))
    assert (coder.site, coder.transcodes) == (site, transcodes)


def test_gemma_scope_2_with_an_affine_part(tmp_path: Path) -> None:
    names = {"w_enc": (D, S), "b_enc": (S,), "w_dec": (S, D), "b_dec": (D,), "threshold": (S,)}
    kept = random_tensors({**names, "affine_skip_connection": (D, D)})
    save_file(kept, tmp_path / "params.safetensors")
    (tmp_path / "config.json").write_text('{"architecture": "jump_relu"}')
    coder = load_coder(str(tmp_path))
    latents = coder.encode(acts())
    out = latents @ kept["w_dec"] + kept["b_dec"] + acts() @ kept["affine_skip_connection"]
    torch.testing.assert_close(coder.decode(latents, acts()), out)
    assert coder.metadata["architecture"] == "jump_relu"


# sparsify


@pytest.mark.parametrize("transcode", [False, True])
@pytest.mark.parametrize("skip", [False, True])
def test_sparsify(tmp_path: Path, transcode: bool, skip: bool) -> None:
    folder = tmp_path / "layers.5.mlp"
    kept = sparsify(folder, transcode=transcode, skip_connection=skip)
    coder = load_coder(str(folder))
    x = acts() if transcode else acts() - kept["b_dec"]
    latents = top((x @ kept["encoder.weight"].T + kept["encoder.bias"]).relu())
    torch.testing.assert_close(coder.encode(acts()), latents)
    out = latents @ kept["W_dec"] + kept["b_dec"]
    if skip:
        out = out + acts() @ kept["W_skip"].T
    torch.testing.assert_close(coder.decode(latents, acts()), out)
    both = (coder.site, coder.site_out)
    assert both == ((None, "layers.5.mlp.out") if transcode else ("layers.5.mlp.out", None))


def test_sparsify_signed_ranks_by_magnitude(tmp_path: Path) -> None:
    kept = sparsify(tmp_path / "layers.5", signed=True)
    pre = (acts() - kept["b_dec"]) @ kept["encoder.weight"].T + kept["encoder.bias"]
    coder = load_coder(str(tmp_path / "layers.5"))
    torch.testing.assert_close(coder.encode(acts()), torch.where(top(pre.abs()) > 0, pre, 0))
    assert coder.site == "layers.5.resid_post"


def test_sparsify_groupmax_keeps_one_of_each_group(tmp_path: Path) -> None:
    kept = sparsify(tmp_path, activation="groupmax")
    pre = ((acts() - kept["b_dec"]) @ kept["encoder.weight"].T + kept["encoder.bias"]).relu()
    groups = [top(group, 1) for group in pre.chunk(K, dim=1)]
    torch.testing.assert_close(load_coder(str(tmp_path)).encode(acts()), torch.cat(groups, dim=1))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"activation": "relu"}, r"no activation 'relu'.*topk"),
        ({"num_latents": 41}, "num_latents 41 where the weights have 40"),
        ({"d_in": 13}, "d_in 13 where the weights have 12"),
        ({"k": "5"}, "k should be a whole number from 1, not '5'"),
        ({"k": True}, "k should be a whole number"),
        ({"signed": True, "activation": "groupmax"}, "signed groupmax"),
    ],
)
def test_sparsify_settings_that_cannot_be_honoured_are_named(
    tmp_path: Path, settings: dict[str, Any], told: str
) -> None:
    sparsify(tmp_path, **settings)
    with pytest.raises(AssetError, match=told):
        load_coder(str(tmp_path))


# dictionary_learning


def by_the_classes(kind: str, kept: Mapping[str, Tensor]) -> tuple[Tensor, Callable[..., Tensor]]:
    """Latents of `acts()`, and the decoder, as each class defines them."""
    plain = "W_enc" in kept
    W_enc = kept["W_enc"] if plain else kept["encoder.weight"].T  # noqa: N806
    W_dec = kept["W_dec"] if plain else kept["decoder.weight"].T  # noqa: N806
    bias = next(kept[n] for n in ("bias", "decoder.bias", "decoder_bias", "b_dec") if n in kept)
    b_enc = next((kept[n] for n in ("b_enc", "encoder.bias") if n in kept), torch.zeros(S))
    raw = kind in ("AutoEncoderNew", "JumpReluAutoEncoder")
    pre = (acts() if raw else acts() - bias) @ W_enc + b_enc
    if kind == "GatedAutoEncoder":
        gate = pre + kept["gate_bias"] > 0
        latents = gate * (kept["r_mag"].exp() * pre + kept["mag_bias"]).relu()
    elif kind == "AutoEncoderTopK":
        latents = top(pre.relu())
    elif "threshold" in kept:
        latents = pre.relu() * (pre > kept["threshold"])
    else:
        latents = pre.relu()
    norms = W_dec.norm(dim=1) if kind == "AutoEncoder" else torch.ones(S)
    return latents * norms, lambda z: (z / norms) @ W_dec + bias


@pytest.mark.parametrize("kind", DICTIONARIES)
def test_dictionary_learning(tmp_path: Path, kind: str) -> None:
    kept = dictionary_learning(tmp_path, kind)
    latents, decode = by_the_classes(kind, kept)
    assert 0 < (latents != 0).float().mean() < 1
    for spec in (tmp_path, tmp_path / "ae.pt"):
        coder = load_coder(str(spec))
        torch.testing.assert_close(coder.encode(acts()), latents)
        torch.testing.assert_close(coder.decode(latents), decode(latents))
        assert coder.site == "layers.3.resid_post"


def test_dictionary_learning_names_what_does_not_fit(tmp_path: Path) -> None:
    dictionary_learning(tmp_path, "AutoEncoderTopK", k=6)
    with pytest.raises(AssetError, match=r"config.json says k 6, ae.pt says 5"):
        load_coder(str(tmp_path))
    dictionary_learning(tmp_path, "AutoEncoder", dict_class="IdentityDict")
    with pytest.raises(AssetError, match=r"no dict_class 'IdentityDict'.*BatchTopKSAE"):
        load_coder(str(tmp_path))
    dictionary_learning(tmp_path, "AutoEncoder", activation_dim=7)
    with pytest.raises(AssetError, match="activation_dim 7 where the weights have 12"):
        load_coder(str(tmp_path))
    early = random_tensors({**LINEAR, "encoder.bias": (S,), "b_dec": (D,)})
    dictionary_learning(tmp_path, "BatchTopKSAE", early)
    with pytest.raises(AssetError, match="lacks threshold"):
        load_coder(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(AssetError, match="no section 'trainer'"):
        load_coder(str(tmp_path))
    (tmp_path / "config.json").unlink()
    with pytest.raises(AssetError, match=r"needs config.json beside it"):
        load_coder(str(tmp_path))


# Files that anyone may have written


class Runs:
    """What a pickle can hold: a call, made when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    kept = dictionary_learning(tmp_path / "a", "AutoEncoder")
    bad = {**kept, "extra": Runs(mark)}
    torch.save(bad, tmp_path / "a" / "ae.pt")
    with pytest.raises(AssetError, match="holds more than tensors, which could run code"):
        load_coder(str(tmp_path / "a"))
    (tmp_path / "a" / "ae.pt").write_bytes(pickle.dumps(bad))
    with pytest.raises(AssetError, match=r"ae.pt"):
        load_coder(str(tmp_path / "a"))
    assert not mark.exists()
    torch.load(io.BytesIO(_torch_bytes(bad)), weights_only=False)  # the trap itself works
    assert mark.exists()


def _torch_bytes(value: object) -> bytes:
    kept = io.BytesIO()
    torch.save(value, kept)
    return kept.getvalue()


@pytest.mark.parametrize("value", [[1, 2], {"encoder.weight": [1.0]}, torch.zeros(3), "text"])
def test_a_pt_file_of_anything_but_named_tensors_is_refused(tmp_path: Path, value: object) -> None:
    dictionary_learning(tmp_path, "AutoEncoder")
    torch.save(value, tmp_path / "ae.pt")
    with pytest.raises(AssetError, match=r"read: it holds a|in it is no tensor"):
        load_coder(str(tmp_path))


def test_objects_in_an_archive_are_refused_and_nothing_runs(tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    kept = {name: tensor.numpy() for name, tensor in gemma_scope(tmp_path).items()}
    hidden: Any = np.array([Runs(mark)], dtype=object)
    np.savez(tmp_path / "params.npz", **{**kept, "W_enc": hidden})
    with pytest.raises(AssetError, match="Object arrays cannot be loaded"):
        load_coder(str(tmp_path))
    (tmp_path / "params.npz").write_bytes(pickle.dumps(Runs(mark)))
    with pytest.raises(AssetError, match="no archive of arrays"):
        load_coder(str(tmp_path))
    assert not mark.exists()


def test_an_archive_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (%d,), }"
    with zipfile.ZipFile(tmp_path / "params.npz", "w") as archive:
        archive.writestr("W_enc.npy", (header % (1 << 60)).ljust(127) + b"\n")
    with pytest.raises(AssetError, match=r"params.npz cannot be read"):
        load_coder(str(tmp_path))


def damaged(content: bytes) -> dict[str, bytes]:
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    header["W_enc"]["shape"] = [D, S + 1]
    lied = json.dumps(header).encode()
    return {
        "empty": b"",
        "cut in the header": content[:40],
        "cut in the weights": content[:-100],
        "no header": b"\0" * 64,
        "a header larger than the file": struct.pack("<Q", 1 << 40) + content[8:],
        "a header of nonsense": struct.pack("<Q", 16) + b"not json at all!" + content[8 + length :],
        "a shape that its bytes do not fill": struct.pack("<Q", len(lied)) + lied
        + content[8 + length :],
    }  # fmt: skip


@pytest.mark.parametrize("what", list(damaged(struct.pack("<Q", 20) + b'{"W_enc": {"x": 1}} ')))
def test_a_damaged_safetensors_file_is_refused(tmp_path: Path, what: str) -> None:
    saelens(tmp_path)
    path = tmp_path / "sae_weights.safetensors"
    path.write_bytes(damaged(path.read_bytes())[what])
    with pytest.raises(AssetError, match=r"sae_weights.safetensors cannot be read"):
        load_coder(str(tmp_path))


@pytest.mark.parametrize("suffix", ["ae.pt", "params.npz"])
@pytest.mark.parametrize("kept", [0, 10, 1500])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str, kept: int) -> None:
    if suffix == "ae.pt":
        dictionary_learning(tmp_path, "AutoEncoder")
    else:
        gemma_scope(tmp_path)
    path = tmp_path / suffix
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(AssetError, match=rf"{suffix} cannot be read|holds more than tensors"):
        load_coder(str(tmp_path))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec", "threshold"])
def test_weights_that_are_not_finite_are_counted_and_refused(
    tmp_path: Path, name: str, value: float
) -> None:
    kept = random_tensors({**SAE_LENS, "threshold": (S,)})
    kept[name].view(-1)[3] = value
    saelens(tmp_path, "jumprelu", kept)
    with pytest.raises(AssetError, match=rf"{name} in .* has 1 of \d+ values that are NaN or inf"):
        load_coder(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "tensor", "told"),
    [
        ("W_enc", torch.zeros(D, S, dtype=torch.int64), "holds int64, not floating-point"),
        ("W_enc", torch.zeros(D * S), r"W_enc in .* has shape \(480,\); it should have 2 axes"),
        ("b_enc", torch.zeros(1, S), r"b_enc in .* has shape \(1, 40\); it should have 1 axis"),
        ("b_enc", torch.zeros(S + 1), r"b_enc has shape \(41,\), but W_enc \(12, 40\)"),
        ("W_dec", torch.zeros(D, S), r"W_dec has shape \(12, 40\)"),
        ("b_dec", torch.zeros(S), r"b_dec has shape \(40,\)"),
    ],
)
def test_a_tensor_of_another_kind_or_shape_is_named(
    tmp_path: Path, name: str, tensor: Tensor, told: str
) -> None:
    saelens(tmp_path, tensors={**random_tensors(SAE_LENS), name: tensor})
    with pytest.raises(AssetError, match=told):
        load_coder(str(tmp_path))


@pytest.mark.parametrize("name", ["W_enc", "b_enc", "W_dec", "b_dec"])
def test_a_missing_tensor_is_named_with_those_there_are(tmp_path: Path, name: str) -> None:
    kept = random_tensors(SAE_LENS)
    del kept[name]
    saelens(tmp_path, tensors=kept)
    with pytest.raises(AssetError, match=f"lacks {name}; it has {', '.join(sorted(kept))}"):
        load_coder(str(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\ufeff{}", "[" * 100_000])
def test_settings_that_are_no_json_object_are_refused(tmp_path: Path, text: str) -> None:
    saelens(tmp_path)
    (tmp_path / "cfg.json").write_text(text, encoding="utf-8")
    with pytest.raises(AssetError, match=r"cfg.json (cannot be read as JSON|should hold)"):
        load_coder(str(tmp_path))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_stored_in_halves_are_computed_in_float32(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    halves = {name: tensor.to(dtype) for name, tensor in random_tensors(SAE_LENS).items()}
    saelens(tmp_path, tensors=halves, dtype=str(dtype).removeprefix("torch."))
    coder = load_coder(str(tmp_path))
    assert coder.dtype is torch.float32
    kept = {name: tensor.float() for name, tensor in halves.items()}
    expected = ((acts() - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]).relu()
    torch.testing.assert_close(coder.encode(acts()), expected)
    assert load_coder(str(tmp_path), dtype=dtype).dtype is dtype


# Names


def test_a_coder_of_another_width_is_refused_with_both_widths_and_its_site(tmp_path: Path) -> None:
    saelens(tmp_path / "mine", metadata={"hook_name": "blocks.3.hook_resid_post",
                                         "model_name": "tiny"})  # fmt: skip
    assert load_coder(str(tmp_path / "mine"), d_in=D).d_in == D
    told = r"mine reads vectors of 12, trained at layers.3.resid_post of tiny; .* has 576"
    with pytest.raises(ConfigError, match=told):
        load_coder(str(tmp_path / "mine"), d_in=576)


def test_a_folder_without_a_coder_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"holds no coder.*sae_weights.safetensors \(SAELens\)"):
        load_coder(str(tmp_path))
    sparsify(tmp_path / "layers.5")
    sparsify(tmp_path / "layers.6.mlp")
    with pytest.raises(AssetError, match=r"holds 2 coders.*layers.5, layers.6.mlp"):
        load_coder(str(tmp_path))
    (tmp_path / "sae_weights.safetensors").write_bytes(b"")
    with pytest.raises(AssetError, match=r"needs cfg.json beside it"):
        load_coder(str(tmp_path))
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(AssetError, match=r"model.bin is no coder's weight file"):
        load_coder(str(tmp_path / "model.bin"))


@pytest.mark.parametrize(
    "spec", ["", "defaults", "no/such/thing", "nowhere/ae.pt", "../x", "a/b:", "x" * 5000, "\0"]
)
def test_a_name_of_nothing_says_what_names_there_are(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"no coder is called .*give default"):
        load_coder(spec, offline=True)


def test_a_hub_coder_fetched_before_is_read_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = pytest.importorskip("huggingface_hub")
    fetch = functools.partial(hub.snapshot_download, cache_dir=tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", fetch)
    repository, commit = tmp_path / "models--someone--coders", "a" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    saelens(repository / "snapshots" / commit / "deep" / "layer_3")
    coder = load_coder("someone/coders:deep/layer_3", offline=True)
    assert coder.name == "someone/coders:deep/layer_3"
    assert coder.metadata["hub_revision"] == commit
    with pytest.raises(AssetError, match=r"folder 'shallow' of someone/coders holds no coder"):
        load_coder("someone/coders:shallow", offline=True)
    with pytest.raises(
        AssetError, match=r"someone/other is not on this machine.*--offline forbids"
    ):
        load_coder("someone/other", offline=True)
    with pytest.raises(AssetError, match="is no folder inside"):
        load_coder("someone/coders:../x", offline=True)


def test_only_files_of_known_names_are_fetched_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def fetched(repo: str, **named: Any) -> str:
        asked.append((repo, named))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    monkeypatch.setattr(
        "huggingface_hub.HfApi.list_repo_files",
        lambda self, repo: ["b/sae.safetensors", "a/ae.pt", "a/config.json", "README.md"],
    )
    with pytest.raises(AssetError, match=r"there are 2, such as o/n:a, o/n:b"):
        load_coder("o/n:c")
    assert asked == [("o/n", {"allow_patterns": [f"c/{f}" for f in FILES],
                              "local_files_only": False})]  # fmt: skip
    assert {Path(name).suffix for name in FILES} == {".safetensors", ".npz", ".json", ".pt"}
    assert [name for name in FILES if name.endswith(".pt")] == ["ae.pt"]
    saelens(tmp_path)
    assert load_coder("o/n").name == "o/n"


def test_an_entry_of_saelens_list_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(ConfigError, match=r"pip install 'glossator\[sae\]'"):
        load_coder("sae_lens:release/blocks.3.hook_resid_post")
    with pytest.raises(ConfigError, match="should look like sae_lens:RELEASE/ID"):
        load_coder("sae_lens:release")
    with pytest.raises(AssetError, match="--offline forbids"):
        load_coder("sae_lens:release/x", offline=True)


def test_an_entry_of_saelens_list_is_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = random_tensors(SAE_LENS)
    config = {"architecture": "standard", "d_in": D, "d_sae": S, "apply_b_dec_to_input": True,
              "metadata": {"hook_name": "blocks.3.hook_resid_pre"}}  # fmt: skip

    def from_pretrained(release: str, sae_id: str, device: str) -> Any:
        if release != "release":
            raise ValueError(f"Release {release} not found")
        return types.SimpleNamespace(
            cfg=types.SimpleNamespace(to_dict=lambda: config), state_dict=lambda: kept
        )

    package = types.ModuleType("sae_lens")
    package.SAE = types.SimpleNamespace(from_pretrained=from_pretrained)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sae_lens", package)
    coder = load_coder("sae_lens:release/layer_3/width_16k")
    assert (coder.name, coder.site) == ("release/layer_3/width_16k", "layers.3.resid_pre")
    assert len(coder.digest) == 16
    expected = ((acts() - kept["b_dec"]) @ kept["W_enc"] + kept["b_enc"]).relu()
    torch.testing.assert_close(coder.encode(acts()), expected)
    with pytest.raises(AssetError, match="could not be had: ValueError: Release other not found"):
        load_coder("sae_lens:other/x")


def test_the_bundled_coder_is_there_or_said_to_be_missing() -> None:
    try:
        coder = load_coder("default")
    except AssetError as error:
        assert "the bundled coder is not in this installation" in str(error)  # noqa: PT017
    else:
        assert (coder.name, coder.site) == ("default", "layers.14.resid_post")
        assert (coder.d_in, coder.d_sae) == (576, 4608)


# Against the packages themselves, where they are installed

quietly = pytest.mark.filterwarnings("ignore")


def agree(coder: SparseCoder, x: Tensor, latents: Tensor, decoded: Tensor) -> None:
    torch.testing.assert_close(coder.encode(x), latents.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(coder.decode(latents, x), decoded.detach(), rtol=1e-5, atol=1e-5)


@quietly
@pytest.mark.parametrize("norm", ["none", "layer_norm", "constant_norm_rescale"])
@pytest.mark.parametrize(
    "architecture",
    ["standard", "gated", "topk", "abstopk", "jumprelu", "transcoder", "jumprelu_skip_transcoder"],
)
def test_saelens_agrees(tmp_path: Path, architecture: str, norm: str) -> None:
    package = pytest.importorskip("sae_lens", exc_type=ImportError)
    named: dict[str, Any] = {"rescale_acts_by_decoder_norm": True} if "topk" in architecture else {}
    saelens(tmp_path, architecture, normalize_activations=norm, **named)
    reference = package.SAE.load_from_disk(str(tmp_path))
    with torch.no_grad():
        latents = reference.encode(acts())
        skips = "skip" in architecture
        decoded = reference.forward(acts()) if skips else reference.decode(latents)
    agree(load_coder(str(tmp_path)), acts(), latents, decoded)


@quietly
def test_saelens_reads_what_is_saved_here(tmp_path: Path) -> None:
    package = pytest.importorskip("sae_lens", exc_type=ImportError)
    from glossator.sae.saving import save_saelens

    saelens(tmp_path / "a", "jumprelu")
    coder = load_coder(str(tmp_path / "a"))
    save_saelens(coder, tmp_path / "b", torch.float32)
    reference = package.SAE.load_from_disk(str(tmp_path / "b"))
    with torch.no_grad():
        latents = reference.encode(acts())
        agree(coder, acts(), latents, reference.decode(latents))


@quietly
@pytest.mark.parametrize("rule", ["topk", "groupmax"])
@pytest.mark.parametrize("transcode", [False, True])
def test_sparsify_agrees(tmp_path: Path, rule: str, transcode: bool) -> None:
    package = pytest.importorskip("sparsify", exc_type=ImportError)
    sparsify(tmp_path, activation=rule, transcode=transcode, skip_connection=transcode)
    reference = package.SparseCoder.load_from_disk(tmp_path)
    with torch.no_grad():
        values, index, _ = reference.encode(acts())
        latents = torch.zeros(len(acts()), S).scatter_(-1, index, values)
        decoded = reference.decode(values, index)
        if transcode:
            decoded = decoded + acts() @ reference.W_skip.mT
    agree(load_coder(str(tmp_path)), acts(), latents, decoded)


@quietly
@pytest.mark.parametrize("kind", DICTIONARIES)
def test_dictionary_learning_agrees(tmp_path: Path, kind: str) -> None:
    package = pytest.importorskip("dictionary_learning.utils", exc_type=ImportError)
    dictionary_learning(tmp_path, kind)
    reference, _ = package.load_dictionary(str(tmp_path), "cpu")
    with torch.no_grad():
        latents = reference.encode(acts())
        agree(load_coder(str(tmp_path)), acts(), latents, reference.decode(latents))

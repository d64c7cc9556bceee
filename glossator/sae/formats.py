"""The layouts that coders are published in, and what each one's settings mean.

A reader takes settings, weights and the folder they lie in, and gives a `SparseCoder` on the CPU,
in float32. What it cannot honour it refuses by name, for a coder read slightly wrongly looks right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from glossator.assets.download import sha256_of
from glossator.errors import AssetError
from glossator.registry import nearest
from glossator.sae.coder import Activation, Normalisation, SparseCoder
from glossator.sae.sites import site_of
from glossator.sae.weights import Weights, read_config, read_weights

Config = Mapping[str, Any]
Reader = Callable[[Config, Weights, Path], SparseCoder]
"""From settings, tensors and the folder they lie in."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one library lays a coder out in a folder."""

    name: str
    weights: str
    """Name of the weight file."""
    config: str | None
    """Name of the settings file; None where the weights say all."""
    read: Reader


def read_folder(folder: Path) -> SparseCoder:
    """The coder in a folder, its layout known by its files; its name is the folder's.

    Raises:
        AssetError: if there is none, or it cannot be read as its layout says.
    """
    for layout in LAYOUTS:
        if (folder / layout.weights).is_file():
            return _read(layout, folder, folder / layout.weights)
    within = sorted(
        {
            path.parent.relative_to(folder).as_posix()
            for layout in LAYOUTS
            for depth in (1, 2, 3)
            for path in folder.glob("*/" * depth + layout.weights)
        }
    )
    if within:
        shown = ", ".join(within[:8]) + (", ..." if len(within) > 8 else "")
        raise AssetError(f"{folder} holds {len(within)} coders; name one of them: {shown}")
    raise AssetError(f"{folder} holds no coder: it needs {describe_layouts()}")


def read_file(path: Path) -> SparseCoder:
    """The coder in a weight file whose settings, if it needs any, lie beside it.

    Raises:
        AssetError: if it cannot be read as the layout that its name tells.
    """
    for layout in LAYOUTS:
        if path.name == layout.weights:
            return _read(layout, path.parent, path)
    if path.suffix == ".npz":
        return replace(_read(_GEMMA_SCOPE, path.parent, path), name=path.stem)
    raise AssetError(f"{path.name} is no coder's weight file; there are {describe_layouts()}")


def describe_layouts() -> str:
    """The files of each layout, for messages."""
    return "; ".join(
        f"{f'{layout.config} and ' if layout.config else ''}{layout.weights} ({layout.name})"
        for layout in LAYOUTS
    )


def _read(layout: Layout, folder: Path, weights: Path) -> SparseCoder:
    config: Config = {}
    if layout.config is not None:
        if not (folder / layout.config).is_file():
            raise AssetError(
                f"{weights} needs {layout.config} beside it, the settings of {layout.name}"
            )
        config = read_config(folder / layout.config)
    coder = layout.read(config, read_weights(weights), folder)
    return replace(coder, name=folder.name, digest=sha256_of(weights)[:16])


def read_saelens(config: Config, weights: Weights, folder: Path) -> SparseCoder:
    """SAELens: the layout of release 6, and of those before, which had no `metadata`.

    `batchtopk` and `matryoshka_batchtopk` are its training checkpoints; what it saves for use is
    `jumprelu`.
    """
    source = str(folder)
    metadata = config.get("metadata")
    about: Config = metadata if isinstance(metadata, Mapping) else _renamed(config)
    architecture = config.get("architecture", "standard")
    rule = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    if rule == "topk" and architecture == "standard":
        architecture = "topk"
    elif rule != "relu" and (rule, architecture) not in (("topk", "topk"), ("topk", "abstopk")):
        raise AssetError(
            f"{source}: activation_fn {rule!r} of architecture {architecture!r} cannot be "
            "honoured; relu can, and topk of a standard one"
        )
    if not isinstance(architecture, str) or architecture not in _SAELENS:
        raise AssetError(
            f"{source}: no architecture {architecture!r} is read; "
            + nearest(str(architecture), list(_SAELENS))
        )
    activation = _SAELENS[architecture]
    transcodes = architecture.endswith("transcoder")
    _refuse_saelens(config, about, weights, transcodes, source)
    coder = _build(
        source,
        architecture=str(about.get("trained_as") or architecture),
        activation=activation,
        W_enc=weights.take("W_enc", dims=(2,)),
        b_enc=weights.take("b_gate" if activation == "gated" else "b_enc"),
        W_dec=weights.take("W_dec", dims=(2,)),
        b_dec=weights.take("b_dec"),
        threshold=_saelens_threshold(weights) if activation == "jumprelu" else None,
        k=_saelens_k(config, source) if activation in ("topk", "abstopk") else None,
        r_mag=weights.take("r_mag") if activation == "gated" else None,
        b_mag=weights.take("b_mag") if activation == "gated" else None,
        W_skip=weights.take("W_skip", dims=(2,)) if "skip" in architecture else None,
        apply_b_dec_to_input=_flag(config, "apply_b_dec_to_input", not transcodes, source),
        normalisation=_saelens_normalisation(config),
        transcodes=transcodes,
        site=_hooked_site(about, "hook_name"),
        site_out=_hooked_site(about, "hook_name_out") if transcodes else None,
        metadata={**about},
    )
    claimed = {"d_in": coder.d_in, "d_sae": coder.d_sae}
    _check_sizes(config, claimed | ({"d_out": coder.d_out} if transcodes else {}), source)
    rescales = architecture in ("topk", "abstopk", "batchtopk", "matryoshka_batchtopk")
    if rescales and _flag(config, "rescale_acts_by_decoder_norm", False, source):
        coder = _with_unit_decoder(coder)
    if config.get("normalize_activations") in ("expected_average_only_in", True):
        coder = _with_input_scaled(coder, _scaling_factor(folder))
    return coder


def read_gemma_scope(config: Config, weights: Weights, folder: Path) -> SparseCoder:
    """Gemma Scope (Lieberum et al. 2024, arXiv:2408.05147): JumpReLU, nothing taken off the input.

    Its second release, in safetensors, has the same tensors in lower case and settings beside them,
    which are kept but not needed. The site is in the path, if anywhere.
    """
    path = "/".join(folder.resolve().parts[-6:])  # from the hub's repository on, in its cache
    transcodes = "transcoder" in path or "affine_skip_connection" in weights
    layer = re.search(r"layer_(\d+)", path)
    kinds = {
        r"-res\b|resid_post": "resid_post",
        r"-att\b|attn_out": "attn.z",
        r"-mlp\b|mlp_out": "mlp.out",
    }
    part = next((part for sign, part in kinds.items() if re.search(sign, path)), None)
    known = layer and part and not transcodes and "embedding" not in path
    skip = weights.find("affine_skip_connection", dims=(2,))  # (d_in, d_out)
    return _build(
        weights.source,
        architecture="transcoder" if transcodes else "jumprelu",
        activation="jumprelu",
        W_enc=weights.take("W_enc", "w_enc", dims=(2,)),
        b_enc=weights.take("b_enc"),
        W_dec=weights.take("W_dec", "w_dec", dims=(2,)),
        b_dec=weights.take("b_dec"),
        threshold=weights.take("threshold"),
        W_skip=None if skip is None else skip.T,
        transcodes=transcodes,
        site=f"layers.{layer[1]}.{part}" if layer and known else None,
        metadata=dict(config),
    )


def read_sparsify(config: Config, weights: Weights, folder: Path) -> SparseCoder:
    """EleutherAI's sparsify: top-k by token, the encoder stored as a linear layer's weight.

    The decoder bias is taken off the input unless it transcodes. `signed`, of early releases, ranks
    by magnitude; `groupmax` keeps the largest of each of k groups.
    """
    source = str(folder)
    rule = config.get("activation", "topk")
    if rule not in ("topk", "groupmax"):
        raise AssetError(f"{source}: no activation {rule!r} is read; there are: groupmax, topk")
    signed = _flag(config, "signed", False, source)
    if signed and rule == "groupmax":
        raise AssetError(f"{source}: signed groupmax is not defined")
    transcodes = _flag(config, "transcode", False, source)
    skip = _flag(config, "skip_connection", False, source)
    encoder = weights.take("encoder.weight", dims=(2,))  # (d_sae, d_in)
    site = _module_site(folder.name)
    activation: Activation = "abstopk" if signed else "groupmax" if rule == "groupmax" else "topk"
    coder = _build(
        source,
        architecture="skip_transcoder" if transcodes and skip
        else "transcoder" if transcodes else activation,
        activation=activation,
        W_enc=encoder.T,
        b_enc=weights.take("encoder.bias"),
        W_dec=weights.take("W_dec", dims=(2,)),
        b_dec=weights.take("b_dec"),
        k=_count(config, "k", source),
        W_skip=weights.take("W_skip", dims=(2,)) if skip else None,
        apply_b_dec_to_input=not transcodes,
        transcodes=transcodes,
        # A transcoder of a module reads that module's input, which is no site of ours.
        site=None if transcodes else site,
        site_out=site if transcodes else None,
        metadata={**config, "hookpoint": folder.name},
    )  # fmt: skip
    sizes = {"d_in": coder.d_in}
    if config.get("num_latents"):
        sizes["num_latents"] = coder.d_sae
    elif "expansion_factor" in config:
        sizes["expansion_factor"] = coder.d_sae // coder.d_in
    _check_sizes(config, sizes, source)
    return coder


def read_dictionary_learning(config: Config, weights: Weights, folder: Path) -> SparseCoder:
    """dictionary_learning: a class named in the settings, whose `state_dict` is the weights.

    Linear layers store their weights the other way round, the rest does not. Each class has its own
    bias rule: `AutoEncoderNew` and `JumpReluAutoEncoder` take nothing off the input. The decoder of
    an `AutoEncoder` is brought to unit norm, as that library does when it loads one.
    """
    source = str(folder)
    trainer = config.get("trainer")
    if not isinstance(trainer, Mapping):
        raise AssetError(f"{source}: config.json has no section 'trainer', which names the class")
    kind = trainer.get("dict_class")
    if not isinstance(kind, str) or kind not in _DICTIONARY_LEARNING:
        raise AssetError(
            f"{source}: no dict_class {kind!r} is read; "
            + nearest(str(kind), list(_DICTIONARY_LEARNING))
        )
    architecture, activation, bias, takes_bias_off = _DICTIONARY_LEARNING[kind]
    plain = kind in ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE")
    if plain:
        W_enc = weights.take("W_enc", dims=(2,))  # noqa: N806
        W_dec = weights.take("W_dec", dims=(2,))  # noqa: N806
    else:
        W_enc = weights.take("encoder.weight", dims=(2,)).T  # noqa: N806
        W_dec = weights.take("decoder.weight", dims=(2,)).T  # noqa: N806
    gated = activation == "gated"
    encoder_bias = "gate_bias" if gated else "b_enc" if plain else "encoder.bias"
    threshold = None
    if activation == "jumprelu":
        one = weights.take("threshold", dims=(0, 1))
        threshold = one.expand(W_enc.shape[1]) if one.dim() == 0 else one
    coder = _build(
        source,
        architecture=architecture,
        activation=activation,
        W_enc=W_enc,
        b_enc=weights.take(encoder_bias),
        W_dec=W_dec,
        b_dec=weights.take(bias),
        threshold=threshold,
        k=_agreed_k(trainer, weights, source) if activation == "topk" else None,
        r_mag=weights.take("r_mag") if gated else None,
        b_mag=weights.take("mag_bias") if gated else None,
        apply_b_dec_to_input=takes_bias_off,
        site=_submodule_site(trainer.get("submodule_name")),
        metadata=dict(trainer),
    )
    _check_sizes(trainer, {"activation_dim": coder.d_in, "dict_size": coder.d_sae}, source)
    norms = coder.W_dec.norm(dim=1)
    if kind == "AutoEncoder" and not torch.allclose(norms, torch.ones_like(norms)):
        coder = _with_unit_decoder(coder)
    return coder


_GEMMA_SCOPE = Layout("Gemma Scope", "params.npz", None, read_gemma_scope)

LAYOUTS = (
    Layout("SAELens", "sae_weights.safetensors", "cfg.json", read_saelens),
    Layout("sparsify", "sae.safetensors", "cfg.json", read_sparsify),
    _GEMMA_SCOPE,
    Layout("Gemma Scope 2", "params.safetensors", "config.json", read_gemma_scope),
    Layout("dictionary_learning", "ae.pt", "config.json", read_dictionary_learning),
)
"""All layouts; where a folder has the weights of several, the first counts."""

_SAELENS: Mapping[str, Activation] = MappingProxyType(
    {
        "standard": "relu",
        "gated": "gated",
        "topk": "topk",
        "abstopk": "abstopk",
        "jumprelu": "jumprelu",
        "batchtopk": "jumprelu",
        "matryoshka_batchtopk": "jumprelu",
        "transcoder": "relu",
        "skip_transcoder": "relu",
        "jumprelu_transcoder": "jumprelu",
        "jumprelu_skip_transcoder": "jumprelu",
    }
)
"""SAELens' architectures that are read, and how each computes."""

_DICTIONARY_LEARNING: Mapping[str, tuple[str, Activation, str, bool]] = MappingProxyType(
    {
        "AutoEncoder": ("standard", "relu", "bias", True),
        "AutoEncoderNew": ("standard", "relu", "decoder.bias", False),
        "GatedAutoEncoder": ("gated", "gated", "decoder_bias", True),
        "AutoEncoderTopK": ("topk", "topk", "b_dec", True),
        "BatchTopKSAE": ("batchtopk", "jumprelu", "b_dec", True),
        "MatryoshkaBatchTopKSAE": ("matryoshka", "jumprelu", "b_dec", True),
        "JumpReluAutoEncoder": ("jumprelu", "jumprelu", "b_dec", False),
    }
)
"""Classes of dictionary_learning: architecture, activation, the decoder bias's name, and whether
that is taken off the input."""


def _build(source: str, **parts: Any) -> SparseCoder:
    """A coder of these parts; what does not fit is told with the file's name."""
    try:
        return SparseCoder(name=source, **parts)
    except ValueError as error:
        raise AssetError(f"{source}: {error}") from error


def _with_unit_decoder(coder: SparseCoder) -> SparseCoder:
    """The same function with decoder vectors of norm 1 and latents in units of what they write."""
    norms = coder.W_dec.norm(dim=1).clamp(min=1e-8)  # (d_sae,)
    return replace(
        coder,
        W_enc=coder.W_enc * norms,
        b_enc=coder.b_enc * norms,
        W_dec=coder.W_dec / norms[:, None],
    )


def _with_input_scaled(coder: SparseCoder, factor: float) -> SparseCoder:
    """The coder that takes raw inputs, of one trained on inputs times `factor`."""
    return replace(
        coder,
        W_enc=coder.W_enc * factor,
        W_dec=coder.W_dec / factor,
        b_dec=coder.b_dec / factor,
    )


def _refuse_saelens(
    config: Config, about: Config, weights: Weights, transcodes: bool, source: str
) -> None:
    """Names the settings of SAELens that no coder here can honour."""
    shape = config.get("reshape_activations", "none")
    if shape not in ("none", "hook_z", None):
        raise AssetError(f"{source}: reshape_activations {shape!r} is not read; hook_z is")
    norm = config.get("normalize_activations", "none")
    known = ("none", None, False, True, "expected_average_only_in", *_SAELENS_NORMS)
    if norm not in known:
        raise AssetError(
            f"{source}: normalize_activations {norm!r} cannot be honoured; these can: none, "
            f"expected_average_only_in, {', '.join(_SAELENS_NORMS)}. Save the coder for inference, "
            "which folds it into the weights"
        )
    if transcodes and norm in (True, "expected_average_only_in"):
        raise AssetError(
            f"{source}: normalize_activations {norm!r} of a transcoder is not read: only its "
            "input's scale is known"
        )
    head = about.get("hook_head_index")
    if head is not None:
        raise AssetError(
            f"{source} reads head {head} of {about.get('hook_name')} alone; coders of whole sites "
            "are read"
        )
    scale = weights.find("scaling_factor", "finetuning_scaling_factor")
    if scale is not None and not torch.allclose(scale, torch.ones_like(scale)):
        raise AssetError(
            f"{source}: finetuning_scaling_factor is not read; multiply the rows of W_dec by it"
        )


_SAELENS_NORMS: tuple[Normalisation, ...] = ("layer_norm", "constant_norm_rescale")


def _saelens_normalisation(config: Config) -> Normalisation:
    norm = config.get("normalize_activations")
    return next((known for known in _SAELENS_NORMS if known == norm), "none")


def _saelens_threshold(weights: Weights) -> Tensor:
    """Of `jumprelu`, by latent; training checkpoints keep one number, early ones its logarithm."""
    common = weights.number("topk_threshold")
    if common is not None:
        return torch.full_like(weights.take("b_enc"), common)
    logarithm = weights.find("log_threshold")
    return weights.take("threshold") if logarithm is None else logarithm.exp()


def _saelens_k(config: Config, source: str) -> int:
    early = config.get("activation_fn_kwargs")
    return _count(config if config.get("k") or not isinstance(early, Mapping) else early, "k",
                  source)  # fmt: skip


def _scaling_factor(folder: Path) -> float:
    """What a training checkpoint's inputs were multiplied by; it is kept beside the weights."""
    path = folder / "activation_scaler.json"
    factor = read_config(path).get("scaling_factor") if path.is_file() else None
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 0:
        raise AssetError(
            f"{folder} was trained on inputs brought to a common scale (normalize_activations "
            "expected_average_only_in), and the factor is not known: put it into "
            '{"scaling_factor": ...} in activation_scaler.json, or, if the weights have it folded '
            'in, set normalize_activations to "none" in cfg.json'
        )
    return float(factor)


def _renamed(config: Config) -> Config:
    """Settings of SAELens before release 6 under the names of that release."""
    return {_EARLY_NAMES.get(name, name): value for name, value in config.items()}


_EARLY_NAMES = MappingProxyType(
    {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index"}
)


def _hooked_site(about: Config, key: str) -> str | None:
    hook = about.get(key)
    return site_of(hook) if isinstance(hook, str) else None


def _module_site(name: str) -> str | None:
    """Our name of what a module of this path puts out, such as `layers.5.mlp`."""
    match = re.fullmatch(r"(?:.*\.)?(?:layers|h|blocks)\.(\d+)(?:\.(\w+))?", name)
    parts = {None: "resid_post", "mlp": "mlp.out"}
    parts |= dict.fromkeys(("attn", "self_attn", "attention"), "attn.out")
    return f"layers.{match[1]}.{parts[match[2]]}" if match and match[2] in parts else None


def _submodule_site(name: Any) -> str | None:
    match = re.fullmatch(r"(resid_pre|resid_post)_layer_(\d+)", str(name))
    return f"layers.{match[2]}.{match[1]}" if match else None


def _agreed_k(trainer: Config, weights: Weights, source: str) -> int:
    """How many latents fire: the settings and the weights both tell, and must not differ."""
    stored = weights.number("k")
    if stored is None:
        return _count(trainer, "k", source)
    if "k" in trainer and trainer["k"] != stored:
        raise AssetError(f"{source}: config.json says k {trainer['k']}, ae.pt says {stored:g}")
    return int(stored)


def _check_sizes(config: Config, sizes: Mapping[str, int], source: str) -> None:
    """Refuses settings that claim other sizes than the tensors have."""
    wrong = [
        f"{name} {config[name]!r} where the weights have {size}"
        for name, size in sizes.items()
        if config.get(name) is not None and config[name] != size
    ]
    if wrong:
        raise AssetError(f"{source}: the settings say {', '.join(wrong)}: they belong to another")


def _count(config: Config, name: str, source: str) -> int:
    value = config.get(name)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise AssetError(f"{source}: {name} should be a whole number from 1, not {value!r}")
    return value


def _flag(config: Config, name: str, default: bool, source: str) -> bool:
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise AssetError(f"{source}: {name} should be true or false, not {value!r}")
    return value

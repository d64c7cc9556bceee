"""A coder written in the layout of SAELens, which it and others read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from glossator.errors import ConfigError, Unsupported
from glossator.sae.coder import Activation, SparseCoder
from glossator.sae.sites import hook_name

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
LAYOUT_VERSION = "6.0.0"
"""The release of SAELens whose layout is written; its readers tell old layouts by it."""

_ARCHITECTURES: Mapping[tuple[Activation, bool, bool], str] = MappingProxyType(
    {
        ("relu", False, False): "standard",
        ("gated", False, False): "gated",
        ("topk", False, False): "topk",
        ("abstopk", False, False): "abstopk",
        ("jumprelu", False, False): "jumprelu",
        ("relu", True, False): "transcoder",
        ("relu", True, True): "skip_transcoder",
        ("jumprelu", True, False): "jumprelu_transcoder",
        ("jumprelu", True, True): "jumprelu_skip_transcoder",
    }
)
"""SAELens' name for an activation, whether it transcodes, and whether it has a skip connection."""


def save_saelens(
    coder: SparseCoder,
    folder: Path | str,
    dtype: torch.dtype = torch.float16,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Writes `cfg.json` and `sae_weights.safetensors`; `load_coder(folder)` gives the coder back.

    Matrices are kept in `dtype`, vectors in float32, for they cost little and thresholds decide.
    Each file appears whole or not at all. Equal coders give equal bytes.

    Args:
        coder: the coder, on any device.
        folder: made if it is not there; files of these names in it are replaced.
        dtype: `torch.float16`, `torch.bfloat16` or `torch.float32`.
        metadata: what `coder.metadata` of the coder read back has besides; plain JSON values.

    Returns:
        The path of the weight file.

    Raises:
        Unsupported: for a coder that SAELens has no layout for.
        ConfigError: if a weight is not finite, or not in `dtype`.
    """
    architecture = _ARCHITECTURES.get(
        (coder.activation, coder.transcodes, coder.W_skip is not None)
    )
    if architecture is None or (coder.transcodes and coder.apply_b_dec_to_input):
        kind = "a skip transcoder" if coder.W_skip is not None else "a transcoder"
        raise Unsupported(
            f"SAELens has no layout for coder {coder.name}: {coder.activation} as "
            f"{kind if coder.transcodes else 'an autoencoder'}; it knows "
            + ", ".join(sorted(set(_ARCHITECTURES.values())))
        )
    tensors = {name: _stored(name, tensor, dtype) for name, tensor in _tensors(coder).items()}
    known = {
        "sae_lens_version": LAYOUT_VERSION,
        "sae_lens_training_version": None,
        "hook_name": hook_name(coder.site) if coder.site else None,
        "hook_name_out": hook_name(coder.site_out) if coder.site_out else None,
        "site": coder.site,
        "site_out": coder.site_out,
        "trained_as": coder.architecture,
    }
    config = {
        "architecture": architecture,
        "d_in": coder.d_in,
        "d_sae": coder.d_sae,
        **({"d_out": coder.d_out} if coder.transcodes else {}),
        **({"k": coder.k, "rescale_acts_by_decoder_norm": False} if coder.k else {}),
        "dtype": "float32",  # what to compute in, whatever is stored
        "device": "cpu",
        "apply_b_dec_to_input": coder.apply_b_dec_to_input,
        "normalize_activations": coder.normalisation,
        "reshape_activations": "none",
        "metadata": {
            **{name: value for name, value in known.items() if value is not None},
            **dict(metadata or {}),
        },
    }
    text = json.dumps(config, indent=2, sort_keys=True, allow_nan=False) + "\n"
    from safetensors.torch import save

    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    _write(where / WEIGHTS_FILE, save(tensors))
    _write(where / CONFIG_FILE, text.encode())
    return where / WEIGHTS_FILE


def _tensors(coder: SparseCoder) -> dict[str, Tensor]:
    """The coder's tensors under SAELens' names."""
    gated = coder.activation == "gated"
    named = {
        "W_enc": coder.W_enc,
        "b_gate" if gated else "b_enc": coder.b_enc,
        "W_dec": coder.W_dec,
        "b_dec": coder.b_dec,
        "threshold": coder.threshold if coder.activation == "jumprelu" else None,
        "r_mag": coder.r_mag if gated else None,
        "b_mag": coder.b_mag if gated else None,
        "W_skip": coder.W_skip,
    }
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def _stored(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    kind = dtype if tensor.dim() == 2 else torch.float32
    kept = tensor.detach().to("cpu", kind).contiguous()
    if not bool(torch.isfinite(kept).all()):
        raise ConfigError(
            f"{name} has values that are not finite in {str(kind).removeprefix('torch.')}; "
            "save it as float32, or find out why"
        )
    return kept


def _write(path: Path, content: bytes) -> None:
    """Writes the whole file or none of it."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)

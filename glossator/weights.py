"""Weights and tokenizers as `transformers` loads them: from files that run no code, or an error."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from glossator.assets.quiet import quiet
from glossator.errors import AssetError


def load_pair(
    source: str, dtype: torch.dtype, *, gguf: str | None = None, local_only: bool = True
) -> tuple[Any, Any]:
    """The causal language model at `source`, in evaluation mode on the CPU, and its tokenizer.

    Args:
        source: a folder, or a hub id with its owner.
        dtype: what the weights are kept in.
        gguf: name of a GGUF file in that folder; its weights are dequantized.
        local_only: never try the network.

    Raises:
        AssetError: if they cannot be had, are malformed or pickled, or if some are missing, which
            `transformers` would make up.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place: dict[str, Any] = {"local_files_only": local_only}
    if gguf:
        place["gguf_file"] = gguf
    how: dict[str, Any] = {"quantization_config": GgufConfig(dequantize=True)} if gguf else {}
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, **place)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, use_safetensors=True, output_loading_info=True, **place, **how
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first = str(error).strip().partition("\n")[0]
        raise AssetError(f"the model {source} could not be loaded: {first}") from error
    model, found = loaded
    if missing := sorted(map(str, found["missing_keys"])):
        raise AssetError(
            f"the weights of {source} are not whole: {missing[0]}"
            + (f" and {len(missing) - 1} more are" if missing[1:] else " is")
            + " missing; get the files again"
        )
    return model.eval(), tokenizer


def digest_of(files: Sequence[Path]) -> str:
    """The first 16 hex digits of the SHA-256 of the files' bytes, one after the other."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def hub_answers() -> bool:
    """Whether the hub can be reached at all; its own client would try for half a minute."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return False
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=5).close()  # noqa: S310
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True

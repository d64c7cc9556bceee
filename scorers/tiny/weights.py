"""The network's weights: the encoder's, fetched once, and what training changed, shipped here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from torch import Tensor

from glossator.assets import model_folder
from glossator.device import pick_dtype
from glossator.errors import AssetError
from glossator.scorers.tiny.network import Lower, Upper, halves

SHIPPED = "tiny.safetensors"


@dataclass(frozen=True)
class Network:
    """Both halves, ready to use, with the tokenizer of the encoder."""

    tokenizer: Any
    lower: Lower
    upper: Upper
    slope: float = 1.0
    shift: float = 0.0
    """What the logit of firing is multiplied by, and what is added, so that it is calibrated."""


def base_weights(offline: bool = False) -> tuple[Any, dict[str, Tensor]]:
    """The encoder's tokenizer and its weights.

    Raises:
        AssetError: if they could not be had.
    """
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    folder = model_folder("embedder", offline=offline)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, load_file(folder / "model.safetensors")


def save_trained(upper: Upper, path: Path, about: Mapping[str, object]) -> None:
    """Writes what training changed, in 16 bits, with a note of how it came to be."""
    from safetensors.torch import save_file

    tensors = {name: p.detach().half().contiguous() for name, p in upper.state_dict().items()}
    save_file(tensors, path, {"about": json.dumps(dict(about))})


def load_trained(upper: Upper, path: Path) -> dict[str, Any]:
    """Fills `upper` from a file that `save_trained` wrote; returns the note.

    Raises:
        AssetError: if it is no such file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            about = json.loads((file.metadata() or {}).get("about", "{}"))
        upper.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        first = str(error).strip().partition("\n")[0]
        raise AssetError(f"{path} holds no weights of the simulator tiny: {first}") from error
    return dict(about)


def shipped(offline: bool = False, device: str = "cpu", dtype: str = "auto") -> Network:
    """The network of this installation; by default in 16 bits where the processor has them.

    Raises:
        AssetError: if the encoder could not be had, or the installation is not whole.
    """
    with as_file(files("glossator.scorers.tiny") / SHIPPED) as path:
        if not path.is_file():
            raise AssetError(
                f"the weights of the simulator tiny are not in this installation ({path} is "
                "missing): install glossator again, or take another simulator"
            )
        return network_of(path, offline, device, dtype)


def network_of(
    path: Path, offline: bool = False, device: str = "cpu", dtype: str = "auto"
) -> Network:
    """The network with the trained weights at `path`.

    Raises:
        AssetError: if they or the encoder could not be had.
    """
    tokenizer, base = base_weights(offline)
    lower, upper = halves(base)
    about = load_trained(upper, path)
    upper.requires_grad_(False).eval()
    kind = pick_dtype(dtype, device)
    slope, shift = (
        float(about.get(name, default)) for name, default in (("slope", 1.0), ("shift", 0.0))
    )
    return Network(tokenizer, lower.to(device, kind), upper.to(device, kind), slope, shift)

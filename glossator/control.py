"""The control: the same subject with random weights, on which nothing was learned.

An explanation method that scores as well there explains the architecture and the text, and not what
the model has learned (Heap et al. 2025, "Sparse autoencoders can interpret randomly initialized
transformers").
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import torch

from glossator.errors import ConfigError
from glossator.subject import Subject, load_subject

RANDOM_WEIGHTS = "random-weights"


def load_control(
    name: str,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "auto",
    offline: bool = False,
) -> Subject:
    """The subject called `name`, each of its weights drawn anew.

    A parameter's numbers are drawn from the normal distribution with the mean and the standard
    deviation of the trained ones, embeddings and norms included, so that activations are about as
    large as they were. Tied parameters stay tied. The name is that of the subject, so that the two
    can be compared feature by feature; the revision says what it is.

    Args:
        name: as `load_subject` takes it.
        seed: of the weights; the same on every machine.
        device: as `load_subject` takes it.
        dtype: as `load_subject` takes it.
        offline: never try the network.

    Raises:
        ConfigError, AssetError: as `load_subject`; or if the weights are kept packed.
    """
    subject = load_subject(name, device, dtype, offline)
    _randomise(subject.model, seed)
    return replace(subject, revision=f"{RANDOM_WEIGHTS} {seed} in place of {subject.revision}")


def _randomise(model: Any, seed: int) -> None:
    """Draws every parameter anew, in place."""
    for name, parameter in model.named_parameters():  # tied ones come once
        if not parameter.is_floating_point():
            raise ConfigError(
                f"the weights of {name} are kept packed and cannot be drawn anew: load the model "
                f"unquantized for --control {RANDOM_WEIGHTS}"
            )
        digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
        chance = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        with torch.no_grad():
            known = parameter.detach().to("cpu", torch.float32)
            spread, middle = torch.std_mean(known, correction=0)
            drawn = torch.randn(known.shape, generator=chance) * spread + middle
            parameter.copy_(drawn.to(parameter.device, parameter.dtype))

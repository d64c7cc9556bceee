"""Tensors and settings out of files that anyone may have written. Nothing in a file is executed."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glossator.errors import AssetError

_LARGEST_CONFIG = 1 << 24
"""Bytes; a configuration is a page of text, and a parser should not be handed more."""


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """What a weight file holds, each tensor checked when it is taken."""

    source: str
    """The file, for messages."""
    tensors: Mapping[str, Tensor]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def take(self, *names: str, dims: tuple[int, ...] = (1,)) -> Tensor:
        """The tensor under the first of `names` that is there, in at least float32.

        Raises:
            AssetError: if there is none, it is not of floating type, has another number of axes
                than `dims` allows, or a value that is not finite.
        """
        for name in names:
            if name in self.tensors:
                return self._checked(name, self.tensors[name], dims)
        raise AssetError(
            f"{self.source} lacks {' or '.join(names)}; it has "
            + (", ".join(sorted(self.tensors)) or "nothing")
        )

    def find(self, *names: str, dims: tuple[int, ...] = (1,)) -> Tensor | None:
        """`take`, or None where no such tensor is there."""
        return self.take(*names, dims=dims) if any(n in self for n in names) else None

    def number(self, name: str) -> float | None:
        """The one number called `name`, or None where it is not there.

        Raises:
            AssetError: if it is more than one number.
        """
        if name not in self:
            return None
        tensor = self.tensors[name]
        if tensor.numel() != 1:
            raise AssetError(
                f"{name} in {self.source} should be one number, not of shape {tuple(tensor.shape)}"
            )
        return float(tensor.item())

    def _checked(self, name: str, tensor: Tensor, dims: tuple[int, ...]) -> Tensor:
        if not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise AssetError(f"{name} in {self.source} holds {kind}, not floating-point numbers")
        if tensor.dim() not in dims:
            wanted = " or ".join(map(str, dims))
            raise AssetError(
                f"{name} in {self.source} has shape {tuple(tensor.shape)}; it should have "
                f"{wanted} {'axis' if dims == (1,) else 'axes'}"
            )
        wide = tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))
        finite = torch.isfinite(wide)
        if not bool(finite.all()):
            raise AssetError(
                f"{name} in {self.source} has {int((~finite).sum())} of {wide.numel()} values that "
                "are NaN or infinite: the file is damaged, or its training diverged"
            )
        return wide


def read_weights(path: Path) -> Weights:
    """What a `.safetensors`, `.npz` or `.pt` file holds; a pickle's code is refused, never run.

    Raises:
        AssetError: if the file cannot be read, is malformed, or holds anything but tensors.
    """
    readers: dict[str, Callable[[Path], dict[str, Tensor]]] = {
        ".safetensors": _safetensors,
        ".npz": _npz,
        ".pt": _torch,
    }
    reader = readers.get(path.suffix)
    if reader is None:
        raise AssetError(
            f"{path} is no weight file that is read; those end in {', '.join(sorted(readers))}"
        )
    with _told(path):
        tensors = reader(path)
    return Weights(str(path), MappingProxyType(tensors))


def read_config(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        AssetError: if there is none.
    """
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise AssetError(f"{path} is too large to be a coder's configuration")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise AssetError(f"{path} cannot be read as JSON: {reason}") from error
    if not isinstance(value, dict):
        raise AssetError(f"{path} should hold a JSON object, not a {type(value).__name__}")
    return value


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what reading a bad file raises into one sentence."""
    try:
        yield
    except pickle.UnpicklingError as error:
        raise AssetError(
            f"{path} holds more than tensors, which could run code, so it was not opened; save "
            "its state_dict, or convert it to safetensors"
        ) from error
    except (
        *(SafetensorError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error),
        *(RuntimeError, ValueError, TypeError, LookupError, AttributeError, OverflowError),
    ) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise AssetError(
            f"{path} cannot be read: {reason}; the file may be cut short or of another kind"
        ) from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt", device="cpu") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _npz(path: Path) -> dict[str, Tensor]:
    if not zipfile.is_zipfile(path):
        raise ValueError("it is no archive of arrays")
    with np.load(path, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


def _torch(path: Path) -> dict[str, Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old kinds of file, which are refused or read in full
        state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, Mapping):
        raise ValueError(f"it holds a {type(state).__name__}, not named tensors")
    strange = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise ValueError(f"{', '.join(sorted(strange))} in it is no tensor")
    return {str(name): value for name, value in state.items()}

"""Tensors in a file, whole or not at all, in the safetensors layout.

The layout is eight bytes with the length of a header, the header as JSON, and the tensors one
behind the other. The library's own writer first copies all of them; here they may be most of the
memory.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from glossator.errors import StoreError

_NAMES = {
    torch.float32: "F32",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
}


def write_tensors(file: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> None:
    """Writes `tensors` and the texts `said` to `file`, in place of what is there.

    Equal tensors and texts give equal files.

    Raises:
        StoreError: if it cannot be written; what was there stays.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(said.items()))}
    at = 0
    for name, tensor in sorted(tensors.items()):
        size = tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [at, at + size],
        }
        at += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    hidden = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            with hidden.open("wb") as stream:
                stream.write(struct.pack("<Q", len(text)))
                stream.write(text)
                for _, tensor in sorted(tensors.items()):
                    array = tensor.detach().cpu().contiguous().flatten().numpy()
                    stream.write(array.tobytes())
                stream.flush()
                os.fsync(stream.fileno())
            hidden.replace(file)
        finally:
            hidden.unlink(missing_ok=True)
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror or error}") from error


def read_tensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What `write_tensors` wrote.

    Raises:
        StoreError: if it is not there, or is damaged.
    """
    try:
        with safe_open(str(file), framework="pt") as stream:
            names = stream.keys()
            return {name: stream.get_tensor(name) for name in names}, dict(stream.metadata() or {})
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError(f"{file} cannot be read: {error}; delete it to begin anew") from error

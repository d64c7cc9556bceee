"""Tensors in a file, whole or not at all, in the safetensors layout.

The layout is eight bytes with the length of a header, the header as JSON, and the tensors one
behind the other. The library's own writer first copies all of them; here they may be most of the
memory. A checksum over everything is among the texts, so that a damaged file is not gone on with.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
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
_CHECKSUM = "crc32"


def write_tensors(file: Path, tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> None:
    """Writes `tensors` and the texts `said` to `file`, in place of what is there.

    Equal tensors and texts give equal files.

    Raises:
        StoreError: if it cannot be written; what was there stays.
    """
    told = {**said, _CHECKSUM: _checksum(tensors, said)}
    header: dict[str, object] = {"__metadata__": dict(sorted(told.items()))}
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
        _clear_up(file)
        try:
            with hidden.open("wb") as stream:
                stream.write(struct.pack("<Q", len(text)))
                stream.write(text)
                for _, tensor in sorted(tensors.items()):
                    stream.write(_bytes_of(tensor))
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
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            said = dict(stream.metadata() or {})
    except (OSError, SafetensorError, ValueError) as error:
        raise StoreError(f"{file} cannot be read: {error}; delete it to begin anew") from error
    if said.pop(_CHECKSUM, "") != _checksum(tensors, said):
        raise StoreError(f"{file} is damaged: its checksum is another; delete it to begin anew")
    return tensors, said


def _checksum(tensors: Mapping[str, Tensor], said: Mapping[str, str]) -> str:
    """Over names, types, shapes, contents and texts."""
    found = zlib.crc32(json.dumps(sorted(said.items())).encode())
    for name, tensor in sorted(tensors.items()):
        found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        found = zlib.crc32(_bytes_of(tensor), found)
    return f"{found:08x}"


def _bytes_of(tensor: Tensor) -> memoryview:
    """The memory of `tensor`, or a copy in its order, as bytes."""
    return tensor.detach().cpu().contiguous().flatten().numpy().view(np.uint8).data


def _clear_up(file: Path) -> None:
    """Removes what processes that were killed while they wrote `file` have left behind."""
    if os.name == "nt":  # where asking for a process would end it
        return
    start = f".{file.name}."
    for left in file.parent.iterdir():
        owner = left.name.removeprefix(start)
        if not left.name.startswith(start) or not owner.isdecimal():
            continue
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (OSError, OverflowError):
            pass  # another user's, alive

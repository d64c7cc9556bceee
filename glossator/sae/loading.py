"""A coder by name: the bundled one, a folder, a hub id, or an entry of SAELens' list."""

from __future__ import annotations

import hashlib
import importlib
import re
from dataclasses import replace
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from glossator.assets.quiet import quiet
from glossator.errors import AssetError, ConfigError
from glossator.sae.coder import SparseCoder
from glossator.sae.formats import LAYOUTS, read_file, read_folder, read_saelens
from glossator.sae.hub import fetch_coder
from glossator.sae.weights import Weights

BUNDLED = "default"
"""The coder that comes with the package, for the bundled subject."""

_HUB_ID = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w.-]+)(?::(?P<folder>[^:]+))?")


def load_coder(
    spec: str,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    d_in: int | None = None,
    offline: bool = False,
) -> SparseCoder:
    """The coder that `spec` names, ready to encode; no pickle is loaded and no code run.

    Args:
        spec: `default`, a folder or weight file, `sae_lens:RELEASE/ID`, or a hub id
            `OWNER/NAME[:FOLDER]`.
        device: where its weights go.
        dtype: what matrices are computed in, whatever they are stored in.
        d_in: width of the site it is to read; another width is refused.
        offline: never try the network.

    Raises:
        ConfigError: if nothing is called so, or it reads vectors of another width than `d_in`.
        AssetError: if it cannot be fetched or read; the message names the tensor or setting.
    """
    coder = _found(spec, offline)
    if d_in is not None and coder.d_in != d_in:
        trained = f", trained at {coder.site}" if coder.site else ""
        model = coder.metadata.get("model_name")
        raise ConfigError(
            f"coder {coder.name} reads vectors of {coder.d_in}{trained}"
            + (f" of {model}" if model else "")
            + f"; the site asked for has {d_in}: take a coder of that model and site"
        )
    return coder.to(device, dtype)


def _found(spec: str, offline: bool) -> SparseCoder:
    if spec == BUNDLED:
        return _bundled()
    if spec.startswith("sae_lens:"):
        return _from_saelens(spec, offline)
    path = Path(spec)
    try:
        path = path.expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError, RuntimeError):  # no name that a file could have
        is_folder = is_file = False
    if is_folder and spec.strip():
        return read_folder(path.resolve())
    if is_file:
        return read_file(path.resolve())
    match = _HUB_ID.fullmatch(spec)
    if match is None or path.suffix in {Path(layout.weights).suffix for layout in LAYOUTS}:
        raise ConfigError(
            f"no coder is called {spec!r} and no file is there; give {BUNDLED}, a folder, "
            "sae_lens:RELEASE/ID, or a hub id with its owner such as OWNER/NAME:FOLDER"
        )
    folder, revision = fetch_coder(match["repo"], match["folder"] or "", offline)
    coder = read_folder(folder)
    return replace(coder, name=spec, metadata={**coder.metadata, "hub_revision": revision})


def _bundled() -> SparseCoder:
    with as_file(files("glossator.sae") / BUNDLED) as folder:
        if not (folder / LAYOUTS[0].weights).is_file():
            raise AssetError(
                f"the bundled coder is not in this installation ({folder} is empty): install "
                "glossator again, or train one with `glossator sae train`"
            )
        return replace(read_folder(folder), name=BUNDLED)


def _from_saelens(spec: str, offline: bool) -> SparseCoder:
    """An entry of SAELens' list of published coders, fetched and converted by that package."""
    release, _, entry = spec.removeprefix("sae_lens:").partition("/")
    if not release or not entry:
        raise ConfigError(f"{spec!r} should look like sae_lens:RELEASE/ID")
    if offline:
        raise AssetError(
            f"{spec} is looked up on the network, which --offline forbids; save the coder to a "
            "folder once, and give that"
        )
    try:
        package: Any = importlib.import_module("sae_lens")
    except ImportError as error:
        raise ConfigError(
            f"{spec} needs the package sae-lens: pip install 'glossator[sae]'"
        ) from error
    try:
        with quiet():
            sae: Any = package.SAE.from_pretrained(release, entry, device="cpu")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise AssetError(f"{spec} could not be had: {type(error).__name__}: {reason}") from error
    tensors: dict[str, Tensor] = {name: t.detach() for name, t in sae.state_dict().items()}
    coder = read_saelens(
        sae.cfg.to_dict(), Weights(spec, MappingProxyType(tensors)), Path(release) / entry
    )
    return replace(coder, name=f"{release}/{entry}", digest=_digest(tensors))


def _digest(tensors: dict[str, Tensor]) -> str:
    """First 16 hex digits of the SHA-256 of named tensors, for a coder that is no single file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]

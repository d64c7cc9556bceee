"""Coders on the Hugging Face hub: only the files that a layout names are fetched."""

from __future__ import annotations

import sys
from pathlib import Path

from glossator.errors import AssetError
from glossator.sae.formats import LAYOUTS

FILES = tuple(
    dict.fromkeys(
        [
            *(name for layout in LAYOUTS for name in (layout.weights, layout.config) if name),
            "activation_scaler.json",
        ]
    )
)
"""Names of all files that may be fetched."""


def fetch_coder(repo: str, folder: str, offline: bool) -> tuple[Path, str]:
    """A local folder with a coder of the hub, and the commit it is of.

    Args:
        repo: `OWNER/NAME`.
        folder: where in it the coder is; empty for its root.
        offline: only look at what was fetched before.

    Raises:
        AssetError: if it cannot be had; where the folder is what is wrong, it names some that are
            there.
    """
    inside = folder.strip("/")
    if ".." in inside.split("/"):
        raise AssetError(f"{inside!r} is no folder inside {repo}")
    try:
        import huggingface_hub as hub
    except ImportError as error:
        raise AssetError(
            f"{repo} needs the package huggingface-hub: pip install 'glossator[hub]'"
        ) from error
    failures: tuple[type[Exception], ...] = (OSError, ValueError, *_network_errors())
    wanted = [f"{inside}/{name}" if inside else name for name in FILES]
    try:
        root = Path(hub.snapshot_download(repo, allow_patterns=wanted, local_files_only=offline))
        found = root / inside
        if any((found / layout.weights).is_file() for layout in LAYOUTS):
            return found, root.name
        there = [] if offline else hub.HfApi().list_repo_files(repo)
    except failures as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        told = (
            "is not on this machine, and --offline forbids to fetch it; give a folder, or go online"
        )
        raise AssetError(
            f"{repo} {told if offline else f'cannot be had from the hub: {reason}'}"
        ) from error
    folders = sorted(
        {
            path.rpartition("/")[0]
            for path in there
            if path.rpartition("/")[2] in {layout.weights for layout in LAYOUTS}
        }
    )
    where = f"folder {inside!r} of {repo}" if inside else repo
    if not folders:
        raise AssetError(
            f"{where} holds no coder in a layout that is read"
            + (" that was fetched before, and --offline forbids to look" if offline else "")
        )
    shown = ", ".join(f"{repo}:{name}" for name in folders[:8])
    raise AssetError(f"{where} holds no coder; there are {len(folders)}, such as {shown}")


def _network_errors() -> tuple[type[Exception], ...]:
    """Base errors of the HTTP clients that the hub's own package may have loaded."""
    clients = [sys.modules.get(name) for name in ("httpx", "httpx2", "requests")]
    errors = [getattr(client, "HTTPError", None) for client in clients]
    return tuple(error for error in errors if error is not None)

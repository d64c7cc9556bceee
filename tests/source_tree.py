"""The modules of the package, by import name, found on disk without importing anything."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINKED = ("agent", "datasets", "explainers", "scorers")
"""Folders at the root that `glossator/` holds links to."""


def modules() -> dict[str, Path]:
    """Import name to file, for every module of `glossator`, those behind the links included."""
    found: dict[str, Path] = {}
    for top, prefix in [("glossator", ""), *((folder, "glossator.") for folder in LINKED)]:
        for folder, below, files in os.walk(ROOT / top, followlinks=False):
            below[:] = [name for name in below if name != "__pycache__"]
            for file in files:
                if file.endswith(".py"):
                    path = Path(folder) / file
                    parts = path.relative_to(ROOT).with_suffix("").parts
                    name = ".".join(parts).removesuffix(".__init__")
                    found[prefix + name] = path
    return dict(sorted(found.items()))

"""A virtual environment of the peer's own, made once and kept outside the project's.

Torch, transformers and what else both sides compute with come from the interpreter that runs the
benchmark, by a path file: so both sides compute with the same builds. The peer and the few other
packages that only it needs are installed without their dependencies, from where pip is configured
to look.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

PACKAGES = (
    "eai-delphi==0.1.3",
    "jaxtyping==0.3.11",
    "wadler-lindig==0.1.8",
    "simple-parsing==0.1.9",
    "docstring-parser==0.18.0",
)
"""The peer, and what its cache imports that ours does not; no dependency of theirs is followed."""


def default_folder() -> Path:
    """Where the environment is kept unless told otherwise: in the user's cache."""
    import platformdirs

    return platformdirs.user_cache_path("glossator") / "benchmarks" / "delphi-0.1.3"


def peer_python(folder: Path) -> Path:
    """The interpreter of the peer's environment, which is made first if it is not there.

    Raises:
        subprocess.CalledProcessError: if pip could not install; it has said why.
    """
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    done = folder / "installed.txt"
    wanted = "\n".join((sys.version, _shared_packages(), *PACKAGES))
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return python
    venv.create(folder, clear=True, with_pip=True, symlinks=os.name != "nt")
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES]
    subprocess.run(install, check=True, stdout=sys.stderr)
    _own_packages(folder).joinpath("shared.pth").write_text(
        _shared_packages() + "\n", encoding="utf-8"
    )
    done.write_text(wanted, encoding="utf-8")
    return python


def _shared_packages() -> str:
    """The folder that torch is imported from."""
    import torch

    return str(Path(torch.__file__).resolve().parent.parent)


def _own_packages(folder: Path) -> Path:
    where = {"base": str(folder), "platbase": str(folder)}
    return Path(sysconfig.get_path("purelib", "venv", where))

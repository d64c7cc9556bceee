"""The peer's own cache on windows of tokens it is handed. Run by the peer's interpreter.

    PYTHON delphi_cache.py JOB.json

The job is the JSON of a `Job` of `peer.job`. Prints one line of JSON: tokens, seconds of
`LatentCache.run` alone, resident memory after loading and at its peak, nonzeros kept, versions.
The modules that other parts of the peer import, and caching does not need, are stood in for.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.metadata
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

NOT_NEEDED = (
    "asyncer",
    "blobfile",
    "faiss",
    "orjson",
    "sentence_transformers",
    "sparsify",
    "sparsify.sparse_coder",
    "vllm",
)
"""Modules that importing the cache imports, or may, and that caching never calls."""


class StandIn(ModuleType):
    """A module in which every name is a class that takes anything and does nothing."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **kwargs: None})


def stand_in(names: tuple[str, ...] = NOT_NEEDED) -> None:
    """Puts stand-ins where the real modules would be looked for."""
    for name in names:
        module = StandIn(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module


def resident() -> int:
    """Bytes of memory that the process holds now; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return 0
    return pages * resource.getpagesize()


def peak() -> int:
    """Bytes of memory that the process held at its fullest."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def encoders(job: dict[str, Any], n_layers: int) -> tuple[dict[str, Callable[..., Any]], bool]:
    """What the cache calls at each hookpoint, and whether it is handed a module's input."""
    import torch

    if job["coder"] is None:

        def as_is(acts: torch.Tensor) -> torch.Tensor:
            return acts

        return {f"layers.{layer}.mlp.down_proj": as_is for layer in range(n_layers)}, True
    from delphi.sparse_coders.custom.gemmascope import JumpReluSae  # type: ignore[import-not-found]
    from safetensors.torch import load_file

    weights = load_file(job["coder"])
    coder = JumpReluSae(*weights["W_enc"].shape)
    coder.load_state_dict(weights)
    coder.to(job["device"], getattr(torch, job["dtype"]))
    return {f"layers.{job['layer']}": coder.encode}, False


def run(job: dict[str, Any]) -> dict[str, Any]:
    """The cache over all windows; see the module."""
    import numpy as np
    import torch
    from transformers import AutoModel

    stand_in()
    from delphi.latents import LatentCache  # type: ignore[import-not-found]

    torch.set_num_threads(job["threads"])
    model = AutoModel.from_pretrained(job["model"], dtype=getattr(torch, job["dtype"]))
    model.to(job["device"]).eval()
    windows = torch.from_numpy(np.load(job["windows"]))  # (n_windows, 1 + ctx)
    hooked, reads_input = encoders(job, len(model.layers))
    on_cuda = job["device"].startswith("cuda")
    with torch.no_grad():  # the first pass of a process is slow for everyone
        model(windows[: job["batch"]].to(job["device"]))
    if on_cuda:
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    loaded = resident()
    cache = LatentCache(model, hooked, batch_size=job["batch"], transcode=reads_input)
    began = time.perf_counter()
    cache.run(windows.numel(), windows)
    if on_cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    read = len(windows) // job["batch"] * job["batch"]
    return {
        "tokens": read * (windows.shape[1] - 1),
        "seconds": seconds,
        "loaded_bytes": loaded,
        "peak_bytes": peak(),
        "cuda_peak_bytes": torch.cuda.max_memory_allocated() if on_cuda else None,
        "nonzeros": sum(len(a) for a in cache.cache.latent_activations.values()),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("eai-delphi", "torch", "transformers", "numpy")
        },
    }


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):  # the peer prints
        found = run(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    print(json.dumps(found))

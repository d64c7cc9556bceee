"""Which device and which number format to compute in; torch is imported only when asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from glossator.errors import ConfigError

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("auto", "float32", "bfloat16", "float16")


def pick_device(name: str = "auto") -> str:
    """`cuda`, `mps` or `cpu`: what was asked for, or for `auto` the fastest there is.

    Raises:
        ConfigError: if the device is unknown or not there.
    """
    import torch

    there: dict[str, Any] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
        "cpu": lambda: True,
    }
    if name == "auto":
        return next(device for device, available in there.items() if available())
    kind = name.partition(":")[0]
    if kind not in there:
        raise ConfigError(f"no device is called {name!r}; there are: {', '.join(DEVICES)}")
    if not there[kind]():
        raise ConfigError(f"there is no {kind} device here; use --device auto or --device cpu")
    return name


def pick_dtype(name: str, device: str) -> torch.dtype:
    """The number format called `name`; `auto` takes bfloat16 where the hardware multiplies it.

    On a CPU that is one with matrix tiles (AMX) or with dot products of bfloat16 (AVX-512 BF16);
    others are slower in it than in float32 (benchmarks/collect.md).

    Raises:
        ConfigError: if there is no such format.
    """
    import torch

    if name == "auto":
        fast = device.startswith("cuda") or (device == "cpu" and _multiplies_bfloat16())
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"no dtype is called {name!r}; there are: {', '.join(DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def _multiplies_bfloat16() -> bool:
    try:
        said = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return "amx_bf16" in said or "avx512_bf16" in said

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

    A CPU without matrix tiles (AMX) is slower in bfloat16 than in float32, so it takes the latter.

    Raises:
        ConfigError: if there is no such format.
    """
    import torch

    if name == "auto":
        fast = device.startswith("cuda") or (device == "cpu" and _has_tiles())
        return torch.bfloat16 if fast else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"no dtype is called {name!r}; there are: {', '.join(DTYPES)}")
    found: torch.dtype = getattr(torch, name)
    return found


def _has_tiles() -> bool:
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False

"""Our collection against the peer's cache: the same windows, weights, format and batches.

Each run of either side is a process of its own, in turn, and reports its own time (loading left
out) and its own peak of memory.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from collecting.child import Job, last_line, run_child
from collecting.machine import meminfo
from collecting.ours import Work
from collecting.speed import Timed, row_of, said
from peer.environment import peer_python

_WORKER = Path(__file__).parent.parent / "peer" / "delphi_cache.py"
_BYTES_OF_PLACE = 24
"""Of each nonzero the peer keeps three 64-bit numbers for where it is, besides its value."""
_REST = 2 * 10**9
"""Bytes that the model, its libraries and one batch may take."""


@dataclass(frozen=True, slots=True)
class Sides:
    """How the two sides are started."""

    script: Path
    """Ours."""
    python: Path
    """The peer's interpreter."""
    reps: int
    threads: int


def versus(
    script: Path, job: Job, peer_folder: Path, neuron_tokens: int, works: list[Work], reps: int
) -> list[dict[str, Any]]:
    """Rows of both sides, for the coder at `job.tokens` and for all neurons at `neuron_tokens`."""
    import torch

    sides = Sides(script, peer_python(peer_folder), reps, torch.get_num_threads())
    rows = []
    if Work.CODER in works:
        rows += _compared(sides, replace(job, work=Work.CODER.value))
    if Work.ALL in works:
        windows = max(1, neuron_tokens // job.ctx)
        batch = windows // -(-windows // job.batch)  # batches of one size, as many as needed
        tokens = windows // batch * batch * job.ctx
        rows += _compared(sides, replace(job, work=Work.ALL.value, tokens=tokens, batch=batch))
    return rows


def _compared(sides: Sides, job: Job) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        job = replace(job, folder=folder)
        ready = run_child(sides.script, replace(job, what="prepare"))
        if (missing := _missing_memory(job, ready)) is not None:
            said(missing)
            return [{"name": f"peer {job.work}", "skipped": missing}]
        found: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
        for rep in range(sides.reps):
            for side in ("ours", "peer") if rep % 2 == 0 else ("peer", "ours"):
                one = (
                    run_child(sides.script, job)
                    if side == "ours"
                    else _peer(sides, job, ready, Path(folder))
                )
                found[side].append(one)
                said(
                    f"{rep + 1}/{sides.reps} {side} {job.work}: "
                    f"{one['tokens'] / one['seconds']:,.0f} tokens/s, "
                    f"{one['peak_bytes'] / 1e9:.2f} GB"
                )
    return _rows(job, found)


def _peer(sides: Sides, job: Job, ready: dict[str, Any], folder: Path) -> dict[str, Any]:
    coder = str(folder / "coder.safetensors") if job.work == Work.CODER else None
    work = {
        "model": ready["model"],
        "windows": str(folder / "windows.npy"),
        "dtype": ready["dtype"],
        "device": ready["device"],
        "batch": job.batch,
        "threads": sides.threads,
        "coder": coder,
        "layer": ready["layer"],
    }
    (folder / "job.json").write_text(json.dumps(work), encoding="utf-8")
    command = [str(sides.python), str(_WORKER), str(folder / "job.json")]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        said(done.stderr.decode(errors="replace"))
    return last_line(done, f"the peer's {job.work}")


def _missing_memory(job: Job, ready: dict[str, Any]) -> str | None:
    """Why the peer cannot be run on all neurons here; None if it can.

    It keeps every nonzero, and at the end both the batches and the whole.
    """
    available = meminfo("MemAvailable")
    if job.work != Work.ALL or available is None:
        return None
    rows = ready["windows"] * (job.ctx + 1)
    value = 4 if ready["dtype"] == "float32" else 2
    needed = 2 * rows * ready["features"] * (_BYTES_OF_PLACE + value) + _REST
    if needed <= available:
        return None
    return (
        f"the peer on all neurons would need {needed / 1e9:.1f} GB for {ready['tokens']:,} tokens, "
        f"and {available / 1e9:.1f} GB are free: not run"
    )


def _rows(job: Job, found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    runs = {
        side: [Timed(one["tokens"], one["seconds"], one["cuda_peak_bytes"]) for one in ones]
        for side, ones in found.items()
    }
    rows = []
    for side in ("peer", "ours"):
        ones = found[side]
        row = row_of(f"{side} {job.work}", runs[side], runs["peer"] if side == "ours" else None)
        peaks = [one["peak_bytes"] for one in ones]
        row |= {
            "peak_bytes": max(peaks),
            "loaded_bytes": max(one["loaded_bytes"] for one in ones),
            "memory_ratio": max(peaks) / max(one["peak_bytes"] for one in found["peer"]),
            "ctx": job.ctx,
            "batch": job.batch,
        }
        row |= {key: ones[0][key] for key in ("nonzeros", "versions") if key in ones[0]}
        rows.append(row)
    return rows

"""Peak memory of collection, by how many tokens are read: it should not grow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from collecting.child import Job, run_child
from collecting.ours import Work
from collecting.speed import said


def memory(
    script: Path, job: Job, works: Sequence[Work], tokens: Sequence[int]
) -> list[dict[str, Any]]:
    """A row for each kind of collection and number of tokens, each from a process of its own.

    Args:
        script: what to start a child with.
        job: what all of them share.
        works: what is collected.
        tokens: how many, ascending; the ratio of each peak is to that of the first.
    """
    rows = []
    for work in works:
        first: int | None = None
        for count in tokens:
            found = run_child(script, replace(job, work=work.value, tokens=count))
            first = first or found["peak_bytes"]
            said(f"{work} {count:,} tokens: {found['peak_bytes'] / 1e9:.2f} GB at the peak")
            rows.append(
                {
                    "name": f"collect {work}",
                    "activations": "synthetic" if job.synthetic else "model",
                    "ratio": found["peak_bytes"] / first,
                    **found,
                }
            )
    return rows

"""Collection against the plain forward pass, alternating in one process."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from collecting.ours import Work, ours
from collecting.windows import Windows
from torch import Tensor, nn

from glossator.sae import SparseCoder
from glossator.subject import Subject


@dataclass(frozen=True, slots=True)
class Timed:
    """One run of one thing."""

    tokens: int
    seconds: float
    cuda_peak_bytes: int | None = None
    before: float = 0.0
    """Seconds of measuring thresholds that came before, and are not in `seconds`."""

    @property
    def rate_of_all(self) -> float:
        """Tokens a second, thresholds included."""
        return self.tokens / (self.seconds + self.before)

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.tokens / self.seconds


@dataclass(frozen=True, slots=True)
class Setup:
    """What is run on what."""

    subject: Subject
    coder: SparseCoder | None
    layer: int
    """The coder's."""
    windows: Windows
    batch: int


PAIRS = {Work.ALL: "forward", Work.CODER: "forward to the coder's layer"}
"""What each collection is measured against: the part of the model that it needs."""


def compared(setup: Setup, works: Sequence[Work], reps: int) -> list[dict[str, Any]]:
    """Rows of the table: the rate of every task, and of collections the ratio to the pass."""
    tasks = _tasks(setup, works)
    small = Setup(
        setup.subject, setup.coder, setup.layer, setup.windows.first(setup.batch), setup.batch
    )
    for name, task in _tasks(small, works).items():  # compiles kernels, fills caches
        said("warming up:", name)
        task()
    runs = alternating(tasks, reps)
    return [
        row_of(name, timed, runs[PAIRS[work]] if (work := _work_of(name)) else None)
        for name, timed in runs.items()
    ]


def _work_of(name: str) -> Work | None:
    return next((work for work in Work if name == _collecting(work)), None)


def _collecting(work: Work) -> str:
    return f"collect {work}"


def _tasks(setup: Setup, works: Sequence[Work]) -> dict[str, Callable[[], Timed]]:
    found: dict[str, Callable[[], Timed]] = {}
    for work in works:
        found[PAIRS[work]] = _forward_task(setup, None if work is Work.ALL else setup.layer)
        found[_collecting(work)] = _collect_task(setup, work)
    return found


def _collect_task(setup: Setup, work: Work) -> Callable[[], Timed]:
    corpus = setup.windows.corpus

    def task() -> Timed:
        before = 0.0

        def run() -> None:
            nonlocal before
            before = ours(
                setup.subject,
                work,
                setup.coder,
                corpus,
                ctx=setup.windows.ctx,
                batch=setup.batch,
            )

        found = timed(setup.subject, setup.windows.n_tokens, run)
        return replace(found, seconds=found.seconds - before, before=before)

    return task


def _forward_task(setup: Setup, layer: int | None) -> Callable[[], Timed]:
    rows = setup.windows.rows(setup.subject.start_token_id)
    batches = torch.split(rows, setup.batch)

    def task() -> Timed:
        with cut_after(setup.subject, layer):
            return timed(
                setup.subject, setup.windows.n_tokens, lambda: forward(setup.subject, batches)
            )

    return task


def forward(subject: Subject, batches: Sequence[Tensor]) -> None:
    """The model's body over the batches, without the language-model head and without a cache.

    Args:
        subject: the model.
        batches: each of shape (batch, 1 + ctx), without padding.
    """
    with torch.inference_mode():
        for batch in batches:
            subject.model.base_model(input_ids=batch.to(subject.device), use_cache=False)


@contextmanager
def cut_after(subject: Subject, layer: int | None) -> Iterator[None]:
    """The model without the layers behind `layer` while the block runs; None cuts nothing."""
    parent, name, blocks = _blocks(subject)
    try:
        if layer is not None:
            setattr(parent, name, nn.ModuleList(blocks[: layer + 1]))
        yield
    finally:
        setattr(parent, name, blocks)


def _blocks(subject: Subject) -> tuple[nn.Module, str, nn.ModuleList]:
    for parent in subject.model.base_model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == subject.n_layers:
                return parent, name, child
    raise SystemExit(f"no list of {subject.n_layers} layers in {subject.name}")


def timed(subject: Subject, tokens: int, run: Callable[[], None]) -> Timed:
    """How long `run` takes, work on the device included."""
    if not subject.device.startswith("cuda"):
        began = time.perf_counter()
        run()
        return Timed(tokens, time.perf_counter() - began)
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.synchronize()
    began = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return Timed(tokens, time.perf_counter() - began, torch.cuda.max_memory_allocated())


def alternating(tasks: Mapping[str, Callable[[], Timed]], reps: int) -> dict[str, list[Timed]]:
    """Every task once a repetition, in turn; every other repetition in reverse.

    So neighbours in time are compared, and a machine that grows slower harms all alike.
    """
    runs: dict[str, list[Timed]] = {name: [] for name in tasks}
    for rep in range(reps):
        for name in reversed(list(tasks)) if rep % 2 else tasks:
            runs[name].append(tasks[name]())
            said(f"{rep + 1}/{reps} {name}: {runs[name][-1].rate:,.0f} tokens/s")
    return runs


def row_of(name: str, runs: Sequence[Timed], against: Sequence[Timed] | None) -> dict[str, Any]:
    """Median, extremes and, pair by pair, the ratio to what it is measured against."""
    rates = [run.rate for run in runs]
    ratios = [
        run.rate / other.rate for run, other in zip(runs, against or (), strict=bool(against))
    ]
    whole = [
        run.rate_of_all / other.rate
        for run, other in zip(runs, against or (), strict=bool(against))
    ]
    peaks = [run.cuda_peak_bytes for run in runs if run.cuda_peak_bytes is not None]
    return {
        "name": name,
        "tokens": runs[0].tokens,
        "rate": spread(rates),
        "ratio": spread(ratios) if ratios else None,
        "ratio_with_thresholds": spread(whole) if whole else None,
        "cuda_peak_bytes": max(peaks) if peaks else None,
        "seconds": [round(run.seconds, 4) for run in runs],
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def said(*words: str) -> None:
    """Tells whoever is waiting."""
    print(*words, file=sys.stderr, flush=True)

"""What is measured in a process of its own, so that its peak of memory is its own."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from peer.delphi_cache import peak, resident


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One child's work."""

    what: Literal["prepare", "collect"]
    subject: str
    dtype: str
    device: str
    ctx: int
    batch: int
    tokens: int
    coder: str
    folder: str
    """Where `prepare` puts what all sides read, and where `collect` finds it; empty for the default
    corpus, streamed."""
    work: str = "coder"
    synthetic: bool = False
    """Whether layers draw their activations instead of computing them."""


def run_child(script: Path, job: Job) -> dict[str, Any]:
    """What the child found.

    Raises:
        SystemExit: if it failed; it has said why.
    """
    command = [sys.executable, str(script), "--child", json.dumps(asdict(job))]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    return last_line(done, f"{job.what} {job.work}")


def last_line(done: subprocess.CompletedProcess[bytes], what: str) -> dict[str, Any]:
    """The JSON that a process printed last.

    Raises:
        SystemExit: if it failed.
    """
    if done.returncode:
        killed = " (killed, most likely for want of memory)" if done.returncode == -9 else ""
        raise SystemExit(f"{what} ended with {done.returncode}{killed}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(text: str) -> None:
    """Does the job that `run_child` wrote, and prints what was found."""
    job = Job(**json.loads(text))
    with contextlib.redirect_stdout(sys.stderr):
        found = _prepare(job) if job.what == "prepare" else _collect(job)
    print(json.dumps(found))


def _prepare(job: Job) -> dict[str, Any]:
    """Windows and coder, in the forms that the two sides read."""
    import numpy as np
    from collecting.coders import coder_for, save_for_peer, site_of
    from collecting.windows import full_windows

    from glossator.subject import load_subject

    folder = Path(job.folder)
    subject = load_subject(job.subject, job.device, job.dtype)
    windows = full_windows(subject, job.ctx, job.tokens, job.batch)
    windows.save(folder / "texts.json")
    np.save(folder / "windows.npy", windows.rows(subject.start_token_id).numpy())
    coder = coder_for(job.coder, subject)
    save_for_peer(coder, folder / "coder.safetensors")
    return {
        "tokens": windows.n_tokens,
        "windows": len(windows.token_ids),
        "layer": int(site_of(coder).split(".")[1]),
        "dtype": subject.dtype,
        "device": subject.device,
        "features": subject.n_layers * subject.d_mlp,
        "model": _folder_of(job.subject),
    }


def _folder_of(subject: str) -> str:
    """Where the model's files are, for a library that knows nothing of our names."""
    from glossator.assets import ASSETS, model_folder
    from glossator.subject_names import BUNDLED

    return str(model_folder(ASSETS[subject])) if subject in BUNDLED else subject


def _collect(job: Job) -> dict[str, Any]:
    import torch
    from collecting.coders import coder_for
    from collecting.ours import Work, ours
    from collecting.speed import timed
    from collecting.synthetic import make_synthetic
    from collecting.windows import full_windows, load

    from glossator.datasets.corpora import default_corpus
    from glossator.subject import load_subject

    subject = load_subject(job.subject, job.device, job.dtype)
    small = full_windows(subject, job.ctx, job.ctx * job.batch, job.batch)
    work = Work(job.work)
    coder = coder_for(job.coder, subject) if work is Work.CODER else None
    if job.synthetic:
        make_synthetic(subject)
    given = load(Path(job.folder) / "texts.json", subject, job.ctx) if job.folder else None
    corpus = given.corpus if given else default_corpus()
    size = {"ctx": job.ctx, "batch": job.batch}
    ours(subject, work, coder, small.corpus, **size)  # compiles kernels, fills caches
    if subject.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    loaded = resident()
    tokens = given.n_tokens if given else job.tokens

    def run() -> None:
        ours(subject, work, coder, corpus, tokens=tokens, **size)

    found = timed(subject, tokens, run)
    return {
        "tokens": tokens,
        "seconds": found.seconds,
        "loaded_bytes": loaded,
        "peak_bytes": peak(),
        "cuda_peak_bytes": found.cuda_peak_bytes,
        "dtype": subject.dtype,
        "device": subject.device,
    }

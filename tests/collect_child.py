"""A process that collects from a tiny model, to be killed.

`python -m tests.collect_child MODEL` reads one job a line from standard input, as JSON, and forks a
process for each, so that only the first one waits for imports and compiled code. A job says what to
do (`digest` or `command`), and where to die by its own hand, as of `kill -9`: at the n-th time that
something is synced to disk, or at the n-th forward pass. Other moments are for whoever reads what
it prints. What is done so far is saved after every batch.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from glossator.cli.app import call
from glossator.datasets import digest as digest_module
from glossator.datasets.cache import CacheWriter
from glossator.datasets.corpora import Corpus, load_corpus
from glossator.datasets.digest import digest_of
from glossator.datasets.readings import Reading, reading_of
from glossator.datasets.settings import CollectSettings
from glossator.datasets.sink import CacheSink
from glossator.sae import SparseCoder
from glossator.subject import Subject, load_subject
from glossator.types import FeatureId

NEURONS, STREAM = "layers.0.mlp.neurons", "layers.1.resid_post"
SETTINGS = CollectSettings(
    tokens=6000, ctx=32, window=8, calibration_tokens=500, batch=4, n_top=3, n_firing=5, n_silent=4
)
ROWS_PER_SHARD = 700


def coder(d_in: int = 16, d_sae: int = 20) -> SparseCoder:
    """A JumpReLU coder with random weights."""
    chance = torch.Generator().manual_seed(4)

    def of(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance)

    return SparseCoder(
        "jump",
        "jumprelu",
        "jumprelu",
        of(d_in, d_sae),
        of(d_sae),
        of(d_sae, d_in),
        of(d_in),
        threshold=of(d_sae).abs() * 3,
    )


def reading(subject: Subject, corpus: Corpus) -> Reading:
    """Both tails of some neurons, one tail of others, and all latents."""
    features = [FeatureId(subject.name, STREAM, i, coder="jump") for i in range(20)]
    features += [FeatureId(subject.name, NEURONS, i, negative=True) for i in (7, 3)]
    features += [FeatureId(subject.name, NEURONS, i) for i in (3, 0, 11)]
    return reading_of(subject, features, corpus, SETTINGS, {"jump": coder()})


def digest(job: Mapping[str, Any]) -> None:
    """Collects into `folder`, and into `cache` where one is named."""
    subject = load_subject(job["model"], device="cpu", dtype="float32")
    text = reading(subject, load_corpus(job["corpus"]))
    sink = None
    if job["cache"]:
        said = CacheSink.of(job["cache"], text, SETTINGS)
        said.release()
        # small shards, so that there are some before the end
        writer = CacheWriter(job["cache"], said.writer.settings, rows_per_shard=ROWS_PER_SHARD)
        sink = CacheSink(writer, text)
    found = digest_of(text, SETTINGS, folder=Path(job["folder"]), sink=sink)
    if sink is not None:
        sink.finish()
    say("fingerprint", found.fingerprint())


def command(job: Mapping[str, Any]) -> None:
    """A command of `glossator`."""
    say("code", call(job["arguments"]))


def say(word: str, what: object) -> None:
    """Prints a line whole, whoever else prints."""
    os.write(1, f"{word} {what}\n".encode())


def die_after(n: int | None) -> Callable[[], None]:
    """What ends this process for good at its n-th call, counted from 1."""
    left = [n]

    def count() -> None:
        if left[0] is not None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    return count


def work(job: Mapping[str, Any]) -> None:
    """Does one job, and says how often the model was run."""
    save_after_every_batch()
    sync, at_sync = os.fsync, die_after(job.get("die_at_sync"))
    at_scan = die_after(job.get("die_at_scan"))
    counts = {"scans": 0, "syncs": 0}
    scan = Subject.scan

    def synced(handle: int) -> None:
        at_sync()
        counts["syncs"] += 1
        sync(handle)

    def scanned(self: Subject, *given: Any) -> None:
        at_scan()
        counts["scans"] += 1
        scan(self, *given)

    os.fsync = synced  # type: ignore[assignment]
    Subject.scan = scanned  # type: ignore[method-assign, assignment]
    say("begun", os.getpid())
    {"digest": digest, "command": command}[job["what"]](job)
    for name, count in counts.items():
        say(name, count)


def save_after_every_batch() -> None:
    """Takes the wait between two savings away, that after a long one too."""
    defaults = digest_of.__kwdefaults__
    assert defaults is not None
    defaults["seconds"] = 0
    setattr(digest_module, "time", SimpleNamespace(monotonic=lambda: 0.0))  # noqa: B010


def warm(model: str) -> None:
    """Has all code loaded that a job needs. No thread is begun, so forking is safe."""
    torch.set_num_threads(1)
    subject = load_subject(model, device="cpu", dtype="float32")
    how = dataclasses.replace(SETTINGS, tokens=500)
    digest_of(reading(subject, Corpus.of(f"{n} the river {n}" for n in range(60))), how)


def main() -> None:
    warm(sys.argv[1])
    say("ready", os.getpid())
    for line in sys.stdin:
        process = os.fork()
        if not process:
            code = 1
            try:
                work(json.loads(line))
                code = 0
            except BaseException:  # noqa: BLE001 (no job may go on as the one that forks)
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(code)
        _, status = os.waitpid(process, 0)
        say("ended", os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()

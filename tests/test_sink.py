"""The sparse cache of a reading, what is saved of a digest, and kill -9 at any moment of both."""

from __future__ import annotations

import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glossator.datasets.cache import open_cache
from glossator.datasets.collect import records_of
from glossator.datasets.digest import digest_of
from glossator.datasets.readings import Reading
from glossator.datasets.saved import read_tensors, write_tensors
from glossator.datasets.settings import CollectSettings
from glossator.datasets.sink import CacheSink
from glossator.datasets.windows import Chunk
from glossator.errors import StoreError
from glossator.store import open_store
from glossator.types import FeatureId, Pool
from tests.test_digest import HOW, NEURONS, case_of, of_feature
from tests.tiny_llama import save_tiny_llama, some_texts

ROOT = Path(__file__).parents[1]


# -- the cache ------------------------------------------------------------------------------------


def test_the_cache_holds_every_token_above_its_threshold_and_no_other(tmp_path: Path) -> None:
    case = case_of("gpt2")
    sink = CacheSink.of(str(tmp_path / "cache"), case.reading, HOW)
    digest = digest_of(case.reading, HOW, sink=sink)
    assert digest.fingerprint() == case.digest.fingerprint()
    sink.finish()
    limits = {
        feature: float(digest.thresholds[n][row])
        for n, group in enumerate(case.reading.groups)
        for row, feature in enumerate(group.features)
    }
    wanted = []
    for number, feature in enumerate(case.reading.features):
        assert (limits[feature] == 0) == (feature.coder is not None) or feature.coder is None
        for pool in Pool:
            cuts = case.windows[pool]
            for cut, acts in zip(cuts, of_feature(cuts, feature), strict=True):
                for step in np.flatnonzero(acts > np.float32(limits[feature])).tolist():
                    wanted.append((number, cut.name >> 32, cut.start + step, float(acts[step])))
    cache = open_cache(tmp_path / "cache")
    assert cache.complete
    cache.verify()
    frame = cache.frame().sort_values(["feature", "document", "position"])
    assert list(frame.itertuples(index=False, name=None)) == sorted(wanted)
    assert (frame["value"] > 0).all()
    written = set(frame["feature"])
    signs = {(f.negative, f.site == NEURONS) for n, f in enumerate(case.reading.features)
             if n in written and f.coder is None}  # fmt: skip
    assert {(False, True), (True, True)} <= signs  # both tails of the neurons
    assert cache.settings.others["numbered"] == [str(f) for f in case.reading.features]
    documents = cache.documents()
    for chunk in case.reading.chunks():
        one = documents[(documents["number"] == chunk.number) & (documents["start"] == chunk.start)]
        assert tuple(one["token_ids"].item()) == chunk.token_ids
        assert one["document"].item() == chunk.document
        assert one["pool"].item() == chunk.pool.value


# -- what is saved --------------------------------------------------------------------------------


def small(n: int = 30) -> tuple[Reading, CollectSettings]:
    table = torch.randn((n, 8, 3), generator=torch.Generator().manual_seed(0))
    stream = [
        Chunk(f"{i:016x}", list(Pool)[i % 3], i, 0, tuple(range(8)), ("a",) * 8, True)
        for i in range(n)
    ]

    def read(batch: Sequence[Chunk]) -> torch.Tensor:
        return table[[chunk.number for chunk in batch]]

    features = [FeatureId("m", "s", i) for i in range(3)]
    reading = Reading.of_function(features, lambda: iter(stream), read, percentile=90.0)
    return reading, CollectSettings(ctx=8, window=8, batch=4, n_top=2, n_firing=3, n_silent=3)


def test_a_finished_digest_is_read_back_without_the_model(tmp_path: Path) -> None:
    reading, how = small()
    first = digest_of(reading, how, folder=tmp_path, keep_acts=True)

    def no(*_: Any) -> None:
        raise AssertionError

    object.__setattr__(reading, "scan", no)
    assert digest_of(reading, how, folder=tmp_path, keep_acts=True).fingerprint() == (
        first.fingerprint()
    )


def test_a_digest_without_activations_is_not_taken_for_one_with_them(tmp_path: Path) -> None:
    reading, how = small()
    expected = list(records_of(reading, how))
    digest_of(reading, how, folder=tmp_path, keep_acts=False)
    assert list(records_of(reading, how, folder=tmp_path)) == expected


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"",
        lambda content: b"x" * len(content),
        lambda content: struct.pack("<Q", 1 << 60) + content[8:],
        lambda content: content[:-40] + bytes([content[-40] ^ 1]) + content[-39:],
        lambda content: content.replace(b'"batches":"', b'"batches":"1', 1),
        lambda content: content.replace(b"0.thresholds", b"0.thresholdz", 1),
    ],
    ids=["half", "end", "more", "empty", "text", "huge", "bit", "count", "name"],
)
def test_a_damaged_file_is_refused_and_says_what_to_do(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    reading, how = small()
    digest_of(reading, how, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(StoreError, match="delete it to begin anew") as told:
        digest_of(reading, how, folder=tmp_path)
    assert str(file) in str(told.value)


def test_any_single_flipped_bit_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    tensors = {"x": torch.arange(40), "y": torch.zeros((0, 3)), "z": torch.tensor(7)}
    write_tensors(file, tensors, {"said": "so"})
    found, said = read_tensors(file)
    assert said == {"said": "so"}
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    whole = file.read_bytes()
    harmless = 0
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            found, said = read_tensors(file)
        except StoreError:
            continue
        harmless += 1  # the padding of the header, say
        assert said == {"said": "so"}
        assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert harmless < 20


def test_what_is_there_stays_where_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.safetensors"
    write_tensors(file, {"x": torch.arange(3)}, {})
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left"):
        write_tensors(file, {"x": torch.arange(4)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert file.read_bytes() == before


def test_files_of_killed_writers_are_removed_and_those_of_living_ones_are_not(
    tmp_path: Path,
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = tmp_path / f".a.safetensors.{gone.pid}"
    others = [tmp_path / f".a.safetensors.{os.getppid()}", tmp_path / f".b.safetensors.{gone.pid}"]
    for left in (dead, *others):
        left.write_bytes(b"half")
    write_tensors(tmp_path / "a.safetensors", {"x": torch.arange(3)}, {})
    assert not dead.exists()
    assert all(left.exists() for left in others)


# -- kill -9 --------------------------------------------------------------------------------------


@dataclass
class Said:
    """What a job printed, by its first word, and how it ended."""

    code: int = 0
    lines: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str:
        return [rest for first, rest in self.lines if first == word][-1]


class Worker:
    """`tests.collect_child`, which has its imports behind it."""

    def __init__(self, model: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.collect_child", str(model)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "critical",
                 "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("ready")

    def do(self, kill_after: float | None = None, **job: Any) -> Said:
        """Does a job; kills it so many seconds after it began, if asked to."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(job), file=self.process.stdin, flush=True)
        said = Said()
        for line in self.process.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            if word == "begun" and kill_after is not None:
                time.sleep(kill_after)
                with suppress(ProcessLookupError):  # done before
                    os.kill(int(rest), signal.SIGKILL)
            elif word == "ended":
                said.code = int(rest)
                break
            else:
                said.lines.append((word, rest))
        return said


@pytest.fixture(scope="module")
def worker(place: Path) -> Iterator[Worker]:
    found = Worker(place / "model")
    try:
        yield found
    finally:
        assert found.process.stdin is not None
        assert found.process.stdout is not None
        found.process.stdin.close()
        found.process.wait(30)
        found.process.stdout.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    save_tiny_llama(folder / "model")
    lines = [json.dumps({"text": text}) for text in some_texts(160, longest=60)]
    (folder / "text.jsonl").write_text("\n".join(lines))
    return folder


def job(place: Path, out: Path, *, cached: bool = True) -> dict[str, Any]:
    return {
        "what": "digest",
        "model": str(place / "model"),
        "corpus": str(place / "text.jsonl"),
        "folder": str(out / "digest"),
        "cache": str(out / "cache") if cached else "",
    }


def files(folder: Path) -> dict[str, bytes]:
    """All that is there but locks."""
    found = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {name: p.read_bytes() for name, p in found.items() if not name.endswith(".lock")}


def rows(folder: Path) -> list[tuple[Any, ...]]:
    frame = open_cache(folder).frame()
    return sorted(frame.itertuples(index=False, name=None))


@dataclass
class Whole:
    """An undisturbed run."""

    fingerprint: str
    digest: dict[str, bytes]
    cache: list[tuple[Any, ...]]
    scans: int
    syncs: int
    seconds: float


@pytest.fixture(scope="module")
def whole(worker: Worker, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    out = tmp_path_factory.mktemp("whole")
    start = time.monotonic()
    said = worker.do(**job(place, out))
    seconds = time.monotonic() - start
    assert said.code == 0
    open_cache(out / "cache").verify()
    return Whole(
        said.last("fingerprint"), files(out / "digest"), rows(out / "cache"),
        int(said.last("scans")), int(said.last("syncs")), seconds,
    )  # fmt: skip


def finished(worker: Worker, place: Path, out: Path, whole: Whole) -> int:
    """Goes on to the end, and holds what came out against the undisturbed run; its passes."""
    said = worker.do(**job(place, out))
    assert said.code == 0
    assert said.last("fingerprint") == whole.fingerprint
    assert files(out / "digest") == whole.digest
    cache = open_cache(out / "cache")
    assert cache.complete
    cache.verify()
    assert rows(out / "cache") == whole.cache
    return int(said.last("scans"))


def test_killed_whenever_something_was_about_to_be_on_disk(
    worker: Worker, place: Path, whole: Whole, tmp_path: Path
) -> None:
    moments = random.Random(1).sample(range(1, whole.syncs), 4)
    for number, moment in enumerate(sorted(moments)):
        out = tmp_path / str(number)
        said = worker.do(**job(place, out), die_at_sync=moment)
        assert said.code == -signal.SIGKILL
        finished(worker, place, out, whole)


def test_killed_again_and_again_at_forward_passes_it_comes_to_the_same_end(
    worker: Worker, place: Path, whole: Whole, tmp_path: Path
) -> None:
    n = whole.scans
    deaths = 0
    for _ in range(3):
        deaths += worker.do(**job(place, tmp_path), die_at_scan=n // 3).code == -signal.SIGKILL
    assert deaths >= 2
    assert finished(worker, place, tmp_path, whole) < n


def test_killed_at_random_moments(
    worker: Worker, place: Path, whole: Whole, tmp_path: Path
) -> None:
    chance = random.Random(2)
    deaths = 0
    for _ in range(4):
        after = chance.uniform(0.1, 0.5) * whole.seconds
        deaths += worker.do(**job(place, tmp_path), kill_after=after).code == -signal.SIGKILL
    assert deaths
    finished(worker, place, tmp_path, whole)


def test_without_a_cache_each_attempt_begins_where_the_last_one_was_saved(
    worker: Worker, place: Path, whole: Whole, tmp_path: Path
) -> None:
    n = whole.scans
    worker.do(**job(place, tmp_path, cached=False), die_at_scan=n // 2)
    said = worker.do(**job(place, tmp_path, cached=False))
    assert said.code == 0
    # the pass it died in is done again, and thresholds are not measured anew
    assert int(said.last("scans")) == n - n // 2 + 1
    assert files(tmp_path / "digest") == whole.digest
    again = worker.do(**job(place, tmp_path, cached=False))
    assert (int(again.last("scans")), again.last("fingerprint")) == (0, whole.fingerprint)


def test_killed_where_nothing_was_measured_yet_it_begins_anew(
    worker: Worker, place: Path, whole: Whole, tmp_path: Path
) -> None:
    assert worker.do(**job(place, tmp_path), die_at_scan=1).code == -signal.SIGKILL
    assert finished(worker, place, tmp_path, whole) == whole.scans


# -- the command ----------------------------------------------------------------------------------


def collecting(place: Path, out: Path, *more: str) -> dict[str, Any]:
    arguments = [
        *("collect", "--model", str(place / "model"), "--corpus", str(place / "text.jsonl")),
        *("--site", "layers.*.mlp.neurons", "--features", "3,7-", "--tokens", "6k", "--ctx", "32"),
        *("--window", "8", "--batch-size", "4", "--device", "cpu", "--dtype", "float32"),
        *("--calibration-tokens", "500", "--store", f"sqlite:///{out}/glossator.db", "-q"),
    ]
    return {"what": "command", "arguments": [*arguments, *more]}


def test_a_killed_collect_goes_on_and_leaves_the_records_of_an_undisturbed_one(
    worker: Worker, place: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "whole", tmp_path / "killed"
    for out in (first, second):
        out.mkdir()
    said = worker.do(**collecting(place, first, "--cache", str(first / "cache")))
    assert said.last("code") == "0"
    n = int(said.last("scans"))
    killed = worker.do(
        **collecting(place, second, "--cache", str(second / "cache")), die_at_scan=2 * n // 3
    )
    assert killed.code == -signal.SIGKILL
    (saved,) = (second / "glossator.db.collections").rglob("*.safetensors")
    assert int(read_tensors(saved)[1]["batches"]) > 5
    on = worker.do(**collecting(place, second, "--cache", str(second / "cache")))
    assert on.last("code") == "0"
    with (
        open_store(f"sqlite:///{first}/glossator.db") as one,
        open_store(f"sqlite:///{second}/glossator.db") as other,
    ):
        (run,), (again,) = one.runs(), other.runs()
        assert again.status is run.status
        expected = list(one.records(run.collection))
        assert len(expected) == 4
        assert list(other.records(again.collection)) == expected
        assert list(other.summaries(again.collection)) == list(one.summaries(run.collection))
    assert rows(second / "cache") == rows(first / "cache")
    assert not list((second / "glossator.db.collections").rglob("*.safetensors"))


def test_a_killed_collect_reads_less_the_second_time(
    worker: Worker, place: Path, tmp_path: Path
) -> None:
    n = int(worker.do(**collecting(place, tmp_path, "--store", f"sqlite:///{tmp_path}/whole.db"))
            .last("scans"))  # fmt: skip
    killed = worker.do(**collecting(place, tmp_path), die_at_scan=2 * n // 3)
    assert killed.code == -signal.SIGKILL
    on = worker.do(**collecting(place, tmp_path))
    assert on.last("code") == "0"
    assert int(on.last("scans")) < n // 2
    assert int(worker.do(**collecting(place, tmp_path)).last("scans")) == 0


def test_the_same_collect_with_its_cache_done_reads_nothing(
    worker: Worker, place: Path, tmp_path: Path
) -> None:
    what = collecting(place, tmp_path, "--cache", str(tmp_path / "cache"))
    assert worker.do(**what).last("code") == "0"
    before = files(tmp_path / "cache")
    again = worker.do(**what)
    assert again.last("code") == "0"
    assert files(tmp_path / "cache") == before
    assert int(again.last("scans")) == 0

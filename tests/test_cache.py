"""The sparse cache: what is read back, what a killed writer leaves, and what it takes on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.datasets.cache import COLUMNS, CacheSettings, CacheWriter, open_cache
from glossator.errors import ConfigError, StoreError
from glossator.types import Pool

SETTINGS = CacheSettings(
    subject="tiny",
    site="layers.1.resid_post",
    coder="default",
    corpus="some.txt",
    corpus_digest="c0ffee",
    threshold_rule="above 0",
    others={"dtype": "float32", "ctx": 128},
)
N_FEATURES, N_DOCUMENTS, CTX = 40, 30, 25

Columns = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]


def dense(document: int) -> npt.NDArray[np.float32]:
    """Activations of one document, shape (ctx, n_features), most of them 0."""
    rng = np.random.default_rng(document)
    acts = rng.normal(size=(CTX, N_FEATURES)) * (rng.random((CTX, N_FEATURES)) < 0.2)
    return acts.astype(np.float32)


def sparse(document: int) -> Columns:
    """The same as unsorted rows."""
    acts = dense(document)
    position, feature = acts.nonzero()
    order = np.random.default_rng(document + 1).permutation(len(position))
    position, feature = position[order], feature[order]
    return feature, np.full(len(feature), document), position, acts[position, feature]


def write(
    folder: Path, n: int = N_DOCUMENTS, rows_per_shard: int = 1000, close: bool = True
) -> CacheWriter:
    writer = CacheWriter(folder, SETTINGS, rows_per_shard=rows_per_shard)
    for document in range(int(writer.position or -1) + 1, n):
        writer.add_document(document, f"{document:016x}", Pool.DEV, range(document, document + CTX))
        writer.add(*sparse(document))
        writer.checkpoint(str(document))
    if close:
        writer.close()
    return writer


def digests(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".lock"
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    there = tmp_path_factory.mktemp("cache") / "whole"
    write(there)
    return there


def test_what_is_read_back_is_every_activation_exactly(folder: Path) -> None:
    cache = open_cache(folder)
    back = np.zeros((N_DOCUMENTS, CTX, N_FEATURES), dtype=np.float32)
    frame = cache.frame()
    back[frame["document"], frame["position"], frame["feature"]] = frame["value"]
    acts = np.stack([dense(document) for document in range(N_DOCUMENTS)])
    assert np.array_equal(back, acts)
    assert cache.rows == len(frame) == np.count_nonzero(acts)
    assert {name: kind.type for name, kind in frame.dtypes.items()} == dict(COLUMNS)
    assert cache.complete
    assert cache.settings == SETTINGS


def test_one_feature_is_read_in_the_order_of_the_corpus(folder: Path) -> None:
    cache = open_cache(folder)
    acts = np.stack([dense(document) for document in range(N_DOCUMENTS)])
    document, position = acts[:, :, 7].nonzero()
    found = cache.of(7)
    assert list(found) == ["document", "position", "value"]
    assert found["document"].tolist() == document.tolist()
    assert found["position"].tolist() == position.tolist()
    assert np.array_equal(found["value"].to_numpy(), acts[document, position, 7])
    assert cache.features() == {i: int(np.count_nonzero(acts[:, :, i])) for i in range(N_FEATURES)}
    assert cache.of(N_FEATURES).empty


def test_shards_are_sorted_and_of_the_size_asked_for(folder: Path) -> None:
    cache = open_cache(folder)
    assert len(cache.shards) > 3
    for shard in cache.shards:
        frame = pd.read_parquet(folder / shard.file)
        assert frame.equals(frame.sort_values(["feature", "document", "position"]))
        assert len(frame) == shard.rows <= 1000
        assert (frame["feature"].min(), frame["feature"].max()) == (
            shard.min_feature,
            shard.max_feature,
        )


def test_the_cache_holds_the_text_it_is_of(folder: Path) -> None:
    cache = open_cache(folder)
    documents = cache.documents()
    assert documents["number"].tolist() == list(range(N_DOCUMENTS))
    assert documents["document"][3] == f"{3:016x}"
    assert documents["token_ids"][3].tolist() == list(range(3, 3 + CTX))
    assert set(documents["pool"]) == {"dev"}
    assert cache.tokens == N_DOCUMENTS * CTX


def test_pandas_reads_the_folder_without_us(folder: Path) -> None:
    plain = pd.read_parquet(folder / "activations")
    assert plain[list(COLUMNS)].equals(open_cache(folder).frame())


def test_duckdb_reads_the_folder_without_us(folder: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    frame = open_cache(folder).frame()
    found = duckdb.sql(
        "SELECT feature, count(*), max(value), sum(position) "
        f"FROM '{folder}/activations/*.parquet' GROUP BY feature ORDER BY feature"
    ).fetchall()
    grouped = frame.groupby("feature")
    assert [row[1] for row in found] == grouped.size().tolist()
    assert [row[2] for row in found] == grouped["value"].max().tolist()
    assert [row[3] for row in found] == grouped["position"].sum().tolist()


@settings(max_examples=20)
@given(
    sizes=st.lists(st.integers(0, 40), max_size=12),
    limit=st.integers(1, 30),
    marks=st.lists(st.booleans(), min_size=12, max_size=12),
    stop=st.integers(0, 12),
)
def test_whatever_is_added_between_checkpoints_stopping_and_going_on_changes_no_row(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    limit: int,
    marks: list[bool],
    stop: int,
) -> None:
    """The oracle is the list of what was added."""
    there = tmp_path_factory.mktemp("any") / "cache"
    parts = [
        [(k % 5, part, k) for k in np.random.default_rng(part).permutation(size).tolist()]
        for part, size in enumerate(sizes)
    ]

    def put(writer: CacheWriter, first: int, last: int) -> None:
        for part in range(first, last):
            rows = np.array(parts[part], dtype=np.int64).reshape(-1, 3)
            writer.add(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 2] / 8)
            if marks[part]:
                writer.checkpoint(str(part))

    writer = CacheWriter(there, SETTINGS, rows_per_shard=limit)
    put(writer, 0, min(stop, len(parts)))
    writer.release()
    again = CacheWriter(there, SETTINGS, rows_per_shard=limit)
    marked = [part for part in range(min(stop, len(parts))) if marks[part]]
    assert again.position == (str(marked[-1]) if marked else None)
    put(again, marked[-1] + 1 if marked else 0, len(parts))
    again.close()
    frame = open_cache(there).frame()
    found = sorted(zip(frame["feature"], frame["document"], frame["position"], strict=True))
    assert found == sorted(row for part in parts for row in part)
    assert (frame["value"] == frame["position"] / 8).all()
    open_cache(there).verify()


CHILD = """
import sys
from pathlib import Path
from tests.test_cache import CTX, SETTINGS, sparse, write
from glossator.datasets import cache
real = cache.os.replace
def slow(*paths):  # so that kills fall between the steps of a commit, too
    print("replacing", flush=True)
    real(*paths)
    print("replaced", flush=True)
cache.os.replace = slow
write(Path(sys.argv[1]), rows_per_shard=700)
print("end", flush=True)
"""


def child(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, str(folder)]
    root = str(Path(__file__).parent.parent)
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)


def test_after_kill_9_what_is_listed_is_whole_and_going_on_gives_the_same_files(
    tmp_path: Path,
) -> None:
    there = tmp_path / "killed"
    listed = []
    for lines in (4, 5, 8, 9):
        process = child(there)
        assert process.stdout is not None
        for _ in range(lines):
            assert process.stdout.readline().startswith("replac")
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        cache = open_cache(there)
        cache.verify()
        listed.append(len(cache.shards))
        assert not cache.complete
        frame = cache.frame()
        for document in range(int(cache.position or -1) + 1):
            assert len(frame[frame["document"] == document]) == np.count_nonzero(dense(document))
        assert set(frame["document"]) == set(range(int(cache.position or -1) + 1))
    assert listed == sorted(listed)
    assert listed[-1] > 0
    last = child(there)
    assert last.communicate()[0].endswith("end\n")
    write(tmp_path / "quiet", rows_per_shard=700)
    assert digests(there) == digests(tmp_path / "quiet")


def test_leftovers_go_at_the_next_start_and_foreign_files_stay(tmp_path: Path) -> None:
    write(tmp_path, n=10, close=False).release()
    ours = [
        tmp_path / "activations" / ".activations-000099.part",
        tmp_path / "activations" / "activations-000099.parquet",
        tmp_path / "documents" / ".documents-000099.part",
    ]
    foreign = tmp_path / "activations" / "notes.txt"
    for file in [*ours, foreign]:
        file.write_bytes(b"half")
    write(tmp_path)
    assert not any(file.exists() for file in ours)
    assert foreign.exists()


def test_a_complete_cache_takes_no_more(folder: Path) -> None:
    with CacheWriter(folder, SETTINGS) as writer:
        assert writer.complete
        with pytest.raises(StoreError, match="complete"):
            writer.add([0], [0], [0], [1.0])
        with pytest.raises(StoreError, match="complete"):
            writer.add_document(0, "x", Pool.DEV, [1])
    assert open_cache(folder).complete


def test_an_error_in_the_block_keeps_what_the_last_checkpoint_covers(tmp_path: Path) -> None:
    def interrupted() -> None:
        with CacheWriter(tmp_path, SETTINGS) as writer:
            writer.add([1], [0], [0], [1.0])
            writer.checkpoint("first")
            writer.add([2], [1], [0], [1.0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    cache = open_cache(tmp_path)
    assert (cache.position, cache.complete, cache.features()) == ("first", False, {1: 1})


def test_a_cache_of_something_else_is_not_gone_on_with(folder: Path) -> None:
    other = dataclasses.replace(SETTINGS, corpus_digest="beef")
    with pytest.raises(ConfigError, match="corpus_digest"):
        CacheWriter(folder, other)
    CacheWriter(folder, SETTINGS).release()  # and the refused one has let the folder go


def test_a_folder_of_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"thesis\.tex"):
        CacheWriter(tmp_path, SETTINGS)


def test_two_writers_do_not_share_a_folder(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, SETTINGS), pytest.raises(StoreError, match="another process"):
        CacheWriter(tmp_path, SETTINGS)


def test_a_folder_that_cannot_be_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write the cache"):
        CacheWriter(tmp_path / "file" / "cache", SETTINGS)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told_of(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="Permission denied"):
        CacheWriter(tmp_path, SETTINGS)


def test_a_full_disk_is_told_of_and_what_is_listed_stays(tmp_path: Path) -> None:
    """A limit on the size of files stands in for it: the write itself fails, as on a full disk."""
    write(tmp_path, n=10, close=False).release()
    before = open_cache(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, hard))
    try:
        with pytest.raises(StoreError, match=r"cannot write the cache.*make room"):
            write(tmp_path, rows_per_shard=10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    after = open_cache(tmp_path)
    after.verify()
    assert after == before
    assert not list(tmp_path.rglob("*.part"))
    write(tmp_path, rows_per_shard=10_000)
    assert open_cache(tmp_path).frame()["document"].nunique() == N_DOCUMENTS


def damaged(folder: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A copy of `folder` with one bit of its second shard turned; the shard."""
    there = tmp_path / "damaged"
    shutil.copytree(folder, there)
    shard = there / open_cache(there).shards[1].file
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 4
    shard.write_bytes(content)
    return there, shard


def test_a_damaged_shard_is_named(folder: Path, tmp_path: Path) -> None:
    open_cache(folder).verify()
    there, shard = damaged(folder, tmp_path)
    with pytest.raises(StoreError, match=rf"{shard.name} is damaged") as caught:
        open_cache(there).verify()
    assert "000000" not in str(caught.value)
    with pytest.raises(StoreError, match=shard.name):
        open_cache(there).frame()
    shard.unlink()
    with pytest.raises(StoreError, match=f"{shard.name} cannot be read"):
        open_cache(there).verify()
    with pytest.raises(StoreError, match=shard.name):
        open_cache(there).frame()


def test_a_writer_does_not_go_on_behind_a_damaged_shard(tmp_path: Path) -> None:
    write(tmp_path, n=20, close=False).release()
    shard = tmp_path / open_cache(tmp_path).shards[0].file
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(StoreError, match=shard.name):
        CacheWriter(tmp_path, SETTINGS)


def test_a_manifest_that_is_none_is_told_of(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(StoreError, match="no cache"):
        open_cache(tmp_path)
    good = json.loads((folder / "manifest.json").read_text())
    outside = {**good["shards"][0], "file": "../../etc/passwd"}
    broken: list[Any] = [
        "{",
        "[]",
        json.dumps({**good, "shards": [outside]}),
        json.dumps({k: v for k, v in good.items() if k != "settings"}),
        json.dumps({**good, "shards": [{**good["shards"][0], "min_feature": None}]}),
    ]
    for text in broken:
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(StoreError, match="not a cache's manifest"):
            open_cache(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({**good, "version": 9}))
    with pytest.raises(StoreError, match="version 9"):
        open_cache(tmp_path)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (([1], [0], [0], [float("nan")]), "NaN"),
        (([1], [0], [0], [float("inf")]), "infinite"),
        (([1], [0], [0], [1e300]), "infinite"),
        (([1], [0], [0], ["x"]), "no number"),
        (([-1], [0], [0], [1.0]), "feature goes from 0"),
        (([1], [1 << 31], [0], [1.0]), "document goes from 0"),
        (([1], [0], [0.5], [1.0]), "whole numbers"),
        (([1, 2], [0], [0], [1.0]), "one shape"),
        (([[1]], [[0]], [[0]], [[1.0]]), "one shape"),
    ],
)
def test_what_cannot_be_stored_exactly_is_refused(
    tmp_path: Path, columns: tuple[Any, Any, Any, Any], said: str
) -> None:
    with CacheWriter(tmp_path, SETTINGS) as writer, pytest.raises(ConfigError, match=said):
        writer.add(*columns)


def test_a_cache_of_nothing_is_read_as_nothing(tmp_path: Path) -> None:
    with CacheWriter(tmp_path, SETTINGS) as writer:
        writer.add([], [], [], [])
    cache = open_cache(tmp_path)
    assert (cache.rows, cache.tokens, cache.features()) == (0, 0, {})
    assert cache.frame().empty
    assert cache.documents().empty
    with pytest.raises(ConfigError, match="no column 'token'"):
        cache.frame(["token"])


def test_a_nonzero_takes_less_than_six_bytes(tmp_path: Path) -> None:
    """50 of 4,608 latents a token, of very unequal density, with random mantissas."""
    rng = np.random.default_rng(0)
    density = np.exp(rng.normal(0, 1.5, 4608))
    lengths = np.clip(rng.lognormal(5.3, 0.7, 90).astype(int), 8, 2000)
    with CacheWriter(tmp_path, SETTINGS) as writer:
        for document, length in enumerate(lengths):
            # the 50 largest of density times exponential noise: a draw without replacement
            drawn = rng.exponential(size=(length, 4608)) / density
            feature = np.argpartition(drawn, 50, axis=1)[:, :50].ravel()
            position = np.repeat(np.arange(length), 50)
            value = rng.gamma(1.5, 1.0, len(feature)).astype(np.float32)
            writer.add(feature, np.full(len(feature), document), position, value)
            writer.checkpoint(str(document))
    cache = open_cache(tmp_path)
    assert cache.rows == 50 * lengths.sum()
    assert sum(shard.size for shard in cache.shards) / cache.rows < 5.2

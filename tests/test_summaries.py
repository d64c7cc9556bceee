"""Every feature of a model: kinds and numbers without records, in the store and in lists."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from glossator.cli.app import call
from glossator.datasets import digest as digest_module
from glossator.datasets.collect import records_from
from glossator.datasets.corpora import Corpus
from glossator.datasets.digest import Digest, digest_of
from glossator.datasets.outputs import Outputs
from glossator.datasets.readings import reading_of
from glossator.datasets.settings import CollectSettings
from glossator.datasets.summaries import summaries_of
from glossator.store import open_store
from glossator.subject import Subject, load_subject
from glossator.types import FeatureId, FeatureSummary, Kind
from tests.collect_child import coder
from tests.tiny_llama import save_tiny_llama, some_texts

SITES = ("layers.0.mlp.neurons", "layers.1.mlp.neurons")
HOW = CollectSettings(
    tokens=6000, ctx=64, window=16, calibration_tokens=800, batch=8, n_top=5, n_firing=20,
    n_silent=10, percentile=95.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all")
    save_tiny_llama(folder / "model")
    lines = [json.dumps({"text": text}) for text in some_texts(150)]
    (folder / "text.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="module")
def subject(place: Path) -> Subject:
    return load_subject(str(place / "model"), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def both(subject: Subject) -> tuple[Digest, Digest]:
    """Digests of all neurons, both tails, and all latents, with and without activations."""
    features = [
        FeatureId(subject.name, site, i, negative=sign)
        for site in SITES for i in range(24) for sign in (False, True)
    ]  # fmt: skip
    features += [FeatureId(subject.name, "layers.1.resid_post", i, coder="jump") for i in range(20)]
    corpus = Corpus.of(some_texts(150))
    reading = reading_of(subject, features, corpus, HOW, {"jump": coder()})
    return (
        digest_of(reading, HOW, keep_acts=True),
        digest_of(reading, HOW, keep_acts=False),
    )


def test_summaries_have_the_numbers_of_the_records(
    both: tuple[Digest, Digest], subject: Subject
) -> None:
    full, bare = both
    outputs = Outputs.of(subject)
    expected = {r.feature: FeatureSummary.of(r) for r in records_from(full, outputs)}
    found = {s.feature: s for s in summaries_of(bare, outputs)}
    assert found.keys() == expected.keys()
    kinds: Counter[Kind] = Counter()
    other = []
    for feature, summary in found.items():
        wanted = expected[feature]
        for name in ("density", "threshold", "peak", "mean", "std", "n_tokens", "n_windows"):
            assert getattr(summary, name) == getattr(wanted, name), (feature, name)
        assert summary.lowest is not None
        assert summary.lowest <= summary.mean <= summary.peak
        kinds[summary.kind] += 1
        if summary.kind is not wanted.kind:
            other.append((summary.kind, wanted.kind))
            continue
        for name, value in summary.evidence.items():
            assert value == pytest.approx(wanted.evidence[name], rel=1e-6, abs=1e-9), name
        assert wanted.evidence.keys() - summary.evidence.keys() <= {"pair_fires_share"}
    assert len(kinds) > 1
    # how often a pair occurs where nothing fires is known to records alone: a token is a pair here
    assert set(other) <= {(Kind.NGRAM, Kind.TOKEN), (Kind.NGRAM, Kind.OTHER)}
    assert len(other) < 0.1 * len(found)


def test_summaries_are_the_same_whether_activations_are_kept(both: tuple[Digest, Digest]) -> None:
    full, bare = both
    assert list(summaries_of(full)) == list(summaries_of(bare))


def test_summaries_are_the_same_from_merged_shards(both: tuple[Digest, Digest]) -> None:
    _, bare = both
    empty = Digest(bare.reading, bare.settings, bare.thresholds, bare.rule, keep_acts=False)
    empty.merge(bare)
    assert list(summaries_of(empty)) == list(summaries_of(bare))


# -- the command ----------------------------------------------------------------------------------


pytestmark = pytest.mark.usefixtures("in_a_folder")


def typed(place: Path, command: str, *more: str) -> list[str]:
    return [
        *(command, "--model", str(place / "model"), "--corpus", str(place / "text.jsonl")),
        *("--site", "layers.*.mlp.neurons", "--features", "all", "--tokens", "6k", "--ctx", "64"),
        *("--window", "16", "--batch-size", "8", "--device", "cpu", "--dtype", "float32"),
        *("--calibration-tokens", "800", "-q", *more),
    ]


def count_scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    counted = [0]
    scan = Subject.scan

    def scanned(self: Subject, *given: object) -> None:
        counted[0] += 1
        scan(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(Subject, "scan", scanned)
    return counted


def test_all_features_of_a_model_are_collected_listed_and_not_read_twice(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(typed(place, "collect", "--store", "sqlite:///records.db")) == 0
    monkeypatch.setattr(digest_module, "MOST_BYTES", 1000)
    scans = count_scans(monkeypatch)
    assert call(typed(place, "collect")) == 0
    assert scans[0] > 0
    with (
        open_store("sqlite:///glossator.db") as store,
        open_store("sqlite:///records.db") as other,
    ):
        (run,), (before,) = store.runs(), other.runs()
        found = {s.feature: s for s in store.summaries(run.collection)}
        expected = {s.feature: s for s in other.summaries(before.collection)}
        assert not store.recorded(run.collection)
        assert len(other.recorded(before.collection)) == 96
    assert found.keys() == expected.keys()
    for feature, summary in found.items():
        for name in ("density", "threshold", "peak", "mean", "std", "n_tokens", "n_windows"):
            assert getattr(summary, name) == getattr(expected[feature], name)
    counts = Counter(s.kind.value for s in found.values())
    for kind, count in counts.items():
        capsys.readouterr()
        assert call(["list", "--collected", "--kind", kind, "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)["collected"]
        assert len(listed) == count
        assert {row["kind"] for row in listed} == {kind}
        assert call(["list", "--collected", "--kind", kind]) == 0
        assert kind in capsys.readouterr().out
    # again: nothing is read
    scans[0] = 0
    assert call(typed(place, "collect")) == 0
    assert scans[0] == 0
    # fewer features get their records from a reading of their own
    monkeypatch.setattr(digest_module, "MOST_BYTES", 1 << 31)
    few = ["--features", "0-2"]
    assert call(typed(place, "collect", *few)) == 0
    with open_store("sqlite:///glossator.db") as store:
        assert len(store.recorded(run.collection)) == 6
        assert len(list(store.summaries(run.collection))) == 96


def test_explaining_what_only_has_a_summary_says_to_collect_fewer(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(digest_module, "MOST_BYTES", 1000)
    assert call(typed(place, "collect")) == 0
    capsys.readouterr()
    assert call(typed(place, "explain", "--explainer", "unigram")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    # the same collect again would do nothing, so to say "collect it first" does not help
    assert "--features" in line

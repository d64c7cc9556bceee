from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.datasets.collect import (
    CollectSettings,
    collect,
    collect_features,
    densities,
)
from glossator.datasets.corpora import Corpus
from glossator.datasets.digest import digest_of
from glossator.datasets.readings import Reading
from glossator.datasets.reducers import (
    N_BINS,
    NO_WINDOW,
    Kept,
    LargestValues,
    PoolReducer,
    WindowBatch,
    feature_keys,
    histogram_edges,
    priorities,
    window_id,
)
from glossator.datasets.windows import Chunk, chunks, window_starts
from glossator.errors import ConfigError, CorpusError
from glossator.subject import Subject, load_subject
from glossator.types import FeatureId, Pool
from tests.tiny_llama import save_tiny_llama, some_texts

SITE = "layers.1.mlp.neurons"
FEATURES = [FeatureId("m", "s", i) for i in range(3)] + [FeatureId("m", "s", 1, negative=True)]
ROWS = torch.tensor([[0, -1], [1, 3], [2, -1]], dtype=torch.int32)
LIMITS = (0.0, 0.5, 9.0, 0.5)
KEYS = feature_keys(FEATURES, seed=0)
WINDOW = 5


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny")
    return load_subject(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.of(some_texts(60))


def reducer(compiled: bool = True) -> PoolReducer:
    kept = Kept(window=WINDOW, n_top=3, n_firing=4, n_silent=3, n_positions=4)
    return PoolReducer(torch.tensor(LIMITS), KEYS, ROWS, kept, compiled=compiled)


def batch_of(acts: torch.Tensor, lengths: torch.Tensor, ids: torch.Tensor) -> WindowBatch:
    n, window, width = acts.shape
    bins = (torch.arange(window) + ids[:, None]) % 4
    return WindowBatch(
        acts.reshape(-1, width), torch.arange(n) * window, lengths, ids, bins.short().contiguous()
    )


def random_batch(n: int, seed: int, ties: bool = False) -> WindowBatch:
    chance = torch.Generator().manual_seed(seed)
    acts = torch.randn((n, WINDOW, 3), generator=chance)
    acts = acts.round() if ties else acts
    lengths = torch.randint(1, WINDOW + 1, (n,), generator=chance)
    return batch_of(acts, lengths, torch.arange(n) * 7 + 3)


def part(batch: WindowBatch, rows: torch.Tensor) -> WindowBatch:
    return WindowBatch(
        batch.lines, batch.first[rows], batch.lengths[rows], batch.ids[rows], batch.bins[rows]
    )


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 60),
    seed=st.integers(0, 999),
    ties=st.booleans(),
    compiled=st.booleans(),
    data=st.data(),
)
def test_any_order_of_batches_and_merges_gives_the_same_to_the_bit(
    n: int, seed: int, ties: bool, compiled: bool, data: st.DataObject
) -> None:
    batch = random_batch(n, seed, ties)
    at_once = reducer()
    at_once.update(batch)
    order = torch.tensor(data.draw(st.permutations(range(n))))
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=5)))
    shards = []
    for start, stop in itertools.pairwise([0, *cuts, n]):
        if start < stop:
            shards.append(reducer(compiled))
            middle = (start + stop) // 2
            for rows in (order[start:middle], order[middle:stop]):
                if len(rows):
                    shards[-1].update(part(batch, rows))
    merged = reducer()
    for shard in shards:
        merged.merge(shard)
    found = merged.state()
    for name, tensor in at_once.state().items():
        assert torch.equal(tensor, found[name]), name


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 60), seed=st.integers(0, 999), ties=st.booleans(), compiled=st.booleans())
def test_the_reducer_agrees_with_everything_held_in_memory(
    n: int, seed: int, ties: bool, compiled: bool
) -> None:
    batch = random_batch(n, seed, ties)
    kept = reducer(compiled)
    for rows in torch.split(torch.arange(n), 7):
        kept.update(part(batch, rows))
    kept.state()  # puts the windows in order
    chance = priorities(KEYS, batch.ids)
    ids = batch.ids.tolist()
    for f, (feature, threshold) in enumerate(zip(FEATURES, LIMITS, strict=True)):
        sign = -1 if feature.negative else 1
        texts = [
            sign
            * batch.lines[
                i * WINDOW : i * WINDOW + int(batch.lengths[i]), feature.index
            ].numpy().astype(np.float64)
            for i in range(n)
        ]  # fmt: skip
        values = np.concatenate(texts)
        fires = [i for i in range(n) if texts[i].max() > threshold]
        silent = [i for i in range(n) if texts[i].max() <= threshold]
        top = sorted(fires, key=lambda i: (-texts[i].max(), ids[i]))[:3]
        drawn = sorted(fires, key=lambda i: int(chance[f, i]))[:7]
        quiet = sorted(silent, key=lambda i: int(chance[f, i]))[:3]
        for windows, wanted in ((kept.top, top), (kept.firing, drawn), (kept.silent, quiet)):
            assert [i for i in windows.ids[f].tolist() if i != NO_WINDOW] == [
                ids[i] for i in wanted
            ]
            for slot, i in enumerate(wanted):
                padded = np.zeros(WINDOW)
                padded[: len(texts[i])] = texts[i]
                assert np.array_equal(windows.acts[f, slot].numpy(), padded)
                if windows is not kept.silent:
                    assert int(windows.ats[f, slot]) == texts[i].argmax()
        assert [float(x) for x in kept.firing.peaks[f, : len(drawn)]] == [
            texts[i].max() for i in drawn
        ]
        assert kept.firing_windows[f] == len(fires)
        assert kept.firing_tokens[f] == (values > threshold).sum()
        places = np.concatenate([batch.bins[i, : len(texts[i])].numpy() for i in range(n)])
        assert kept.positions.tolist() == np.bincount(places, minlength=4).tolist()
        assert (
            kept.firing_positions[f].tolist()
            == np.bincount(places[values > threshold], minlength=4).tolist()
        )
        assert kept.n_tokens == len(values)
        assert kept.extremes(f) == (values.min(), values.max())
        total, squares = kept.moments(f)
        assert total == pytest.approx(values.sum(), abs=1e-4)
        assert squares == pytest.approx((values**2).sum(), rel=1e-5)
        edges = [-np.inf, *histogram_edges(), np.inf]
        counts = kept.counts_by_bin(f)
        assert counts.sum() == len(values)
        middle = N_BINS // 2
        for side, bins in ((1, counts[middle + 1 :]), (-1, counts[:middle])):
            counted = np.histogram(side * values, bins=edges[middle + 1 :])[0]
            assert bins.tolist()[::side] == counted.tolist()


def test_what_is_kept_does_not_grow_with_the_number_of_windows() -> None:
    def size(n: int) -> int:
        kept = reducer()
        for start in range(0, n, 50):
            batch = random_batch(50, start)
            kept.update(replace(batch, ids=batch.ids + start * 1000))
        return sum(tensor.numel() * tensor.element_size() for tensor in kept.state().values())

    assert size(100) == size(400) == size(3200)


def test_memory_while_collecting_does_not_grow_with_the_number_of_tokens() -> None:
    import tracemalloc

    def stream(n: int) -> Iterator[Chunk]:
        for number in range(n):
            if number % 100 == 0:
                gc.collect()  # dropped tensors leave a few bytes each until then
            pool = list(Pool)[number % 3]
            yield Chunk(f"{number:016x}", pool, number, 0, tuple(range(64)), ("a",) * 64, True)

    def peak(n: int) -> int:
        reading = Reading.of_function(
            FEATURES[:3], lambda: stream(n), lambda batch: torch.zeros(len(batch), 64, 3)
        )
        tracemalloc.start()
        digest_of(reading, CollectSettings(ctx=64, batch=4))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(200)  # what is made once
    assert peak(1600) < 1.2 * peak(400)


def test_the_sample_is_uniform() -> None:
    drawn = torch.zeros(60)
    for seed in range(400):
        keys = feature_keys(FEATURES[:1], seed)
        drawn[priorities(keys, torch.arange(60) << 32)[0].argsort()[:6]] += 1
    # 400 draws with chance 1 in 10: standard deviation 6
    assert drawn.sum() == 2400
    assert drawn.min() > 40 - 5 * 6
    assert drawn.max() < 40 + 5 * 6


@given(values=st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=80))
@settings(deadline=None)
def test_the_streamed_percentile_is_that_of_numpy(values: list[float]) -> None:
    largest = LargestValues(torch.tensor([[1, 0]], dtype=torch.int32), 2 + len(values) // 10 + 1)
    for rows in torch.split(torch.tensor(values)[:, None, None], 9):
        n = len(rows)
        largest.update(batch_of(rows, torch.ones(n, dtype=torch.int64), torch.arange(n)))
    wanted = [np.percentile(-np.array(values), 90), np.percentile(values, 90)]
    assert largest.percentile(90).tolist() == pytest.approx(wanted, abs=1e-5)


@given(n=st.integers(2, 60), seed=st.integers(0, 99), compiled=st.booleans())
@settings(max_examples=20, deadline=None)
def test_what_was_saved_goes_on_as_if_nothing_had_been(n: int, seed: int, compiled: bool) -> None:
    batch = random_batch(n, seed, ties=True)
    at_once, before, after = reducer(compiled), reducer(compiled), reducer(compiled)
    at_once.update(batch)
    before.update(part(batch, torch.arange(n // 2)))
    after.restore({name: tensor.clone() for name, tensor in before.state().items()})
    after.update(part(batch, torch.arange(n // 2, n)))
    found = after.state()
    for name, tensor in at_once.state().items():
        assert torch.equal(tensor, found[name]), name


def test_nan_is_refused() -> None:
    batch = random_batch(3, 0)
    batch.lines[0, 0] = torch.nan
    with pytest.raises(ConfigError, match="NaN"):
        reducer().update(batch)


def naive(subject: Subject, corpus: Corpus, column: int, sign: float) -> dict[str, object]:
    """All windows of all pools with their activations, by a hook of our own, one chunk a time."""
    found: dict[Pool, list[tuple[str, int, tuple[str, ...], np.ndarray]]] = {p: [] for p in Pool}
    seen: list[torch.Tensor] = []
    module = subject.model.model.layers[1].mlp.down_proj
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for chunk in chunks(corpus, subject.tokenizer, 64, 3000):
        with torch.inference_mode():
            subject.model(torch.tensor([[subject.start_token_id, *chunk.token_ids]]))
        acts = sign * seen.pop()[0, 1:, column].numpy()
        for start, stop in window_starts(len(acts), 16, chunk.whole_document):
            found[chunk.pool].append(
                (chunk.document, chunk.start + start, chunk.tokens[start:stop], acts[start:stop])
            )
    handle.remove()
    return {"windows": found}


@pytest.mark.parametrize("negative", [False, True])
def test_a_real_model_agrees_with_a_naive_reading(
    subject: Subject, corpus: Corpus, negative: bool
) -> None:
    (record,) = collect(
        subject, SITE, ["5-" if negative else 5], corpus=corpus, tokens=3000, ctx=64, window=16,
        batch=4, n_top=6, n_firing=10, n_silent=10,
    )  # fmt: skip
    windows = naive(subject, corpus, 5, -1.0 if negative else 1.0)["windows"]
    assert isinstance(windows, dict)
    everything = np.concatenate([w[3] for pool in Pool for w in windows[pool]])
    train = np.concatenate([w[3] for w in windows[Pool.TRAIN]])
    assert record.feature.negative is negative
    assert record.n_tokens == len(everything)
    assert record.threshold == pytest.approx(max(0, np.percentile(train, 99)), abs=1e-5)
    assert record.density == pytest.approx((everything > record.threshold).mean(), abs=1e-3)
    assert record.mean == pytest.approx(everything.mean(), abs=1e-5)
    assert record.std == pytest.approx(everything.std(), rel=1e-4)
    assert record.peak == pytest.approx(everything.max(), abs=1e-5)
    assert sum(record.histogram) == len(everything)
    for pool in Pool:
        split = record.split(pool)
        by_place = {(w[0], w[1]): w for w in windows[pool]}
        fires = [w for w in windows[pool] if w[3].max() > record.threshold]
        assert sum(e.weight for e in split.silent) == pytest.approx(len(by_place) - len(fires))
        assert sum(e.weight for e in split.firing) == pytest.approx(len(fires))
        for example in split.examples:
            _, _, tokens, acts = by_place[example.document, example.start]
            assert example.tokens == tokens
            assert np.allclose(example.activations, acts, atol=1e-5)
        strongest = sorted(fires, key=lambda w: -w[3].max())[:6]
        shown = [e for e in split.firing if e.stratum == "top"]
        assert [(e.document, e.start) for e in shown] == [(w[0], w[1]) for w in strongest]


def test_several_sites_in_one_pass_equal_each_alone(subject: Subject, corpus: Corpus) -> None:
    features = [
        FeatureId("tiny", SITE, 3),
        FeatureId("tiny", "layers.0.mlp.neurons", 7, negative=True),
        FeatureId("tiny", SITE, 1),
    ]
    how = CollectSettings(tokens=2000, ctx=64, window=16)
    together = list(collect_features(subject, features, corpus, how))
    assert [r.feature for r in together] == features
    alone = [next(collect_features(subject, [f], corpus, how)) for f in features]
    for one, other in zip(together, alone, strict=True):
        assert one == other


def test_a_bare_index_means_one_tail_or_both(subject: Subject, corpus: Corpus) -> None:
    for tails, printed in (("positive", ["0", "1"]), ("both", ["0", "0-", "1", "1-"])):
        records = collect(subject, SITE, range(2), corpus=corpus, tokens=500, tails=tails)  # type: ignore[arg-type]
        assert [str(r.feature).rpartition("/")[2] for r in records] == printed


def test_special_tokens_in_the_text_are_in_no_window(subject: Subject) -> None:
    texts = [f"{text} <|endoftext|> {text[::-1]}" for text in some_texts(30)]
    (record,) = collect(subject, SITE, [0], corpus=Corpus.of(texts), ctx=64, window=16)
    for pool in Pool:
        assert all("<|endoftext|>" not in e.tokens for e in record.split(pool).examples)
    assert record.provenance["special_tokens_left_out"] == "30"


def test_the_record_says_what_was_read(subject: Subject, corpus: Corpus) -> None:
    (record,) = collect(subject, SITE, ["2-"], corpus=corpus, tokens=2000, seed=3)
    said = record.provenance
    assert said["revision"] == subject.revision
    assert (said["site"], said["polarity"], said["seed"], said["dtype"]) == (
        SITE, "negative", "3", "float32",
    )  # fmt: skip
    assert said["corpus_digest"] == corpus.digest
    assert int(said["tokens"]) + int(said["tail_tokens_left_out"]) == 2000
    assert "99th percentile" in record.threshold_rule


def test_densities_are_shares_of_train_tokens_above_0(subject: Subject, corpus: Corpus) -> None:
    how = CollectSettings(tokens=3000, ctx=64, window=16)
    windows = naive(subject, corpus, 4, 1.0)["windows"]
    assert isinstance(windows, dict)
    train = np.concatenate([w[3] for w in windows[Pool.TRAIN]])
    found = densities(subject, [SITE], corpus, how)[SITE]
    assert len(found) == 24
    assert found[4] == pytest.approx((train > 0).mean(), abs=2e-3)


def test_what_cannot_be_is_said(subject: Subject, corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match="0 to 23"):
        collect(subject, SITE, [24], corpus=corpus)
    with pytest.raises(ConfigError, match="such as 123"):
        collect(subject, SITE, ["x"], corpus=corpus)
    with pytest.raises(ConfigError, match="twice"):
        collect(subject, SITE, [1, "1"], corpus=corpus)
    with pytest.raises(ConfigError, match="no site"):
        collect(subject, "layers.0.mlp.neuron", [1], corpus=corpus)
    with pytest.raises(ConfigError, match="at least 1"):
        collect(subject, SITE, [1], corpus=corpus, window=0)
    with pytest.raises(ConfigError, match="does not fit"):
        collect(subject, SITE, [1], corpus=corpus, window=200)
    no_train = Corpus.of([d.text for d in corpus if d.pool is not Pool.TRAIN])
    with pytest.raises(CorpusError, match="train pool"):
        collect(subject, SITE, [1], corpus=no_train)


def test_window_ids_are_different_and_bounded() -> None:
    assert window_id(1, 0) != window_id(0, 1)
    with pytest.raises(ConfigError):
        window_id(1 << 31, 0)


@pytest.mark.assets
def test_the_bundled_subject_gives_records_of_both_tails() -> None:
    subject = load_subject("smollm2-135m", device="cpu")
    corpus = Corpus.of(some_texts(40))
    records = collect(
        subject, "layers.3.mlp.neurons", [0, "0-"], corpus=corpus, tokens=1500, batch=8
    )
    assert [r.feature.negative for r in records] == [False, True]
    assert records[0].mean == pytest.approx(-records[1].mean, rel=1e-4)
    assert all(r.train.firing for r in records)


@given(n=st.integers(1, 40), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_bfloat16_is_read_as_the_float32_that_it_stands_for(n: int, seed: int) -> None:
    batch = random_batch(n, seed)
    halved = replace(batch, lines=batch.lines.bfloat16())
    wanted, found = reducer(), reducer()
    wanted.update(replace(batch, lines=halved.lines.float()))
    found.update(halved)
    state = found.state()
    for name, tensor in wanted.state().items():
        assert torch.equal(tensor, state[name]), name

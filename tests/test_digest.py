"""The digest against everything held in memory, its shards, its samples, and memory running out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from glossator.datasets.batches import Windows
from glossator.datasets.collect import records_from
from glossator.datasets.corpora import Corpus
from glossator.datasets.digest import Digest, digest_of, reduce_into, thresholds_of
from glossator.datasets.readings import Reading, See, reading_of
from glossator.datasets.reducers import (
    N_BINS,
    NO_WINDOW,
    KeptWindows,
    WindowBatch,
    histogram_edges,
    priorities,
)
from glossator.datasets.settings import CollectSettings
from glossator.datasets.windows import Chunk
from glossator.errors import ConfigError
from glossator.sae import SparseCoder
from glossator.subject import Subject
from glossator.types import SILENT, TOP, FeatureId, Pool
from tests.tiny_llama import some_texts
from tests.tiny_models import tiny_model, tiny_tokenizer

Floats = npt.NDArray[np.float32]

CTX, WINDOW, TOKENS = 28, 10, 3000
SHORTEST = 8
"""A last window of fewer tokens is left out, unless it is all of a document."""
HOW = CollectSettings(
    tokens=TOKENS, ctx=CTX, window=WINDOW, calibration_tokens=600, percentile=90.0, batch=5,
    n_top=4, n_firing=6, n_silent=5, seed=3,
)  # fmt: skip
NEURONS, RESIDUAL = "layers.0.mlp.neurons", "layers.1.resid_post"
DOWN: dict[str, Callable[[Any], Any]] = {
    "llama": lambda model: model.model.layers[0].mlp.down_proj,
    "gpt2": lambda model: model.transformer.h[0].mlp.c_proj,
    "gpt-neox": lambda model: model.gpt_neox.layers[0].mlp.dense_4h_to_h,
}
"""The module whose input the neurons of layer 0 are."""
BLOCK: dict[str, Callable[[Any], Any]] = {
    "llama": lambda model: model.model.layers[1],
    "gpt2": lambda model: model.transformer.h[1],
    "gpt-neox": lambda model: model.gpt_neox.layers[1],
}
"""The module whose output is the residual stream behind layer 1."""
NORM: dict[str, Callable[[Any], Any]] = {
    "llama": lambda model: model.model.norm,
    "gpt2": lambda model: model.transformer.ln_f,
    "gpt-neox": lambda model: model.gpt_neox.final_layer_norm,
}


def coders(d_in: int = 16, d_sae: int = 30) -> dict[str, SparseCoder]:
    chance = torch.Generator().manual_seed(5)

    def of(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=chance)

    common: dict[str, Any] = {
        "W_enc": of(d_in, d_sae), "b_enc": of(d_sae), "W_dec": of(d_sae, d_in), "b_dec": of(d_in),
    }  # fmt: skip
    return {
        "jump": SparseCoder(
            "jump", "jumprelu", "jumprelu", **common, threshold=of(d_sae).abs() * 4,
            apply_b_dec_to_input=True,
        ),
        "top": SparseCoder("top", "topk", "topk", **common, k=3),
    }  # fmt: skip


def by_hand(coder: SparseCoder, acts: Floats) -> npt.NDArray[np.float64]:
    """Latents by their formula, in float64."""
    x = acts.astype(np.float64)
    weights = {n: getattr(coder, n).double().numpy() for n in ("W_enc", "b_enc", "b_dec")}
    if coder.apply_b_dec_to_input:
        x = x - weights["b_dec"]
    pre = x @ weights["W_enc"] + weights["b_enc"]
    if coder.threshold is not None:
        return np.where(pre > coder.threshold.double().numpy(), pre, 0.0)
    assert coder.k is not None
    least = np.sort(pre, axis=-1)[..., -coder.k, None]
    return np.where(pre >= least, np.maximum(pre, 0.0), 0.0)


def features_of(subject: Subject) -> list[FeatureId]:
    """Both tails of the neurons, one tail alone of some of the stream, all latents, mixed up."""
    found = [
        FeatureId(subject.name, NEURONS, i, negative=n) for i in range(24) for n in (False, True)
    ]
    found += [FeatureId(subject.name, RESIDUAL, i, negative=bool(i % 2)) for i in (9, 2, 5)]
    found += [FeatureId(subject.name, RESIDUAL, i, coder=n) for n in coders() for i in range(30)]
    order = torch.randperm(len(found), generator=torch.Generator().manual_seed(1)).tolist()
    return [found[i] for i in order]


@dataclass
class Seen:
    """One text of a forward pass: its tokens, and what passed the two places."""

    ids: tuple[int, ...]
    neurons: Floats
    stream: Floats
    latents: dict[str, Floats]


@contextmanager
def everything(name: str, subject: Subject) -> Iterator[list[Seen]]:
    """Keeps, by plain hooks, what passes in the forward passes of the block."""
    found: list[Seen] = []
    held: dict[str, Any] = {}
    known = coders()

    def ids(_: Any, args: Any, kwargs: Any) -> None:
        held["ids"] = (args[0] if args else kwargs["input_ids"]).clone()

    def neurons(_: Any, args: Any) -> None:
        held["neurons"] = args[0].detach().clone()

    def stream(_: Any, __: Any, output: Any) -> None:
        acts = (output[0] if isinstance(output, tuple) else output).detach().clone()[:, 1:]
        latents = {n: coder.encode(acts) for n, coder in known.items()}
        for row, line in enumerate(held["ids"].tolist()):
            while line[-1] == subject.start_token_id:  # padding
                line.pop()
            n = len(line) - 1
            found.append(
                Seen(
                    tuple(line[1:]),
                    held["neurons"][row, 1 : n + 1].numpy(),
                    acts[row, :n].numpy(),
                    {name: z[row, :n].numpy() for name, z in latents.items()},
                )
            )

    model = subject.model
    handles = [
        subject.body.register_forward_pre_hook(ids, with_kwargs=True),
        DOWN[name](model).register_forward_pre_hook(neurons),
        BLOCK[name](model).register_forward_hook(stream),
    ]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@dataclass
class Cut:
    """A window as the test itself cuts it."""

    name: int
    document: str
    start: int
    place: int
    """Of its first token in what was read at once."""
    length: int
    chunk: tuple[int, ...]
    """Tokens of what was read at once."""
    acts: dict[tuple[str, str | None], Floats] = field(default_factory=dict)


def cut_by_hand(corpus: Corpus, tokenizer: Any, seen: Sequence[Seen]) -> dict[Pool, list[Cut]]:
    """All windows of the first `TOKENS` tokens, with what was seen of them."""
    by_ids = {one.ids: one for one in seen}
    assert len(by_ids) == len(seen), "two texts of a pass are alike, so the test proves nothing"
    found: dict[Pool, list[Cut]] = {pool: [] for pool in Pool}
    left = TOKENS
    for number, document in enumerate(corpus):
        tokens = tokenizer(document.text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(tokens), CTX):
            chunk = tuple(tokens[at : at + CTX][:left])
            left -= len(chunk)
            alone = len(chunk) == len(tokens)
            for place in range(0, len(chunk), WINDOW):
                length = len(chunk[place : place + WINDOW])
                if length < SHORTEST and not (alone and place == 0):
                    continue
                one = by_ids[chunk]
                acts: dict[tuple[str, str | None], Floats] = {
                    (NEURONS, None): one.neurons,
                    (RESIDUAL, None): one.stream,
                }
                acts |= {(RESIDUAL, n): z for n, z in one.latents.items()}
                found[document.pool].append(
                    Cut(
                        (number << 32) + at + place, document.id, at + place, place,
                        length, chunk,
                        {k: v[place : place + length] for k, v in acts.items()},
                    )
                )  # fmt: skip
            if not left:
                return found
    return found


def mixed(value: int) -> int:
    """The finish of splitmix64 (Steele, Lea and Flood 2014) after adding its constant."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ value >> 27) * 0x94D049BB133111EB % 2**64
    return value ^ value >> 31


def chance_of(feature: FeatureId, seed: int, name: int) -> int:
    key = hashlib.sha256(f"{seed} {feature}".encode()).digest()[:8]
    return mixed(int.from_bytes(key) ^ mixed(name)) & 0x7FFFFFFF


def corpus_of(n: int = 110) -> Corpus:
    """Texts that all begin with the same window, so that many peaks are tied."""
    return Corpus.of(f"the river the river the {text}" for text in some_texts(n, longest=60))


@dataclass
class Case:
    name: str
    subject: Subject
    corpus: Corpus
    reading: Reading
    digest: Digest
    windows: dict[Pool, list[Cut]]
    calibration: list[Seen]
    batches: list[tuple[int, Pool, WindowBatch]]
    """What the digest was given, copied."""


def case_of(name: str) -> Case:
    tokenizer = tiny_tokenizer("start")
    subject = Subject.of(tiny_model(name), tokenizer, name="tiny")
    corpus = corpus_of()
    reading = reading_of(subject, features_of(subject), corpus, HOW, coders())
    with everything(name, subject) as calibration:
        thresholds, rule = thresholds_of(reading, HOW)
    digest = Digest(reading, HOW, thresholds, rule, keep_acts=True)
    given: list[tuple[int, Pool, WindowBatch]] = []
    update = digest.update

    def keep(group: int, pool: Pool, windows: WindowBatch) -> None:
        given.append((group, pool, replace(windows, lines=windows.lines.clone())))
        update(group, pool, windows)

    digest.update = keep  # type: ignore[method-assign]
    with everything(name, subject) as seen:
        reduce_into(digest)
    del digest.update
    digest.fingerprint()  # puts what is kept in order
    windows = cut_by_hand(corpus, tokenizer, seen)
    return Case(name, subject, corpus, reading, digest, windows, calibration, given)


@pytest.fixture(scope="module", params=list(DOWN))
def case(request: pytest.FixtureRequest) -> Case:
    return case_of(request.param)


@pytest.fixture(scope="module")
def llama() -> Case:
    return case_of("llama")


def of_feature(cuts: Sequence[Cut], feature: FeatureId) -> list[Floats]:
    sign = np.float32(-1 if feature.negative else 1)
    return [sign * cut.acts[feature.site, feature.coder][:, feature.index] for cut in cuts]


def kept_ids(kept: KeptWindows, row: int) -> list[int]:
    return [name for name in kept.ids[row].tolist() if name != NO_WINDOW]


def rows_of(digest: Digest) -> Iterator[tuple[FeatureId, int, dict[Pool, Any]]]:
    for group, reducers in zip(digest.reading.groups, digest.reducers, strict=True):
        for row, feature in enumerate(group.features):
            yield feature, row, reducers


# -- everything held in memory --------------------------------------------------------------------


def test_the_reference_sees_what_the_formulas_say(case: Case) -> None:
    """The hooks of this file, held against the model's own outputs and the coders' formulas."""
    known = coders()
    for one in case.calibration[:20]:
        ids = [case.subject.start_token_id, *one.ids]
        with torch.no_grad():
            found = case.subject.model(torch.tensor([ids]), output_hidden_states=True)
            normed = NORM[case.name](case.subject.model)(torch.from_numpy(one.stream))
        # what is listed last has gone through the last norm
        assert np.allclose(normed, found.hidden_states[-1][0, 1:], atol=1e-4)
        for name, latents in one.latents.items():
            assert np.allclose(latents, by_hand(known[name], one.stream), atol=2e-4)


def test_thresholds_are_percentiles_of_the_first_train_tokens(case: Case) -> None:
    read = {one.ids: one for one in case.calibration}
    train: list[Cut] = []
    for chunk, cuts in itertools.groupby(case.windows[Pool.TRAIN], lambda cut: cut.chunk):
        assert chunk in read
        train += cuts
        if sum(cut.length for cut in train) >= HOW.calibration_tokens:
            break
    for number, group in enumerate(case.reading.groups):
        for row, feature in enumerate(group.features):
            found = float(case.digest.thresholds[number][row])
            if feature.coder is not None:
                assert found == 0.0
                continue
            values = []
            for cut in train:
                one = read[cut.chunk]
                acts = one.neurons if feature.site == NEURONS else one.stream
                values.append(acts[cut.place : cut.place + cut.length, feature.index])
            every = np.concatenate(values).astype(float) * (-1 if feature.negative else 1)
            wanted = max(0.0, float(np.percentile(every, 90)))
            assert found == pytest.approx(wanted, rel=1e-6, abs=1e-7)


def test_top_windows_are_exact_ties_order_and_values_included(case: Case) -> None:
    tied = full = 0
    for feature, row, reducers in rows_of(case.digest):
        for pool in Pool:
            cuts, reducer = case.windows[pool], reducers[pool]
            limit, acts = np.float32(reducer.thresholds[row]), of_feature(cuts, feature)
            peaks = [float(a.max()) for a in acts]
            fires = [i for i in range(len(cuts)) if peaks[i] > limit]
            order = sorted(fires, key=lambda i: (-peaks[i], cuts[i].name))
            top = order[: HOW.n_top]
            assert kept_ids(reducer.top, row) == [cuts[i].name for i in top]
            for slot, i in enumerate(top):
                padded = np.zeros(WINDOW, dtype=np.float32)
                padded[: cuts[i].length] = acts[i]
                assert np.array_equal(reducer.top.acts[row, slot].numpy(), padded)
                assert int(reducer.top.ats[row, slot]) == int(acts[i].argmax())
                assert float(-reducer.top.keys[row, slot]) == peaks[i]
            if len(order) > HOW.n_top:
                full += 1
                tied += peaks[order[HOW.n_top - 1]] == peaks[order[HOW.n_top]]
    assert full > 100
    assert tied > 0  # or the rule for ties was not tried


def test_samples_are_exactly_the_windows_of_least_hashes(case: Case) -> None:
    for feature, row, reducers in rows_of(case.digest):
        for pool in Pool:
            cuts, reducer = case.windows[pool], reducers[pool]
            limit, acts = np.float32(reducer.thresholds[row]), of_feature(cuts, feature)
            drawn = sorted(
                range(len(cuts)), key=lambda i: (chance_of(feature, HOW.seed, cuts[i].name), i)
            )
            fires = [i for i in drawn if acts[i].max() > limit]
            silent = [i for i in drawn if not acts[i].max() > limit]
            fires, silent = fires[: HOW.n_firing + HOW.n_top], silent[: HOW.n_silent]
            assert kept_ids(reducer.firing, row) == [cuts[i].name for i in fires]
            assert kept_ids(reducer.silent, row) == [cuts[i].name for i in silent]
            for kept, wanted in ((reducer.firing, fires), (reducer.silent, silent)):
                for slot, i in enumerate(wanted):
                    padded = np.zeros(WINDOW, dtype=np.float32)
                    padded[: cuts[i].length] = acts[i]
                    assert np.array_equal(kept.acts[row, slot].numpy(), padded)
            for slot, i in enumerate(fires):
                assert float(reducer.firing.peaks[row, slot]) == acts[i].max()
                assert int(reducer.firing.ats[row, slot]) == int(acts[i].argmax())


def test_counts_histograms_and_moments_are_those_of_all_activations(case: Case) -> None:
    upper = [e for e in histogram_edges() if e > 0]
    for feature, row, reducers in rows_of(case.digest):
        for pool in Pool:
            cuts, reducer = case.windows[pool], reducers[pool]
            acts = of_feature(cuts, feature)
            values = np.concatenate(acts)
            limit = np.float32(reducer.thresholds[row])
            assert reducer.n_windows == len(cuts)
            assert reducer.n_tokens == len(values)
            assert int(reducer.firing_windows[row]) == sum(a.max() > limit for a in acts)
            assert int(reducer.firing_tokens[row]) == int((values > limit).sum())
            assert reducer.extremes(row) == (values.min(), values.max())
            total, squares = reducer.moments(row)
            wide = values.astype(np.float64)
            assert total == pytest.approx(wide.sum(), abs=1e-7)
            assert squares == pytest.approx((wide**2).sum(), rel=1e-10, abs=1e-7)
            counts, middle = reducer.counts_by_bin(row), N_BINS // 2
            assert int(counts.sum()) == len(values)
            above = np.histogram(values[values >= 0], bins=[0.0, *upper, np.inf])[0]
            below = np.histogram(-values[values < 0], bins=[0.0, *upper, np.inf])[0]
            assert counts[middle + 1 :].tolist() == above[1:].tolist()
            assert counts[:middle].tolist()[::-1] == below[1:].tolist()
            assert int(counts[middle]) == above[0] + below[0]


def test_positions_are_counted_where_tokens_are_read(case: Case) -> None:
    for feature, row, reducers in rows_of(case.digest):
        cuts, reducer = case.windows[Pool.TRAIN], reducers[Pool.TRAIN]
        limit = np.float32(reducer.thresholds[row])
        fired, read = np.zeros(CTX, dtype=int), np.zeros(CTX, dtype=int)
        for cut, acts in zip(cuts, of_feature(cuts, feature), strict=True):
            places = slice(cut.place, cut.place + cut.length)
            read[places] += 1
            fired[places] += acts > limit
        assert reducer.positions.tolist() == read.tolist()
        assert reducer.firing_positions[row].tolist() == fired.tolist()
        assert not len(reducers[Pool.TEST].positions)


def test_the_two_tails_of_a_dense_site_are_two_features_of_the_same_numbers(case: Case) -> None:
    places = {feature: (row, reducers) for feature, row, reducers in rows_of(case.digest)}
    tops = set()
    for index in range(24):
        (row, reducers), (other, _) = (
            places[FeatureId("tiny", NEURONS, index, negative=sign)] for sign in (False, True)
        )
        train = reducers[Pool.TRAIN]
        assert train.moments(row)[0] == -train.moments(other)[0]
        assert train.moments(row)[1] == train.moments(other)[1]
        low, high = train.extremes(row)
        assert train.extremes(other) == (-high, -low)
        assert torch.equal(train.counts_by_bin(row), train.counts_by_bin(other).flip(0))
        tops.add(kept_ids(train.top, row) == kept_ids(train.top, other))
    assert tops == {False}


def test_the_weights_of_every_split_sum_to_its_windows(case: Case) -> None:
    records = list(records_from(case.digest))
    assert [record.feature for record in records] == list(case.reading.features)
    for record in records:
        for pool in Pool:
            cuts, split = case.windows[pool], record.split(pool)
            acts = of_feature(cuts, record.feature)
            n_fires = sum(a.max() > np.float32(split.threshold) for a in acts)
            assert sum(e.weight for e in split.firing) == pytest.approx(n_fires)
            assert sum(stratum.population for stratum in split.strata) == len(cuts)
            silent = sum(e.weight for e in split.silent)
            assert silent == pytest.approx(len(cuts) - n_fires)
            assert {e.weight for e in split.firing if e.stratum == TOP} <= {1.0}
            by_place = {
                (cut.document, cut.start): a.tolist() for cut, a in zip(cuts, acts, strict=True)
            }
            shown = [(e.document, e.start) for e in split.examples]
            assert len(set(shown)) == len(shown)
            for example, place in zip(split.examples, shown, strict=True):
                assert list(example.activations) == by_place[place]


def test_one_text_at_once_gives_the_same_to_rounding(llama: Case) -> None:
    how = replace(HOW, batch=1)
    alone = Digest(llama.reading, how, llama.digest.thresholds, "", keep_acts=False)
    reduce_into(alone)
    alike, n = 0, 0
    for (_, row, mine), (_, _, theirs) in zip(rows_of(alone), rows_of(llama.digest), strict=True):
        for pool in Pool:
            a, b = mine[pool], theirs[pool]
            assert (a.n_windows, a.n_tokens) == (b.n_windows, b.n_tokens)
            assert a.moments(row) == pytest.approx(b.moments(row), rel=1e-3, abs=1e-2)
            assert a.extremes(row) == pytest.approx(b.extremes(row), rel=1e-3, abs=1e-3)
            n += 1
            alike += int(a.firing_tokens[row]) == int(b.firing_tokens[row])
    assert alike > 0.95 * n


# -- windows of odd tensors -----------------------------------------------------------------------


@given(
    batch=st.integers(1, 4),
    ctx=st.integers(1, 9),
    width=st.integers(1, 5),
    kind=st.sampled_from(["whole", "behind", "columns", "turned", "bfloat16", "expanded"]),
    seed=st.integers(0, 99),
)
@settings(max_examples=80)
def test_the_lines_of_a_batch_are_its_tokens_however_the_tensor_lies_in_memory(
    batch: int, ctx: int, width: int, kind: str, seed: int
) -> None:
    chance = torch.Generator().manual_seed(seed)
    acts = torch.randn((batch, ctx + 1, width + 2), generator=chance)
    acts = {
        "whole": lambda: acts[:, 1:].contiguous(),
        "behind": lambda: acts[:, 1:],
        "columns": lambda: acts[:, 1:, 1 : 1 + width],
        "turned": lambda: acts.permute(1, 0, 2).contiguous().permute(1, 0, 2)[:, 1:],
        "bfloat16": lambda: acts[:, 1:].bfloat16(),
        "expanded": lambda: acts[:1, 1:].expand(batch, -1, -1),
    }[kind]()
    chunks = [
        Chunk("0" * 16, Pool.TRAIN, n, 0, tuple(range(ctx)), ("a",) * ctx, True)
        for n in range(batch)
    ]
    how = CollectSettings(ctx=ctx, window=min(3, ctx))
    reading = Reading.of_function([FeatureId("m", "s", 0)], lambda: iter(chunks), lambda _: acts)
    windows = Windows.of(chunks, reading, how)
    found = windows.of_activations(acts, "cpu")
    assert found.lines.is_contiguous()
    for row, start, n, first in zip(
        windows.chunk, windows.start, found.lengths, found.first, strict=True
    ):
        wanted = acts[row, start : start + n].float()
        assert torch.equal(found.lines[first : first + n].float(), wanted)


# -- shards ---------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(data=st.data(), n_parts=st.integers(1, 6))
def test_any_order_and_grouping_of_shards_gives_the_same_digest(
    llama: Case, data: st.DataObject, n_parts: int
) -> None:
    whole = llama.digest
    order = data.draw(st.permutations(range(len(llama.batches))))
    owner = data.draw(
        st.lists(st.integers(0, n_parts - 1), min_size=len(order), max_size=len(order))
    )
    parts = [
        Digest(whole.reading, whole.settings, whole.thresholds, whole.rule, whole.keep_acts)
        for _ in range(n_parts)
    ]
    for number, part in zip(order, owner, strict=True):
        parts[part].update(*llama.batches[number])
    while len(parts) > 1:
        first = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        second = data.draw(st.integers(0, len(parts) - 1))
        if data.draw(st.booleans()):
            first.fingerprint()  # looking changes nothing
        parts[second].merge(first)
    assert parts[0].fingerprint() == whole.fingerprint()
    assert parts[0].n_tokens == whole.n_tokens


def test_digests_of_other_things_are_not_merged(llama: Case) -> None:
    whole = llama.digest
    higher = tuple(limits + 1 for limits in whole.thresholds)
    with pytest.raises(ConfigError, match="cannot be merged"):
        whole.merge(Digest(whole.reading, HOW, higher, "", keep_acts=True))
    other = Digest(whole.reading, replace(HOW, seed=4), whole.thresholds, "", keep_acts=True)
    with pytest.raises(ConfigError, match="cannot be merged"):
        whole.merge(other)


def test_digests_with_and_without_activations_are_not_merged(llama: Case) -> None:
    whole = llama.digest
    bare = Digest(whole.reading, HOW, whole.thresholds, "", keep_acts=False)
    before = whole.fingerprint()
    with pytest.raises(ConfigError, match="cannot be merged"):
        whole.merge(bare)
    assert whole.fingerprint() == before


def test_peaks_and_counts_are_the_same_without_the_activations(llama: Case) -> None:
    bare = digest_of(llama.reading, HOW, keep_acts=False).state()
    whole = digest_of(llama.reading, HOW, keep_acts=True)
    assert whole.fingerprint() == llama.digest.fingerprint()
    full = whole.state()
    assert bare.keys() == full.keys()
    for name, tensor in bare.items():
        if not name.endswith(".acts"):
            assert torch.equal(tensor, full[name]), name


# -- samples --------------------------------------------------------------------------------------

N_WINDOWS, N_FIRING, N_SILENT, N_TOP, SEEDS = 90, 10, 8, 3, 400


def planted(seed: int) -> tuple[Reading, CollectSettings]:
    """Train windows of which two thirds fire, each with a peak of its own."""
    stream = [
        Chunk(f"{n:016x}", Pool.TRAIN, n, 0, (n,) * 8, ("a",) * 8, True) for n in range(N_WINDOWS)
    ]

    def read(batch: Sequence[Chunk]) -> torch.Tensor:
        peaks = [0.0 if c.number % 3 == 0 else 1.0 + c.number for c in batch]
        return torch.tensor(peaks)[:, None, None].expand(-1, 8, -1)

    reading = Reading.of_function([FeatureId("m", "s", 7)], lambda: iter(stream), read)
    how = CollectSettings(
        ctx=8, window=8, n_top=N_TOP, n_firing=N_FIRING, n_silent=N_SILENT, seed=seed
    )
    return reading, how


def p_uniform(counts: npt.NDArray[np.int64], n: int, draws: int) -> float:
    """That `n` of `len(counts)` were drawn without return, each time alike; chi-square."""
    population = len(counts)
    expected = draws * n / population
    assert counts.sum() == draws * n
    # the draws of one sample exclude each other: the plain statistic is too small by this
    spread = expected * (1 - n / population) * population / (population - 1)
    statistic = ((counts - expected) ** 2).sum() / spread
    return float(stats.chi2.sf(statistic, population - 1))


def test_every_window_of_a_stratum_is_as_likely_in_the_sample_over_seeds() -> None:
    firing, silent = np.zeros(N_WINDOWS, dtype=int), np.zeros(N_WINDOWS, dtype=int)
    by_rank = np.zeros(5, dtype=int)
    for seed in range(SEEDS):
        reading, how = planted(seed)
        (record,) = records_from(digest_of(reading, how))
        for example in record.train.examples:
            number = int(example.document, 16)
            if example.stratum == SILENT:
                silent[number] += 1
            elif example.stratum != TOP:
                firing[number] += 1
                assert example.weight == pytest.approx((60 - N_TOP) / N_FIRING)
        by_rank += [s.sampled for s in record.train.strata[:5]]
    others = [n for n in range(N_WINDOWS) if n % 3][:-N_TOP]  # the last ones are the strongest
    assert firing.sum() == firing[others].sum()
    assert p_uniform(firing[others], N_FIRING, SEEDS) > 1e-4
    assert p_uniform(silent[::3], N_SILENT, SEEDS) > 1e-4
    # and whatever the peak: inclusion does not go with the rank
    rank = np.arange(len(others)) - (len(others) - 1) / 2
    slope = (firing[others] * rank).sum()
    share = N_FIRING / len(others)
    sd = (SEEDS * share * (1 - share) * (rank**2).sum() * len(others) / (len(others) - 1)) ** 0.5
    assert abs(slope) < 4 * sd
    assert by_rank.tolist() == [2 * SEEDS] * 5


@pytest.mark.parametrize(
    ("bias", "uniform"),
    [(lambda n: np.ones(n), True), (lambda n: np.linspace(1.25, 0.75, n), False)],
)
def test_that_chi_square_would_show_a_bias_of_a_quarter(
    bias: Callable[[int], npt.NDArray[np.float64]], uniform: bool
) -> None:
    names = torch.arange(57) << 32
    counts = np.zeros(57, dtype=int)
    for seed in range(SEEDS):
        key = hashlib.sha256(f"{seed} m//s/7".encode()).digest()[:8]
        keys = torch.tensor([int.from_bytes(key, signed=True)])
        chance = priorities(keys, names)[0].double().numpy() * bias(57)
        counts[np.argsort(chance)[:N_FIRING]] += 1
    assert (p_uniform(counts, N_FIRING, SEEDS) > 1e-4) is uniform


def test_samples_of_two_features_and_of_two_seeds_are_independent() -> None:
    names = torch.arange(3000) << 32 | 32
    ranks = [
        stats.rankdata([chance_of(FeatureId("m", "s", i), seed, name) for name in names.tolist()])
        for i, seed in ((0, 0), (1, 0), (0, 1))
    ]
    for one, other in itertools.combinations(ranks, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / 3000**0.5


# -- memory runs out ------------------------------------------------------------------------------


def accelerator() -> Exception:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")


def allocator() -> Exception:
    return RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"
    )


def planted_groups(
    most: int, kind: Callable[[], Exception], after: int, failed: list[int]
) -> tuple[Reading, CollectSettings]:
    """Three groups; with more than `most` texts, memory runs out after `after` of them."""
    how = CollectSettings(
        ctx=16, window=8, batch=7, calibration_tokens=200, n_top=3, n_firing=4, n_silent=4
    )
    chance = np.random.default_rng(0)
    lengths = chance.integers(1, 17, 80).tolist()
    stream = [
        Chunk(f"{n:016x}", list(Pool)[n % 3], n, 0, tuple(range(length)), ("a",) * length, True)
        for n, length in enumerate(lengths)
    ]
    table = torch.randn((80, 16, 9), generator=torch.Generator().manual_seed(2))
    whole = Reading.of_function([FeatureId("m", "s", i) for i in range(9)], lambda: iter(stream),
                                lambda _: table, percentile=95.0)  # fmt: skip
    groups = tuple(
        Reading.of_function(
            [FeatureId("m", f"s{g}", i) for i in range(3)], lambda: iter(stream), lambda _: table,
            percentile=95.0 if g != 1 else None,
        ).groups[0]
        for g in range(3)
    )  # fmt: skip

    def scan(batch: Sequence[Chunk], see: See) -> None:
        numbers = torch.tensor([chunk.number for chunk in batch])
        longest = max(len(chunk.token_ids) for chunk in batch)
        for group in range(3):
            if len(batch) > most and group == after:
                failed.append(len(batch))
                raise kind()
            see(group, table[numbers, :longest, 3 * group : 3 * group + 3].contiguous())

    reading = replace(
        whole,
        features=tuple(feature for group in groups for feature in group.features),
        groups=groups,
        scan=scan,
    )
    return reading, how


@pytest.mark.parametrize("kind", [accelerator, allocator, MemoryError])
@pytest.mark.parametrize("after", [0, 1, 2])
@pytest.mark.parametrize("most", [1, 3])
def test_where_memory_runs_out_smaller_batches_give_the_same_digest_and_it_is_said(
    kind: Callable[[], Exception], after: int, most: int
) -> None:
    failed: list[int] = []
    reading, how = planted_groups(10**9, kind, after, failed)
    expected = digest_of(reading, how).fingerprint()
    assert not failed
    reading, how = planted_groups(most, kind, after, failed)
    said: list[str] = []
    found = digest_of(reading, how, lambda what, done, total: said.append(what))
    assert failed
    assert found.fingerprint() == expected
    told = [what for what in said if "out of memory" in what]
    assert len(told) == len(failed)
    assert told[0] == "out of memory: reading 4 chunks at once"


@pytest.mark.parametrize("kind", [accelerator, allocator])
def test_where_not_even_one_text_fits_it_fails(kind: Callable[[], Exception]) -> None:
    reading, how = planted_groups(0, kind, 1, [])
    with pytest.raises(type(kind()), match=r"memory"):
        digest_of(reading, how)


def test_another_error_of_the_model_is_not_taken_for_memory() -> None:
    failed: list[int] = []
    reading, how = planted_groups(2, lambda: RuntimeError("a shape does not fit"), 1, failed)
    with pytest.raises(RuntimeError, match="does not fit"):
        digest_of(reading, how)
    assert failed == [7]


def test_memory_that_runs_out_while_windows_are_taken_in_counts_nothing_twice() -> None:
    """What took part of a batch cannot be given that part again."""
    reading, how = planted_groups(10**9, accelerator, 0, [])
    thresholds, rule = thresholds_of(reading, how)
    digest = Digest(reading, how, thresholds, rule, keep_acts=True)
    update, calls = digest.update, itertools.count()

    def half(group: int, pool: Pool, windows: WindowBatch) -> None:
        update(group, pool, windows)
        if next(calls) == 8:
            raise accelerator()

    digest.update = half  # type: ignore[method-assign]
    with pytest.raises(ConfigError, match="batch"):
        reduce_into(digest)
    assert digest.n_batches == 2

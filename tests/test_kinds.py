"""Features of known kind, made by hand or by a seeded generator; and what must not make a kind."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glossator.datasets.kinds import (
    COVERED_SHARE,
    DENSE_SHARE,
    FEWEST_DOCUMENTS,
    POSITION_P,
    POSITION_SHARE,
    Fired,
    OutputEffect,
    Positions,
    Quiet,
    classify,
    fold,
    folded_rates,
    position_evidence,
)
from glossator.datasets.readout import Readout, direct_effects
from glossator.types import Kind

WORDS = tuple(f" w{i}" for i in range(400))
AT = 9


def background(rng: np.random.Generator, n: int = 16) -> list[str]:
    return [WORDS[i] for i in rng.integers(0, len(WORDS), n)]


def firing(
    n: int,
    trigger: Callable[[np.random.Generator, int], Sequence[str]],
    *,
    seed: int = 0,
    documents: int | None = None,
    weight: float = 10.0,
) -> list[Fired]:
    """`n` windows of random words, in which `trigger(rng, i)` ends at the strongest token."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        tokens, words = background(rng), trigger(rng, i)
        tokens[AT + 1 - len(words) : AT + 1] = words
        document = f"d{i % (documents or n)}"
        found.append(Fired(tuple(tokens), AT, 1.0 + rng.random(), weight, document, 16 * i))
    return found


def silent(
    n: int = 50, *, seed: int = 1, holds: Sequence[str] = (), share: float = 0.0
) -> list[Quiet]:
    """`n` windows of random words, a `share` of which hold the words `holds` in a row."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        tokens = background(rng)
        if i < share * n:
            tokens[3 : 3 + len(holds)] = holds
        found.append(Quiet(tuple(tokens), 200.0))
    return found


def one_of(*words: str) -> Callable[[np.random.Generator, int], Sequence[str]]:
    return lambda rng, i: [words[i % len(words)]]


def any_word(rng: np.random.Generator, _: int) -> Sequence[str]:
    return background(rng, 1)


def pair_of(first: str, second: str) -> Callable[[np.random.Generator, int], Sequence[str]]:
    return lambda rng, i: [first, second]


# Known answers


def test_what_fires_on_no_token_is_dead() -> None:
    kind, evidence = classify([], silent(), density=0.0)
    assert kind is Kind.DEAD
    assert evidence == {"density": 0.0}


def test_what_fires_outside_the_train_pool_alone_is_not_dead() -> None:
    assert classify([], silent(), density=1e-5)[0] is Kind.OTHER


def test_what_fires_on_many_tokens_is_dense() -> None:
    windows = firing(60, any_word)
    assert classify(windows, silent(), density=DENSE_SHARE + 0.01)[0] is Kind.DENSE
    assert classify(windows, silent(), density=DENSE_SHARE - 0.01)[0] is Kind.OTHER


@pytest.mark.parametrize(
    "words", [[" Paris"], [" Paris", "paris", " PARIS"], [" a", " b", " c", " d"]]
)
def test_a_few_tokens_that_mostly_fire_make_a_token_feature(words: list[str]) -> None:
    kind, evidence = classify(firing(60, one_of(*words)), silent(), density=0.001)
    assert kind is Kind.TOKEN
    assert evidence["token_share"] == 1
    assert evidence["token_fires_share"] == 1
    assert evidence["n_tokens_covering"] == math.ceil(len({fold(w) for w in words}) / 2)


def test_many_tokens_make_no_token_feature() -> None:
    words = [f" name{i}" for i in range(20)]
    kind, evidence = classify(firing(100, one_of(*words)), silent(), density=0.001)
    assert kind is Kind.OTHER
    assert evidence["token_share"] == pytest.approx(0.25, abs=0.05)


def test_activation_counts_not_windows_alone() -> None:
    strong = [dataclasses.replace(w, peak=20.0) for w in firing(20, one_of(" Paris"))]
    weak = firing(60, any_word, seed=5)
    apart = [dataclasses.replace(w, document=f"other {w.document}") for w in weak]
    assert classify(strong + apart, silent(), density=0.001)[0] is Kind.TOKEN
    alike = [dataclasses.replace(w, peak=1.5) for w in strong]
    assert classify(alike + apart, silent(), density=0.001)[0] is Kind.OTHER


def test_windows_count_by_what_they_stand_for() -> None:
    top = firing(40, one_of(" Paris"), weight=1.0)
    rest = [
        dataclasses.replace(w, document=f"other {w.document}")
        for w in firing(30, any_word, seed=5, weight=500.0)
    ]
    kind, evidence = classify(top + rest, silent(), density=0.001)
    assert kind is Kind.OTHER
    assert evidence["token_share"] < 0.1
    assert evidence["effective_documents"] == pytest.approx(30, abs=0.5)


def test_a_pair_whose_second_token_alone_does_not_fire_is_an_ngram() -> None:
    quiet = silent(holds=[" old", " York"], share=0.8)
    kind, evidence = classify(firing(60, pair_of(" New", " York")), quiet, density=0.001)
    assert kind is Kind.NGRAM
    assert evidence["pair_share"] == 1
    assert evidence["token_fires_share"] == pytest.approx(600 / (600 + 40 * 200))
    assert evidence["pair_fires_share"] == 1


def test_a_pair_that_is_there_because_its_token_is_makes_a_token_feature() -> None:
    assert classify(firing(60, pair_of(" New", " York")), silent(), density=0.001)[0] is Kind.TOKEN


def test_a_token_that_mostly_stays_silent_explains_nothing() -> None:
    windows = firing(60, one_of(" the"))
    for share, kind in ((0.02, Kind.TOKEN), (0.1, Kind.TOKEN), (0.9, Kind.OTHER)):
        quiet = silent(holds=[" the"], share=share)
        assert classify(windows, quiet, density=0.001)[0] is kind


def test_a_pair_that_mostly_stays_silent_is_no_ngram() -> None:
    quiet = silent(holds=[" of", " the"], share=0.9)
    assert classify(firing(60, pair_of(" of", " the")), quiet, density=0.001)[0] is Kind.OTHER


def test_the_rate_of_a_token_in_the_pool_says_how_often_it_fires() -> None:
    windows = firing(60, one_of(" the"))
    seldom = classify(windows, (), density=0.001, rates={"the": 0.05})
    always = classify(windows, (), density=0.05, rates={"the": 0.05})
    assert (seldom[0], always[0]) == (Kind.OTHER, Kind.TOKEN)
    assert seldom[1]["token_fires_share"] == pytest.approx(0.02)
    assert always[1]["token_fires_share"] == 1


def test_peaks_alone_tell_a_token_feature() -> None:
    kind, evidence = classify(firing(20, one_of(" Paris"), weight=1.0), (), density=0.001)
    assert kind is Kind.TOKEN
    assert "token_fires_share" not in evidence


def test_a_feature_of_new_lines_has_them_as_tokens() -> None:
    kind, evidence = classify(firing(60, one_of("\n")), silent(), density=0.01)
    assert (kind, evidence["token_fires_share"]) == (Kind.TOKEN, 1)
    assert fold("\n") != fold(" ") != fold("")


def test_rates_of_tokens_that_fold_alike_add_up() -> None:
    rates = folded_rates([" The", "the", " cat", " none"], [2, 1, 5, 0])
    assert rates == {"the": 3 / 8, "cat": 5 / 8}


# Output


@pytest.mark.parametrize(
    ("z", "kind"), [(-4.0, Kind.SUPPRESSING), (-2.0, Kind.TOKEN), (4.0, Kind.TOKEN)]
)
def test_a_token_feature_that_lowers_the_logit_of_its_token_is_suppressing(
    z: float, kind: Kind
) -> None:
    windows = firing(60, one_of(" Paris"))
    found, evidence = classify(windows, silent(), density=0.001, output=OutputEffect({" Paris": z}))
    assert found is kind
    assert evidence["suppression_z"] == pytest.approx(z)


def test_an_ngram_feature_may_be_suppressing_too() -> None:
    quiet = silent(holds=[" old", " York"], share=0.8)
    windows = firing(60, pair_of(" New", " York"))
    output = OutputEffect({" York": -5.0, " New": 9.0})
    assert classify(windows, quiet, density=0.001, output=output)[0] is Kind.SUPPRESSING


def test_only_the_triggers_count_and_a_feature_without_any_is_not_suppressing() -> None:
    mixed = firing(60, any_word)
    output = OutputEffect(dict.fromkeys(WORDS, -9.0))
    assert classify(mixed, silent(), density=0.001, output=output)[0] is Kind.OTHER
    windows = firing(60, one_of(" Paris"))
    kind, evidence = classify(windows, silent(), density=0.001, output=output)
    assert kind is Kind.TOKEN
    assert "suppression_z" not in evidence


# Positions


def drawn(rng: np.random.Generator, chances: Sequence[float], n: int, burst: int = 1) -> Positions:
    """`n` contexts in which each position fires by its chance, or starts `burst` firing tokens."""
    chance = np.asarray(chances, dtype=np.float64)
    starts = rng.random((n, len(chance))) < chance / burst
    fires = starts.copy()
    for step in range(1, burst):
        fires |= np.roll(starts, step, axis=1)  # what runs out at the end comes in at the start
    windows = fires.reshape(n, -1, min(32, len(chance))).any(axis=2).sum()
    counts: list[int] = fires.sum(axis=0).tolist()
    return Positions(counts, [n] * len(chance), int(windows))


@pytest.mark.parametrize(
    "chances",
    [
        [0.9 if at == 5 else 0.0001 for at in range(128)],
        [0.02 if at < 32 else 0.0 for at in range(128)],
        [0.9 if at < 64 else 0.1 for at in range(128)],
        [0.5 + 0.4 * math.sin(at / 5) for at in range(128)],
    ],
    ids=["one position", "a quarter", "half", "waves"],
)
def test_a_feature_that_fires_by_position_is_positional(chances: list[float]) -> None:
    positions = drawn(np.random.default_rng(3), chances, 1000)
    density = sum(positions.fired) / sum(positions.read)
    kind, evidence = classify(firing(60, any_word), silent(), density=density, positions=positions)
    assert kind is Kind.POSITIONAL
    assert evidence["position_information"] > POSITION_SHARE
    assert evidence["position_p"] < POSITION_P


def test_position_information_is_one_where_position_decides() -> None:
    found = position_evidence(Positions([500, 0, 0, 500], [500] * 4))
    assert found["position_bits"] == pytest.approx(1, abs=0.002)
    assert found["position_information"] == pytest.approx(1, abs=0.002)


def test_position_information_is_what_scikit_learn_finds_less_the_bias() -> None:
    from sklearn.metrics import mutual_info_score

    positions = drawn(np.random.default_rng(7), [0.3, 0.1, 0.2, 0.25], 2000)
    counts = [[f, r - f] for f, r in zip(positions.fired, positions.read, strict=True)]
    nats = mutual_info_score(None, None, contingency=np.array(counts))
    found = position_evidence(positions)
    assert found["position_bits"] == pytest.approx((nats - 3 / (2 * 8000)) / math.log(2))


def test_the_p_value_of_positions_is_that_of_the_g_test() -> None:
    from scipy.stats import chi2_contingency

    positions = drawn(np.random.default_rng(8), [0.3, 0.28, 0.31, 0.3], 500)
    counts = [[f, r - f] for f, r in zip(positions.fired, positions.read, strict=True)]
    expected = chi2_contingency(np.array(counts), lambda_="log-likelihood")
    assert position_evidence(positions)["position_p"] == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("burst", [1, 6])
@pytest.mark.parametrize("density", [0.0005, 0.01, 0.3])
def test_shuffled_positions_are_not_positional_and_tell_nothing_on_average(
    density: float, burst: int
) -> None:
    rng = np.random.default_rng(11)
    windows = [
        dataclasses.replace(w, tokens=w.tokens * 2) for w in firing(8, any_word)
    ]  # of 32 tokens, as they are counted
    told, below = [], 0
    for _ in range(200):
        positions = drawn(rng, [density] * 128, 250, burst)
        kind, evidence = classify(windows, (), density=density, positions=positions)
        assert kind is not Kind.POSITIONAL
        if "position_p" in evidence:
            told.append(evidence["position_information"])
            below += evidence["position_p"] < 0.01
    assert told or density < 0.01
    if told:
        # The correction is exact for single tokens, and on the safe side for bursts.
        assert np.mean(told) < 4 * np.std(told) / math.sqrt(len(told)) + 1e-4
        # Bursts of a dense feature cannot be seen from its windows; there the share decides.
        assert below <= (0.03 if density < 0.1 else 0.1) * len(told)
        if burst == 1:
            assert abs(np.mean(told)) < 0.1 * POSITION_SHARE


def test_too_few_firing_tokens_tell_nothing_of_positions() -> None:
    positions = Positions([3, 0, 0, 0], [100] * 4)
    kind, evidence = classify(firing(3, any_word), (), density=0.01, positions=positions)
    assert kind is Kind.OTHER
    assert "position_information" not in evidence


def test_a_token_that_has_its_place_is_still_a_token() -> None:
    positions = Positions([900, 0, 0, 0], [1000] * 4)
    windows = firing(60, one_of(" Question"))
    assert classify(windows, silent(), density=0.2, positions=positions)[0] is Kind.TOKEN
    # Not known to fire wherever it stands: the place explains as much, and more simply.
    assert classify(windows, (), density=0.2, positions=positions)[0] is Kind.POSITIONAL


def test_bins_of_which_nothing_was_read_are_left_out() -> None:
    some = Positions([50, 10, 30], [100, 100, 100])
    more = Positions([0, 50, 0, 10, 30], [0, 100, 0, 100, 100])
    assert position_evidence(more) == position_evidence(some)


# What proves nothing


@pytest.mark.parametrize("trigger", [one_of(" Paris"), pair_of(" New", " York")])
def test_windows_of_one_document_make_no_kind(
    trigger: Callable[[np.random.Generator, int], Sequence[str]],
) -> None:
    quiet = silent(holds=[" old", " York"], share=0.8)
    windows = firing(60, trigger, documents=1)
    positions = Positions([100, 0, 0, 0], [1000] * 4)
    kind, evidence = classify(windows, quiet, density=0.001, positions=positions)
    assert kind is Kind.OTHER
    assert evidence["effective_documents"] == 1


def test_one_document_among_others_counts_once() -> None:
    windows = firing(60, one_of(" Paris"), documents=1) + [
        dataclasses.replace(w, document=f"other {w.document}") for w in firing(20, any_word, seed=4)
    ]
    assert classify(windows, silent(), density=0.001)[0] is Kind.OTHER


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_a_few_windows_abstain(n: int) -> None:
    assert n < FEWEST_DOCUMENTS
    positions = Positions([1000, 0], [1000, 1000])
    kind, evidence = classify(
        firing(n, one_of(" Paris")), silent(), density=0.001, positions=positions
    )
    assert kind is Kind.OTHER
    assert evidence["n_windows"] == n
    assert evidence["token_share"] == (1 if n > 1 else 0)


@pytest.mark.parametrize("n", [6, 10, 30, 70])
def test_features_of_random_tokens_are_no_token_features(n: int) -> None:
    """Words as frequent as in English (Zipf), and each window fires at a random one of them."""
    rng = np.random.default_rng(2)
    chances = 1 / np.arange(1, 5001)
    chances /= chances.sum()
    named = 0
    for _ in range(200):
        drawn_words = [f" z{i}" for i in rng.choice(5000, n, p=chances)]
        windows = firing(n, lambda _, i, words=drawn_words: [words[i]])  # type: ignore[misc]
        named += classify(windows, (), density=0.01)[0] is not Kind.OTHER
    assert named <= 4


@given(
    peaks=st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=12),
    weight=st.floats(1e-6, 1e12),
    density=st.floats(0, 1),
    fired=st.lists(st.integers(0, 50), max_size=9),
)
def test_whatever_was_collected_has_a_kind_and_finite_evidence(
    peaks: list[float], weight: float, density: float, fired: list[int]
) -> None:
    windows = [Fired((" a",), 0, peak, weight, f"d{i}", i) for i, peak in enumerate(peaks)]
    positions = Positions(fired, [50] * len(fired))
    kind, evidence = classify(windows, silent(3), density=density, positions=positions)
    assert kind in Kind
    assert all(map(math.isfinite, evidence.values()))
    assert json.loads(json.dumps(evidence)) == evidence
    assert 0 <= evidence["token_share_low"] <= evidence["token_share"] + 1e-9 <= 1 + 2e-9
    assert COVERED_SHARE > 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be at 3"):
        Fired(("a", "b"), 3, 1.0, 1.0, "d", 0)
    with pytest.raises(ValueError, match="weight"):
        Fired(("a",), 0, 1.0, 0.0, "d", 0)
    with pytest.raises(ValueError, match="no more can fire"):
        Positions([2], [1])
    with pytest.raises(ValueError, match="bins"):
        Positions([2], [3, 3])


# The readout


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_direct_effects_are_z_values_over_the_whole_vocabulary(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    unembedding = (torch.randn(9000, 24, generator=generator) + 0.5).to(dtype)
    norm = torch.rand(24, generator=generator) + 0.5
    directions = torch.randn(300, 24, generator=generator)
    tokens = torch.randint(0, 9000, (300, 3), generator=generator)
    found = Readout.of(unembedding, norm).effects(directions, tokens)
    # The long way round: the effects on all tokens, (n, vocab).
    effects = (directions * norm).double() @ unembedding.double().T
    z = (effects - effects.mean(dim=1, keepdim=True)) / effects.std(dim=1, correction=0)[:, None]
    expected = z.gather(1, tokens)  # (n, 3)
    assert torch.allclose(found.double(), expected, atol=1e-4)
    alone = direct_effects(directions[0], unembedding, norm, tokens[0])
    assert torch.allclose(alone, found[0], atol=1e-5)


def test_a_direction_against_a_token_has_a_large_negative_effect_on_it() -> None:
    generator = torch.Generator().manual_seed(1)
    unembedding = torch.randn(5000, 64, generator=generator)
    readout = Readout.of(unembedding)
    against, token = -unembedding[7][None], torch.tensor([[7]])
    assert float(readout.effects(against, token)) < -6
    # The negative tail writes the opposite, and the length of a direction means nothing.
    assert torch.equal(readout.effects(-against, token), -readout.effects(against, token))
    assert torch.allclose(readout.effects(9 * against, token), readout.effects(against, token))


def test_a_direction_along_the_mean_of_a_layer_norm_does_nothing() -> None:
    generator = torch.Generator().manual_seed(2)
    unembedding = torch.randn(1000, 16, generator=generator)
    direction, shifted = torch.randn(1, 16, generator=generator), torch.zeros(1, 16) + 5
    tokens = torch.tensor([[1, 2, 3]])
    readout = Readout.of(unembedding, centred=True)
    assert torch.allclose(
        readout.effects(direction + shifted, tokens), readout.effects(direction, tokens), atol=1e-5
    )
    assert readout.effects(shifted, tokens).eq(0).all()

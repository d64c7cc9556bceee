"""A callable as a source of features, against the same numbers computed by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from glossator.datasets.collect import CollectSettings, collect
from glossator.datasets.corpora import Corpus
from glossator.datasets.functions import CallableFeatures, collect_function
from glossator.datasets.windows import Chunk
from glossator.errors import ConfigError
from glossator.subject import load_subject, recording
from glossator.types import FeatureId, Pool
from tests.tiny_llama import save_tiny_llama, some_texts

BATCH = [
    Chunk("a" * 16, Pool.TRAIN, 0, 0, (5, 6, 7), ("the", " old", " King")),
    Chunk("b" * 16, Pool.DEV, 1, 0, (8,), ("Paris",)),
]
BY_HAND = torch.tensor([[[5.0, -5.0], [6.0, -6.0], [7.0, -7.0]], [[8.0, -8.0], [0, 0], [0, 0]]])


def signed(ids: torch.Tensor) -> torch.Tensor:
    """Each id, and it times -1: shape (batch, ctx, 2)."""
    return torch.stack([ids, -ids], dim=2)


@pytest.mark.parametrize(
    "function",
    [
        signed,
        lambda ids: signed(ids).numpy(),
        lambda ids: [signed(ids)[i, : len(c.tokens)] for i, c in enumerate(BATCH)],
        lambda ids: signed(ids).double().requires_grad_(),
        lambda ids: signed(ids.masked_fill(ids == 0, -99)),
    ],
    ids=["tensor", "array", "list", "grad", "padding"],
)
def test_what_a_callable_gives_is_what_is_read(function: Any) -> None:
    read = CallableFeatures("mine", function, 2).read(BATCH)
    assert torch.equal(read, BY_HAND)
    assert read.dtype is torch.float32
    assert not read.requires_grad


def test_a_start_token_is_put_before_and_left_out() -> None:
    seen = []

    def function(ids: torch.Tensor) -> torch.Tensor:
        seen.append(ids.tolist())
        return signed(ids)

    mine = CallableFeatures("mine", function, 2, start_token_id=1, pad_token_id=9)
    assert torch.equal(mine.read(BATCH), BY_HAND)
    assert seen == [[[1, 5, 6, 7], [1, 8, 9, 9]]]


def test_texts_are_handed_over_as_tokens() -> None:
    def lengths(batch: list[list[str]]) -> list[Any]:
        return [np.array([[float(len(t))] for t in tokens]) for tokens in batch]

    read = CallableFeatures("lengths", lengths, 1, takes="texts").read(BATCH)
    assert read[:, :, 0].tolist() == [[3, 4, 5], [5, 0, 0]]


def test_a_signed_callable_has_two_tails() -> None:
    mine = CallableFeatures("mine", signed, 2, model="probe", polarity="both")
    assert [str(f) for f in mine.features] == [
        "probe//mine/0",
        "probe//mine/1",
        "probe//mine/0-",
        "probe//mine/1-",
    ]
    assert torch.equal(mine.read(BATCH), torch.cat([BY_HAND, -BY_HAND], dim=2))
    assert not mine.above_zero
    assert CallableFeatures("mine", signed, 2).features[1] == FeatureId("function", "mine", 1)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda ids: signed(ids)[:, :1], r"shape \(2, 1, 2\), not \(2, 3, 2\)"),
        (lambda ids: ids, r"shape \(2, 3\)"),
        (lambda ids: list(signed(ids)), r"text of 1 tokens"),
        (lambda ids: [signed(ids)[0]], "1 texts' activations for 2 texts"),
        (lambda ids: signed(ids) * math.nan, "NaN"),
        (lambda ids: None, "NoneType"),
        (lambda ids: "x", "str"),
        (lambda ids: np.array([["x"]]), "ndarray"),
        (lambda ids: signed(ids) * 1j, "real numbers"),
        (lambda ids: signed(ids).double() * 1e300, "infinite"),
    ],
)
def test_a_wrong_callable_is_named(function: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"'mine'.*{said}"):
        CallableFeatures("mine", function, 2).read(BATCH)


def test_settings_that_cannot_be_are_refused() -> None:
    for arguments in (("a/b", signed, 1), ("", signed, 1), ("a@b", signed, 1), ("a", signed, 0)):
        with pytest.raises(ConfigError):
            CallableFeatures(*arguments)
    with pytest.raises(ConfigError, match="at least one text"):
        CallableFeatures("mine", signed, 2).read([])


def test_a_callable_is_collected_as_the_site_that_it_reads(tmp_path: Path) -> None:
    subject = load_subject(str(save_tiny_llama(tmp_path / "tiny")), device="cpu", dtype="float32")
    site, corpus = "layers.1.mlp.neurons", Corpus.of(some_texts(40))
    settings = CollectSettings(tokens=2000, ctx=64, window=16)

    def neurons(ids: torch.Tensor) -> torch.Tensor:
        with recording(subject, site) as kept:
            subject.model(ids)
        return kept[site][:, :, :3]

    source = CallableFeatures(
        "mine", neurons, 3, polarity="both", start_token_id=subject.start_token_id
    )
    found = collect_function(source, subject.tokenizer, corpus=corpus, settings=settings)
    wanted = collect(
        subject, site, ["0", "1", "2", "0-", "1-", "2-"], corpus=corpus, tokens=2000, ctx=64,
        window=16,
    )  # fmt: skip
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.feature.index == theirs.feature.index
        assert mine.threshold == pytest.approx(theirs.threshold, abs=1e-5)
        assert mine.density == pytest.approx(theirs.density, abs=1e-3)
        top = [[e.document, e.start] for e in mine.train.firing if e.stratum == "top"]
        assert top == [[e.document, e.start] for e in theirs.train.firing if e.stratum == "top"]

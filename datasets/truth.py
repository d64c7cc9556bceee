"""The library of planted features, and their records on a text: a ground truth for the bench.

They act on nothing. Those that do are in `truth_causal`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from glossator.datasets.corpora import Corpus
from glossator.datasets.planted import Function, collect_planted, word_pieces
from glossator.datasets.truth_claims import Claim, Planted
from glossator.datasets.truth_context import ABOUT_CONTEXT
from glossator.datasets.truth_forms import ABOUT_FORMS
from glossator.datasets.truth_rules import Page, Rule
from glossator.datasets.truth_words import ABOUT_WORDS
from glossator.errors import ConfigError
from glossator.types import FeatureRecord

LIBRARY: tuple[Planted, ...] = (*ABOUT_WORDS, *ABOUT_FORMS, *ABOUT_CONTEXT)
PEAK = 4.0
"""Raw units of a planted feature where its rule says 1."""


@dataclass(frozen=True)
class Ground:
    """Planted features and their records on one text, with the documents that were read."""

    features: tuple[Planted, ...]
    records: tuple[FeatureRecord, ...]
    """In the order of the features."""
    documents: Mapping[str, tuple[str, ...]]
    """By id, the tokens of each document that a record has a window of."""

    def pairs(self) -> Iterator[tuple[Planted, FeatureRecord]]:
        """Each feature with its record."""
        return zip(self.features, self.records, strict=True)


def function_of(rule: Rule) -> Function:
    """What `collect_planted` takes."""

    def function(tokens: list[str]) -> Sequence[float]:
        return [PEAK * value for value in rule.values(page_of(tuple(tokens)))]

    return function


@functools.lru_cache(maxsize=4096)
def page_of(tokens: tuple[str, ...]) -> Page:
    """The page of a document, which many rules are asked about one after the other."""
    return Page(tokens)


def plant(
    features: Sequence[Planted],
    corpus: Corpus,
    *,
    tokens: int | None = 200_000,
    seed: int = 0,
) -> Ground:
    """The records of `features` on `corpus`; `tokens` and `seed` are those of `collect_planted`.

    Feature number i has the id `planted//function/i`, with a minus behind it for a negative tail.

    Raises:
        ConfigError: if two features have the same true description.
    """
    functions = {feature.name: function_of(feature.function) for feature in features}
    if len(functions) < len(features):
        raise ConfigError("two planted features have the same description")
    found = collect_planted(functions, corpus=corpus, tokens=tokens, seed=seed)
    records = tuple(
        replace(record, feature=replace(record.feature, negative=feature.negative))
        for feature, record in zip(features, found, strict=True)
    )
    shown = {
        example.document
        for record in records
        for split in (record.train, record.dev, record.test)
        for example in split.examples
    }
    documents: dict[str, tuple[str, ...]] = {}
    for document in corpus:
        if len(documents) == len(shown):
            break
        if document.id in shown:
            documents[document.id] = tuple(word_pieces(document.text))
    return Ground(tuple(features), records, documents)


class Grouped(Protocol):
    """What has a name and a group."""

    @property
    def name(self) -> str:
        """Its own."""
        ...

    @property
    def group(self) -> str:
        """Shared with others of its sort."""
        ...


_Grouped = TypeVar("_Grouped", bound=Grouped)


def spread(features: Sequence[_Grouped], n: int) -> tuple[_Grouped, ...]:
    """`n` of `features`, as many of each group as can be, the same ones each time."""
    groups: dict[str, list[_Grouped]] = {}
    for feature in features:
        groups.setdefault(feature.group, []).append(feature)
    turns = [
        (place, number, feature)
        for number, members in enumerate(groups.values())
        for place, feature in enumerate(members)
    ]
    turns.sort(key=lambda turn: turn[:2])
    chosen = {feature.name for *_, feature in turns[:n]}
    return tuple(feature for feature in features if feature.name in chosen)


def claims(features: Sequence[Planted] = LIBRARY) -> dict[str, Claim]:
    """Every description of `features` by its text, true ones and near misses.

    Raises:
        ConfigError: if one text has two meanings.
    """
    found: dict[str, Claim] = {}
    for feature in features:
        for claim in (feature.true, *feature.near):
            known = found.setdefault(claim.text, Claim(claim.text, claim.rule))
            if known.rule != claim.rule:
                raise ConfigError(f"a description has two meanings: {claim.text!r}")
    return found

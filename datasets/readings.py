"""What a subject, a planted function and any callable have in common: features that can be read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from glossator.datasets.corpora import Corpus
from glossator.datasets.settings import PERCENTILE, CollectSettings
from glossator.datasets.windows import Chunk, chunks
from glossator.errors import ConfigError
from glossator.subject import Subject
from glossator.types import FeatureId

See = Callable[[int, Tensor], None]
"""Told the number of a group and its activations, shape (batch, ctx, n_columns)."""

_MOST_VALUES = 1 << 28
"""Activations of one group in a batch, at most: a gigabyte."""


class Coder(Protocol):
    """A sparse coder, or what can stand in its place, such as a direction."""

    @property
    def name(self) -> str:
        """What features call it."""

    @property
    def d_in(self) -> int:
        """Width of the site it reads."""

    @property
    def d_sae(self) -> int:
        """How many features it has."""

    def encode(self, acts: Tensor, columns: Tensor | None = None) -> Tensor:
        """From (..., d_in) to float32 of shape (..., d_sae), or of the columns asked for."""


@dataclass(frozen=True, slots=True)
class Group:
    """Features that are read together: of one site, or of one coder at a site."""

    features: tuple[FeatureId, ...]
    """Shape (n_rows,)."""
    columns: Tensor
    """Shape (n_columns,), int64: the indexes that are read, ascending."""
    rows: Tensor
    """Shape (n_columns, 2), int32: the row of each column's positive and negative tail, or -1."""
    dense: bool
    """Whether its threshold is a percentile; it is 0 otherwise."""
    coder: Coder | None = None

    @classmethod
    def of(cls, features: Sequence[FeatureId], *, dense: bool, coder: Coder | None = None) -> Group:
        """The group of `features`, which differ in index and tail alone."""
        indexes = sorted({feature.index for feature in features})
        place = {index: column for column, index in enumerate(indexes)}
        rows = torch.full((len(indexes), 2), -1, dtype=torch.int32)
        for row, feature in enumerate(features):
            rows[place[feature.index], int(feature.negative)] = row
        return cls(tuple(features), torch.tensor(indexes), rows, dense, coder)

    @property
    def site(self) -> str:
        """Where it is read."""
        return self.features[0].site


@dataclass(frozen=True, slots=True)
class Reading:
    """Features, and how to read them."""

    features: tuple[FeatureId, ...]
    groups: tuple[Group, ...]
    """All features, each in one group."""
    chunks: Callable[[], Iterator[Chunk]]
    """The corpus in chunks, the same ones each time."""
    scan: Callable[[Sequence[Chunk], See], None]
    """Reads a batch of chunks and hands over the columns of each group once. What stands behind a
    chunk's end means nothing."""
    percentile: float = PERCENTILE
    """Of train tokens, above which a token of a dense group fires, but never below 0."""
    left_out_ids: frozenset[int] = frozenset()
    """Tokens that are in no window and no statistic."""
    device: str = "cpu"
    """Where the reducers work."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    """A name for each feature, for its provenance; empty if they have none."""
    max_batch: int = 1 << 30
    """Chunks that may be read at once."""

    def __post_init__(self) -> None:
        if not self.features:
            raise ConfigError("no feature was asked for")
        if len(set(self.features)) < len(self.features):
            raise ConfigError("a feature was asked for twice")

    @classmethod
    def of_function(
        cls,
        features: Sequence[FeatureId],
        stream: Callable[[], Iterator[Chunk]],
        read: Callable[[Sequence[Chunk]], Tensor],
        *,
        percentile: float | None = None,
        left_out_ids: frozenset[int] = frozenset(),
        provenance: Mapping[str, str] | None = None,
        names: Sequence[str] = (),
    ) -> Reading:
        """Features that one function computes.

        Args:
            features: as many as `read` gives, with the same order.
            stream: the corpus in chunks, the same ones each time.
            read: from a batch of chunks to activations, shape (batch, ctx, n_features), float32,
                with the sign turned for negative tails.
            percentile: of train tokens, above which a token fires; None fires above 0.
            left_out_ids: tokens that are in no window and no statistic.
            provenance: where they come from.
            names: of the features.
        """
        n = len(features)
        # each feature is a column of its own, in its own order, with the sign it comes with
        rows = torch.stack([torch.arange(n), torch.full((n,), -1)], dim=1).int()
        dense = percentile is not None
        group = Group(tuple(features), torch.arange(n), rows, dense=dense)
        return cls(
            features=tuple(features),
            groups=(group,) if n else (),
            chunks=stream,
            scan=lambda batch, see: see(0, read(batch)),
            percentile=PERCENTILE if percentile is None else percentile,
            left_out_ids=left_out_ids,
            provenance=provenance or {},
            names=tuple(names),
        )


def reading_of(
    subject: Subject,
    features: Sequence[FeatureId],
    corpus: Corpus,
    settings: CollectSettings,
    coders: Mapping[str, Coder] | None = None,
) -> Reading:
    """How `features` of `subject` are read on `corpus`.

    Args:
        subject: the model.
        features: of any of its sites, or of coders at them.
        corpus: the text.
        settings: how much of it.
        coders: by the name that features call them.

    Raises:
        ConfigError: for a feature that is not there, or a coder that does not fit its site.
    """
    groups = groups_of(subject, features, coders)
    _check_context(subject, settings)
    widest = max((len(group.columns) for group in groups), default=1)
    return Reading(
        features=tuple(features),
        groups=tuple(groups),
        chunks=lambda: chunks(corpus, subject.tokenizer, settings.ctx, settings.tokens),
        scan=scan_of(subject, groups),
        percentile=settings.percentile,
        left_out_ids=subject.left_out_ids,
        # the reducers work on CUDA too; elsewhere some of the number formats are missing
        device=subject.device if subject.device.startswith("cuda") else "cpu",
        provenance={
            "model": subject.name,
            "revision": subject.revision,
            "dtype": subject.dtype,
            "device": subject.device,
            "tokenizer": type(subject.tokenizer).__name__,
            "start_token": str(subject.start_token_id),
            "corpus": corpus.name,
            "corpus_digest": corpus.digest,
        },
        max_batch=max(1, _MOST_VALUES // (widest * settings.ctx)),
    )


def groups_of(
    subject: Subject, features: Sequence[FeatureId], coders: Mapping[str, Coder] | None = None
) -> list[Group]:
    """`features` of `subject` by where they are read; each in one group.

    Raises:
        ConfigError: for a feature that is not there, or a coder that does not fit its site.
    """
    coders = coders or {}
    of_group: dict[tuple[str, str | None], list[FeatureId]] = {}
    for feature in features:
        if feature.model != subject.name:
            raise ConfigError(f"{feature} is not a feature of {subject.name}")
        of_group.setdefault((feature.site, feature.coder), []).append(feature)
    groups = []
    for (site, name), members in of_group.items():
        width = subject.resolve(site).width
        coder = _coder_of(name, site, width, coders)
        width = width if coder is None else coder.d_sae
        where = site if coder is None else f"{site}@{coder.name}"
        for feature in members:
            if feature.index >= width:
                raise ConfigError(
                    f"{where} has features 0 to {width - 1}, and none numbered {feature.index}"
                )
        dense = is_dense(name)
        if not dense and any(feature.negative for feature in members):
            raise ConfigError(f"the latents of {where} have no negative tail: leave the minus out")
        groups.append(Group.of(members, dense=dense, coder=coder))
    return groups


def is_dense(coder: str | None) -> bool:
    """Whether features of that coder, or of none, are signed and nearly never 0."""
    return coder is None or coder.startswith("direction:")


def _coder_of(name: str | None, site: str, width: int, coders: Mapping[str, Coder]) -> Coder | None:
    if name is None:
        return None
    if name not in coders:
        known = ", ".join(coders) or "none is loaded"
        raise ConfigError(f"no coder is called {name!r} ({known}); name it with --sae")
    coder = coders[name]
    if coder.d_in != width:
        raise ConfigError(
            f"the coder {name} reads vectors of {coder.d_in}, but {site} is {width} wide"
        )
    return coder


def _check_context(subject: Subject, settings: CollectSettings) -> None:
    most = subject.max_ctx
    if most is not None and settings.ctx + 1 > most:
        raise ConfigError(
            f"{subject.name} reads at most {most} tokens at once, a start token among them: "
            f"a ctx of {settings.ctx} is too long, {most - 1} is the most"
        )


def scan_of(subject: Subject, groups: Sequence[Group]) -> Callable[[Sequence[Chunk], See], None]:
    """How the columns of `groups` are read from chunks in one pass; see `Reading.scan`."""
    at_site: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        (site,) = subject.expand(group.site)
        at_site.setdefault(site, []).append(number)
    widths = {site: subject.resolve(site).width for site in at_site}
    picked = {
        number: None if _is_all(group, widths) else group.columns
        for number, group in enumerate(groups)
    }

    def scan(batch: Sequence[Chunk], see: See) -> None:
        def look(site: str, acts: Tensor) -> None:  # (batch, ctx, width)
            for number in at_site[site]:
                coder, columns = groups[number].coder, picked[number]
                if coder is not None:
                    see(number, coder.encode(acts, columns))
                elif columns is None:
                    see(number, acts)
                else:
                    see(number, acts.index_select(2, columns.to(acts.device)))

        subject.scan([chunk.token_ids for chunk in batch], list(at_site), look)

    return scan


def _is_all(group: Group, widths: Mapping[str, int]) -> bool:
    width = group.coder.d_sae if group.coder is not None else widths.get(group.site)
    return len(group.columns) == width

"""Features that tell texts with a concept from texts without it.

Each text counts by the highest value that a feature has on it. Two ways: one feature at a time, by
how far the two kinds lie apart; and together, by a regression that takes few features (sparse
probing; Gurnee et al. 2023, arXiv:2305.01610). What chance alone would give is the largest distance
of any feature under labels that are shuffled, so many features find nothing by being many.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from glossator.datasets.readings import Coder, is_dense
from glossator.errors import ConfigError
from glossator.subject import Subject
from glossator.types import FeatureId

FEWEST = 4
"""Texts of each kind; with fewer, chance tells them apart as well."""
MOST = 500
N_NULL = 199
RARE = 0.05
_BATCH = 16
_FLOOR = 1e-3
"""Of a standard deviation, as a share of a feature's largest value."""
_STRENGTHS = tuple(0.002 * 1.25**i for i in range(28))
"""Inverse penalties of the regression, the fewest features first."""

Peaks = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Match:
    """A feature that may be of a concept."""

    feature: FeatureId
    how: str
    """`contrast`, `probe`, or `explanation`."""
    value: float
    """Standard deviations apart, weight in the regression, or likeness of the words."""
    why: str
    """In words, for people."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """How far all features tell two kinds of texts apart."""

    features: tuple[FeatureId, ...]
    apart: npt.NDArray[np.float64]
    """Shape (n_features,): difference of the means over the standard deviation within a kind."""
    auc: npt.NDArray[np.float64]
    """Shape (n_features,): share of pairs of texts, one of each kind, in the right order."""
    by_chance: float
    """What the best feature reaches or passes in a share `RARE` of shuffled labels."""

    def best(self, n: int) -> list[Match]:
        """Up to `n` features that do better than chance does, the best first."""
        order = np.argsort(-self.apart, kind="stable")[:n]
        return [
            Match(
                self.features[i],
                "contrast",
                float(self.apart[i]),
                f"{self.apart[i]:.1f} sd higher where it is, AUC {self.auc[i]:.2f}; the best "
                f"of all under shuffled labels {self.by_chance:.1f} sd",
            )
            for i in order
            if self.apart[i] > self.by_chance
        ]


def peaks_of(
    subject: Subject, site: str, texts: Sequence[str], ctx: int, coder: Coder | None = None
) -> tuple[tuple[FeatureId, ...], Peaks]:
    """All features of a site or a coder there, and their highest value on each text.

    A signed site has two features a coordinate: its positive and its negative tail.

    Returns:
        The features, and shape (n_texts, n_features).

    Raises:
        ConfigError: for a text without a token that can be read, or activations not finite.
    """
    tokenized = subject.tokenizer(
        list(texts), add_special_tokens=False, return_attention_mask=False, verbose=False
    )["input_ids"]
    limit = min(ctx, (subject.max_ctx or 1 << 30) - 1)
    ids = [text[:limit] for text in tokenized]
    for text, tokens in zip(texts, ids, strict=True):
        if subject.left_out_ids.issuperset(tokens):
            raise ConfigError(f"a text has no token that can be read: {text!r:.80}")
    signed = is_dense(coder.name if coder is not None else None) and not site.endswith("attn.heads")
    rows: list[Peaks] = []
    for first in range(0, len(ids), _BATCH):
        some = ids[first : first + _BATCH]
        acts = subject.read(some, site)[site]  # (batch, ctx, width)
        for row, tokens in enumerate(some):
            read = [k for k, token in enumerate(tokens) if token not in subject.left_out_ids]
            own = acts[row, read] if coder is None else coder.encode(acts[row, read])
            own = own.float()  # (n_tokens, width)
            tails = [own.amax(dim=0), -own.amin(dim=0)] if signed else [own.amax(dim=0)]
            rows.append(torch.cat(tails).cpu().numpy())
    peaks = np.stack(rows)  # (n_texts, n_features)
    if not np.isfinite(peaks).all():
        raise ConfigError(f"activations at {site} are NaN or infinite; try --dtype float32")
    width = peaks.shape[1] // (2 if signed else 1)
    name = coder.name if coder is not None else None
    features = tuple(
        FeatureId(subject.name, site, i % width, name, negative=i >= width)
        for i in range(peaks.shape[1])
    )
    return features, peaks


def check_examples(having: Sequence[str], lacking: Sequence[str]) -> None:
    """Refuses examples that could show nothing.

    Raises:
        ConfigError: if there are too few or too many of a kind, or a text is of both.
    """
    for name, texts in (("with", having), ("without", lacking)):
        if not FEWEST <= len(set(texts)) <= MOST:
            raise ConfigError(
                f"{len(set(texts))} different texts {name} the concept: give {FEWEST} to {MOST} of "
                "each kind, for with fewer chance tells them apart as well"
            )
    if both := set(having) & set(lacking):
        raise ConfigError(f"a text is both with and without the concept: {min(both)!r:.80}")


def contrast_of(
    features: Sequence[FeatureId], peaks: Peaks, has: Flags, seed: int = 0, n_null: int = N_NULL
) -> Contrast:
    """How far each feature tells texts that have a concept from the others.

    Args:
        features: shape (n_features,).
        peaks: shape (n_texts, n_features).
        has: shape (n_texts,).
        seed: of the shuffles.
        n_null: shuffles.
    """
    chance = np.random.default_rng(seed)
    null = sorted(float(_apart(peaks, chance.permutation(has)).max()) for _ in range(n_null))
    bar = null[min(n_null - 1, int((1 - RARE) * n_null))]
    above = peaks[has][:, None, :] - peaks[~has][None, :, :]  # (n_with, n_without, n_features)
    auc = ((above > 0) + 0.5 * (above == 0)).mean(axis=(0, 1))
    return Contrast(tuple(features), _apart(peaks, has), auc, bar)


def _apart(peaks: Peaks, has: Flags) -> npt.NDArray[np.float64]:
    """Shape (n_features,): difference of the means over the standard deviation within kinds."""
    yes, no = peaks[has].astype(np.float64), peaks[~has].astype(np.float64)
    within = (yes.var(axis=0) * len(yes) + no.var(axis=0) * len(no)) / max(1, len(peaks) - 2)
    floor = _FLOOR * np.abs(peaks).max(axis=0) + 1e-12
    found: npt.NDArray[np.float64] = (yes.mean(axis=0) - no.mean(axis=0)) / (
        np.sqrt(within) + floor
    )
    return found


def probe_of(
    features: Sequence[FeatureId], peaks: Peaks, has: Flags, n: int, seed: int = 0
) -> list[Match]:
    """Up to `n` features with a positive weight in a sparse regression; few, if few do.

    Logistic, with an L1 penalty as strong as still finds any feature.
    """
    from sklearn.linear_model import LogisticRegression

    spread = peaks.std(axis=0)
    kept = np.flatnonzero(spread > 0)
    if not len(kept):
        return []
    scaled = (peaks[:, kept] - peaks[:, kept].mean(axis=0)) / spread[kept]
    weights = np.zeros(len(kept))
    for strength in _STRENGTHS:
        model = LogisticRegression(
            l1_ratio=1.0,
            C=strength,
            solver="liblinear",
            class_weight="balanced",
            random_state=seed,
        )
        weights = model.fit(scaled, has).coef_[0]
        if (weights > 0).any():
            break
    order = [i for i in np.argsort(-weights, kind="stable")[:n] if weights[i] > 0]
    total = int((weights != 0).sum())
    return [
        Match(
            features[kept[i]],
            "probe",
            float(weights[i]),
            f"weight {weights[i]:.2f} in a sparse probe of {total} feature{'s' * (total != 1)}",
        )
        for i in order
    ]

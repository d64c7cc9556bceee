"""The `senses` explainer: one explanation for each thing that the feature stands for.

Many features have several unrelated senses. The firing windows of train are embedded and clustered,
and each cluster is explained by itself. Whether the senses are right shows on dev: of each, and of
their union, the share of firing windows that it covers, and the share of what it covers that fires.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from glossator.embedder import Embedder, Vectors
from glossator.errors import ReplyError
from glossator.explainers.abstention import NEVER_FIRES, OFFER, SAW_NONE, abstention
from glossator.explainers.excerpts import excerpt, marked_words, shown
from glossator.explainers.max_act import N_LISTED, PREFILL, SHOTS, question, read
from glossator.explainers.max_act import SYSTEM as ONE_PATTERN
from glossator.explainers.revise import best_threshold
from glossator.explainers.trial import Trial
from glossator.llm import LLM, Message, Request, ask, with_fewer
from glossator.types import SILENT, Example, Explanation, FeatureId, Prediction, Split, Usage

VERSION = "senses-1"
SYSTEM = f"{ONE_PATTERN} {OFFER}"
BEFORE, AFTER = 6, 3
"""Tokens around the strongest one that are embedded beside it."""
LEAST_APART = 0.15
"""Mean silhouette (Rousseeuw 1987) under which the windows are one sense."""


@dataclass(frozen=True)
class SensesExplainer:
    """Explains each cluster of train windows, and says what each sense covers on dev."""

    llm: LLM
    embedder: Embedder
    trial: Trial
    n_shown: int = 10
    """Excerpts of a cluster in its prompt."""
    n_most: int = 4
    """Senses, at most."""
    n_least: int = 3
    """Windows of a cluster, at least."""

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        """The senses, or an abstention where nothing fires or no pattern is seen in any cluster.

        Raises:
            ReplyError: if the reply about no cluster can be read.
        """
        if not train.firing:
            return abstention(feature, "senses", self.llm.name, VERSION, NEVER_FIRES, Usage())
        labels = clusters(train.firing, self.embedder, self.n_most, self.n_least)
        usage = Usage()
        failed: ReplyError | None = None
        phrases: list[str] = []
        unseen = 0
        for label in by_weight(labels, train.firing):
            firing = tuple(e for e, own in zip(train.firing, labels, strict=True) if own == label)
            try:
                text, used = await self._sense(replace(train, firing=firing, strata=()))
            except ReplyError as error:
                usage += error.usage or Usage()
                failed = error
                continue
            usage += used
            unseen += not text
            if text and text.lower() not in {phrase.lower() for phrase in phrases}:
                phrases.append(text)
        if not phrases and failed is not None:
            raise type(failed)(str(failed), failed.reply, usage) from failed
        if not phrases:
            return abstention(feature, "senses", self.llm.name, VERSION, SAW_NONE, usage)
        said = Explanation(
            feature, phrases[0], "senses", self.llm.name, VERSION, senses=tuple(phrases)
        )
        coverage, precision, used = await self._on_dev(said)
        return replace(
            said,
            text="; or ".join(phrases),
            coverage=coverage,
            precision=precision,
            usage=usage + used,
            note=noted(phrases, coverage, precision, unseen),
        )

    async def _sense(self, part: Split) -> tuple[str, Usage]:
        """What the windows of one cluster have in common; empty if no pattern is seen."""
        examples = shown(part, self.n_shown)

        async def ask_about(n: int) -> tuple[str, Usage]:
            messages = prompt(examples[:n], part.threshold)
            return await ask(
                self.llm, Request(messages, max_tokens=32, stop=("\n",), prefill=PREFILL), read
            )

        found, _ = await with_fewer(self.llm, len(examples), ask_about)
        return found

    async def _on_dev(
        self, said: Explanation
    ) -> tuple[tuple[float | None, ...], tuple[float | None, ...], Usage]:
        """Coverage and precision of each sense on dev, and of their union; and what it cost."""
        usage = Usage()
        called: list[dict[str, bool]] = []
        windows: dict[str, Prediction] = {}
        for sense in said.senses:
            score = await self.trial(replace(said, text=sense, senses=()))
            usage += score.usage
            rated = [
                (max(p.predicted), p.stratum != SILENT, p) for p in score.predictions if p.predicted
            ]
            threshold = best_threshold(rated)
            called.append({p.example: rating > threshold for rating, _, p in rated})
            windows |= {p.example: p for *_, p in rated}
        union = {key: any(one.get(key, False) for one in called) for key in windows}
        figures = [covered(one, windows) for one in (*called, union)]
        return tuple(c for c, _ in figures), tuple(p for _, p in figures), usage


def covered(
    called: dict[str, bool], windows: dict[str, Prediction]
) -> tuple[float | None, float | None]:
    """Weighted share of firing windows that are called, and of called ones that fire."""
    fires = {key: p.stratum != SILENT for key, p in windows.items()}
    right = sum(windows[key].weight for key, yes in called.items() if yes and fires[key])
    firing = sum(p.weight for key, p in windows.items() if fires[key])
    taken = sum(windows[key].weight for key, yes in called.items() if yes)
    return right / firing if firing else None, right / taken if taken else None


def clusters(firing: Sequence[Example], embedder: Embedder, n_most: int, n_least: int) -> list[int]:
    """A number for each window, equal for those of one sense.

    What is embedded is the strongest token by itself, and what stands around it: the one tells
    senses of different words apart, the other those of one word. The number of clusters is the one
    with the largest mean silhouette, and it is one where no split is clear.
    """
    from sklearn.cluster import AgglomerativeClustering
    from sklearn.metrics import silhouette_score

    vectors = vectors_of(firing, embedder)  # (n_firing, 2 dim)
    best, labels = LEAST_APART, [0] * len(firing)
    if np.allclose(vectors, vectors[0]):
        return labels
    for k in range(2, min(n_most, len(firing) // n_least, len(firing) - 1) + 1):
        found = AgglomerativeClustering(k, metric="cosine", linkage="average").fit_predict(vectors)
        sizes: npt.NDArray[np.int64] = np.bincount(found)
        if sizes.min() < n_least:
            continue
        apart = float(silhouette_score(vectors, found, metric="cosine"))
        if apart > best:
            best, labels = apart, found.tolist()
    return labels


def vectors_of(firing: Sequence[Example], embedder: Embedder) -> Vectors:
    """Shape (n_firing, 2 dim): the strongest token, and what stands around it."""
    tokens, around = [], []
    for example in firing:
        at = example.activations.index(example.peak)
        tokens.append(example.tokens[at].strip() or "space")
        low, high = max(0, at - BEFORE), at + AFTER + 1
        around.append("".join(example.tokens[low:high]).strip() or "space")
    both: Vectors = np.concatenate([embedder.embed(tokens), embedder.embed(around)], axis=1)
    return both


def by_weight(labels: Sequence[int], firing: Sequence[Example]) -> list[int]:
    """The clusters, the one first that stands for most windows of the pool."""
    weights: dict[int, float] = {}
    for label, example in zip(labels, firing, strict=True):
        weights[label] = weights.get(label, 0.0) + example.weight
    return sorted(weights, key=lambda label: (-weights[label], label))


def noted(
    phrases: Sequence[str],
    coverage: Sequence[float | None],
    precision: Sequence[float | None],
    unseen: int,
) -> str:
    """What each sense and their union cover on dev, for people."""
    lines = []
    for name, c, p in zip([*phrases, "together"], coverage, precision, strict=True):
        shown_c, shown_p = ("none" if x is None else f"{x:.2f}" for x in (c, p))
        lines.append(f"{name}: covers {shown_c}, right {shown_p}")
    if unseen:
        lines.append(f"no pattern seen in {unseen} more clusters")
    return "; ".join(lines)


def prompt(examples: Sequence[Example], threshold: float) -> tuple[Message, ...]:
    """Instructions and answered questions first, as in `max-act`; this one last."""
    messages = [Message("system", SYSTEM)]
    for excerpts, words, answer in SHOTS:
        messages += [
            Message("user", question(excerpts, words)),
            Message("assistant", f"{PREFILL} {answer}."),
        ]
    excerpts_ = [excerpt(e, threshold) for e in examples]
    words_ = marked_words(examples, threshold, N_LISTED)
    return (*messages, Message("user", question(excerpts_, words_)))

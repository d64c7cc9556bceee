"""What sort of feature this is, by stated tests, and the numbers that the tests look at.

The kinds are those of Voita, Ferrando and Nalmpantis 2023 ("Neurons in Large Language Models: Dead,
N-gram, Positional"), whose neurons are on or off and mostly off. Ours have thresholds, may be
signed, and are known by a weighted sample of windows; each test says what follows from that.

    dead           fires on no token
    positional     where in its context a token stands tells whether the feature fires
    dense          fires on more than `DENSE_SHARE` of the tokens
    n-gram         a few pairs of tokens are what it fires on, and their second tokens alone are not
    token          a few tokens are what it fires on
    suppressing    a token or n-gram feature whose output lowers the logits of its own tokens
    other          everything else, and whatever there is too little text to tell

`classify` is a pure function of one feature's digest. `glossator.datasets.readout` gives what it
needs to know of a feature's output.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import entr, gammaincc

from glossator.types import Kind

DENSE_SHARE = 0.2
"""A feature that fires on more of the tokens is dense: it says too little about any one of them to
be read from its strongest windows."""

COVERED_SHARE = 0.5
"""What the triggers of a token or n-gram feature account for of its activation, at least; the lower
bound of the estimate must reach it. The paper asks for 95% of neurons that ReLU keeps silent; the
threshold of a dense site lets 1% of the tokens fire whatever the neuron, so noise is among them."""

MOST_TRIGGERS = 5
"""Tokens, or pairs, that may share that: as many as the paper's narrowest groups hold."""

LEAST_TRIGGER_SHARE = 0.05
"""And each of them has as much of the activation, at least: words met by chance are none."""

TRIGGER_FIRES_SHARE = 0.25
"""How often the tokens of a token feature make it fire where they occur, at least. Not most of the
time: at a dense site 1% of the tokens fire, so a token that is 3% of the text cannot reach half."""

MOSTLY = 0.5
"""How often the pairs of an n-gram feature make it fire, at least, and their second tokens alone do
not. Tokens that do fire as often explain firing better than a position does."""

POSITION_SHARE = 0.05
"""The part of the uncertainty whether a token fires that its position takes away, at least.

The paper asks for 0.05 bits of mutual information from neurons that are on about half of the time,
where the uncertainty is 1 bit. At a density of 1% it is 0.08 bits, which 0.05 would be most of, so
the threshold is a share of the entropy of firing. At a density of one half it is the paper's."""

POSITION_P = 1e-6
"""And how rarely as much comes from chance. So small because 100,000 features may be tested."""

SUPPRESSION_Z = -3.0
"""Mean direct effect on the logits of the triggers, in standard deviations over the vocabulary, at
most. A random direction passes with a probability of about 0.001."""

FEWEST_DOCUMENTS = 5.0
"""Effective number of documents with a firing window, below which no kind is named by windows or
positions. Windows of one document are alike, so they count as one."""

_BOUND_Z = 1.6448536269514722
"""Standard normal deviation of a one-sided 95% bound."""

_LEAST_EXPECTED = 5.0
"""Firing tokens expected in a position bin, below which neighbours are put together: the usual rule
for the chi-square approximation."""

Word: TypeAlias = "str | tuple[str, str]"
"""A folded token, or two in a row."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A sampled train window in which the feature fires."""

    tokens: tuple[str, ...]
    at: int
    """Offset of the strongest token in the window."""
    peak: float
    """Its activation, raw units, sign turned for a negative tail."""
    weight: float
    """Windows of the pool that this one stands for (Horvitz-Thompson)."""
    document: str
    start: int
    """Position of the window's first token in its document."""

    def __post_init__(self) -> None:
        if not 0 <= self.at < len(self.tokens):
            raise ValueError(f"the strongest of {len(self.tokens)} tokens cannot be at {self.at}")
        if not (math.isfinite(self.weight) and self.weight > 0 and math.isfinite(self.peak)):
            raise ValueError("a weight is above 0 and finite, and a peak is finite")


@dataclass(frozen=True, slots=True)
class Quiet:
    """A sampled train window in which the feature does not fire."""

    tokens: tuple[str, ...]
    weight: float
    """Windows of the pool that this one stands for."""


@dataclass(frozen=True, slots=True)
class Positions:
    """Where in what the model reads at once the feature fires: counts over the whole train pool."""

    fired: Sequence[int]
    """Shape (n_bins,): firing tokens in each bin of positions, in the order of positions."""
    read: Sequence[int]
    """Shape (n_bins,): all tokens read there. Bins of which nothing was read are left out."""
    windows: int = 0
    """Windows in which the feature fires; 0 if not counted: the sum of the weights is taken."""
    width: int = 1
    """Positions in a bin."""

    def __post_init__(self) -> None:
        fired, read = np.asarray(self.fired), np.asarray(self.read)
        if fired.shape != read.shape or fired.ndim != 1:
            raise ValueError(f"{fired.shape} firing counts for {read.shape} bins of positions")
        if (fired < 0).any() or (fired > read).any():
            raise ValueError("of the tokens at a position, no more can fire than were read")


@dataclass(frozen=True, slots=True)
class OutputEffect:
    """What the feature's output does to the logits of the tokens that it fires on."""

    z: Mapping[str, float] = field(default_factory=dict)
    """By the text of a token, unfolded: the direct effect on its logit of more activation, in
    standard deviations over the vocabulary. `Readout.effects` of
    `glossator.datasets.readout` gives it."""


def classify(
    fired: Sequence[Fired],
    quiet: Sequence[Quiet],
    *,
    density: float,
    positions: Positions | None = None,
    output: OutputEffect | None = None,
    rates: Mapping[str, float] | None = None,
) -> tuple[Kind, dict[str, float]]:
    """The kind of a feature, and all that was measured for it, whatever the kind.

    The first that holds:

    1. *dead*: no token fires.
    2. *positional*: position takes away `POSITION_SHARE` of the uncertainty whether a token fires,
       by more than chance (`POSITION_P`). Not where a few tokens are known to explain firing
       (`MOSTLY`), for a token may have its place: the first words of a form.
    3. *dense*: more than `DENSE_SHARE` of the tokens fire.
    4. *n-gram*: at most `MOST_TRIGGERS` pairs of tokens have `COVERED_SHARE` of the activation and
       fire mostly where they occur (`MOSTLY`), as the second tokens do not.
    5. *token*: as many tokens have `COVERED_SHARE` of the activation, and fire in
       `TRIGGER_FIRES_SHARE` of where they occur.
    6. *other*.

    Such a pair or token, a trigger, has `LEAST_TRIGGER_SHARE` of the activation, and is the
    strongest of windows of two documents.

    A token or n-gram feature is *suppressing* if `output` lowers the logits of its triggers
    (`SUPPRESSION_Z`). Kinds 2, 4 and 5 need windows of `FEWEST_DOCUMENTS` documents.

    Tokens are compared with case and outer spaces folded (`fold`). Activation is that of the
    strongest token of a window times the window's weight. Its share is bounded from below
    (Wilson's interval, one-sided 95%) at the effective number of documents (Kish), so a few
    windows, or many of one document, prove nothing.

    How often a trigger fires comes from `rates`; else from `quiet`: of the windows that hold it,
    those where it is the strongest, against those where nothing fires. That of pairs comes from
    `quiet`. What is unknown is taken for always, so without both an n-gram is a token.

    The evidence, where it can be measured:

    - `density`, `n_windows` (fired), `n_documents`, `effective_documents`
    - `position_information`: share of the entropy of firing, less what chance gives; about 0, and
      at times below, for a feature that ignores positions. `position_bits`: the same in bits a
      token. `position_p`: its p value.
    - `token_share`, `token_share_low`: of the activation, what the triggers have, and its lower
      bound; `top_token_share`: the best one. `n_tokens_covering`: how few tokens, triggers or
      not, have `COVERED_SHARE`. `token_fires_share`: how often the triggers fire, where they have
      that share.
    - `pair_share`, `pair_share_low`, `n_pairs_covering`, `pair_fires_share`: of pairs.
    - `suppression_z`: mean direct effect on the logits of the triggers.

    Args:
        fired: sampled firing windows of the train pool.
        quiet: sampled silent windows of the train pool.
        density: share of the train tokens that fire.
        positions: counts by position, if there are any.
        output: effects on the logits of the tokens in `fired` that are the strongest of their
            window, at least, if the feature writes to the residual stream.
        rates: share of the train tokens that each folded token is, for all that `fired` has; see
            `folded_rates`.
    """
    evidence = {"density": float(density)}
    if not fired:
        # What fires outside the train pool alone is not dead, and cannot be told.
        return (Kind.DEAD if density <= 0 else Kind.OTHER), evidence
    documents = _effective([(one.document, one.weight) for one in fired])
    evidence |= {
        "n_windows": float(len(fired)),
        "n_documents": float(len({one.document for one in fired})),
        "effective_documents": documents,
    }
    enough = documents >= FEWEST_DOCUMENTS

    tokens = _Cover.of([(fold(one.tokens[one.at]), one) for one in fired])
    evidence |= tokens.evidence("token")
    often = tokens.fires_by_rate(density, rates) if rates else tokens.fires_by_windows(quiet)
    evidence |= _measured("token_fires_share", often)
    # The token before the first of a window is not known.
    pairs = _Cover.of([(_pair(one), one) for one in fired if one.at])
    evidence |= pairs.evidence("pair")
    evidence |= _measured("pair_fires_share", pairs.fires_by_windows(quiet))
    if positions is not None:
        evidence |= position_evidence(positions, _burst(positions, fired))

    covers = enough and tokens.low >= COVERED_SHARE
    by_pair = (
        covers
        and pairs.low >= COVERED_SHARE
        and often is not None
        and often < MOSTLY
        and evidence.get("pair_fires_share", 1.0) >= MOSTLY
    )
    by_token = covers and not by_pair and (often is None or often >= TRIGGER_FIRES_SHARE)
    triggers = {pair[1] for pair in pairs.triggers} if by_pair else tokens.triggers
    if output is not None:
        evidence |= _measured("suppression_z", _effect(fired, triggers, output))

    by_place = (
        enough
        and evidence.get("position_information", 0.0) >= POSITION_SHARE
        and evidence.get("position_p", 1.0) <= POSITION_P
    )
    if by_place and not (by_token and often is not None and often >= MOSTLY):
        return Kind.POSITIONAL, evidence
    if density > DENSE_SHARE:
        return Kind.DENSE, evidence
    if not (by_token or by_pair):
        return Kind.OTHER, evidence
    if evidence.get("suppression_z", 0.0) <= SUPPRESSION_Z:
        return Kind.SUPPRESSING, evidence
    return (Kind.NGRAM if by_pair else Kind.TOKEN), evidence


@functools.lru_cache(maxsize=1 << 17)
def fold(token: str) -> str:
    """`token` without case and outer spaces; what is all space stays as it is."""
    return token.strip().casefold() or token


def folded_rates(texts: Iterable[str], counts: Iterable[int]) -> dict[str, float]:
    """The share of all tokens that each folded token is, from the counts of a vocabulary.

    Args:
        texts: of the vocabulary's tokens.
        counts: how often each occurs in the train pool, in the same order.
    """
    found: dict[str, int] = {}
    for text, count in zip(texts, counts, strict=True):
        if count:
            found[fold(text)] = found.get(fold(text), 0) + int(count)
    total = sum(found.values())
    return {word: count / total for word, count in found.items()}


def position_evidence(positions: Positions, burst: float = 1.0) -> dict[str, float]:
    """How much a token's position says about whether it fires; nothing if it cannot be told.

    The mutual information I(firing, position), less its expectation under independence, which is
    (bins - 1) / 2N nats (Miller 1955), over the entropy of firing; and the p value of the G test,
    2N I against chi-square. Neighbouring bins are put together until each expects
    `_LEAST_EXPECTED` bursts.

    Where firing tokens come in bursts of one text, a count over a bin as wide as a burst has more
    variance than one of independent tokens, and counts of narrower bins go up and down together.
    So 2N I is on average (bins - 1) times the lesser of the two lengths, and is compared with
    chi-square of the same mean and of `burst` times its variance over its mean (after Rao and
    Scott 1984).

    Args:
        positions: counts by position.
        burst: firing tokens that come together, at least 1.
    """
    read = np.asarray(positions.read, dtype=np.float64)
    fired = np.asarray(positions.fired, dtype=np.float64)[read > 0]  # (n_bins,)
    read = read[read > 0]  # (n_bins,)
    total, firing = float(read.sum()), float(fired.sum())
    rarer = min(firing, total - firing)
    n_bins = min(len(read), int(rarer / burst / _LEAST_EXPECTED))
    if n_bins < 2:
        return {}
    middles = (np.cumsum(read) - read / 2) / total  # (n_bins,), each in (0, 1)
    group = (middles * n_bins).astype(np.int64)  # (n_bins,), ascending
    bounds = np.flatnonzero(np.diff(group, prepend=-1))  # (n_groups,), the first bin of each
    read = np.add.reduceat(read, bounds)  # (n_groups,)
    fired = np.add.reduceat(fired, bounds)  # (n_groups,)
    if len(read) < 2:
        return {}
    entropy = float(_entropy(np.array([firing / total]))[0])
    nats = entropy - float(read @ _entropy(fired / read)) / total
    width = positions.width * len(middles) / len(read)
    chance = min(burst, width) * (len(read) - 1)  # mean of 2N I
    corrected = nats - chance / (2 * total)
    return {
        "position_information": corrected / entropy,
        "position_bits": corrected / math.log(2),
        # The survival function of chi-square at 2N I / burst, of chance / burst degrees.
        "position_p": float(gammaincc(chance / burst / 2, max(total * nats / burst, 0.0))),
    }


@dataclass(frozen=True, slots=True)
class _Cover:
    """Which words the strongest tokens are, and how much of the activation a few of them have."""

    counts: Mapping[Word, float]
    """Windows of the pool that each word is the strongest of."""
    triggers: Collection[Word]
    """The words with most of the activation, at most `MOST_TRIGGERS`, each in two documents and
    with `LEAST_TRIGGER_SHARE`."""
    top: float
    share: float
    low: float
    """Lower bound of `share`."""
    n_covering: int
    """How many words it takes for `COVERED_SHARE`, those of one document among them."""

    @classmethod
    def of(cls, peaks: Sequence[tuple[Word, Fired]]) -> _Cover:
        mass: dict[Word, float] = {}
        counts: dict[Word, float] = {}
        where: dict[Word, set[str]] = {}
        weighed: list[tuple[str, float]] = []
        positive = any(one.peak > 0 for _, one in peaks)
        for word, one in peaks:
            # All peaks are below 0 only where the threshold is: then windows count alike.
            part = one.weight * (max(one.peak, 0.0) if positive else 1.0)
            mass[word] = mass.get(word, 0.0) + part
            counts[word] = counts.get(word, 0.0) + one.weight
            where.setdefault(word, set()).add(one.document)
            weighed.append((one.document, part))
        total = math.fsum(mass.values())
        if not total:
            return cls(counts, (), 0.0, 0.0, 0.0, 0)
        ranked = sorted(mass, key=lambda word: (-mass[word], word))
        least = LEAST_TRIGGER_SHARE * total
        triggers = [w for w in ranked if len(where[w]) > 1 and mass[w] >= least][:MOST_TRIGGERS]
        share = min(1.0, math.fsum(mass[word] for word in triggers) / total)
        reached, n_covering = 0.0, 0
        while n_covering < len(ranked) and reached < COVERED_SHARE * total:
            reached += mass[ranked[n_covering]]
            n_covering += 1
        top = mass[triggers[0]] / total if triggers else 0.0
        low = _lower_bound(share, _effective(weighed))
        return cls(counts, tuple(triggers), top, share, low, n_covering)

    def evidence(self, what: str) -> dict[str, float]:
        found = {
            f"{what}_share": self.share,
            f"{what}_share_low": self.low,
            f"n_{what}s_covering": float(self.n_covering),
        }
        return found | ({"top_token_share": self.top} if what == "token" else {})

    def fires_by_rate(self, density: float, rates: Mapping[str, float]) -> float | None:
        """Bayes: P(fires | trigger) = P(fires) P(trigger | fires) / P(trigger)."""
        occurs = math.fsum(rates.get(str(word), 0.0) for word in self.triggers)
        if not occurs or self.share < COVERED_SHARE:
            return None
        part = math.fsum(self.counts[word] for word in self.triggers)
        return min(1.0, density * part / math.fsum(self.counts.values()) / occurs)

    def fires_by_windows(self, quiet: Sequence[Quiet]) -> float | None:
        """Windows where a trigger is the strongest, against silent ones that hold one."""
        if not quiet or self.share < COVERED_SHARE:
            return None
        wanted = frozenset(self.triggers)
        paired = any(isinstance(word, tuple) for word in wanted)
        silent = 0.0
        for window in quiet:
            words = [fold(token) for token in window.tokens]
            held: Iterable[Word] = itertools.pairwise(words) if paired else words
            if not wanted.isdisjoint(held):
                silent += window.weight
        fires = math.fsum(self.counts[word] for word in self.triggers)
        return fires / (fires + silent)


def _pair(one: Fired) -> Word:
    return fold(one.tokens[one.at - 1]), fold(one.tokens[one.at])


def _effect(
    fired: Sequence[Fired], triggers: Collection[Word], output: OutputEffect
) -> float | None:
    """Mean z of the triggers, by window; None unless most of the windows have one."""
    total = known = 0.0
    parts = []
    for one in fired:
        token = one.tokens[one.at]
        if fold(token) in triggers:
            total += one.weight
            if token in output.z:
                known += one.weight
                parts.append(one.weight * output.z[token])
    return math.fsum(parts) / known if known > total / 2 else None


def _burst(positions: Positions, fired: Sequence[Fired]) -> float:
    """How many times fewer windows fire than if firing tokens fell independently, at least 1.

    Where few tokens fire that is the number of firing tokens in a firing window. Where nearly all
    windows fire it tells nothing and is 1; there `POSITION_SHARE` is many times what chance gives.
    """
    windows = positions.windows or math.fsum(one.weight for one in fired)
    length = max(len(one.tokens) for one in fired)
    total = float(np.asarray(positions.read).sum())
    density = float(np.asarray(positions.fired).sum()) / max(total, 1.0)
    return max(1.0, total / length * (1 - (1 - density) ** length) / windows)


def _effective(weighed: Iterable[tuple[str, float]]) -> float:
    """How many equal documents say as much (Kish 1965): (sum of weights)^2 / sum of squares."""
    documents: dict[str, float] = {}
    for document, weight in weighed:
        documents[document] = documents.get(document, 0.0) + weight
    squares = math.fsum(weight * weight for weight in documents.values())
    return math.fsum(documents.values()) ** 2 / squares if squares else 0.0


def _lower_bound(share: float, n: float) -> float:
    """Lower end of Wilson's one-sided 95% interval (1927) for a share seen in `n` cases."""
    if n <= 0 or share <= 0:
        return 0.0
    z = _BOUND_Z
    middle = share + z * z / (2 * n)
    spread = z * math.sqrt(max(share * (1 - share), 0.0) / n + z * z / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + z * z / n))


def _entropy(share: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Entropy of a binary event, nats, of the same shape."""
    entropy: npt.NDArray[np.float64] = entr(share) + entr(1.0 - share)
    return entropy


def _measured(name: str, value: float | None) -> dict[str, float]:
    return {} if value is None else {name: value}

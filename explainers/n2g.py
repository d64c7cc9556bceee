"""The `n2g` explainer: Neuron to Graph (Foote et al. 2023), which asks no language model.

For each strong train window:

1. *Prune*: the shortest run of tokens that ends at the strongest one and, read alone by the
   subject, keeps half of its activation.
2. *Saliency*: each token of the run is masked, by words drawn from the train text; its importance
   is the share of the activation that is lost. One that matters is kept, and any may stand in the
   place of one that does not.
3. *Augment*: in the place of each token that matters, tokens are tried that the train text has
   between the same neighbours, and spellings of the token itself (in place of the paper's masked
   language model). Those that keep half of the activation are let in.

The runs are merged into paths: equal paths are one, and paths that differ in one step are one in
which either may stand. What a path predicts is the mean activation of the train tokens that it ends
at and no longer path does, each weighted by the windows that it stands for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from glossator.explainers.abstention import NEVER_FIRES
from glossator.explainers.excerpts import shown
from glossator.live import Live
from glossator.types import Example, Explanation, FeatureId, NgramPath, Split

VERSION = "n2g-1"
LONGEST = 24
"""Tokens of the longest run that is tried."""


@dataclass(frozen=True)
class N2GExplainer:
    """Finds the shortest contexts that fire the feature, by experiments on the live subject.

    The explanation carries them as its paths, which the `symbolic` simulator runs.
    """

    live: Live
    n_examples: int = 16
    """Train windows that are taken apart."""
    keeps: float = 0.5
    """Share of the activation that a shorter run, or another token, has to keep."""
    importance: float = 0.25
    """Share of the activation that is lost without a token that matters."""
    n_masks: int = 3
    """Words that a token is masked by, one after the other."""
    n_substitutes: int = 12
    """Tokens tried in the place of one that matters."""
    n_named: int = 6
    """Paths named in the text."""

    async def explain(self, feature: FeatureId, train: Split) -> Explanation:
        """The paths, or an abstention where nothing fires, or nothing outside of its context."""
        if not train.firing:
            return self._nothing(feature, NEVER_FIRES)
        words = Neighbours.of(train)
        found: list[NgramPath] = []
        left_out = 0
        for example in shown(train, self.n_examples):
            path = await self._path(example, words)
            if path is None:
                left_out += 1
            else:
                found.append(path)
        if not found:
            return self._nothing(
                feature, f"no run of {LONGEST} tokens or fewer fires it when it is read alone"
            )
        paths = weighed(merged(found), train)
        note = f"{left_out} windows fire it only in a longer context" if left_out else ""
        return Explanation(
            feature,
            said(paths[: self.n_named]),
            "n2g",
            prompt_version=VERSION,
            paths=paths,
            note=note,
        )

    def _nothing(self, feature: FeatureId, why: str) -> Explanation:
        return Explanation(feature, "", "n2g", prompt_version=VERSION, abstained=why)

    async def _path(self, example: Example, words: Neighbours) -> NgramPath | None:
        """What of the context of the strongest token fires it; None where nothing does."""
        at = example.activations.index(example.peak)
        context = list(example.tokens[max(0, at + 1 - LONGEST) : at + 1])
        pruned = await self._pruned(context, self.keeps * example.peak)
        if pruned is None:
            return None
        run, activation = pruned
        matters = await self._matters(run, activation, words)
        steps = await self._steps(run, matters, activation, words)
        first = next(i for i, step in enumerate(steps) if step)
        return NgramPath(tuple(steps[first:]), example.peak)

    async def _pruned(self, context: Sequence[str], least: float) -> tuple[list[str], float] | None:
        """The shortest run at the end of `context` that fires it by `least`, and how much."""
        runs = [list(context[-n:]) for n in range(1, len(context) + 1)]
        values = await self._at_the_end(runs)
        found = ((r, v) for r, v in zip(runs, values, strict=True) if v >= least and v > 0)
        return next(found, None)

    async def _matters(
        self, run: Sequence[str], activation: float, words: Neighbours
    ) -> list[bool]:
        """Which tokens of `run` the activation needs; the last one always counts."""
        places = [i for i in range(len(run) - 1) for _ in range(self.n_masks)]
        masks = words.masks(self.n_masks) * (len(run) - 1)
        masked = [[*run[:i], mask, *run[i + 1 :]] for i, mask in zip(places, masks, strict=True)]
        left: dict[int, list[float]] = defaultdict(list)
        for i, value in zip(places, await self._at_the_end(masked), strict=True):
            left[i].append(value)
        lost = [1 - sum(left[i]) / len(left[i]) / activation for i in range(len(run) - 1)]
        return [share >= self.importance for share in lost] + [True]

    async def _steps(
        self, run: Sequence[str], matters: Sequence[bool], activation: float, words: Neighbours
    ) -> list[tuple[str, ...]]:
        """The tokens that may stand at each place of `run`; none where any may."""
        tried = [
            (i, token)
            for i, needed in enumerate(matters)
            if needed
            for token in words.like(run, i, self.n_substitutes)
        ]
        values = await self._at_the_end([[*run[:i], t, *run[i + 1 :]] for i, t in tried])
        steps = [[token] if needed else [] for token, needed in zip(run, matters, strict=True)]
        for (i, token), value in zip(tried, values, strict=True):
            if value >= self.keeps * activation:
                steps[i].append(token)
        return [tuple(sorted(step)) for step in steps]

    async def _at_the_end(self, runs: Sequence[Sequence[str]]) -> list[float]:
        """The activation at the last token of each run, read as a text of its own."""
        texts = ["".join(run) for run in runs]
        known = dict.fromkeys(text for text in texts if text)
        read = await self.live.activations(list(known))
        values = {text: one.values[-1] for text, one in zip(known, read, strict=True)}
        return [values.get(text, 0.0) for text in texts]


@dataclass(frozen=True)
class Neighbours:
    """What stands beside what in the train windows."""

    behind: Mapping[str, Counter[str]]
    """From a token to those that follow it."""
    before: Mapping[str, Counter[str]]
    """From a token to those that it follows."""
    quiet: tuple[str, ...]
    """Words of silent windows, the commonest first."""

    @classmethod
    def of(cls, train: Split) -> Neighbours:
        """Those of `train`."""
        behind: dict[str, Counter[str]] = defaultdict(Counter)
        before: dict[str, Counter[str]] = defaultdict(Counter)
        counts: Counter[str] = Counter()
        for example in train.examples:
            for left, right in zip(example.tokens, example.tokens[1:], strict=False):
                behind[left][right] += 1
                before[right][left] += 1
            if example.peak <= train.threshold:
                counts.update(t for t in example.tokens if t.startswith(" ") and t.strip())
        common = sorted(counts, key=lambda t: (-counts[t], t))
        return cls(behind, before, tuple(common) or (" the", " it", " one"))

    def masks(self, n: int) -> list[str]:
        """`n` words of silent windows, spread over the common ones."""
        some = self.quiet[: 4 * n]
        return [some[i * len(some) // n] for i in range(n)]

    def like(self, run: Sequence[str], i: int, n: int) -> list[str]:
        """Up to `n` tokens other than `run[i]` that the text has between the same neighbours."""
        token = run[i]
        counts: Counter[str] = Counter()
        if i:
            counts.update(self.behind.get(run[i - 1], Counter()))
        if i + 1 < len(run):
            counts.update(self.before.get(run[i + 1], Counter()))
        # what follows a token like this one follows this one, too
        for left in self.before.get(token, Counter()):
            counts.update(self.behind.get(left, Counter()))
        both = sorted(counts, key=lambda t: (-counts[t], t))
        spelt = spellings(token)
        others = [t for t in both if t != token and t.strip() and t not in spelt]
        return [*spelt, *others][:n]


def spellings(token: str) -> list[str]:
    """`token` in other cases, and with or without the space before it."""
    bare = token.strip()
    if not bare:
        return []
    cases = dict.fromkeys([bare, bare.lower(), bare.capitalize(), bare.upper()])
    return [s for case in cases for s in (f" {case}", case) if s != token]


def merged(paths: Sequence[NgramPath]) -> list[NgramPath]:
    """`paths` without repeats, and one for those that differ in one step and share a token there.

    In that step, the tokens of either may stand.
    """
    left = list(paths)
    found: list[NgramPath] = []
    while left:
        path = left.pop(0)
        joined = True
        while joined:
            joined = False
            for other in left:
                together = _joined(path, other)
                if together is not None:
                    left.remove(other)
                    path, joined = together, True
                    break
        found.append(path)
    return found


def _joined(path: NgramPath, other: NgramPath) -> NgramPath | None:
    if len(path.steps) != len(other.steps):
        return None
    pairs = list(zip(path.steps, other.steps, strict=True))
    apart = [i for i, (a, b) in enumerate(pairs) if a != b]
    peak = max(path.activation, other.activation)
    if not apart:
        return replace(path, activation=peak)
    if len(apart) > 1 or not all(pairs[apart[0]]):
        return None
    (i,) = apart
    if not set(path.steps[i]) & set(other.steps[i]):
        return None
    step = tuple(sorted(set(path.steps[i]) | set(other.steps[i])))
    return NgramPath((*path.steps[:i], step, *path.steps[i + 1 :]), peak)


def weighed(paths: Sequence[NgramPath], train: Split) -> tuple[NgramPath, ...]:
    """`paths` with the mean activation where they are the longest that ends, the strongest first.

    A mean is drawn to the mean over all tokens with the strength of one window of average weight,
    as in `unigram`. A path that is never the longest, or whose mean is not above 0, is left out.
    """
    ordered = sorted(paths, key=lambda p: p.detail, reverse=True)
    ending: dict[str, list[int]] = defaultdict(list)
    for number, path in enumerate(ordered):
        for token in path.steps[-1]:
            ending[token].append(number)
    total = [0.0] * len(ordered)
    weight = [0.0] * len(ordered)
    everything = tokens = 0.0
    for example in train.examples:
        everything += example.weight * sum(example.activations)
        tokens += example.weight * len(example.tokens)
        for i, token in enumerate(example.tokens):
            for number in ending.get(token, ()):
                if ordered[number].ends_at(example.tokens, i):
                    total[number] += example.weight * example.activations[i]
                    weight[number] += example.weight
                    break
    pull = sum(e.weight for e in train.firing) / len(train.firing)
    middle = everything / tokens
    found = [
        replace(path, activation=(total[n] + pull * middle) / (weight[n] + pull))
        for n, path in enumerate(ordered)
        if weight[n] > 0
    ]
    kept = [path for path in found if path.activation > 0] or [
        max(paths, key=lambda p: p.activation)
    ]
    return tuple(sorted(kept, key=lambda p: -p.activation))


def said(paths: Sequence[NgramPath]) -> str:
    """Paths in words: the last token of each, and what has to stand before it."""
    phrases: list[str] = []
    for path in paths:
        named = [_named(step) for step in path.steps]
        text = f"{named[-1]}"
        if len(named) > 1:
            text += " after " + " ".join(named[:-1])
        phrases.append(text)
    return "the tokens " + "; ".join(dict.fromkeys(phrases))


def _named(step: Sequence[str]) -> str:
    if not step:
        return "..."
    shown_tokens = list(dict.fromkeys(t.strip().lower() or repr(t)[1:-1] for t in step))[:5]
    return "/".join(f'"{t}"' for t in shown_tokens)

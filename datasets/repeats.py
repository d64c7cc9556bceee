"""Windows of one pool that say word for word what a window of a laxer pool says.

Documents that share 100 normalised characters are kept apart by pool (`pools.py`), and shorter
windows can still be alike: a footer, a formula, a caption of a few words. Whoever saw one in train
has seen the other, so it is left out of the stricter pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from glossator.datasets.pools import normalised
from glossator.types import Example, Pool, Split

STRICTER = (Pool.TRAIN, Pool.DEV, Pool.TEST)
"""Each is stricter than those before it."""


def without_repeats(splits: Mapping[Pool, Split]) -> tuple[dict[Pool, Split], int]:
    """`splits` without the windows whose normalised text a laxer pool's split has, and how many.

    Those that stay keep their weights, so that each stratum stands for the windows of its pool that
    are no repeats. A window without letters and digits repeats nothing.
    """
    seen: set[str] = set()
    found: dict[Pool, Split] = {}
    n_left_out = 0
    for pool in STRICTER:
        split = splits[pool]
        texts = {e.key: normalised(e.text) for e in split.examples}
        repeats = {key for key, text in texts.items() if text and text in seen}
        seen.update(texts.values())
        found[pool] = _without(split, repeats) if repeats else split
        n_left_out += len(repeats)
    return found, n_left_out


def _without(split: Split, repeats: set[str]) -> Split:
    def kept(examples: tuple[Example, ...]) -> tuple[Example, ...]:
        return tuple(e for e in examples if e.key not in repeats)

    left_out = Counter(e.stratum for e in split.examples if e.key in repeats)
    strata = []
    for stratum in split.strata:
        sampled = stratum.sampled - left_out[stratum.name]
        share = sampled / stratum.sampled if stratum.sampled else 1.0
        population = max(sampled, round(stratum.population * share))
        strata.append(replace(stratum, population=population, sampled=sampled))
    return replace(
        split, firing=kept(split.firing), silent=kept(split.silent), strata=tuple(strata)
    )

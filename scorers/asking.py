"""Asking about windows: the explanation and the wrong ones on the same, dev for what is fitted."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from glossator.scorers.looks import Looks
from glossator.scorers.sample import chance_for
from glossator.scorers.together import together
from glossator.types import Example, Explanation, Prediction, Usage

_Unit = TypeVar("_Unit")
Rated = tuple[Prediction, Usage]
"""The rating of one window, and what it used."""
Rate = Callable[[Explanation, Sequence[_Unit]], Coroutine[Any, Any, Sequence[Rated]]]
"""The ratings of windows under an explanation, in their order."""


def one_by_one(
    rate: Callable[[Explanation, _Unit], Coroutine[Any, Any, Rated]],
) -> Rate[_Unit]:
    """Ratings of windows that are asked about each by itself, all at once."""

    async def each(explanation: Explanation, units: Sequence[_Unit]) -> Sequence[Rated]:
        return await together(rate(explanation, unit) for unit in units)

    return each


@dataclass(frozen=True)
class Asked:
    """What was said of an explanation's windows."""

    own: list[Prediction]
    """Of the explanation that is scored."""
    others: list[list[Prediction]]
    """Of each wrong one, on the same windows."""
    on_dev: list[Prediction]
    """Of the explanation that is scored, on dev."""
    usage: Usage


async def ratings(
    rate: Rate[_Unit], explanation: Explanation, units: Sequence[_Unit]
) -> tuple[list[Prediction], Usage]:
    """A rating of each of `units`, in order, and what they used together.

    Raises:
        ProviderError, BudgetSpent, Unsupported: as the language model does.
    """
    found = await rate(explanation, units)
    return [p for p, _ in found], sum((u for _, u in found), Usage())


def looks_over(units: Sequence[_Unit], precision: float, seed: int, *names: object) -> Looks:
    """The looks at `units`; the order depends on `seed` and `names` alone."""
    strata = [window(u).stratum for u in units] if precision else [""] * len(units)
    return Looks.over(strata, precision, chance_for(seed, "looks", *names))


async def asked(
    rate: Rate[_Unit],
    explanation: Explanation,
    wrong: Sequence[Explanation],
    units: Sequence[_Unit],
    dev_units: Sequence[_Unit],
    looks: Looks,
    dev_order: Sequence[int],
    enough: Callable[[Sequence[Prediction]], bool],
) -> Asked:
    """Ratings of the units of as many of the `looks` as it takes until they are `enough`.

    What the first look needs is asked at once, wrong explanations and dev with it, so that with one
    look all is. A later one asks about the explanation alone; the others follow when it is enough.
    Of dev, in its order, as large a part is asked as of the units.

    Raises:
        ProviderError, BudgetSpent, Unsupported: as the language model does.
    """

    def some(begin: int, end: int) -> list[_Unit]:
        return [units[i] for i in looks.order[begin:end]]

    def of_dev(begin: int, end: int) -> list[_Unit]:
        a, b = (round(len(dev_units) * n / len(units)) for n in (begin, end))
        return [dev_units[i] for i in dev_order[a:b]]

    first, *wider = looks.sizes
    begun = [*((e, some(0, first)) for e in (explanation, *wrong)), (explanation, of_dev(0, first))]
    rows = await together(ratings(rate, e, part) for e, part in begun)
    usage = sum((u for _, u in rows), Usage())
    own, *others, on_dev = [p for p, _ in rows]
    end = first
    for size in wider:
        if enough(restored(own, units)):
            break
        more, used = await ratings(rate, explanation, some(end, size))
        own, usage, end = own + more, usage + used, size
    if end > first:
        rest = [*((e, some(first, end)) for e in wrong), (explanation, of_dev(first, end))]
        rows = await together(ratings(rate, e, part) for e, part in rest)
        usage += sum((u for _, u in rows), Usage())
        *others, on_dev = [a + b for a, (b, _) in zip([*others, on_dev], rows, strict=True)]
    if end == len(units):
        return Asked(own, others, on_dev, usage)
    standing = [restored(p, units) for p in (own, *others)]
    return Asked(standing[0], standing[1:], restored(on_dev, dev_units), usage)


def restored(predictions: Sequence[Prediction], units: Sequence[object]) -> list[Prediction]:
    """`predictions` of some of `units`, weighted so that they stand for all of them."""
    totals: dict[str, float] = {}
    for unit in units:
        example = window(unit)
        totals[example.stratum] = totals.get(example.stratum, 0.0) + example.weight
    mine: dict[str, float] = {}
    for p in predictions:
        mine[p.stratum] = mine.get(p.stratum, 0.0) + p.weight
    return [replace(p, weight=p.weight * totals[p.stratum] / mine[p.stratum]) for p in predictions]


def window(unit: object) -> Example:
    """The window that `unit` is, or holds as `example`."""
    found = unit if isinstance(unit, Example) else getattr(unit, "example", None)
    if not isinstance(found, Example):
        raise TypeError(f"a {type(unit).__name__} is no window and holds none as `example`")
    return found

"""Lists of features as addresses: what is shown is in the address, so that each view is a link.

    ?run=r1&sort=-simulation&kind=token&site=layers.7.mlp.neurons&flag=failed
    &density.min=0.001&simulation.min=0.3&q=animals&number=12&limit=50&after=PLACE

A minus before what is sorted by turns the order round. `NAME.min` and `NAME.max` take `density`,
`peak`, `width` or a scorer. Names that are given again widen what is shown, flags narrow it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from glossator.rows import plain
from glossator.selection import OWN, RANGES, Bounds, Cursor, Selection, finite
from glossator.types import Kind

Pairs = Sequence[tuple[str, str]]

PLAIN = ("run", "sort", "q", "like", "kind", "site", "explainer", "flag", "number", "limit")
"""All parameters but ranges and places."""
LONGEST = 200
"""Characters of a text that is searched for."""


def parse(pairs: Pairs, run: str, collection: str, scorers: Collection[str]) -> Selection:
    """The list that the parameters `pairs` ask for; an empty value says nothing.

    Raises:
        ValueError: if one of them says nothing that can be shown.
    """
    given: dict[str, list[str]] = {}
    for name, value in pairs:
        if value.strip():
            given.setdefault(name, []).append(plain(value.strip()))

    def last(name: str, default: str = "") -> str:
        return given.get(name, [default])[-1]

    sort = last("sort", "id")
    named = sort.removeprefix("-")
    if named not in OWN and named not in scorers:
        raise ValueError(f"features cannot be sorted by {named[:60]!r}; {', '.join(OWN)}")
    known = {*RANGES, *scorers}
    ranges: dict[str, Bounds] = {}
    for name in given:
        of, _, end = name.rpartition(".")
        if of in known and end in ("min", "max"):
            low, high = ranges.get(of, (None, None))
            bound = finite(last(name))
            ranges[of] = (bound, high) if end == "min" else (low, bound)

    def place(name: str) -> Cursor | None:
        return Cursor.parse(last(name), named) if name in given else None

    return Selection(
        run,
        collection,
        sort=named,
        descending=sort.startswith("-"),
        kinds=tuple(_kind(name) for name in given.get("kind", ())),
        sites=tuple(given.get("site", ())),
        numbers=tuple(_whole(n) for text in given.get("number", ()) for n in text.split(",")),
        explainers=tuple(given.get("explainer", ())),
        flags=tuple(dict.fromkeys(given.get("flag", ()))),
        ranges=ranges,
        text=last("q")[:LONGEST],
        like=last("like")[:LONGEST],
        limit=_whole(last("limit", "50")),
        after=place("after"),
        before=place("before"),
    )


def _kind(name: str) -> Kind:
    try:
        return Kind(name)
    except ValueError as error:
        raise ValueError(f"no kind is called {name[:40]!r}; {', '.join(Kind)}") from error


def _whole(text: str) -> int:
    if not re.fullmatch(r"\s*[0-9]{1,15}\s*", text):
        raise ValueError(f"{text[:40]!r} is not a whole number from 0 on")
    return int(text)


def pairs_of(selection: Selection) -> list[tuple[str, str]]:
    """The parameters that `parse` gives `selection` for; what is usual is left out."""
    found = [("run", selection.run)]
    if selection.sort != "id" or selection.descending:
        found.append(("sort", f"{'-' if selection.descending else ''}{selection.sort}"))
    if selection.text:
        found.append(("q", selection.text))
    if selection.like:
        found.append(("like", selection.like))
    for name, values in (
        ("kind", [kind.value for kind in selection.kinds]),
        ("site", selection.sites),
        ("explainer", selection.explainers),
        ("flag", selection.flags),
        ("number", [str(number) for number in selection.numbers]),
    ):
        found += [(name, value) for value in values]
    for name, (low, high) in selection.ranges.items():
        found += [] if low is None else [(f"{name}.min", f"{low:.12g}")]
        found += [] if high is None else [(f"{name}.max", f"{high:.12g}")]
    if selection.limit != 50:
        found.append(("limit", str(selection.limit)))
    for name, place in (("after", selection.after), ("before", selection.before)):
        found += [] if place is None else [(name, str(place))]
    return found


def address(selection: Selection, path: str = "/features", **changes: Any) -> str:
    """The address of `selection`, with `changes` to it."""
    return f"{path}?{urlencode(pairs_of(replace(selection, **changes)))}"


def changed(selection: Selection, **changes: Any) -> Selection:
    """`selection` from its first page on, with `changes` to it."""
    return replace(selection.from_the_start, **changes)

"""Where somebody is in the review, as an address and as the hidden fields of a form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote, urlencode

from fastapi import HTTPException, Request

from glossator.acts import reviewer_name
from glossator.rows import plain

COOKIE = "glossator_reviewer"
"""Keeps the reviewer's name, percent-encoded."""
_LARGEST = 2**31
"""Rows of features are below it."""


@dataclass(frozen=True, slots=True)
class Place:
    """What is shown to whom."""

    run: str
    feature: int | None = None
    """Row of the feature; None for what is worth most time."""
    said: str = ""
    """Key of the explanation that keys are for; the first without a rating if empty."""
    blind: bool = False
    """Hide scores and authors until all explanations of the feature are rated."""
    pair: bool = False
    """Show two explanations side by side, blind."""
    who: str = ""
    """The reviewer, where the address names one; the cookie's otherwise."""

    @classmethod
    def of(cls, given: Mapping[str, str], run: str) -> Place:
        """What the parameters or fields `given` say, in `run`; a 404 for no row of a store."""
        number = given.get("feature", "")
        if number and not (number.isascii() and number.isdigit() and len(number) < 12):
            raise HTTPException(404, "There is no such feature in this store.")
        if number and int(number) >= _LARGEST:
            raise HTTPException(404, "There is no such feature in this store.")
        return cls(
            run,
            int(number) if number else None,
            given.get("said", "")[:20],
            given.get("blind", "") == "1",
            given.get("ab", "") == "1",
            named(given.get("who", "")),
        )

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The parameters, or hidden fields, that say this; what is usual is left out."""
        flags = [("blind", "1")] * self.blind + [("ab", "1")] * self.pair
        texts = [("said", self.said), ("who", self.who)]
        feature = [] if self.feature is None else [("feature", str(self.feature))]
        return [("run", self.run), *feature, *flags, *(pair for pair in texts if pair[1])]

    def address(self, path: str = "/review", **changes: Any) -> str:
        """The address of this, with `changes` to it."""
        return f"{path}?{urlencode(replace(self, **changes).pairs)}"


def named(text: str) -> str:
    """`text` as a reviewer's name; empty for an empty one, a 400 for one that is none."""
    if not text.strip():
        return ""
    try:
        return reviewer_name(plain(text))
    except ValueError as error:
        raise HTTPException(400, f"{error}.".capitalize()) from error


def reviewer_of(request: Request, place: Place) -> str:
    """Who reviews: as the address says, else as the cookie does; empty if neither knows."""
    if place.who:
        return place.who
    try:
        return reviewer_name(plain(unquote(request.cookies.get(COOKIE, ""))))
    except ValueError:
        return ""


def as_cookie(name: str) -> str:
    """`name` as the cookie keeps it."""
    return quote(name, safe="")

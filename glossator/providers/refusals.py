"""Whom a refusal is about: one request, or all that could still be sent.

A provider that has answered and then calls a request bad (400, 422) means that request: an item is
given up and the others go on. Where item after item is called so, it is all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from glossator.errors import ProviderRefused, RequestRefused
from glossator.llm import NO_PURPOSE, Purpose, Request, purpose

IN_A_ROW = 3
"""Items that are refused one after the other, until all are taken to be."""


@dataclass
class Refusals:
    """What one model has refused lately."""

    answered: bool = False
    """Whether it has answered anything in this run, also before this process."""
    known: frozenset[Purpose] = frozenset()
    """Items that it refused before; that it does so again says nothing of the others."""
    _in_a_row: set[Purpose | str] = field(default_factory=set, init=False, repr=False)

    def note_reply(self) -> None:
        """Takes note that it answered."""
        self.answered = True
        self._in_a_row.clear()

    def weigh(self, error: ProviderRefused, request: Request) -> ProviderRefused | RequestRefused:
        """`error`, or that `request` alone is refused, for what is being worked on."""
        if not (error.of_request and self.answered):
            return error
        item = purpose()
        if item not in self.known:
            self._in_a_row.add(request.digest if item == NO_PURPOSE else item)
        if len(self._in_a_row) >= IN_A_ROW:
            return error
        return RequestRefused(error.of_request)

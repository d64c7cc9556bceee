"""What a checkpoint of a conversation holds: numbers, ids and short lines.

All else is written down in the notebook, so that 200 turns take no more room than one.
"""

from __future__ import annotations

from typing import TypedDict


class State(TypedDict, total=False):
    """Between two steps of a turn."""

    turn: int
    """From 1."""
    step: int
    """Replies of the language model so far in this turn; 0 for what the user calls."""
    calls: int
    """Calls of this step."""
    at: int
    """The one that is next, from 0."""
    n_run: int
    """Calls of this turn that were carried out."""
    repeats: int
    """Calls of this turn that were made before."""
    ran: list[str]
    """Digest and id of the calls of this turn that were carried out."""
    notes: list[str]
    """What this turn found, a line an experiment."""
    experiments: int
    """Of the conversation so far, for the next id; never more than there are."""
    hypotheses: int
    """The same."""
    done: bool
    """Whether the turn has its answer."""


def first_state(turn: int) -> State:
    """Of a turn of which nothing is done; what the conversation has so far stays as it was."""
    return {
        "turn": turn,
        "step": 0,
        "calls": 0,
        "at": 0,
        "n_run": 0,
        "repeats": 0,
        "ran": [],
        "notes": [],
        "done": False,
    }

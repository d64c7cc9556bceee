"""What a checkpoint of an inquiry holds: ids and short lines. All else is in the notebook."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from glossator.agent.beliefs import Beliefs
from glossator.evidence import Hypothesis
from glossator.types import JSON

MOST_NOTES = 12
MOST_OF_A_NOTE = 400
"""Characters."""


class State(TypedDict, total=False):
    """Between two steps of an inquiry."""

    hypotheses: list[dict[str, JSON]]
    """Those alive, without the patterns of dull ones, which the notebook has."""
    weights: dict[str, float]
    """Log weights of the beliefs."""
    n_proposed: int
    """Hypotheses so far, for the next id."""
    evidence: list[str]
    """Ids of the experiments so far, observations among them."""
    n_tested: int
    """Experiments with something foretold."""
    notes: list[str]
    """What was found last, a line each."""
    ran: list[str]
    """Digests of the calls so far."""
    pending: str
    """Id of the experiment that is planned and not yet counted."""
    round: int
    still: int
    """Rounds in a row in which nothing moved."""
    stuck: int
    """Rounds in a row for which no experiment could be found."""
    looks: int
    """Times that dev was looked at to decide."""
    leader: str
    """Id of the hypothesis that was decided for."""
    ending: str
    """An `Ending`, once it has ended."""
    why: str
    """In words."""
    seconds: float
    """Of work so far."""


def noted(state: State, lines: Iterable[str]) -> list[str]:
    """The notes with `lines`, the oldest forgotten."""
    short = [" ".join(line.split())[:MOST_OF_A_NOTE] for line in lines]
    return [*state.get("notes", []), *short][-MOST_NOTES:]


def beliefs_of(state: State) -> Beliefs:
    """The beliefs."""
    return Beliefs(dict(state.get("weights", {})))


def kept(hypotheses: Sequence[Hypothesis]) -> list[dict[str, JSON]]:
    """Hypotheses as a state holds them."""
    plain = [h.to_json() for h in hypotheses]
    return [{k: v for k, v in one.items() if k not in ("words", "paths")} for one in plain]

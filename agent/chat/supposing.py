"""Hypotheses that people and language models state in words."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field

from glossator.agent.tools.table import Arguments
from glossator.evidence import Hypothesis

NAME = "test_hypothesis"
ABOUT = (
    "Test a hypothesis of what the feature does: what it foretells is written down, texts that "
    "fit it and texts that nearly fit it are run, and the answer comes with effect size and "
    "interval. Call it whenever the user supposes something about the feature."
)
MOST_CHARACTERS = 400

_LEAD = (
    r"(?:(?:i\s+(?:think|suspect|suppose|believe|guess|bet)|maybe|perhaps|hypothesis:?|my\s+"
    r"(?:hypothesis|guess|hunch)\s+is|what\s+if)\s*,?\s*(?:that\s+)?)?"
)
_IT = r"(?:it|this\s+(?:feature|neuron|latent|one)|the\s+(?:feature|neuron|latent))"
_ALSO = r"(?:\s+(?:only|always|mostly|mainly|really|just))?"
_FIRES = re.compile(
    rf"\s*{_LEAD}{_IT}{_ALSO}\s+(?:fires?|responds?|reacts?|activates?|lights?\s+up|is\s+active)"
    rf"{_ALSO}\s+(?:on|to|for|at|in|when|whenever)\s+(.+)",
    re.IGNORECASE | re.DOTALL,
)
_PROMOTES = re.compile(
    rf"\s*{_LEAD}{_IT}{_ALSO}\s+(?:promotes?|predicts?|boosts?|raises?|makes?\s+more\s+likely)"
    r"\s+(.+)",
    re.IGNORECASE | re.DOTALL,
)
_AND_PROMOTES = re.compile(
    r"\s*(?:,|;|,?\s+and)\s+(?:it\s+)?(?:promotes|predicts|boosts|makes\s+more\s+likely)\s+",
    re.IGNORECASE,
)


class Supposition(Arguments):
    """What is supposed of a feature; at least one of the two."""

    trigger: Annotated[str, Field(max_length=MOST_CHARACTERS)] = ""
    """What in a text makes it fire, such as `names of rivers`; empty if nothing is said of that."""
    output_effect: Annotated[str, Field(max_length=MOST_CHARACTERS)] = ""
    """Words that it makes more likely next, such as `names of cities`; empty if nothing is said."""


def stated(message: str) -> Supposition | None:
    """What a message supposes that says plainly on what it fires or what it promotes; else None.

    Questions are none: `does it fire on rivers?` is for the language model to understand.
    """
    if message.rstrip().endswith("?"):
        return None
    if (found := _FIRES.fullmatch(message)) is not None:
        trigger, *effect = _AND_PROMOTES.split(_phrase(found.group(1)), maxsplit=1)
        return Supposition(trigger=trigger, output_effect=effect[0] if effect else "")
    if (found := _PROMOTES.fullmatch(message)) is not None:
        return Supposition(output_effect=_phrase(found.group(1)))
    return None


def supposed(words: str) -> Supposition:
    """What `words` suppose, taken as a trigger where they do not say what they are."""
    return stated(words) or Supposition(trigger=_phrase(words))


def hypothesis_of(number: int, given: Supposition) -> Hypothesis:
    """The hypothesis H`number`."""
    parts = [given.trigger] if given.trigger.strip() else []
    if given.output_effect.strip():
        parts.append(f"makes more likely next: {given.output_effect}")
    return Hypothesis(
        f"H{number}",
        "; ".join(parts),
        given.trigger.strip(),
        given.output_effect.strip(),
        by="user",
    )


def _phrase(text: str) -> str:
    return " ".join(text.split()).rstrip(" .!;")[:MOST_CHARACTERS]

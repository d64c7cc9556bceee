"""What a tool cannot do without, or the sentence that says so."""

from __future__ import annotations

from glossator.agent.lab import Lab
from glossator.errors import Unsupported
from glossator.inside import Inside


def inside_of(lab: Lab) -> Inside:
    """The model around the feature.

    Raises:
        Unsupported: if there is none.
    """
    if lab.inside is None:
        raise Unsupported(
            f"{lab.seen.feature} is a function of the text with no model around it; its "
            "activations can be asked (run_texts, token_importance)"
        )
    return lab.inside


def peak_of(lab: Lab) -> float:
    """The strongest activation on train text, which what it is held at is a multiple of.

    Raises:
        Unsupported: if it never fires there.
    """
    if lab.seen.peak <= 0:
        raise Unsupported(
            f"{lab.seen.feature} never fires on train text, so there is no peak to hold it at; "
            "promoted_tokens does without"
        )
    return lab.seen.peak

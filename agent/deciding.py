"""When an inquiry may end: a rule on numbers, written before they are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from glossator.agent.beliefs import Beliefs
from glossator.agent.on_dev import DevTest
from glossator.evidence import Effect, Hypothesis
from glossator.types import JSON

NEGLIGIBLE = 0.01
"""Below this probability a rival is none."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one look at the numbers says."""

    leader: str
    decided: bool
    why: str
    numbers: Mapping[str, JSON]


def decide(
    beliefs: Beliefs,
    hypotheses: Mapping[str, Hypothesis],
    dev: DevTest,
    on_dev: Mapping[str, Sequence[float | None]],
    output: Mapping[str, Effect],
    looks: int,
    confidence: float,
) -> Decision:
    """Whether the likeliest hypothesis has won.

    It has if all of this holds, at a level that is shared by all rivals and looks (Bonferroni):
    what it says of the input tells firing dev windows from silent ones better than chance; what it
    says of the output was seen when the feature was held high; and each rival either does worse on
    the same dev windows, or is by experiments less likely by the odds of the confidence.

    Args:
        beliefs: by experiments alone.
        hypotheses: by id.
        dev: the windows.
        on_dev: what each hypothesis foretold of them.
        output: of each hypothesis with an effect, how it was borne out.
        looks: how often this rule is asked, this time included, in one inquiry.
        confidence: over all of it.
    """
    shares = beliefs.probabilities
    leader = hypotheses[beliefs.leader]
    rivals = [i for i in beliefs.ranked() if i != leader.id and shares[i] > NEGLIGIBLE]
    level = (1 - confidence) / max(1, looks) / max(1, len(rivals))
    numbers: dict[str, JSON] = {"probability": shares[leader.id], "level": level}
    if leader.trigger or leader.words or leader.paths:
        p = dev.p_of(on_dev[leader.id])
        numbers |= {"dev p": p, "dev precision": dev.precision_of(on_dev[leader.id])}
        if p is None or p > (1 - confidence) / max(1, looks):
            found = "the same of all" if p is None else f"no better than chance would (p {p:.2g})"
            why = f"on dev, {leader.id} foretells {found}"
            return Decision(leader.id, False, why, numbers)
    effect = output.get(leader.id)
    if effect is not None and not borne_out(effect):
        why = f"{leader.id} says what it does to the output, and that was not seen"
        return Decision(leader.id, False, why, numbers)
    odds = confidence / (1 - confidence)
    for rival in rivals:
        value, low, _ = dev.gap(on_dev[leader.id], on_dev[rival], 1 - level)
        numbers[f"over {rival}"] = [value, low, shares[rival]]
        on_text = low is not None and low > 0
        if not on_text and shares[leader.id] < odds * shares[rival]:
            return Decision(leader.id, False, f"{rival} is not ruled out", numbers)
    return Decision(leader.id, True, f"{leader.id} beats {len(rivals)} rivals", numbers)


def borne_out(effect: Effect) -> bool:
    """Whether an interval lies above 0."""
    return effect.low is not None and effect.low > 0

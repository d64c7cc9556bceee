"""When an inquiry may end: a rule on numbers, written before they are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    same: tuple[str, ...] = ()
    """Rivals that foretold as the leader did wherever both were asked."""


Same = Callable[[str, str], bool]
"""Whether two hypotheses foretold alike."""


def decide(
    beliefs: Beliefs,
    hypotheses: Mapping[str, Hypothesis],
    dev: DevTest,
    on_dev: Mapping[str, Sequence[float | None]],
    output: Mapping[str, Effect],
    same: Same,
    looks: int,
    confidence: float,
) -> Decision:
    """Whether the likeliest hypothesis has won.

    It has if all of this holds, at a level that is shared by all rivals and looks (Bonferroni):
    what it says of the input tells firing dev windows from silent ones better than chance; what it
    says of the output was seen when the feature was held high; and each rival either does worse on
    the same dev windows, or is by experiments less likely by the odds of the confidence. Those that
    foretold all the same are no rivals, but the same answer in other words: their probabilities are
    added, and of all of them the likeliest that is not dull stands for the rest.

    Args:
        beliefs: by experiments alone.
        hypotheses: by id.
        dev: the windows.
        on_dev: what each hypothesis foretold of them.
        output: of each hypothesis with an effect, how it was borne out.
        same: whether two foretold alike.
        looks: how often this rule is asked, this time included, in one inquiry.
        confidence: over all of it.
    """
    shares = beliefs.probabilities
    likely = [i for i in beliefs.ranked() if shares[i] > NEGLIGIBLE]
    alike = [i for i in likely if i == beliefs.leader or same(beliefs.leader, i)]
    leader = hypotheses[next((i for i in alike if not hypotheses[i].dull), beliefs.leader)]
    equal = tuple(i for i in alike if i != leader.id)
    rivals = [i for i in likely if i not in alike]
    share = sum(shares[i] for i in alike)
    level = (1 - confidence) / max(1, looks) / max(1, len(rivals))
    numbers: dict[str, JSON] = {"probability": share, "level": level, "same": list(equal)}
    if leader.trigger or leader.words or leader.paths:
        p = dev.p_of(on_dev[leader.id])
        numbers |= {"dev p": p, "dev precision": dev.precision_of(on_dev[leader.id])}
        if p is None or p > (1 - confidence) / max(1, looks):
            found = "the same of all" if p is None else f"no better than chance would (p {p:.2g})"
            why = f"on dev, {leader.id} foretells {found}"
            return Decision(leader.id, False, why, numbers, equal)
    effect = output.get(leader.id)
    if effect is not None and not borne_out(effect):
        why = f"{leader.id} says what it does to the output, and that was not seen"
        return Decision(leader.id, False, why, numbers, equal)
    odds = confidence / (1 - confidence)
    for rival in rivals:
        value, low, _ = dev.gap(on_dev[leader.id], on_dev[rival], 1 - level)
        numbers[f"over {rival}"] = [value, low, shares[rival]]
        on_text = low is not None and low > 0
        if not on_text and share < odds * shares[rival]:
            return Decision(leader.id, False, f"{rival} is not ruled out", numbers, equal)
    beaten = f"beats {len(rivals)} rivals" if rivals else "is left without a rival"
    why = f"{leader.id} {beaten}"
    if equal:
        why += f", and nothing that was tried tells it from {', '.join(equal)}"
    return Decision(leader.id, True, why, numbers, equal)


def borne_out(effect: Effect) -> bool:
    """Whether an interval lies above 0."""
    return effect.low is not None and effect.low > 0

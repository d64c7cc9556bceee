"""From evidence to a typed explanation, every claim of which cites what it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from glossator.agent.deciding import borne_out
from glossator.agent.designing import has_effect
from glossator.agent.prompts import VERSION
from glossator.evidence import Claim, Conclusion, Ending, Evidence, Hypothesis, Part
from glossator.types import Explanation, FeatureId

Said = tuple[Part, str, tuple[str, ...]]
"""A claim as it was written: part, text, and the ids that it cites."""


def supported(leader: Hypothesis, evidence: Sequence[Evidence]) -> list[Said]:
    """What can be claimed of a hypothesis without a language model: what it foretold and was so."""
    held = [e for e in evidence if leader.id in e.effects and borne_out(e.effects[leader.id])]
    steered = tuple(e.id for e in held if e.experiment.tool == "steer")
    read = tuple(e.id for e in held if e.experiment.tool != "steer")
    found: list[Said] = []
    if leader.trigger and read:
        found.append((Part.TRIGGER, f"It fires on {leader.trigger}.", read))
    if has_effect(leader) and steered:
        found.append((Part.OUTPUT, f"It makes more likely: {leader.output_effect}.", steered))
    return found


def speaks(evidence: Evidence, part: Part, leader: Hypothesis | None) -> bool:
    """Whether an experiment can carry a claim about `part`.

    What is said of trigger or output effect needs one in which what the leader foretold was borne
    out; a look foretold nothing, and may carry any.
    """
    if part not in (Part.TRIGGER, Part.OUTPUT) or not evidence.experiment.questions:
        return True
    effect = None if leader is None else evidence.effects.get(leader.id)
    if effect is None or effect.value is None:
        return False
    return borne_out(effect) or (effect.low is None and effect.value > 0)


def conclusion_of(
    feature: FeatureId,
    ending: Ending,
    why: str,
    leader: Hypothesis | None,
    alive: Sequence[Hypothesis],
    probabilities: Mapping[str, float],
    evidence: Sequence[Evidence],
    said: Sequence[Said],
    model: str,
    seconds: float,
) -> Conclusion:
    """The conclusion; claims are struck out that cite no evidence, or none that speaks for them."""
    known = {e.id: e for e in evidence if e.finding is not None}
    claims: list[Claim] = []
    struck: list[str] = []
    for part, text, ids in said:
        real = tuple(i for i in ids if i in known)
        if real and any(speaks(known[i], part, leader) for i in real):
            claims.append(Claim(part, text, real))
        else:
            struck.append(f"{part.value}: {text}")
    if leader is None:
        best = max(alive, key=lambda h: probabilities.get(h.id, 0.0), default=None)
        reason = f"undecided ({ending.value}): {why}"
        if best is not None:
            share = probabilities.get(best.id, 0.0)
            reason += f"; likeliest with {share:.0%}: {best.text}"
        explanation = Explanation(feature, "", "agent", model, VERSION, abstained=reason)
    else:
        explanation = Explanation(
            feature,
            leader.text if has_effect(leader) or not leader.trigger else leader.trigger,
            "agent",
            model,
            VERSION,
            trigger=leader.trigger,
            output_effect=leader.output_effect,
            senses=_of(claims, Part.SENSE),
            exceptions=_of(claims, Part.EXCEPTION),
            words=leader.words,
            paths=leader.paths,
            note=f"{why}; {len(claims)} claims, {len(struck)} without evidence struck out",
        )
    return Conclusion(
        feature,
        ending,
        explanation,
        tuple(claims),
        tuple(struck),
        dict(probabilities),
        len(evidence),
        seconds=seconds,
    )


def _of(claims: Sequence[Claim], part: Part) -> tuple[str, ...]:
    return tuple(claim.text for claim in claims if claim.part is part)

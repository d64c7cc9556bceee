"""What an experiment says of a hypothesis that foretold it: a plain word, and numbers for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from glossator.agent.beliefs import effect_of
from glossator.agent.tools.shown import plain
from glossator.evidence import Effect, Evidence, Foretold

LEAST = 0.1
"""An effect below this is none worth the name: a tenth of the train peak, or of a nat."""
FEWEST = 3
"""Texts of a kind that can decide anything where all of it came out alike."""
NAMED = 2
"""Texts of each kind of error that are quoted."""
MOST = 80


class Verdict(StrEnum):
    """Of a test."""

    SUPPORTED = "supported"
    REFUTED = "refuted"
    UNDECIDED = "not decided by this"


@dataclass(frozen=True, slots=True)
class Judged:
    """One experiment, held against one hypothesis."""

    verdict: Verdict
    text: str
    effect: Effect


def judged(evidence: Evidence, foretold: Foretold, peak: float) -> Judged:
    """What `evidence`, which has a finding, says of who foretold it.

    Supported: the interval of the effect lies above 0, and most of what was foretold to fire did,
    and most of the rest did not. Refuted: the effect lies below `LEAST`, or less than half of what
    was foretold to fire did, by a 95% interval.
    """
    finding = evidence.finding
    if finding is None:
        raise ValueError(f"{evidence.id} found nothing to judge by")
    steered = evidence.experiment.tool == "steer"
    scale = 1.0 if steered or peak <= 0 else peak
    effect = effect_of(foretold, finding.values, scale, "nats" if steered else "share of peak")
    pairs = [
        (p >= 0.5, a, q.text)
        for p, a, q in zip(
            foretold.probabilities, finding.answers, evidence.experiment.questions, strict=True
        )
        if p is not None and a is not None
    ]
    taken_in = [text for told, answer, text in pairs if told and not answer]
    missed = [text for told, answer, text in pairs if answer and not told]
    n_told = sum(told for told, _, _ in pairs)
    verdict = verdict_of(effect, n_told, len(taken_in), len(pairs) - n_told, len(missed))
    text = f"{evidence.id}: {_said(effect, steered)}; {_errors(missed, taken_in, steered)}"
    return Judged(verdict, text, effect)


def verdict_of(effect: Effect, n_yes: int, n_wrong: int, n_no: int, n_missed: int) -> Verdict:
    """The word for it.

    Args:
        effect: how much higher it is where yes was foretold.
        n_yes: answers foretold yes.
        n_wrong: of these, those that were no.
        n_no: answers foretold no.
        n_missed: of these, those that were yes.
    """
    if effect.value is None or not n_yes or not n_no:
        return Verdict.UNDECIDED
    enough = min(n_yes, n_no) >= FEWEST
    low, high = effect.low, effect.high
    above = low > 0 if low is not None else effect.value > LEAST and enough
    below = high < LEAST if high is not None else effect.value < LEAST and enough
    if above and effect.value >= LEAST and 2 * n_wrong < n_yes and 2 * n_missed < n_no:
        return Verdict.SUPPORTED
    if below or (enough and _share_at_most(n_yes - n_wrong, n_yes) < 0.5):
        return Verdict.REFUTED
    return Verdict.UNDECIDED


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of a hypothesis with several parts: one that is refuted refutes it."""
    if Verdict.REFUTED in verdicts:
        return Verdict.REFUTED
    if verdicts and all(v is Verdict.SUPPORTED for v in verdicts):
        return Verdict.SUPPORTED
    return Verdict.UNDECIDED


def _share_at_most(k: int, n: int) -> float:
    """Upper end of the 95% Wilson interval of k of n."""
    z = 1.959964
    centre = (k + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * (k * (n - k) / n + z * z / 4) ** 0.5
    return float(centre + half)


def _said(effect: Effect, steered: bool) -> str:
    if effect.value is None:
        return f"nothing to compare, for {effect.note}"
    ends = ""
    if effect.low is not None and effect.high is not None:
        ends = f" [{effect.low:.2f}, {effect.high:.2f}]"
    if steered:
        return (
            "held high, it makes the words that your hypothesis names "
            f"{effect.value:.2f}{ends} nats more likely than the others, n {effect.n}"
        )
    return (
        "it fires where your hypothesis says it should "
        f"{effect.value:.2f}{ends} of peak more than elsewhere, n {effect.n}"
    )


def _errors(missed: Sequence[str], taken_in: Sequence[str], steered: bool) -> str:
    if not missed and not taken_in:
        return "the hypothesis missed none and took in none"
    said = f"the hypothesis missed {len(missed)} and took in {len(taken_in)}"
    where = ("rose", "did not rise") if steered else ("it fires on", "it is silent on")
    parts = [
        f"{what}: {', '.join(_quoted(t) for t in texts[:NAMED])}"
        for what, texts in zip(where, (missed, taken_in), strict=True)
        if texts
    ]
    return f"{said} ({'; '.join(parts)})"


def _quoted(text: str) -> str:
    one = " ".join(plain(text).split())
    return f"“{one if len(one) <= MOST else one[: MOST - 1] + '…'}”"

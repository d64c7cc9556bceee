"""What an inquiry wrote down, line by line, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from glossator.cli.text import visible
from glossator.evidence import Conclusion, Evidence, Experiment, Hypothesis
from glossator.notebook import Entry

MOST = 240
"""Characters of a text that are shown."""
TOLD = 8
"""Questions of an experiment that are shown, each with what was foretold and what happened."""


def transcript_lines(entries: Iterable[Entry]) -> Iterator[str]:
    """The entries in order, a few lines each; replies as they were sent are left out."""
    planned: dict[str, Experiment] = {}
    for entry in entries:
        content = entry.content
        if entry.kind == "seen":
            yield from _seen(content)
        elif entry.kind == "proposed":
            yield _proposed(Hypothesis.from_json(content))
        elif entry.kind == "experiment":
            planned[entry.key] = Experiment.from_json(content)
        elif entry.kind == "evidence":
            yield from _evidence(Evidence.from_json(content))
        elif entry.kind == "beliefs":
            yield "  now " + _shares(content["after"])
        elif entry.kind == "decision":
            yield f"{entry.key}: {content['why']}"
        elif entry.kind == "failure":
            yield f"{entry.key}: {content.get('kind', '')}: {_short(content.get('message', ''))}"
        elif entry.kind == "user":
            yield f"{entry.key}: {_short(content['text'])}"
        elif entry.kind == "assistant":
            yield f"{entry.key}: {_short(content['text'] or content['failure'])}"
        elif entry.kind == "conclusion":
            yield from conclusion_lines(Conclusion.from_json(content))


def conclusion_lines(found: Conclusion) -> Iterator[str]:
    """How it ended, with what every claim rests on."""
    said = found.explanation
    yield f"ended: {found.ending.value}, after {found.n_experiments} experiments"
    yield f"  {visible(said.text or said.abstained)}"
    if said.note:
        yield f"  {visible(said.note)}"
    for claim in found.claims:
        yield f"  {claim.part.value}: {visible(claim.text)} [{', '.join(claim.evidence)}]"
    for struck in found.struck:
        yield f"  struck out, for it cites no evidence: {visible(struck)}"
    if found.probabilities:
        yield "  " + _shares(found.probabilities)


def _seen(content: Mapping[str, Any]) -> Iterator[str]:
    yield f"{content['kind']}; fires on {content['density']:.3%} of tokens"
    for effect in content.get("effects", []):
        yield f"  {_short(effect)}"


def _proposed(hypothesis: Hypothesis) -> str:
    dull = ", dull" if hypothesis.dull else ""
    return f"{hypothesis.id} by {hypothesis.by}{dull}: {_short(hypothesis.text)}"


def _evidence(evidence: Evidence) -> Iterator[str]:
    experiment = evidence.experiment
    yield f"{evidence.id} {experiment.tool}: {_short(experiment.why)} ({evidence.seconds:.1f} s)"
    if evidence.finding is None:
        yield f"  failed: {_short(evidence.failure)}"
        return
    answers = evidence.finding.answers
    for i, question in enumerate(experiment.questions[:TOLD]):
        told = ", ".join(
            f"{f.hypothesis} {p:.2f}"
            for f in experiment.foretold
            if (p := f.probabilities[i]) is not None
        )
        answer = {True: "yes", False: "no", None: "?"}[answers[i] if i < len(answers) else None]
        text = question.text
        if question.span is not None:
            first, last = question.span
            text = (
                f"{text[max(0, first - 60) : first]}<<{text[first:last]}>>{text[last : last + 60]}"
            )
        yield f"  {answer:<3} {_short(text, 120)!s}  (foretold: {told or 'nothing'})"
    if len(experiment.questions) > TOLD:
        yield f"  and {len(experiment.questions) - TOLD} more"
    if not experiment.questions:
        yield from (f"  {_short(line)}" for line in evidence.finding.text.splitlines()[:TOLD])
    for name, effect in evidence.effects.items():
        yield f"  {name}: {effect.said}"


def _shares(shares: Any) -> str:
    ranked = sorted(dict(shares).items(), key=lambda item: -item[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in ranked if share >= 0.005)


def _short(text: object, most: int = MOST) -> str:
    plain = " ".join(visible(str(text)).split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"

"""The results of a run, one row for each explanation, as a table for people or as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from glossator.cli.text import shortened, visible
from glossator.health import words_of
from glossator.types import JSON

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from glossator.runs import Failure
    from glossator.store import Store

BASELINE = "unigram"
"""The explainer that every other one should beat."""

_OF_SCORE = (
    *("scorer", "metric", "simulator", "llm", "value", "low", "high", "null", "lift", "p", "q"),
    *("n", "n_failed", "note"),
)
_LONGEST_EXPLANATION = 400
_WIDTH_BESIDE_SCORES, _WIDTH_OF_SCORE = 70, 21
"""Columns that a table takes at least."""


@dataclass(frozen=True, slots=True)
class Result:
    """An explanation and its scores."""

    feature: str
    explainer: str
    explanation: str
    """Empty if the explainer abstained."""
    abstained: str
    kind: str | None
    density: float | None
    llm: str
    cost: float | None
    """US dollars of explaining and scoring; None where a price is unknown."""
    seconds: float
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By scorer, or by `scorer/simulator` where one scorer used several on this explanation."""

    def to_json(self) -> dict[str, JSON]:
        """The row as `--json` prints it."""
        return {
            "feature": self.feature,
            "kind": self.kind,
            "density": self.density,
            "explainer": self.explainer,
            "llm": self.llm,
            "explanation": self.explanation,
            "abstained": self.abstained,
            "scores": {name: dict(score) for name, score in self.scores.items()},
            "cost": self.cost,
            "seconds": self.seconds,
        }


def read_results(store: Store, run: str) -> list[Result]:
    """One row for each explanation of `run`, in the order they were stored."""
    known = {row["feature"]: row for row in _records(store.features(run))}
    scores: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in _records(store.scores(run)):
        scores.setdefault((row["feature"], row["explainer"]), []).append(row)
    results = []
    for said in _records(store.explanations(run)):
        own = scores.pop((said["feature"], said["explainer"]), [])
        results.append(_result(said, own, known.get(said["feature"], {})))
    return results


def scorer_names(results: Sequence[Result]) -> list[str]:
    """The names of all scores in `results`, in the order met."""
    return list(dict.fromkeys(name for result in results for name in result.scores))


def print_results(console: Console, results: Sequence[Result]) -> None:
    """The rows as a table, or one below the other where a table would not fit."""
    from rich.padding import Padding
    from rich.text import Text

    if console.width >= _WIDTH_BESIDE_SCORES + _WIDTH_OF_SCORE * len(scorer_names(results)):
        console.print(results_table(results))
        return
    for result in results:
        title = f"{result.feature}  {result.explainer}"
        console.print(Text(visible(title), style="bold"), overflow="fold")
        lines = [_said(result)]
        for name, score in result.scores.items():
            lines.append(f"{name}: {score_cell(score)}".replace("\n", ", "))
        lines.append(f"{dollars(result.cost)}, {result.seconds:.1f} s")
        for line in lines:
            console.print(Padding(Text(line, overflow="fold"), (0, 0, 0, 2)))


def results_table(results: Sequence[Result]) -> Table:
    """The rows as a table."""
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True, title_justify="left")
    table.add_column("feature", overflow="fold", min_width=12)
    table.add_column("explainer", overflow="fold")
    table.add_column("explanation", ratio=1, overflow="fold", min_width=16)
    names = scorer_names(results)
    for name in names:
        table.add_column(name, overflow="fold", min_width=18)
    table.add_column("cost", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    short = shared_model([result.feature for result in results])
    for result in results:
        cells = [
            visible(result.feature.removeprefix(short)),
            visible(result.explainer),
            _said(result),
            *(score_cell(result.scores.get(name)) for name in names),
            dollars(result.cost),
            f"{result.seconds:.1f}",
        ]
        # Texts, not strings: brackets in an explanation are not markup.
        table.add_row(*(Text(cell) for cell in cells))
    return table


def score_cell(score: Mapping[str, Any] | None) -> str:
    """A score in two or three short lines."""
    if score is None:
        return ""
    if score["value"] is None:
        return f"none: {shortened(score['note'] or '', 80)}"
    lines = [number(score["value"])]
    if score["low"] is not None and score["high"] is not None:
        lines[0] += f" [{number(score['low'])}, {number(score['high'])}]"
    chance = [
        f"{name} {number(score[name])}" for name in ("null", "p", "q") if score[name] is not None
    ]
    if chance:
        lines.append(" ".join(chance))
    if score["n_failed"]:
        lines.append(f"{score['n_failed']} failed")
    return "\n".join(lines)


def beaten_lines(results: Sequence[Result]) -> list[str]:
    """For each other explainer and scorer, on how many features it beats the baseline."""
    values: dict[tuple[str, str, str], float] = {}
    for result in results:
        for name, score in result.scores.items():
            if score["value"] is not None:
                values[result.explainer, name, result.feature] = score["value"]
    lines = []
    for explainer in dict.fromkeys(r.explainer for r in results if r.explainer != BASELINE):
        for name in scorer_names(results):
            pairs = [
                (value, values[BASELINE, name, feature])
                for (who, scorer, feature), value in values.items()
                if (who, scorer) == (explainer, name) and (BASELINE, name, feature) in values
            ]
            if pairs:
                n_beaten = sum(own > other for own, other in pairs)
                lines.append(
                    f"{name}: {n_beaten} of {len(pairs)} explanations by {explainer} beat the "
                    f"{BASELINE} baseline"
                )
    return lines


def judged_lines(results: Sequence[Result]) -> list[str]:
    """For each scorer and explainer, who predicted from the explanations, and what that cannot."""
    from glossator.scorers.build import limits_of

    found = {
        (name.partition("/")[0], result.explainer, score["simulator"])
        for result in results
        for name, score in result.scores.items()
        if score["simulator"]
    }
    lines = []
    for scorer, explainer, simulator in sorted(found):
        limits = limits_of(simulator.removeprefix("maximum of "))
        lines.append(f"{scorer} of {explainer}: {simulator}" + (f"; {limits}" if limits else ""))
    return lines


def print_failures(console: Console, failures: Sequence[Failure], most: int = 20) -> None:
    """A line for each piece of work that was given up, at most `most` of them."""
    if not failures:
        return
    console.print(f"\nFailed ({len(failures)}):")
    for failure in failures[:most]:
        where = " ".join(filter(None, (str(failure.feature or ""), failure.stage, failure.part)))
        told = shortened(failure.message, 300)
        said = visible(f"{where}: {words_of(failure)}")
        console.print(f"  {said}: {told}", soft_wrap=True)
    if len(failures) > most:
        console.print(f"  and {len(failures) - most} more; --json lists all")
    console.print("The same command tries them again, and pays for nothing twice.")


def failure_json(failure: Failure) -> dict[str, JSON]:
    """A failure as `--json` prints it."""
    return {
        "feature": None if failure.feature is None else str(failure.feature),
        "stage": failure.stage,
        "part": failure.part,
        "kind": failure.kind,
        "message": failure.message,
        "reply": failure.reply,
        "made": failure.made,
    }


def shared_model(features: Sequence[str]) -> str:
    """`MODEL//` if all `features` are of one model, else nothing."""
    models = {feature.partition("//")[0] for feature in features}
    return f"{models.pop()}//" if len(models) == 1 else ""


def number(value: float) -> str:
    """`value` in two decimals, more where that would say 0."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.1g}"


def dollars(cost: float | None) -> str:
    """An amount of money, or `?` where a price is unknown."""
    if cost is None:
        return "?"
    return "$0" if cost == 0 else f"${cost:.4f}" if cost < 1 else f"${cost:.2f}"


def _said(result: Result) -> str:
    if result.explanation:
        return shortened(result.explanation, _LONGEST_EXPLANATION)
    return f"abstained: {shortened(result.abstained, 120)}"


def _result(
    said: Mapping[str, Any], own: list[dict[str, Any]], record: Mapping[str, Any]
) -> Result:
    scorers = [row["scorer"] for row in own]
    scores = {}
    for row in own:
        several = scorers.count(row["scorer"]) > 1 and row["simulator"]
        name = f"{row['scorer']}/{row['simulator']}" if several else row["scorer"]
        scores[name] = {column: row[column] for column in _OF_SCORE}
    costs = [row["cost"] for row in (said, *own)]
    return Result(
        feature=said["feature"],
        explainer=said["explainer"],
        explanation=said["explanation"] or "",
        abstained=said["abstained"] or "",
        kind=record.get("kind"),
        density=record.get("density"),
        llm=said["llm"] or "",
        cost=None if None in costs else math.fsum(costs),
        seconds=math.fsum(row["seconds"] or 0.0 for row in (said, *own)),
        scores=scores,
    )


def _records(frame: Any) -> list[dict[str, Any]]:
    """The rows of a table, with None for what is missing."""
    plain = frame.drop(columns="made", errors="ignore").astype(object)
    rows: list[dict[str, Any]] = plain.where(frame.notna(), None).to_dict("records")
    return rows

"""`show`: one feature whole: its text, its explanations, and predictions beside what happened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glossator.cli.excerpt import beside, highlighted, misses, strongest
from glossator.cli.feature import find_feature
from glossator.cli.results import Result, dollars, failure_json, number, read_results
from glossator.cli.session import Session
from glossator.cli.text import visible
from glossator.cli.transcript import transcript_lines
from glossator.health import health_of, words_of
from glossator.types import (
    Example,
    Explanation,
    FeatureRecord,
    Prediction,
    Score,
    Split,
    to_json,
)

if TYPE_CHECKING:
    from rich.console import Console

    from glossator.notebook import Entry
    from glossator.runs import Failure, Run


def show_command(
    context: typer.Context,
    feature: Annotated[
        str, typer.Argument(help="Its id, or the end of it: layers.7.mlp.neurons/123.")
    ],
    run: Annotated[str | None, typer.Option(help="Which run (default: the newest).")] = None,
    top: Annotated[int, typer.Option(help="Strongest windows to show.", min=0)] = 8,
    each: Annotated[int, typer.Option(help="Windows of each quantile to show.", min=0)] = 1,
    worst: Annotated[
        int,
        typer.Option(help="Predicted windows to show of each score, worst misses first.", min=0),
    ] = 3,
) -> int:
    """Show one feature: excerpts, explanations, scores, predictions beside real activations.

    --json prints one document: feature, run, record, results, predictions, failures, inquiries,
    health.
    """
    session = Session.of(context)
    with session.open_store() as store:
        chosen, found = find_feature(store, feature, run)
        record = store.record(chosen.collection, found)
        results = [r for r in read_results(store, chosen.id) if r.feature == str(found)]
        scores: list[Score] = []
        for result in results:
            for named in result.scores.values():
                kept = store.score_of(
                    chosen.id, found, result.explainer, named["scorer"], named["simulator"]
                )
                scores += [] if kept is None else [kept]
        failures = [f for f in store.failures(chosen.id) if f.feature == found]
        explanations = [
            said
            for result in results
            if (said := store.explanation_of(chosen.id, found, result.explainer)) is not None
        ]
        inquiries = {
            known.name: list(notebook.entries())
            for known in store.notebooks.known(run=chosen.id, feature=found)
            if (notebook := store.notebooks.find(known.name)) is not None
        }
    if session.as_json:
        session.print_json(
            {
                "feature": str(found),
                "run": chosen.id,
                "config_digest": chosen.config_digest,
                "seed": chosen.seed,
                "versions": dict(chosen.versions),
                "record": None if record is None else record.to_json(),
                "results": [result.to_json() for result in results],
                "scores": [to_json(score) for score in scores],
                "explanations": [to_json(explanation) for explanation in explanations],
                "failures": [failure_json(failure) for failure in failures],
                "inquiries": {name: [to_json(e) for e in kept] for name, kept in inquiries.items()},
                "health": [one.to_json() for one in health_of(scores, failures)],
            }
        )
        return 0
    whole = {said.explainer: said for said in explanations}
    page = _Page(session.console())
    page.heading(str(found))
    if record is None:
        page.line("Nothing was collected of it in this run.")
    else:
        page.statistics(record)
        page.excerpts(record.train, record.peak, top, each)
    for result in results:
        page.explanation(result, whole[result.explainer])
        for score in scores:
            if score.explainer == result.explainer:
                page.score(score, record, worst)
    for entries in inquiries.values():
        page.inquiry(entries)
    page.provenance(chosen, record, [h.line for h in health_of(scores, failures)], failures)
    return 0


class _Page:
    """Writes the parts of the page to the console, one below the other."""

    def __init__(self, console: Console) -> None:
        self._console = console
        # Marks stand for colours where there are none: in a file, a pipe, or with NO_COLOR.
        self._colours = console.is_terminal and not console.no_color and bool(console.color_system)

    def heading(self, text: str) -> None:
        self._print(visible(text), "bold")

    def line(self, text: str = "") -> None:
        self._print(visible(text))

    def statistics(self, record: FeatureRecord) -> None:
        """What is known of the feature in numbers."""
        self.line(
            f"{record.kind.value}; fires on {record.density:.3%} of {record.n_tokens:,} tokens; "
            f"firing is above {record.threshold:.4g} ({record.threshold_rule}); "
            f"peak {record.peak:.4g}, mean {record.mean:.4g}, sd {record.std:.4g}"
        )

    def excerpts(self, split: Split, peak: float, top: int, each: int) -> None:
        """Windows of the train split, the strongest first."""
        shown = strongest(split.firing, top, each)
        self.line()
        if not shown:
            self.line("It fires nowhere in the training text.")
            return
        self._print("Training text, the strongest first (peak, stratum)", "bold")
        for example in shown:
            self._example(example, split.threshold, peak)

    def explanation(self, result: Result, whole: Explanation) -> None:
        """What one explainer said."""
        self.line()
        who = " ".join(filter(None, (result.explainer, result.llm, whole.prompt_version)))
        self._print(f"Explanation by {visible(who)}", "bold")
        said = result.explanation or f"abstained: {result.abstained}"
        self.line(f"  {' '.join(said.split())}")
        if whole.note:
            self.line(f"  {whole.note}")
        self.line(f"  explaining and scoring: {dollars(result.cost)}, {result.seconds:.1f} s")

    def score(self, score: Score, record: FeatureRecord | None, worst: int) -> None:
        """A score, how healthy it is, and where it was wrong."""
        self.line()
        who = " ".join(filter(None, (score.simulator, score.model)))
        how = "; ".join(filter(None, (score.metric, f"by {who}" if who else "")))
        title = f"{score.scorer} ({how})" if how else score.scorer
        self._print(f"  {visible(title)}", "bold")
        self.line(f"    {_figures(score)}")
        for name, measure in score.measures.items():
            if measure.value is not None:
                ends = (measure.low, measure.high)
                self.line(f"    {name} {_with_interval(measure.value, *ends)}")
        kinds = ", ".join(f"{n} {kind}" for kind, n in score.failures.items())
        self.line(
            f"    {score.n} examples judged, {score.n_failed} failed{': ' * bool(kinds)}{kinds}"
        )
        if score.note:
            self.line(f"    {score.note}")
        examples = {} if record is None else {e.key: e for e in record.test.examples}
        chosen = [prediction for _, prediction in misses(score.predictions)[:worst]]
        if chosen:
            self.line(f"    Held-out text, the worst misses first (predicted: {chosen[0].scale})")
        for prediction in chosen:
            self._prediction(prediction, examples.get(prediction.example), record)

    def inquiry(self, entries: Sequence[Entry]) -> None:
        """What the agent supposed, foretold and found."""
        self.line()
        self._print("The inquiry, in order", "bold")
        for line in transcript_lines(entries):
            self._print(f"  {line}", soft_wrap=True)

    def provenance(
        self,
        run: Run,
        record: FeatureRecord | None,
        health: Sequence[str],
        failures: Sequence[Failure],
    ) -> None:
        """Where all this came from, and what went wrong on the way."""
        self.line()
        for line in health:
            self.line(line)
        for failure in failures:
            where = f"{failure.stage} {failure.part}".strip()
            self.line(f"failed: {where}: {words_of(failure)}: {' '.join(failure.message.split())}")
        self._print("Made by", "bold")
        facts = {
            "run": f"{run.id}, {run.status.value}, begun {run.started[:19]}Z",
            "seed": str(run.seed),
            "config": run.config_digest[:16],
            **run.versions,
            **({} if record is None else record.provenance),
        }
        for name, value in facts.items():
            self.line(f"  {name}: {value}")

    def _prediction(
        self, prediction: Prediction, example: Example | None, record: FeatureRecord | None
    ) -> None:
        self.line()
        if len(prediction.actual) == len(prediction.tokens) > 1:
            self.line(f"    {prediction.stratum}, document {prediction.document}")
            for line in beside(prediction, max(40, self._console.width - 6)):
                self._print(f"      {line}", soft_wrap=True)
            return
        fired = "fires" if prediction.actual[0] > 0 else "is silent"
        said = f"{prediction.predicted[0]:.2f}"
        self.line(f"    {prediction.stratum}: it {fired}; predicted {prediction.scale} {said}")
        if example is not None and record is not None:
            self._example(example, record.threshold, record.peak, indent="      ", told=False)
        elif prediction.tokens:
            self.line(f"      {''.join(prediction.tokens)}")

    def _example(
        self,
        example: Example,
        threshold: float,
        peak: float,
        indent: str = "  ",
        told: bool = True,
    ) -> None:
        from rich.padding import Padding
        from rich.text import Text

        text = Text()
        text.append(f"{example.peak:8.3g} {example.stratum:<6} " if told else "", style="dim")
        text.append_text(
            highlighted(example.tokens, example.activations, threshold, peak, self._colours)
        )
        if self._console.is_terminal:
            self._console.print(Padding(text, (0, 0, 0, len(indent))))
        else:
            # One line for each window, so that `grep` finds what belongs together.
            self._console.print(Text(indent).append_text(text), soft_wrap=True)

    def _print(self, text: str, style: str = "", **more: Any) -> None:
        from rich.text import Text

        self._console.print(Text(text, style=style), **more)


def _figures(score: Score) -> str:
    if score.value is None:
        return "no value"
    parts = [_with_interval(score.value, score.low, score.high)]
    for name in ("null", "lift", "p"):
        figure = getattr(score, name)
        if figure is not None:
            parts.append(f"{name} {number(figure)}")
    return ", ".join(parts)


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return number(value)
    return f"{number(value)} [{number(low)}, {number(high)}]"

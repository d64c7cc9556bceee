"""What a report shows of a run: features, rows, cells and excerpts, ready for the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from glossator.store import Failure, Run
from glossator.types import Example, Explanation, FeatureId, FeatureRecord, Score, Usage
from glossator.web.figures import Axis
from glossator.web.heldout import HeldOut, Judged
from glossator.web.verdicts import Against, Standing


@dataclass(frozen=True, slots=True)
class Room:
    """How many windows of each feature are shown, so that the file stays a few megabytes."""

    top: int
    quantile: int
    """Of each of the quantiles."""
    silent: int
    predicted: int
    judged: int

    @classmethod
    def for_features(cls, n: int) -> Room:
        """As much as fits for `n` features."""
        if n <= 24:
            return cls(top=5, quantile=2, silent=2, predicted=8, judged=4)
        if n <= 80:
            return cls(top=4, quantile=1, silent=1, predicted=5, judged=3)
        return cls(top=3, quantile=1, silent=1, predicted=3, judged=2)


@dataclass(frozen=True, slots=True)
class Cell:
    """A score in the table; `score` comes without predictions."""

    score: Score
    q: float | None
    bar: Markup


@dataclass(frozen=True, slots=True)
class Row:
    """What one explainer said of a feature and how that scored."""

    explainer: str
    series: int
    explanation: Explanation | None
    cells: Mapping[str, tuple[Cell, ...]]
    """By scorer."""
    failures: tuple[Failure, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """Excerpts of one stratum: shaded text, document and how many windows it stands for."""

    stratum: str
    texts: tuple[tuple[Markup, Example], ...]
    sampled: int
    population: int | None


@dataclass(frozen=True, slots=True)
class Page:
    """One feature."""

    feature: FeatureId
    name: str
    anchor: str
    record: FeatureRecord | None
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    """All of them, those of a row too."""
    histogram: Markup
    train: tuple[Shown, ...]
    n_train: int
    held_out: HeldOut | None
    judged: tuple[tuple[Score, tuple[Judged, ...]], ...]
    replies: tuple[tuple[str, str, str], ...]
    """Replies that could not be used: scorer, kind, text."""
    peak: float

    def sort_key(self, scorer: str) -> float | None:
        """The value of the first explainer that `scorer` gave one."""
        for row in self.rows:
            for cell in row.cells.get(scorer, ()):
                if cell.score.value is not None:
                    return cell.score.value
        return None

    def measured(self, scorer: str) -> list[tuple[Row, Score]]:
        """The scores by `scorer` that hold other figures, each with its row."""
        cells = [(row, cell.score) for row in self.rows for cell in row.cells.get(scorer, ())]
        return [(row, score) for row, score in cells if score.measures]

    def measures(self, scorer: str) -> list[str]:
        """The names of those figures, each once."""
        return [*dict.fromkeys(name for _, s in self.measured(scorer) for name in s.measures)]


@dataclass(frozen=True, slots=True)
class Strip:
    """The dot plot of one scorer: a row a feature."""

    scorer: str
    metric: str
    axis: Axis
    rows: tuple[tuple[Page, Markup], ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """Everything that the template shows."""

    run: Run
    explainers: tuple[str, ...]
    series: Mapping[str, int]
    scorers: tuple[str, ...]
    pages: tuple[Page, ...]
    n_features: int
    n_abstained: int
    strips: tuple[Strip, ...]
    standings: tuple[Standing, ...]
    against: tuple[Against, ...]
    compared: str
    """The scorer that they are compared by; empty if none can tell."""
    failures: tuple[Failure, ...]
    usage: Usage
    """Of all explanations and scores."""
    spent: tuple[float, int]
    """US dollars and calls in the ledger."""
    assumed: float
    """Of these dollars, the most that calls can have cost of which no bill is known."""
    llms: Mapping[str, str]
    """Models, each with what it did."""
    writers: Mapping[str, str]
    """The models that each explainer asked."""

    @property
    def n_tokens(self) -> int:
        """Tokens that the subject read, over all pools; 0 if there is no record."""
        return max((page.record.n_tokens for page in self.pages if page.record), default=0)

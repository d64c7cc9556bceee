"""The views that questions about a store are asked of, as SQL for SQLite and in words.

They are what `glossator ask` shows people and language models in place of the tables: each column
has one meaning, and none holds a record, a prediction or a reply of a language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class View:
    """One of them."""

    name: str
    said: str
    """What a row is."""
    columns: Mapping[str, str]
    """By name, in order: what each holds."""
    sql: str
    """The query behind it, over tables of `main`, with the columns in that order."""


_COST = {
    "calls": "calls to language models",
    "prompt_tokens": "tokens they read",
    "completion_tokens": "tokens they wrote",
    "cost": "US dollars; NULL where a price is unknown",
    "seconds": "seconds they took together",
}
_RUN = {"run": "id of the run, as in runs.id"}
_FEATURE = {"feature": "full name of the feature, as in features.feature"}
_MADE = {"made": "when, ISO 8601 in UTC"}

VIEWS = (
    View(
        "features",
        "One row for each feature that a run collected.",
        {
            **_RUN,
            "feature": "full name, such as smollm2-135m//layers.7.mlp.neurons/123",
            "model": "the language model that it is a feature of",
            "site": "place in the model, such as layers.7.mlp.neurons",
            "layer": "number of the layer; NULL where the site names none",
            "coder": "name of the sparse coder; NULL for a neuron",
            "number": "position on its site",
            "kind": "token, word-class, positional, dead, dense and the like",
            "density": "share of tokens it fires on, 0 to 1",
            "peak": "greatest activation",
            "mean": "mean activation over all tokens",
            "std": "standard deviation of the activations",
            "n_tokens": "tokens that were read",
            "explainer": "who wrote the best explanation; NULL if nobody has explained it",
            "explanation": "text of the best explanation; NULL if there is none",
            "n_explanations": "explanations there are in the run; NULL for none",
            "width": "widest interval among the scores of the best explanation",
        },
        """
SELECT r.id, f.name, f.model, f.site,
  CASE WHEN f.site LIKE 'layers.%' THEN CAST(substr(f.site, 8) AS INTEGER) END,
  f.coder, f.number, s.kind, s.density, s.peak, s.mean, s.std, s.n_tokens,
  b.explainer, e.text, b.n_explanations, b.width
FROM main.runs AS r
JOIN main.summaries AS s ON s.collection = r.collection
JOIN main.features AS f ON f.id = s.feature
LEFT JOIN main.bests AS b ON b.run = r.id AND b.feature = s.feature
LEFT JOIN main.explanations AS e ON e.id = b.explanation""",
    ),
    View(
        "explanations",
        "One row for each explanation: one for each run, feature and explainer.",
        {
            **_RUN,
            **_FEATURE,
            "explainer": "method that wrote it, such as max-act",
            "text": "the explanation; empty where it abstained",
            "abstained": "why there is none; empty where there is one",
            "model": "language model that wrote it; empty for none",
            "prompt_version": "version of the prompt",
            **_COST,
            **_MADE,
        },
        """
SELECT e.run, f.name, e.explainer, e.text, e.abstained, e.model, e.prompt_version,
  e.calls, e.prompt_tokens, e.completion_tokens, e.cost, e.seconds, e.made
FROM main.explanations AS e JOIN main.features AS f ON f.id = e.feature""",
    ),
    View(
        "scores",
        "One row for each score of an explanation on held-out text.",
        {
            **_RUN,
            **_FEATURE,
            "explainer": "whose explanation it is of",
            "scorer": "method, such as simulation or detection",
            "simulator": "who predicted; empty where the scorer has none",
            "metric": "what the value is",
            "model": "language model that judged; empty for none",
            "value": "the score; higher is better; NULL where there is none",
            "low": "lower end of its 95% interval",
            "high": "upper end of its 95% interval",
            "null_value": "what wrong explanations get",
            "lift": "value less null_value",
            "p": "probability of such a value under the null",
            "n": "windows judged",
            "n_failed": "windows that could not be judged",
            "note": "why there is no value, and the like",
            **_COST,
            **_MADE,
        },
        """
SELECT s.run, f.name, s.explainer, s.scorer, s.simulator, s.metric, s.model, s.value, s.low,
  s.high, s.null_value, s.lift, s.p, s.n, s.n_failed, s.note,
  s.calls, s.prompt_tokens, s.completion_tokens, s.cost, s.seconds, s.made
FROM main.scores AS s JOIN main.features AS f ON f.id = s.feature""",
    ),
    View(
        "runs",
        "One row for each run.",
        {
            "id": "such as r1; later runs have greater numbers",
            "number": "that number",
            "name": "what people call it; often empty",
            "status": "running, done, interrupted, some failed and the like",
            "started": "when, ISO 8601 in UTC",
            "finished": "when, ISO 8601 in UTC; NULL where it has not ended",
            "seed": "of all that was drawn",
            "budget": "US dollars; NULL for none",
        },
        """
SELECT r.id, r.number, r.name, r.status, r.started, r.finished, r.seed, r.budget
FROM main.runs AS r""",
    ),
    View(
        "calls",
        "One row for each line of the ledger: a call to a language model and its cost.",
        {
            **_RUN,
            "feature": "full name of the feature it was for; NULL where it was for none",
            "stage": "explain, score and the like",
            "part": "of the stage, such as max-act/detection",
            "llm": "language model that was asked",
            "attempt": "1 for the first, more where it was repeated",
            "error": "what went wrong; empty for nothing",
            "error_type": "kind of error; empty for none",
            **_COST,
            "cached_calls": "calls answered by a reply that was kept",
            "batched": "1 where it went through a batch API",
            **_MADE,
        },
        """
SELECT c.run, f.name, c.stage, c.part, c.llm, c.attempt, c.error, c.error_type,
  c.calls, c.prompt_tokens, c.completion_tokens, c.cost, c.seconds, c.cached_calls, c.batched,
  c.made
FROM main.calls AS c LEFT JOIN main.features AS f ON f.id = c.feature""",
    ),
)


def described() -> str:
    """All views in words, a line for each column."""
    parts = []
    for view in VIEWS:
        columns = [f"  {name}: {said}" for name, said in view.columns.items()]
        parts.append("\n".join([f"{view.name}: {view.said}", *columns]))
    return "\n\n".join(parts)

"""A question in words as one query over the views of a store, which a language model writes.

The model is shown what the views and their columns mean and nothing that the store holds. A query
that cannot be run is asked for again, with what the database said of it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from glossator.documented import described
from glossator.errors import ConfigError, ReplyError
from glossator.llm import LLM, Message, Reply, Request, ask
from glossator.providers.schema import read_json
from glossator.querying import BOUNDS, FUNCTIONS, Answer, Bounds, QueryError, run_query
from glossator.types import Usage

PROMPT_VERSION = "ask-1"
LONGEST = 2000
"""Characters of a question."""


class Plot(StrEnum):
    """How an answer is drawn beside its table."""

    AUTO = "auto"
    """As its columns suggest."""
    NONE = "none"
    BAR = "bar"
    SCATTER = "scatter"


_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "sql": {"type": "string"},
            "chart": {"type": "string", "enum": ["none", "bar", "scatter"]},
        },
        "required": ["sql", "chart"],
        "additionalProperties": False,
    },
    sort_keys=True,
)

_TASK = """\
You write one SQLite query that answers a question about the results of experiments in which \
features of language models were explained in words and the explanations were scored.

These are all the views there are, with what each column holds:

{views}

Rules:
- One SELECT over these views. Join them by run and feature.
- Where no run is named, take the newest: run = (SELECT id FROM runs ORDER BY number DESC LIMIT 1).
- Give columns short names with AS. Leave out rows whose value is NULL where values are averaged \
or compared.
- Put a LIMIT of at most {rows} where many rows could come.
- Not recursive; no other functions than: {functions}.

Reply with JSON: "sql" is the query; "chart" is "bar" for a label and a number in each row, \
"scatter" for two numbers in each row, else "none"."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and what was found."""

    question: str
    answer: Answer
    plot: Plot
    usage: Usage


async def ask_views(file: Path | None, question: str, llm: LLM, bounds: Bounds = BOUNDS) -> Asked:
    """What the store in `file` answers to `question`, by a query that `llm` writes.

    Raises:
        ConfigError: if there is no question.
        ReplyError: if no reply held a query that can be run.
        StoreError: if the store cannot be asked.
    """
    wanted = question.strip()
    if not wanted:
        raise ConfigError("there is no question: write one in words, or a query in SQL")
    if len(wanted) > LONGEST:
        raise ConfigError(f"a question has at most {LONGEST} characters, not {len(wanted)}")
    if file is None:
        # Said before anything is paid.
        run_query(file, "")

    def read(reply: Reply) -> tuple[Answer, Plot]:
        sql, plot = _read(reply)
        try:
            return run_query(file, sql, bounds), plot
        except QueryError as error:
            raise ReplyError(f"{error}; the query was {sql[:300]}", reply.text) from error

    (answer, plot), usage = await ask(llm, request_of(wanted, bounds), read)
    return Asked(wanted, answer, plot, usage)


def request_of(question: str, bounds: Bounds = BOUNDS) -> Request:
    """What a language model is asked."""
    task = _TASK.format(views=described(), rows=bounds.rows, functions=", ".join(sorted(FUNCTIONS)))
    messages = (Message("system", task), Message("user", question))
    return Request(messages, max_tokens=600, schema=_SCHEMA)


def _read(reply: Reply) -> tuple[str, Plot]:
    """The query in `reply`, and how to draw what it finds."""
    value: Any = reply.value
    if value is None:
        try:
            value = read_json(reply.text, "{")
        except ValueError as error:
            raise ReplyError(str(error), reply.text) from None
    if not isinstance(value, dict) or not isinstance(value.get("sql"), str):
        raise ReplyError('it is no JSON object with a text "sql"', reply.text)
    chart = value.get("chart", "none")
    if chart not in list(Plot):
        raise ReplyError(f'"chart" is none, bar or scatter, not {str(chart)[:40]!r}', reply.text)
    return value["sql"].strip(), Plot(chart)

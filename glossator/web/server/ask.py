"""The page that answers questions about the store: the query, its table, and a chart.

The query is in the address and runs whenever that is opened: it can only read. A question in words
is sent, for it may cost something; it leads to the address of the query that was written for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from glossator.asking import LONGEST, Plot
from glossator.documented import VIEWS
from glossator.errors import GlossatorError
from glossator.querying import BOUNDS, Answer, run_query
from glossator.web.plot import plot_of
from glossator.web.server.asked import store_of
from glossator.web.server.render import page

router = APIRouter(include_in_schema=False)

AT_A_TIME = 2
"""Queries that run at the same moment."""
SHOWN_ROWS = 500
EXAMPLES = (
    (
        "Which sites are explained best?",
        "SELECT f.site, avg(s.value) AS mean_score, count(*) AS n\n"
        "FROM scores AS s JOIN features AS f USING (run, feature)\n"
        "WHERE s.scorer = 'simulation' AND s.value IS NOT NULL\n"
        "GROUP BY f.site ORDER BY mean_score DESC LIMIT 40",
    ),
    (
        "How many features are of each kind?",
        "SELECT kind, count(*) AS n FROM features GROUP BY kind ORDER BY n DESC",
    ),
    (
        "Do dense features score worse?",
        "SELECT f.density, s.value FROM scores AS s JOIN features AS f USING (run, feature)\n"
        "WHERE s.scorer = 'simulation' AND s.value IS NOT NULL LIMIT 500",
    ),
    (
        "What did each language model cost?",
        "SELECT llm, sum(cost) AS dollars, sum(calls) AS calls FROM calls GROUP BY llm",
    ),
)
"""Questions and the queries that answer them, for who has no language model."""


@dataclass
class Desk:
    """Who writes queries for the pages, and how many may run at once."""

    llm: Any = "local"
    """A name or a language model; None where questions in words are not taken."""
    offline: bool = False
    places: threading.BoundedSemaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(AT_A_TIME)
    )

    @property
    def name(self) -> str:
        """What people call the language model; empty for none."""
        return self.llm if isinstance(self.llm, str) else str(getattr(self.llm, "name", "") or "")

    @contextmanager
    def place(self) -> Iterator[None]:
        """Waits until a query may run.

        Raises:
            Busy: if none may for long.
        """
        if not self.places.acquire(timeout=2 * BOUNDS.seconds):
            raise Busy("other queries are running; try again in a moment")
        try:
            yield
        finally:
            self.places.release()


class Busy(GlossatorError):
    """Too many queries run at once."""


@router.get("/ask")
def ask_page(
    request: Request, sql: str = "", chart: str = "auto", question: str = "", cost: str = ""
) -> Response:
    """The query of the address, and what it finds."""
    plot = Plot(chart) if chart in list(Plot) else Plot.AUTO
    answer, problem, status = None, "", 200
    if sql.strip():
        desk: Desk = request.app.state.desk
        try:
            with desk.place():
                answer = run_query(store_of(request).file, sql)
        except Busy as error:
            problem, status = str(error), 503
        except GlossatorError as error:
            problem, status = str(error), 400
    return _page(request, sql, question[:LONGEST], plot, answer, problem, status, cost)


@router.post("/ask")
async def ask_in_words(request: Request) -> Response:
    """Has a query written for the question of the form, and leads to it."""
    given = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=20)
    question = given.get("question", [""])[0]
    return await run_in_threadpool(_answered, request, question)


def _answered(request: Request, question: str) -> Response:
    # Imported here: the pages that show results need none of it.
    from glossator.api import ask, run_sync

    desk: Desk = request.app.state.desk
    try:
        if desk.llm is None:
            raise Unasked("no language model is there to write the query: write it in SQL")
        with desk.place():
            store = store_of(request)
            asked = run_sync(ask(question, store, desk.llm, offline=desk.offline))
    except GlossatorError as error:
        return _page(request, "", question[:LONGEST], Plot.AUTO, None, str(error), 400, "")
    cost = asked.usage.cost
    found: Mapping[str, str] = {
        "question": asked.question,
        "sql": asked.answer.sql,
        "chart": asked.plot.value,
        **({"cost": f"{cost:.2g}"} if cost else {}),
    }
    return RedirectResponse(f"/ask?{urlencode(found)}", 303)


class Unasked(GlossatorError):
    """There is no language model to ask."""


def _page(
    request: Request,
    sql: str,
    question: str,
    plot: Plot,
    answer: Answer | None,
    problem: str,
    status: int,
    cost: str,
) -> Response:
    desk: Desk = request.app.state.desk
    return page(
        request,
        "ask",
        "ask",
        status=status,
        sql=sql,
        question=question,
        plot=plot,
        plots=tuple(Plot),
        answer=answer,
        rows=answer.rows[:SHOWN_ROWS] if answer else (),
        chart="" if answer is None else plot_of(answer, plot),
        problem=problem,
        cost=cost,
        views=VIEWS,
        examples=[(said, f"/ask?{urlencode({'sql': query})}") for said, query in EXAMPLES],
        bounds=BOUNDS,
        writer=desk.name,
    )

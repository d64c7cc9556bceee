"""The review: one feature at a time, and what a reviewer does about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from starlette.responses import RedirectResponse, Response

from glossator.acts import LONGEST, RATINGS, ActKind
from glossator.reviews import MOST_QUEUED, Conflict, Wish
from glossator.rows import plain
from glossator.store import Run, Store
from glossator.web.server.asked import chosen, runs_of, store_of
from glossator.web.server.place import COOKIE, Place, as_cookie, named, reviewer_of
from glossator.web.server.render import page
from glossator.web.server.review_view import ReviewView, key_of, next_after, review_of

router = APIRouter(include_in_schema=False)

YEAR = 365 * 24 * 3600
STEP = 500
"""By so many features the queue grows."""
WHY = {
    "disagreement": "scorers disagree",
    "beaten": "the baseline predicts better",
    "width": "its interval is among the widest",
    "": "not scored yet",
}
"""Why a feature is where it is in the queue."""


async def fields(request: Request) -> dict[str, str]:
    """The fields of a form; of several with one name the last."""
    form = await request.form()
    return {name: text for name, text in form.multi_items() if isinstance(text, str)}


Fields = Annotated[dict[str, str], Depends(fields)]


@router.get("/review")
def review_page(request: Request) -> Response:
    """The feature that the address names, else the first that the reviewer has not rated."""
    store = store_of(request)
    runs = runs_of(store)
    run = chosen(runs, request.query_params.get("run"))
    place = Place.of(request.query_params, run.id)
    reviewer = reviewer_of(request, place)
    done = {r.feature for r in store.reviews.ratings(run.id) if r.reviewer == reviewer}
    # Longer, the more of it is done: its end is not reached before that of the run.
    most = MOST_QUEUED + len(done) // STEP * STEP
    queue: dict[int, str] = request.app.state.queues.get(
        (run.id, most), lambda: dict(store.reviews.queue(run.id, most))
    )
    order = list(queue)
    first = next((row for row in order if row not in done), None)
    if place.feature is None:
        found = first if first is not None else next(iter(order), None)
        if found is None:
            told = f"Nobody has explained a feature of run {run.id} yet."
            return page(request, "message", "review", title="Nothing to review", text=told)
        return RedirectResponse(place.address(feature=found), 303)
    view = _view(store, run, place, reviewer)
    before, after = _neighbours(order, place.feature, done)
    return page(
        request,
        "review",
        "review",
        run=run,
        runs=runs,
        place=place,
        reviewer=reviewer,
        view=view,
        before=before,
        after=after,
        why=WHY.get(queue.get(place.feature, "-"), ""),
        n_done=len(done.intersection(order)),
        n_queue=len(order),
        last=store.reviews.last(run.id, reviewer) if reviewer else None,
        ratings=RATINGS,
        longest=LONGEST,
    )


@router.post("/review/name")
def set_name(request: Request, given: Fields) -> Response:
    """Keeps the reviewer's name in a cookie."""
    run = chosen(runs_of(store_of(request)), given.get("run"))
    place = replace(Place.of({**given, "who": ""}, run.id), who="")
    name = named(given.get("name", ""))
    if not name:
        raise HTTPException(400, "Say a name, so that it is known whose ratings these are.")
    reply = RedirectResponse(place.address(), 303)
    reply.set_cookie(COOKIE, as_cookie(name), max_age=YEAR, httponly=True, samesite="strict")
    return reply


@router.post("/review/act")
def act(request: Request, given: Fields) -> Response:
    """Keeps what the reviewer does, and leads back to where it shows."""
    store = store_of(request)
    run = chosen(runs_of(store), given.get("run"))
    place = Place.of(given, run.id)
    reviewer = reviewer_of(request, place)
    if not reviewer:
        raise HTTPException(400, "Say who you are first: the review page asks for a name.")
    if place.feature is None:
        raise HTTPException(400, "Which feature is meant?")
    view = _view(store, run, place, reviewer)
    try:
        wish = _wish(given, view, run, reviewer)
        store.reviews.put(run.id, view.dossier.feature, wish)
    except ValueError as error:
        raise HTTPException(400, f"{error}.".capitalize()) from error
    except Conflict as error:
        raise HTTPException(409, str(error)) from error
    if given.get("to") == "feature":
        return RedirectResponse(f"/features/{place.feature}?run={run.id}#people", 303)
    after = _view(store, run, place, reviewer)
    return RedirectResponse(place.address(said=next_after(after, place.said, wish.kind)), 303)


def _view(store: Store, run: Run, place: Place, reviewer: str) -> ReviewView:
    row = -1 if place.feature is None else place.feature
    dossier = store.dossiers.of(run, row)
    if dossier is None:
        raise HTTPException(404, f"There is no feature {row} in this store.")
    return review_of(dossier, store.reviews.of(run.id, row), place, reviewer)


def _wish(given: dict[str, str], view: ReviewView, run: Run, reviewer: str) -> Wish:
    try:
        kind = ActKind(given.get("kind", ""))
        undoes = int(given["undoes"]) if kind is ActKind.UNDO else None
        base = tuple(int(number) for number in given.get("base", "").split())
    except (ValueError, KeyError) as error:
        raise ValueError("that is nothing that can be done here") from error
    explainer, said = "", given.get("said", "")
    if said and kind is not ActKind.UNDO:
        names = [e.explainer for e in view.dossier.explanations]
        by_key = {key_of(run.id, view.dossier.row, name): name for name in names}
        if said not in by_key:
            raise ValueError("there is no such explanation of this feature")
        explainer = by_key[said]
    edits = {edit.id for edit in view.standing.acts if edit.kind is ActKind.EDIT}
    if not edits.issuperset(base):
        raise ValueError("an edit begins from an edit of the same feature")
    # Browsers send line breaks as two characters.
    value = plain(given.get("value", "")).replace("\r\n", "\n")
    return Wish(reviewer, kind, explainer, value, base, undoes)


def _neighbours(order: list[int], feature: int, done: set[int]) -> tuple[int | None, int | None]:
    """What comes before in the queue, and what next: one without a rating, where there is one."""
    place = order.index(feature) if feature in order else -1
    rest = [*order[place + 1 :], *order[: max(place, 0)]]
    unrated = next((row for row in rest if row not in done), None)
    following = order[place + 1] if place + 1 < len(order) else None
    before = order[place - 1] if place > 0 else None
    return before, unrated if unrated is not None else following

"""Lists of features under a name: what their address says, in a file beside the store."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode

from fastapi import APIRouter, HTTPException, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from glossator.store import Store
from glossator.web.server.asked import store_of
from glossator.web.whole import write_whole

router = APIRouter(include_in_schema=False)

MOST = 200
"""Views that are kept."""
LONGEST_NAME = 80
LONGEST_QUERY = 4000


@dataclass
class Saved:
    """The views that people saved, by name."""

    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def all(self, store: Store) -> dict[str, str]:
        """The query of each address by name, in the order saved; none where nothing is kept."""
        file = _file_of(store)
        try:
            return {} if file is None else _read(file)
        except HTTPException:
            # The list can be shown without them; whoever saves one is told.
            return {}

    def put(self, store: Store, name: str, query: str) -> None:
        """Keeps `query` as `name`, in place of another of that name; an HTTP error says why not."""
        file = _needed(store)
        with self._lock:
            kept = {n: q for n, q in _read(file).items() if n != name} | {name: query}
            if len(kept) > MOST:
                raise HTTPException(400, f"{MOST} views are kept; remove one first.")
            _write(file, kept)

    def drop(self, store: Store, name: str) -> None:
        """Forgets `name`."""
        file = _needed(store)
        with self._lock:
            _write(file, {n: q for n, q in _read(file).items() if n != name})


@router.post("/views")
async def save(request: Request) -> Response:
    """Keeps the list of the form under the name in it, and shows it."""
    given = await _form(request)
    name = " ".join(given.get("name", "").split())
    if not 1 <= len(name) <= LONGEST_NAME:
        raise HTTPException(400, f"A view has a name of 1 to {LONGEST_NAME} characters.")
    if len(given.get("query", "")) > LONGEST_QUERY:
        raise HTTPException(400, "That list is too long to be saved.")
    # Written anew, so that it can be nothing but parameters.
    query = urlencode([p for p in parse_qsl(given.get("query", "")) if p[0] != "token"])
    saved: Saved = request.app.state.saved
    await run_in_threadpool(lambda: saved.put(store_of(request), name, query))
    return RedirectResponse(f"/features?{query}", 303)


@router.post("/views/drop")
async def drop(request: Request) -> Response:
    """Forgets the view of the form."""
    given = await _form(request)
    saved: Saved = request.app.state.saved
    await run_in_threadpool(lambda: saved.drop(store_of(request), given.get("name", "")))
    return RedirectResponse("/features", 303)


async def _form(request: Request) -> dict[str, str]:
    body = (await request.body()).decode("utf-8", "replace")
    return {name: values[-1] for name, values in parse_qs(body, max_num_fields=20).items()}


def _file_of(store: Store) -> Path | None:
    return None if store.file is None else store.file.with_name(f"{store.file.name}-views.json")


def _needed(store: Store) -> Path:
    file = _file_of(store)
    if file is None:
        raise HTTPException(400, "Views are saved beside a SQLite store only; keep the address.")
    return file


def _read(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise HTTPException(503, f"{file.name} holds no saved views; move it away.") from error
    if not isinstance(found, dict) or not all(isinstance(q, str) for q in found.values()):
        raise HTTPException(503, f"{file.name} holds no saved views; move it away.")
    return found


def _write(file: Path, kept: dict[str, str]) -> None:
    try:
        write_whole(file, json.dumps(kept, indent=1).encode())
    except OSError as error:
        raise HTTPException(503, f"{file.name} cannot be written: {error.strerror}.") from error

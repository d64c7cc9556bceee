"""The styles and the script that the pages load: files of this package, nothing from elsewhere."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from starlette.responses import FileResponse

from glossator.web.server.render import STATIC

router = APIRouter(include_in_schema=False)


@router.get("/static/{name}")
def static_file(name: str) -> FileResponse:
    """One of the files in `STATIC`."""
    if name not in STATIC:
        raise HTTPException(404, "There is no such file.")
    path, kind = STATIC[name]
    return FileResponse(path, media_type=kind, headers={"cache-control": "no-cache"})

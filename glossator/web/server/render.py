"""Pages as replies: the templates, and what every page shows around its contents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.responses import HTMLResponse

from glossator.web.environment import environment
from glossator.web.server.addresses import address, changed

_HERE = Path(__file__).parent
_TEMPLATES = environment(_HERE / "templates")
_TEMPLATES.globals.update(address=address, changed=changed)

STATIC = {
    "report.css": (_HERE.parent / "templates" / "report.css", "text/css"),
    "pages.css": (_HERE / "static" / "pages.css", "text/css"),
    "icon.svg": (_HERE / "static" / "icon.svg", "image/svg+xml"),
    "pages.js": (_HERE / "static" / "pages.js", "text/javascript"),
}
"""The files that pages load, by name: where each is and what it is."""

SECTIONS = (
    ("runs", "/runs", "Runs"),
    ("features", "/features", "Features"),
    ("review", "/review", "Review"),
    ("chat", "/chat", "Chat"),
    ("ask", "/ask", "Ask"),
)
"""The pages that every page links to: name, address, title."""


def page(
    request: Request, template: str, section: str = "", status: int = 200, **values: Any
) -> HTMLResponse:
    """The page that `template` makes of `values`.

    Args:
        request: what asked for it.
        template: file name without the ending.
        section: the name in `SECTIONS` of where the page belongs.
        status: of the reply.
        values: what the template names.
    """
    around = {
        "token": request.app.state.guard.token,
        "store_url": request.app.state.shown,
        "sections": SECTIONS,
        "section": section,
        "path": request.url.path,
        "layout": "base.html.j2",
        "alone": False,
    }
    text = _TEMPLATES.get_template(f"{template}.html.j2").render(**around, **values)
    return HTMLResponse(text.encode("utf-8", "replace"), status)

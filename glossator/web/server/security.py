"""Who may ask the pages for what: the guard before every request, and the policies on every reply.

The pages show what a store holds, and a browser sends to this machine what any web page tells it
to. So a request must name a host that is ours (a foreign name that resolves to this machine is
refused), what changes anything must come from our own pages and carry the token, and no reply may
be read, framed or sniffed by another site. No reply ever allows an origin.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-glossator-token"
"""Where a script says the token; a form has it in the field `FIELD`."""
FIELD = "token"
COOKIE = "glossator"
LONGEST_BODY = 1_000_000
"""Bytes of a request's body."""

POLICIES = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; img-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    # Nothing to other hosts. `no-referrer` would make browsers hide the origin of our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_SAFE = ("GET", "HEAD")


@dataclass(frozen=True, slots=True)
class Guard:
    """What a request is held against."""

    token: str
    """What everything that changes anything must carry; without one, nothing can be changed."""
    host: str = "127.0.0.1"
    """Where the server listens."""

    @property
    def is_private(self) -> bool:
        """Whether nobody but this machine reaches the server."""
        return is_loopback(self.host)

    def knows(self, host: str) -> bool:
        """Whether `host`, of the header, is a name of this server."""
        name = host_name(host)
        if is_loopback(name) or name == self.host.lower():
            return True
        # Behind a name somebody else can stand, behind an address of ours nobody.
        return not self.is_private and _is_address(name)

    def accepts(self, token: str | None) -> bool:
        """Whether that is the token."""
        if not token or not self.token:
            return False
        return hmac.compare_digest(token.encode("utf-8", "replace"), self.token.encode())


def host_name(host: str) -> str:
    """The name in a Host header, without the port and the brackets; empty if it is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return ""
    if parts.username is not None or parts.path or parts.query or parts.fragment:
        return ""
    return (parts.hostname or "").lower()


def is_loopback(name: str) -> bool:
    """Whether `name` is this machine, as seen from itself alone."""
    return name.lower() == "localhost" or (
        _is_address(name) and ipaddress.ip_address(name).is_loopback
    )


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Security:
    """Middleware: refuses what `guard` does not let in, and puts the policies on all replies."""

    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on what is let in."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_with_policies(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in POLICIES.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, send_with_policies)
            return
        if scope["method"] not in _SAFE:
            body = await _read(receive)
            if body is None:
                await _refused("The request is too long.", 413)(scope, receive, send_with_policies)
                return
            if not self._guard.accepts(headers.get(HEADER) or _field(headers, body)):
                told = "This page is out of date, or not ours: reload it and try again."
                await _refused(told)(scope, receive, send_with_policies)
                return
            receive = _again(body, receive)
        await self._app(scope, receive, send_with_policies)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """What to answer to a request that is not let in, as far as its headers tell."""
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._guard.knows(hosts[0]):
            return _refused("This server does not answer to that name. Use the address it printed.")
        if scope["method"] not in _SAFE and not _is_own(headers, hosts[0]):
            return _refused("Other sites may not change anything here.")
        if self._guard.is_private:
            return None
        given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] in _SAFE and self._guard.accepts(given.get(FIELD, [""])[0]):
            return self._let_in(scope, given)
        known = self._guard.accepts(_cookie(headers)) or self._guard.accepts(headers.get(HEADER))
        if known:
            return None
        return _refused("Open the address with the token that `glossator review` printed.", 401)

    def _let_in(self, scope: Scope, given: Mapping[str, list[str]]) -> Response:
        """Takes the token out of the address, where it would be seen, into a cookie."""
        rest = urlencode([(k, v) for k, vs in given.items() for v in vs if k != FIELD])
        # A path that begins with two slashes would lead to another host.
        path = "/" + scope["path"].lstrip("/\\")
        reply = RedirectResponse(f"{path}?{rest}" if rest else path, 303)
        reply.set_cookie(COOKIE, self._guard.token, httponly=True, samesite="strict")
        return reply


def _is_own(headers: Headers, host: str) -> bool:
    """Whether the request comes from a page of this server, as far as a browser says."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin in (f"http://{host}", f"https://{host}")


def _refused(told: str, status: int = 403) -> Response:
    return PlainTextResponse(f"{told}\n", status)


def _cookie(headers: Headers) -> str | None:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _field(headers: Headers, body: bytes) -> str | None:
    if not headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return None
    try:
        return parse_qs(body.decode("utf-8", "replace"), max_num_fields=1000).get(FIELD, [None])[0]
    except ValueError:
        return None


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None if it is longer than allowed."""
    body: bytes = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += message.get("body", b"")
        if len(body) > LONGEST_BODY:
            return None
        if not message.get("more_body", False):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives out `body`, which was read already, then what else comes."""
    left = [body]

    async def again() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return again

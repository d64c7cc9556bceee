"""`review`: the pages about a store, served from this machine until Ctrl-C."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from glossator.cli.session import Session
from glossator.errors import ConfigError


def review_command(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8321,
    token: Annotated[
        str | None,
        typer.Option(
            help="What others must know to get in, where it listens elsewhere than on this "
            "machine (default: made up and printed)."
        ),
    ] = None,
    llm: Annotated[
        str,
        typer.Option(
            help="Language model that writes queries for questions in words, loaded when the "
            "first is asked; none for no such model."
        ),
    ] = "local",
    offline: Annotated[bool, typer.Option("--offline", help="Never try the network.")] = False,
) -> int:
    """Show the results as pages in a browser, live while a run is going; Ctrl-C ends it.

    --json prints one document before the first page is served: address, token.
    """
    import secrets

    from glossator.web.serve import listening, serve
    from glossator.web.server.app import create_app
    from glossator.web.server.ask import Desk
    from glossator.web.server.security import is_loopback

    session = Session.of(context)
    if token is not None and len(token) < 8:
        raise ConfigError("a token is at least 8 characters long, so that nobody guesses it")
    known = token or secrets.token_urlsafe(24)
    desk = Desk(None if llm == "none" else llm, offline)
    app = create_app(session.store_url, host=host, token=known, desk=desk)
    with listening(host, port) as socket:
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{socket.getsockname()[1]}/"
        if not is_loopback(host):
            address += f"?token={known}"
        if session.as_json:
            session.print_json({"address": address, "token": known})
            sys.stdout.flush()
        else:
            session.console().print(address, soft_wrap=True)
            sys.stdout.flush()
            if not is_loopback(host):
                session.say("Whoever has this address can read and change the store.")
            session.say("Ctrl-C ends it.")
        serve(app, socket)
    return 0

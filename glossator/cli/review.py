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
            help="The language model of the chat pages and of questions in words, as in `run`; "
            "loaded when it is first asked. none for no such model."
        ),
    ] = "local",
    base_url: Annotated[str | None, typer.Option(help="Server of the provider's protocol.")] = None,
    budget: Annotated[
        float | None, typer.Option(help="US dollars that each conversation's run may spend.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    offline: Annotated[
        bool | None, typer.Option("--offline/--online", help="Never try the network.")
    ] = None,
) -> int:
    """Show the results as pages in a browser, live while a run is going; Ctrl-C ends it.

    Models are loaded when a page first needs one: to try a text on a feature, or with --llm to
    chat.

    --json prints one document before the first page is served: address, token.
    """
    import secrets

    from glossator.config import RunLimits
    from glossator.providers.table import check_spec
    from glossator.web.serve import listening, serve
    from glossator.web.server.app import create_app
    from glossator.web.server.ask import Desk
    from glossator.web.server.loaded import Speech
    from glossator.web.server.security import is_loopback

    session = Session.of(context)
    if token is not None and len(token) < 8:
        raise ConfigError("a token is at least 8 characters long, so that nobody guesses it")
    known = token or secrets.token_urlsafe(24)
    given = {"device": device, "offline": offline, "budget": budget}
    limits = RunLimits.from_mapping({k: v for k, v in given.items() if v is not None})
    named = "" if llm == "none" else llm
    if named:
        check_spec(named)
    speech = Speech(named, base_url or "", limits)
    desk = Desk(named or None, limits.offline)
    app = create_app(session.store_url, host=host, token=known, speech=speech, desk=desk)
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

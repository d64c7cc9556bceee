"""`doctor`: what is installed, reachable and missing."""

from __future__ import annotations

from itertools import groupby
from typing import Annotated

import typer

from glossator.cli.session import Session
from glossator.cli.text import visible

_STYLES = {"ok": "green", "note": "yellow", "optional": "dim", "waiting": "cyan", "broken": "red"}


def doctor_command(
    context: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Do not try the network.")] = False,
) -> int:
    """Say what is installed, reachable and missing, and how to get it.

    Ends with 2 if something is broken. --json prints one document: sound, findings.
    """
    from rich.text import Text

    from glossator.doctor import examine, is_sound

    session = Session.of(context)
    offline = offline or bool(session.options.get("offline", False))
    findings = examine(session.store_url, offline=offline)
    sound = is_sound(findings)
    if session.as_json:
        session.print_json({"sound": sound, "findings": [f.to_json() for f in findings]})
        return 0 if sound else 2
    console = session.console()
    for area, group in groupby(findings, key=lambda finding: finding.area):
        console.print(Text(area, style="bold"))
        for finding in group:
            line = Text("  ")
            line.append(f"{finding.state.value:<9}", style=_STYLES[finding.state.value])
            line.append(visible(f"{finding.name}: {finding.detail}"))
            console.print(line, soft_wrap=True)
            if finding.advice:
                console.print(Text(f"           -> {visible(finding.advice)}"), soft_wrap=True)
    return 0 if sound else 2

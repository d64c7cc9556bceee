"""What a conversation looks like in a terminal: events in lines, and slash commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from glossator.cli.text import visible
from glossator.errors import ConfigError

if TYPE_CHECKING:
    from glossator.agent.chat.events import Event
    from glossator.types import JSON, Score

MOST_LINES = 14
"""Of a result that are shown."""
MOST = 220
"""Characters of a line."""

HELP = """\
Say what you suppose ("it fires on names of rivers") and it is tested; anything else is answered.
  /test "a text"        run the model on it and show where the feature fires
  /test HYPOTHESIS      foretell, make a contrast set, run it, and say whether it holds
  /examples [top|q5..q1|silent]   excerpts, of the strongest or of a fifth of the others
  /ablate [TEXT]        hold the feature at 0 and see what changes
  /steer WORD ...       hold it high: do these words become likelier? Without a word: how it goes on
  /feature              what is known of it
  /keep [H1]            keep it, or the last one, as an explanation by human
  /score                score what is kept on test text, beside wrong explanations
  /cost                 what the conversation used
  /help                 this
  /quit                 leave; --resume goes on from here
Ctrl-C ends an answer and not the conversation."""


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command, read."""

    name: str
    rest: str


COMMANDS = (
    *("help", "feature", "examples", "test", "ablate", "steer", "score", "keep", "cost", "quit"),
)


def command_of(line: str) -> Command | None:
    """The command that a line is; None if it is words.

    Raises:
        ConfigError: for a command that there is none of.
    """
    if not line.startswith("/"):
        return None
    name, _, rest = line[1:].partition(" ")
    if name not in COMMANDS:
        named = ", ".join(f"/{known}" for known in COMMANDS)
        raise ConfigError(f"there is no command /{name:.40}; there are {named}")
    return Command(name, rest.strip())


def call_of(command: Command) -> tuple[str, dict[str, JSON]] | None:
    """The tool and its arguments that a command calls; None if it calls none.

    Raises:
        ConfigError: if something is missing.
    """
    from glossator.agent.chat.supposing import NAME, supposed

    rest = command.rest
    if command.name == "examples":
        strata = ("top", "q5", "q4", "q3", "q2", "q1", "silent")
        if rest and rest not in strata:
            raise ConfigError(f"/examples takes one of {', '.join(strata)}, or nothing for top")
        return "exemplars", {"stratum": rest or "top"}
    if command.name == "test":
        if not rest:
            raise ConfigError('write what to test: /test "a text", or /test names of rivers')
        text = quoted(rest)
        if text is not None:
            return "run_texts", {"texts": [text]}
        return NAME, supposed(rest).model_dump()
    if command.name == "ablate":
        return "ablate", {"texts": [quoted(rest) or rest]} if rest else {}
    if command.name == "steer":
        if not rest:
            return "clamp_text", {}
        words: list[JSON] = [f" {word}" for word in rest.replace(",", " ").split()]
        return "steer", {"tokens": words}
    return None


def quoted(rest: str) -> str | None:
    """What stands between quotation marks; None if `rest` is not quoted."""
    if len(rest) > 2 and rest[0] in "\"'“" and rest[-1] in "\"'”":
        return rest[1:-1]
    return None


def lines_of(event: Event) -> list[str]:
    """An event for people; pieces of an answer, which are not whole lines, are none."""
    content: Mapping[str, Any] = event.to_json()
    kind = event.event
    if kind == "calling":
        passes = f", about {content['passes']} short passes" if content["passes"] else ""
        arguments = ", ".join(f"{k}={_short(v)}" for k, v in content["arguments"].items() if v)
        return [f"[{content['tool']}{passes}] {arguments}".rstrip()]
    if kind == "called":
        seconds = f"  ({content['seconds']:.1f} s)" if content["seconds"] >= 0.1 else ""
        return [*_body(content["text"]), *([seconds] if seconds else [])]
    if kind == "tested":
        return [visible(line) for line in content["text"].splitlines()]
    if kind == "asked":
        arguments = ", ".join(f"{k}={_short(v)}" for k, v in content["arguments"].items())
        return [f"{content['tool']} ({arguments}) is dear: {content['why']}. Go on? [y/N]"]
    if kind == "troubled":
        return [visible(content["text"])]
    return []


def score_line(score: Score) -> str:
    """A score beside its null."""
    if score.value is None:
        return f"{score.scorer}: no value{f' ({score.note})' if score.note else ''}"
    ends = "" if score.low is None else f" [{score.low:.2f}, {score.high:.2f}]"
    null = "" if score.null is None else f", wrong explanations {score.null:.2f}"
    p = "" if score.p is None else f", p {score.p:.3g}"
    return f"{score.scorer} ({score.metric}): {score.value:.2f}{ends}{null}{p}, n {score.n}"


def resume_line(name: str) -> str:
    """The end of a command that goes on with a conversation."""
    return f"chat --resume {shlex.quote(name)}"


def _body(text: str) -> list[str]:
    lines = [visible(line) for line in text.splitlines()]
    shown = [line if len(line) <= MOST else line[: MOST - 1] + "…" for line in lines[:MOST_LINES]]
    more = len(lines) - MOST_LINES
    return [f"  {line}" for line in shown] + ([f"  and {more} more lines"] if more > 0 else [])


def _short(value: Any) -> str:
    text = visible(str(value))
    return text if len(text) <= 80 else text[:79] + "…"

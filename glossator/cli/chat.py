"""`chat`: a conversation about one feature, or first the search for one."""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glossator.cli.interrupts import INTERRUPTED
from glossator.cli.investigate import parsed
from glossator.cli.options import with_run_options
from glossator.cli.progress import shown_progress, spent_line
from glossator.cli.session import Session
from glossator.cli.talk import (
    HELP,
    Command,
    call_of,
    command_of,
    lines_of,
    resume_line,
    score_line,
)
from glossator.cli.text import visible
from glossator.config import RunConfig, RunLimits, from_options, merge, option_names
from glossator.errors import ConfigError, GlossatorError

if TYPE_CHECKING:
    from glossator.agent.chat.events import Event
    from glossator.chatting import Chat
    from glossator.evidence import Hypothesis
    from glossator.progress import Progress
    from glossator.store import Store
    from glossator.types import FeatureId

_LEFT_OUT = ("features", "explainers", "draft", "triage", "batch", "dry_run", "fresh", "cache")
_YES = ("y", "yes")


def _option(name: str, kind: Any, flag: str, said: str) -> inspect.Parameter:
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, typer.Option(flag, help=said)],
    )


_OWN = (
    inspect.Parameter(
        "named",
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[str | None, typer.Argument(metavar="[FEATURE]")],
    ),
    _option("resume", str, "--resume", "Go on with the conversation of that id."),
    _option("about", str, "--about", "A concept to find features of, where no FEATURE is named."),
    _option("having", list[str], "--with", "A text that has the concept; repeatable."),
    _option("lacking", list[str], "--without", "A text that has not; repeatable."),
)


def _chat(context: typer.Context, named: str | None = None, **flags: Any) -> int:
    """Talk with one feature: say what you suppose it does, and it is tested by experiments.

    FEATURE is an id, such as smollm2-135m//layers.7.mlp.neurons/123, or its end behind the model's
    name. Without it, features of a concept are looked for: the one you describe, or that of the
    texts given by --with and --without. A line is a turn; /help lists the commands. --json prints
    one document at the end: chat, run, feature, events.
    """
    session = Session.of(context)
    resume = flags.pop("resume") or ""
    about, having, lacking = (flags.pop(name) or "" for name in ("about", "having", "lacking"))
    store = session.open_store(to_write=True)
    lines = Lines()
    try:
        with asyncio.Runner() as runner:
            chosen = _chosen(
                *(session, store, runner, lines, named, resume),
                *(about, tuple(having or ()), tuple(lacking or ()), flags),
            )
            if chosen is None:
                return 0
            return _converse(session, store, runner, lines, resume, *chosen)
    finally:
        store.close()


chat_command = with_run_options(_chat, without=_LEFT_OUT, also=_OWN)


@dataclass
class Lines:
    """What the user types, a line a turn; the end of a pipe is the end of the conversation."""

    def next(self, prompt: str = "> ") -> str | None:
        """The next line that is not empty; None at the end.

        Raises:
            KeyboardInterrupt: at Ctrl-C.
        """
        is_terminal = sys.stdin.isatty()
        if is_terminal:
            import readline  # noqa: F401  # gives `input` a history and keys to edit with
        while True:
            try:
                line = input(prompt) if is_terminal else sys.stdin.readline()
            except EOFError:
                return None
            except UnicodeDecodeError as error:
                raise ConfigError("what was typed is no UTF-8 text") from error
            if not line and not is_terminal:
                return None
            if line.strip():
                return line.strip()


def _chosen(
    session: Session,
    store: Store,
    runner: asyncio.Runner,
    lines: Lines,
    named: str | None,
    resume: str,
    about: str,
    having: tuple[str, ...],
    lacking: tuple[str, ...],
    flags: dict[str, Any],
) -> tuple[RunConfig, RunLimits, FeatureId] | None:
    """What the conversation is about; None if the user leaves before they chose."""
    from glossator.chatting import chat_config, resumed

    options = {k: v for k, v in session.options.items() if k not in _LEFT_OUT}
    config, limits = from_options(merge({}, options, flags))
    if resume:
        own = [n for n in option_names(RunConfig) if flags.get(n) not in (None, [], ())]
        if named or about or having or lacking or own:
            raise ConfigError(
                "a conversation goes on with its own feature and options: leave out "
                + ", ".join(["FEATURE"] * bool(named) + [f"--{n.replace('_', '-')}" for n in own])
            )
        config, feature = resumed(store, resume)
        return config, limits, feature
    if named:
        feature = parsed(named, config.model)
        return chat_config(config, feature), limits, feature
    if not about and not having:
        session.say("Describe the concept that you look for (or name a feature: chat FEATURE).")
        said = lines.next("concept> ")
        if said is None:
            return None
        about = said
    found = _find(session, store, runner, lines, config, limits, about, having, lacking)
    return None if found is None else (chat_config(config, found), limits, found)


def _find(
    session: Session,
    store: Store,
    runner: asyncio.Runner,
    lines: Lines,
    config: RunConfig,
    limits: RunLimits,
    about: str,
    having: Sequence[str],
    lacking: Sequence[str],
) -> FeatureId | None:
    from glossator.finding import find_features

    session.say("Looking for features …")
    found = runner.run(find_features(about, having, lacking, config, limits, store))
    for note in found.notes:
        session.say(f"{note}.")
    if not found.matches:
        raise ConfigError(
            "no feature matches that concept: describe it in other words, give texts with --with "
            "and --without, or look at another --site or --sae"
        )
    out = sys.stderr if session.as_json else sys.stdout
    for number, match in enumerate(found.matches, 1):
        where = str(match.feature).partition("//")[2]
        print(f"{number}. {visible(where)}: {visible(match.why)}", file=out)
    sys.stdout.flush()
    said = lines.next(f"open which? [1-{len(found.matches)}] ")
    if said is None:
        return None
    if not said.isdecimal() or not 1 <= int(said) <= len(found.matches):
        raise ConfigError(f"{said!r:.40} is no number from 1 to {len(found.matches)}")
    return found.matches[int(said) - 1].feature


def _converse(
    session: Session,
    store: Store,
    runner: asyncio.Runner,
    lines: Lines,
    resume: str,
    config: RunConfig,
    limits: RunLimits,
    feature: FeatureId,
) -> int:
    from glossator.chatting import open_chat

    with shown_progress(session.quiet) as show:
        ready = False

        def tell(progress: Progress) -> None:
            # Bars and lines would stand amid the conversation.
            if show is not None and (not ready or progress.is_notice):
                show(progress)

        opening = open_chat(config, limits, store, feature, resume, tell)
        try:
            chat = runner.run(_entered(opening))
        except KeyboardInterrupt:
            session.say("Stopped before anything was said.")
            return INTERRUPTED
        ready = True
    talk = Talk(session, runner, lines, chat)
    try:
        return talk.go()
    finally:
        runner.run(_left(opening))


async def _entered(opening: Any) -> Chat:
    chat: Chat = await opening.__aenter__()
    return chat


async def _left(opening: Any) -> None:
    await opening.__aexit__(None, None, None)


@dataclass
class Talk:
    """A conversation in a terminal, or through pipes."""

    session: Session
    runner: asyncio.Runner
    lines: Lines
    chat: Chat
    events: list[Event] = field(default_factory=list)

    def go(self) -> int:
        """Until the user leaves or the pipe ends; gives the exit code."""
        chat, session = self.chat, self.session
        session.say(f"Conversation {chat.id} about {chat.feature}. /help lists the commands.")
        if not chat.record.train.firing:
            session.say("It fires nowhere in the train text: only texts of your own can show more.")
        code = self._turn(chat.conversation.resume)
        left = False
        while not left:
            try:
                waiting = chat.conversation.waiting
                line = self.lines.next("yes? " if waiting else "> ")
                left = line is None
                if line is not None:
                    code = self._hear(line, waiting is not None)
                    left = code == _QUIT
            except KeyboardInterrupt:
                session.say("(/quit leaves)")
        code = 0 if code == _QUIT else code
        if session.as_json:
            self._document()
        else:
            session.say(spent_line(chat.used, chat.since))
        session.say(f"To go on: {session.again(resume_line(chat.id))}")
        return code

    def _hear(self, line: str, waits: bool) -> int:
        chat = self.chat
        try:
            if waits and not line.startswith("/"):
                approved = line.lower() in _YES
                return self._turn(lambda: chat.conversation.decide(approved))
            command = command_of(line)
            if command is None:
                return self._turn(lambda: chat.conversation.say(line))
            return self._command(command)
        except ConfigError as error:
            self._say_error(error)
            return 0

    def _command(self, command: Command) -> int:
        chat = self.chat
        if command.name == "quit":
            return _QUIT
        call = call_of(command)
        if call is not None:
            said = f"/{command.name} {command.rest}".strip()
            return self._turn(lambda: chat.conversation.call(*call, said))
        if command.name == "help":
            self._print(HELP)
        elif command.name == "feature":
            self._feature()
        elif command.name == "cost":
            self._print(spent_line(chat.used, chat.since))
        elif command.name == "keep":
            chosen = self._hypothesis(command.rest)
            run = chat.keep(chosen)
            self._print(
                f"Kept {chosen.id} as the explanation by human in {run}: {visible(chosen.text)}. "
                "/score scores it on test text."
            )
        elif command.name == "score":
            return self._guarded(self._score())
        return 0

    async def _score(self) -> None:
        with self.chat.working():
            for score in await self.chat.score():
                self._print(score_line(score))

    def _turn(self, begin: Callable[[], AsyncIterator[Event]]) -> int:
        return self._guarded(self._show(begin))

    def _guarded(self, work: Any) -> int:
        """Does `work`; Ctrl-C ends it and not the conversation, and so does an error of ours."""
        try:
            self.runner.run(work)
        except KeyboardInterrupt:
            self.chat.conversation.stop()
            self.session.say("\nStopped. What was found so far is kept.")
        except GlossatorError as error:
            self._say_error(error)
            return error.exit_code
        return 0

    async def _show(self, begin: Callable[[], AsyncIterator[Event]]) -> None:
        from glossator.agent.chat.events import Said

        in_answer = False
        with self.chat.working():
            async for event in begin():
                self.events.append(event)
                if self.session.as_json:
                    continue
                if isinstance(event, Said):
                    print(visible(event.text, lines=True), end="", flush=True)
                    in_answer = True
                    continue
                if in_answer:
                    print()
                    in_answer = False
                for line in lines_of(event):
                    self._print(line)

    def _hypothesis(self, name: str) -> Hypothesis:
        known = self.chat.conversation.hypotheses()
        if not known:
            raise ConfigError("nothing was supposed yet: say what you think it fires on, first")
        for hypothesis in known:
            if hypothesis.id == name.upper():
                return hypothesis
        if name:
            ids = ", ".join(h.id for h in known)
            raise ConfigError(f"there is no hypothesis {name!r:.40}; there are {ids}")
        return known[-1]

    def _feature(self) -> None:
        record = self.chat.record
        self._print(
            f"{record.feature}: {record.kind.value}; fires on {record.density:.3%} of "
            f"{record.n_tokens:,} tokens; peak {record.train.peak:.4g}; firing is above "
            f"{record.threshold:.4g}"
        )
        for hypothesis in self.chat.conversation.hypotheses():
            ids = ", ".join(self.chat.evidence_for(hypothesis.id)) or "not tested"
            self._print(f"  {hypothesis.id}: {hypothesis.text} ({ids})")

    def _document(self) -> None:
        from glossator.agent.chat.events import plain

        chat = self.chat
        self.session.print_json(
            {
                "chat": chat.id,
                "run": chat.job.run.id,
                "feature": str(chat.feature),
                "events": [plain(event) for event in self.events],
            }
        )

    def _print(self, text: str) -> None:
        print(
            visible(text, lines=True),
            file=sys.stderr if self.session.as_json else sys.stdout,
            flush=True,
        )

    def _say_error(self, error: GlossatorError) -> None:
        self.session.warn(str(error))


_QUIT = -1

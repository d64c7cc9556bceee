"""Conversations that the pages hold: begun, gone on with, stopped; each turn in the worker.

What was said is in the store, and a page reads it there. So a conversation is opened, and its
models loaded, when somebody says something or goes on, not when it is looked at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from glossator.config import RunConfig
from glossator.errors import ConfigError
from glossator.store import Store
from glossator.types import FeatureId
from glossator.web.server.loaded import Loaded, Speech
from glossator.web.server.worker import Task, Worker

if TYPE_CHECKING:
    from glossator.agent.chat.events import Event
    from glossator.chatting import Chat
    from glossator.evidence import Hypothesis

MOST_PENDING = 64
"""Conversations whose last task is remembered."""
NO_MODEL = (
    "This server was started without a language model to talk with. Stop it and start it with one, "
    "such as the local one"
)


@dataclass
class Begun:
    """What of a conversation is not in the store."""

    config: RunConfig
    feature: FeatureId
    first: str = ""
    """What was said first, until it is written down."""
    task: Task | None = None
    """What was last done for it."""
    partial: str = ""
    """What the language model has said of an answer that is not whole."""


@dataclass
class Conversations:
    """Those of one server."""

    speech: Speech
    worker: Worker
    loaded: Loaded
    known: dict[str, Begun] = field(default_factory=dict)

    def task(self, name: str) -> Task | None:
        """What is or was last done for the conversation."""
        begun = self.known.get(name)
        return begun.task if begun is not None else None

    def begin(self, store: Store, run_config: RunConfig, feature: FeatureId, text: str) -> str:
        """A new conversation about `feature`, with what a run of `run_config` collected of it.

        Raises:
            ConfigError: if there is no language model, or something else is at work.
        """
        from glossator.chatting import chat_config, new_id

        self._check()
        config = replace(
            run_config,
            llm=self.speech.llm,
            base_url=self.speech.base_url,
            scorer_llm="",
            scorer_base_url="",
        )
        name = new_id(store)
        while name in self.known:
            name = f"c{int(name[1:]) + 1}"
        self._remember(name, Begun(chat_config(config, feature), feature, text.strip()))
        try:
            self._work(name, _nothing if not text.strip() else lambda chat: heard(chat, text))
        except ConfigError:
            del self.known[name]
            raise
        return name

    def say(self, store: Store, name: str, text: str) -> None:
        """What the user says, or a slash command.

        Raises:
            ConfigError: if it makes no sense, or something else is at work.
        """
        from glossator.agent.chat.turns import MOST_SAID
        from glossator.cli.talk import command_of

        if not text.strip():
            raise ConfigError("nothing was said: ask something, or say what you suppose")
        if len(text) > MOST_SAID:
            raise ConfigError(
                f"that is {len(text):,} characters long, and {MOST_SAID:,} are the most: cut it"
            )
        command = command_of(text.strip())
        if command is not None and command.name in ("help", "feature", "cost", "quit"):
            raise ConfigError(f"/{command.name} is for terminals: this page shows it")
        if command is not None and command.name in ("keep", "score"):
            self.keep(store, name, command.rest, score=command.name == "score")
            return
        self._known(store, name)
        self._work(name, lambda chat: heard(chat, text))

    def decide(self, store: Store, name: str, approved: bool) -> None:
        """The yes or no that a dear call waits for."""
        self._known(store, name)
        self._work(name, lambda chat: chat.conversation.decide(approved))

    def resume(self, store: Store, name: str) -> None:
        """Goes on with a turn that was cut off."""
        self._known(store, name)
        self._work(name, lambda chat: chat.conversation.resume())

    def stop(self, store: Store, name: str) -> None:
        """Ends the turn that is at work or was cut off; what was found is kept."""
        if not self.worker.stop(f"chat {name}"):
            self._known(store, name)
            self._do(name, _stopped)

    def keep(self, store: Store, name: str, hypothesis: str, *, score: bool) -> None:
        """Keeps a hypothesis as an explanation, and scores it on test text if `score`.

        Args:
            store: where the conversation is.
            name: of the conversation.
            hypothesis: its id; the last one if empty.
            score: whether it is scored, too.
        """
        self._known(store, name)

        async def work(task: Task, chat: Chat) -> None:
            chat.keep(chosen(chat.conversation.hypotheses(), hypothesis))
            if score:
                task.progress = "scoring on test text"
                with chat.working():
                    await chat.score()

        self._do(name, work)

    # -- in the worker ----------------------------------------------------------------------------

    def _work(self, name: str, events: Callable[[Chat], AsyncIterator[Event]]) -> None:
        begun = self.known[name]

        async def work(task: Task, chat: Chat) -> None:
            from glossator.agent.chat.events import Calling, Said, Troubled

            begun.partial = ""
            with chat.working():
                given: Any = events(chat)
                async with aclosing(given) as told:
                    async for event in told:
                        begun.first = ""
                        if isinstance(event, Said):
                            begun.partial += event.text
                        elif isinstance(event, Calling):
                            begun.partial = ""
                            task.progress = f"running {event.tool}"
                        elif isinstance(event, Troubled):
                            raise _Told(event.text)
            begun.partial = ""

        self._do(name, work)

    def _do(self, name: str, work: Callable[[Task, Chat], Any]) -> None:
        self._check()
        begun = self.known[name]

        async def opened(task: Task) -> None:
            chat = await self.loaded.converse(task, name, begun.config, begun.feature)
            try:
                await work(task, chat)
            finally:
                if task.stopped:
                    chat.conversation.stop()
                    begun.partial = ""

        begun.task = self.worker.begin(f"chat {name}", opened)

    def _check(self) -> None:
        if not self.speech.llm:
            raise ConfigError(NO_MODEL)

    def _known(self, store: Store, name: str) -> Begun:
        from glossator.chatting import resumed

        if name not in self.known:
            self._remember(name, Begun(*resumed(store, name)))
        return self.known[name]

    def _remember(self, name: str, begun: Begun) -> None:
        if len(self.known) >= MOST_PENDING:
            at_work = self.worker.now
            for old, one in list(self.known.items()):
                if one.task is None or one.task is not at_work:
                    del self.known[old]
                    break
        self.known[name] = begun


class _Told(ConfigError):
    """What a conversation says of a turn that it could not end."""


def heard(chat: Chat, text: str) -> AsyncIterator[Event]:
    """The events of what a user says, in words or as a command that calls a tool.

    Raises:
        ConfigError: for a command that lacks something.
    """
    from glossator.cli.talk import call_of, command_of

    command = command_of(text.strip())
    call = None if command is None else call_of(command)
    if call is None:
        return chat.conversation.say(text)
    return chat.conversation.call(*call, text.strip())


def chosen(known: list[Hypothesis], name: str) -> Hypothesis:
    """The hypothesis of that id, or the last one.

    Raises:
        ConfigError: if there is none.
    """
    if not known:
        raise ConfigError("nothing was supposed yet: say what you think it fires on, first")
    for hypothesis in known:
        if hypothesis.id == name.upper():
            return hypothesis
    if name:
        raise ConfigError(
            f"there is no hypothesis {name!r:.40}; there are {', '.join(h.id for h in known)}"
        )
    return known[-1]


async def _nothing(_: Chat) -> AsyncIterator[Event]:
    """No turn: the conversation is opened alone."""
    return
    yield


async def _stopped(_: Task, chat: Chat) -> None:
    chat.conversation.stop()

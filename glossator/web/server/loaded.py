"""What of models is in memory for the pages: one subject to try texts on, one open conversation.

All of it is loaded when it is first used, in the thread of the worker, and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from glossator.config import RunConfig, RunLimits
from glossator.progress import Progress
from glossator.store import Store, open_as_may_be
from glossator.types import FeatureId

if TYPE_CHECKING:
    from glossator.chatting import Chat
    from glossator.datasets.readings import Coder
    from glossator.experiments import Experiments
    from glossator.live import Live
    from glossator.web.server.worker import Task


@dataclass(frozen=True, slots=True)
class Speech:
    """Which language model conversations are held with, and within what."""

    llm: str = ""
    """As `--llm` of a run; empty where pages cannot chat."""
    base_url: str = ""
    limits: RunLimits = field(default_factory=RunLimits)


@dataclass
class Loaded:
    """Used by one task at a time."""

    url: str
    limits: RunLimits
    chat: Chat | None = None
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)
    _store: Store | None = None
    _subject: tuple[str, Experiments, Coder | None] | None = None

    async def converse(self, task: Task, name: str, config: RunConfig, feature: FeatureId) -> Chat:
        """The conversation `name`, opened unless it is; another one is closed for it.

        Raises:
            ConfigError, AssetError, CorpusError, StoreError: as `open_chat` does.
        """
        from glossator.chatting import open_chat

        if self.chat is not None and self.chat.id == name:
            return self.chat
        await self._leave()
        # A conversation brings a subject of its own: two of them would fill a laptop's memory.
        self._subject = None
        if self._store is None:
            self._store = open_as_may_be(self.url)
        opened = open_chat(config, self.limits, self._store, feature, name, _teller(task))
        self.chat = await self._open.enter_async_context(opened)
        task.progress = ""
        return self.chat

    async def live(self, task: Task, config: RunConfig, feature: FeatureId, peak: float) -> Live:
        """Experiments with `feature` of a run of `config`.

        Raises:
            ConfigError, AssetError: if its subject cannot be loaded, or has no such feature.
        """
        key = config.collection_digest
        chat = self.chat
        if chat is not None and chat.job.config.collection_digest == key:
            return chat.job.experiments.on(feature, peak, chat.job.collecting.coder)
        if self._subject is None or self._subject[0] != key:
            self._subject = None
            tell = _teller(task)
            experiments, coder = await asyncio.to_thread(_load, config, self.limits, tell)
            self._subject = (key, experiments, coder)
            task.progress = ""
        _, experiments, coder = self._subject
        return experiments.on(feature, peak, coder)

    async def close(self) -> None:
        """Lets go of all of it."""
        await self._leave()
        self._subject = None
        if self._store is not None:
            self._store.close()
            self._store = None

    async def _leave(self) -> None:
        self.chat = None
        await self._open.aclose()


def _load(
    config: RunConfig, limits: RunLimits, tell: Callable[[Progress], None]
) -> tuple[Experiments, Coder | None]:
    # Torch takes long to import, and most pages never need it.
    from glossator.experiments import Experiments
    from glossator.reading import coder_of, subject_of

    tell(Progress("load", 0, 0, note=f"subject {config.model}"))
    subject = subject_of(config, limits)
    if config.sae:
        tell(Progress("load", 0, 0, note=f"coder {config.sae}"))
    coder = coder_of(config, subject, limits.offline)
    return Experiments(subject, config.ctx, config.batch_size), coder


def _teller(task: Task) -> Callable[[Progress], None]:
    """What writes down how far a task is."""
    from glossator.cli.progress import Pace

    pace = Pace()

    def tell(progress: Progress) -> None:
        task.progress = pace.line(progress)

    return tell


def config_of(plain: Any) -> RunConfig:
    """The config that a run keeps.

    Raises:
        ConfigError: if it holds what this version knows nothing of.
    """
    return RunConfig.from_mapping(
        {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    )

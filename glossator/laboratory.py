"""What all inquiries of a run share: the text that is searched, the model's inside, checkpoints.

Checkpoints lie in a file beside the store's; what counts is in the store. Without them, or with a
store that is no file, an inquiry that goes on reads its notebook from the start, and pays nothing.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from glossator.datasets.corpora import Corpus
from glossator.datasets.readings import Coder
from glossator.datasets.search import TextSearch
from glossator.experiments import Experiments, SubjectNearest
from glossator.inquiring import Bench
from glossator.notebooks import CHAT
from glossator.store import Store
from glossator.subject import Subject
from glossator.types import FeatureRecord

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver

CHECKPOINTS = "-threads"
"""Behind the name of the store's file."""


@dataclass
class Laboratory:
    """One subject and one text, for the inquiries of one run."""

    subject: Subject
    corpus: Corpus
    coder: Coder | None
    experiments: Experiments
    store: Store
    run: str
    search: TextSearch
    _open: AsyncExitStack = field(default_factory=AsyncExitStack, init=False)
    _saver: BaseCheckpointSaver[str] | None = field(default=None, init=False)
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()
        self._saver = None

    async def bench(self, record: FeatureRecord, explainer: str, chat: str = "") -> Bench:
        """What the inquiry of `explainer` into the feature of `record` works with.

        Or what the conversation called `chat` does.
        """
        feature, books = record.feature, self.store.notebooks
        if chat:
            notebook = books.named(chat, CHAT, self.run, feature)
        else:
            notebook = books.of_inquiry(self.run, feature, explainer)
        return Bench(
            cut=self.experiments.cut,
            inside=self.experiments.inside(self.experiments.on(feature, 0.0, self.coder)),
            search=self.search,
            nearest=SubjectNearest.of(
                self.experiments, feature, record.train, record.dev, self.coder
            ),
            notebook=notebook,
            # The notebook of an inquiry has all that it needs to go on.
            checkpointer=await self._checkpoints() if chat else None,
            thread=chat or f"{self.run}/{explainer}/{feature}",
        )

    async def _checkpoints(self) -> BaseCheckpointSaver[str] | None:
        """Opened when it is first asked for; None where the store is no file."""
        async with self._opening:  # features are worked on together, and one file has one writer
            if self._saver is None and (file := self.store.file) is not None:
                from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

                path = f"{file}{CHECKPOINTS}"
                opened = AsyncSqliteSaver.from_conn_string(path)
                self._saver = await self._open.enter_async_context(opened)
        return self._saver

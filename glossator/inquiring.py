"""What an inquiry of a run is made with: the lab of one feature, who foretells, its notebook."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from glossator.agent.foretell import Foreteller
from glossator.agent.inquiry import Inquiry
from glossator.agent.lab import Lab, Nearest, Seen
from glossator.agent.settings import Settings
from glossator.config import RunConfig
from glossator.datasets.planted import word_pieces
from glossator.datasets.search import TextSearch, Withheld
from glossator.embedder import Embedder
from glossator.errors import ConfigError, ReplyError
from glossator.explainers.trial import Trial
from glossator.inside import Inside
from glossator.live import Live
from glossator.llm import LLM, Can, Reply, Request
from glossator.models import Who
from glossator.notebook import MemoryNotebook, Notebook
from glossator.scorers.build import build_judge
from glossator.scorers.judge import Judge
from glossator.types import Explanation, FeatureRecord, Usage

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver


@dataclass(frozen=True)
class Bench:
    """What of a run an inquiry works with beside the feature's record and `Live`."""

    cut: Callable[[str], Sequence[str]] = word_pieces
    """From a text to its tokens, as the subject cuts it."""
    inside: Inside | None = None
    search: TextSearch | None = None
    nearest: Nearest | None = None
    notebook: Notebook = field(default_factory=MemoryNotebook)
    checkpointer: BaseCheckpointSaver[str] | None = None
    thread: str = "inquiry"


@dataclass(frozen=True)
class RunInquirer:
    """See `glossator.explainers.agent.Inquirer`."""

    config: RunConfig
    record: FeatureRecord
    trial: Trial
    live: Live | None
    embedder: Embedder
    bench: Bench

    async def inquire(self, llm: LLM) -> Explanation:
        """See `Inquirer`. What calls used is in the run's ledger.

        Raises:
            ConfigError: if there is no live subject.
        """
        # LangGraph takes long to import, and most commands never inquire.
        from glossator.agent.investigator import investigate

        counted = Counted(llm)
        inquiry = self.inquiry(counted)
        concluded = await investigate(inquiry, self.bench.checkpointer, self.bench.thread)
        said = concluded.explanation
        return Explanation.from_json({**said.to_json(), "usage": counted.usage.to_json()})

    def inquiry(self, llm: LLM) -> Inquiry:
        """The inquiry, not begun.

        Raises:
            ConfigError: if there is no live subject.
        """
        if self.live is None:
            raise ConfigError(
                "the explainer agent makes experiments on the subject: give live=..., as from "
                "gl.live_on(subject, record)"
            )
        config, bench, feature = self.config, self.bench, self.record.feature
        seen = Seen.of(self.record)
        compared = frozenset(example.document for example in seen.dev.examples)
        lab = Lab(
            seen,
            self.live,
            self.embedder,
            bench.cut,
            self.trial,
            bench.inside,
            Withheld(bench.search, compared) if bench.search is not None else None,
            bench.nearest,
            config.seed,
            shows_dev=False,
        )

        def judge(explanation: Explanation) -> Judge:
            return build_judge(
                config.simulator, explanation, llm, self.embedder, config.per_call, config.seed
            )

        # A small model in this process writes slowly, and mostly copies what it is shown: it is
        # asked for little, and drafts of explainers and programs make up for it.
        in_process = Who(llm.name).is_local
        settings = Settings(
            n_hypotheses=2 if in_process else 4,
            n_looks=0 if in_process else 2,
            n_written=4 if in_process else 8,
            most_experiments=config.most_experiments,
            confidence=config.confidence,
            seconds=config.most_seconds,
            n_shown=config.n_shown,
            seed=config.seed,
        )
        foreteller = Foreteller(feature, seen.threshold, judge, bench.cut)
        return Inquiry(lab, llm, foreteller, bench.notebook, settings)


@dataclass
class Counted:
    """A language model, and what it was asked for so far."""

    llm: LLM
    usage: Usage = Usage()

    @property
    def name(self) -> str:
        """As the model inside."""
        return self.llm.name

    @property
    def can(self) -> frozenset[Can]:
        """As the model inside."""
        return self.llm.can

    async def reply(self, request: Request) -> Reply:
        """As the model inside."""
        try:
            reply = await self.llm.reply(request)
        except ReplyError as error:
            self.usage += error.usage or Usage()
            raise
        self.usage += reply.usage
        return reply

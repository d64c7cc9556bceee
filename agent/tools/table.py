"""The tools there are, by the names that language models and people call them by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict

from glossator.agent.lab import Lab
from glossator.evidence import Finding, Question
from glossator.registry import Registry


class Arguments(BaseModel):
    """What a tool is called with: checked, and nothing else is taken."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        use_attribute_docstrings=True,  # whoever calls a tool reads what its fields mean
    )


_Arguments = TypeVar("_Arguments", bound=Arguments, contravariant=True)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call takes, roughly: enough to choose, and to ask a person first."""

    passes: int = 1
    """Forward passes over short texts."""
    dear: bool = False
    """Whether a person is asked first: minutes, or calls to a language model."""


class Tool(Protocol, Generic[_Arguments]):
    """One thing that can be done with a feature.

    A tool reads no file, opens no connection and runs no code; it leaves the subject as it was.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    """What it does and when to use it, for whoever chooses; one or two sentences."""
    arguments: ClassVar[type[Arguments]]

    def cost(self, arguments: _Arguments) -> Cost:
        """What the call would take."""
        ...

    def questions(self, arguments: _Arguments) -> tuple[Question, ...]:
        """What hypotheses can foretell of the call; empty if it only looks."""
        ...

    async def run(self, arguments: _Arguments, lab: Lab) -> Finding:
        """What the call finds; answers and values in the order of `questions`.

        Raises:
            Unsupported: if this feature cannot do it; the message says what can.
            ConfigError: for a text without a token, or longer than the model reads.
        """
        ...


TOOLS = Registry(
    "tool",
    {
        "run_marked": "glossator.agent.tools.run_marked:RunMarked",
        "run_texts": "glossator.agent.tools.run_texts:RunTexts",
        "ablate": "glossator.agent.tools.ablate:Ablate",
        "attention_pattern": "glossator.agent.tools.attention_pattern:AttentionPattern",
        "clamp_text": "glossator.agent.tools.clamp_text:ClampText",
        "logit_attribution": "glossator.agent.tools.logit_attribution:LogitAttribution",
        "logit_lens": "glossator.agent.tools.logit_lens:LogitLens",
        "patch_prompts": "glossator.agent.tools.patch_prompts:PatchPrompts",
        "promoted_tokens": "glossator.agent.tools.promoted_tokens:PromotedTokens",
        "steer": "glossator.agent.tools.steer:Steer",
        "token_importance": "glossator.agent.tools.token_importance:TokenImportance",
        "upstream": "glossator.agent.tools.upstream:Upstream",
        "exemplars": "glossator.agent.tools.exemplars:Exemplars",
        "find_firing": "glossator.agent.tools.find_firing:FindFiring",
        "minimal_pairs": "glossator.agent.tools.minimal_pairs:MinimalPairs",
        "nearest_features": "glossator.agent.tools.nearest_features:NearestFeatures",
        "score_on_dev": "glossator.agent.tools.score_on_dev:ScoreOnDev",
        "search_corpus": "glossator.agent.tools.search_corpus:SearchCorpus",
    },
)

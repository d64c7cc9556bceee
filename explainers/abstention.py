"""What a language model may say where it sees no pattern. It is a result, and no failure."""

from __future__ import annotations

import re

from glossator.types import Explanation, FeatureId, Usage

NO_PATTERN = "NO PATTERN"
OFFER = f"If you see nothing that they have in common, reply {NO_PATTERN}."
"""What a system prompt says, so that nobody has to make something up."""
NEVER_FIRES = "nothing fires in the training windows"
SAW_NONE = "the language model saw no pattern"
_SAID = re.compile(
    r"\W*(?:the neuron reacts to|trigger:)?\W*no (?:clear )?pattern\b", re.IGNORECASE
)


def sees_none(reply: str) -> bool:
    """Whether `reply` begins by saying that there is no pattern."""
    return _SAID.match(reply) is not None


def abstention(
    feature: FeatureId, explainer: str, model: str, version: str, why: str, usage: Usage
) -> Explanation:
    """No explanation, and why."""
    return Explanation(feature, "", explainer, model, version, abstained=why, usage=usage)

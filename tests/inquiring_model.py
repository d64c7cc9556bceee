"""A rule for the fake provider that plays the agent's language model on the tiny subject."""

from __future__ import annotations

import json
import random
import zlib

from tests.loopback import Answer, Asked
from tests.pipeline_child import rule
from tests.tiny_llama import WORDS


def inquired(asked: Asked) -> Answer:
    """JSON in the form that each of the agent's prompts asks for; anything else by `rule`."""
    system = asked.messages[0][1]
    chance = random.Random(zlib.crc32(asked.last.encode()))

    def sentence() -> str:
        return " ".join(chance.choice(WORDS) for _ in range(6))

    if asked.body.get("tools"):
        texts = json.dumps({"texts": [sentence(), sentence()]})
        return Answer("", calls=(("run_texts", texts),), finish="tool_calls")
    if "Propose hypotheses" in system:
        said = [
            {"trigger": f"the word {word}", "output_effect": "none"}
            for word in chance.sample(WORDS, 3)
        ]
        return Answer(json.dumps({"hypotheses": said}))
    if "tells hypotheses about a feature" in system:
        return Answer(json.dumps({"texts": [sentence() for _ in range(6)]}))
    if "You doubt a hypothesis" in system:
        new = [{"trigger": f"the word {chance.choice(WORDS)}", "output_effect": ""}]
        return Answer(json.dumps({"texts": [sentence() for _ in range(4)], "hypotheses": new}))
    if "makes it say next" in system:
        return Answer(json.dumps({"words": chance.sample(WORDS, 4)}))
    if "what experiments have shown" in system:
        claims = [
            {"part": "trigger", "text": "It fires on a word.", "evidence": ["E3"]},
            {"part": "sense", "text": "It dreams.", "evidence": ["E99"]},
        ]
        return Answer(json.dumps({"claims": claims}))
    return rule(asked)

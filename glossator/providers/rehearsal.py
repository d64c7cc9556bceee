"""A stand-in for a language model: asks nobody, counts what would be asked, and plays along.

Behind the same meter as the real one it meets the same kept replies, so that what is left to pay
can be known before it is paid. What it answers is of the form asked for and means nothing.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from glossator.llm import LLM, Can, Message, Reply, Request, asked_again, purpose
from glossator.providers.prices import FREE, Price, price_of, worst_cost
from glossator.providers.tokens import TokenCount
from glossator.types import JSON, Usage

CACHED_FROM = 1024
"""Tokens that prompts must begin with in common before a provider caches them: OpenAI's bound, and
the lowest of Anthropic's."""
RECKONED_SHORT = 1.25
"""By how much a prompt may be longer than it was reckoned, where no tokenizer counts."""
WORDS = "a plausible answer of some words"
LINE = "no"
"""What stands behind a number where a reply has numbered lines."""


@dataclass
class Rehearsal:
    """Stands for `llm`, with its name, abilities and price."""

    name: str
    can: frozenset[Can]
    price: Price | None
    tokens: TokenCount = field(default_factory=TokenCount)
    identity: str = ""
    revision: str = ""
    overhead_tokens: int = 0
    lengths: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """Tokens of an earlier reply on average, by stage and part; where there are none, the examples
    in the prompt say how long a reply is."""
    used: Usage = field(default=Usage(), init=False)
    """As it usually goes: replies of average length, and what a provider caches read from there."""
    fresh_tokens: int = field(default=0, init=False)
    """Tokens of prompts less those with which an earlier prompt began."""
    dollars_at_most: float = field(default=0.0, init=False)
    """With nothing cached and every reply as long as it may be; where a price is known."""
    stored_bytes: int = field(default=0, init=False)
    """Of the requests and replies as JSON."""
    _beginnings: dict[tuple[Message, ...], int] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls, llm: LLM, tokens: TokenCount, lengths: Mapping[tuple[str, str], float]
    ) -> Rehearsal:
        """Stands for `llm`, which is only looked at."""
        return cls(
            llm.name,
            llm.can,
            price_of(llm),
            tokens,
            str(getattr(llm, "identity", "")),
            str(getattr(llm, "revision", "")),
            int(getattr(llm, "overhead_tokens", 0)),
            lengths,
        )

    def anew(self) -> Rehearsal:
        """The same, of which nothing was asked so far."""
        return replace(self, _beginnings={})

    async def reply(self, request: Request) -> Reply:
        """A reply of the form asked for; what it would use is counted."""
        text = self._text(request)
        if asked_again(request):
            # A real one can be read more often than this one; so it is asked once here.
            return Reply(text, model=self.name)
        prompt = self.tokens.prompt(request)
        made = self._made(request, text)
        begun = self._begun(request)
        cached = begun if begun >= CACHED_FROM and self.price is not FREE else 0
        self.fresh_tokens += prompt - begun
        cost = None
        if self.price is not None:
            cost = self.price.cost(prompt, made, cache_read=cached)
            self.dollars_at_most += max(cost, self._most(request, prompt))
        usage = Usage(1, 0, prompt, made, cost, cache_read_tokens=cached)
        self.used += usage
        self.stored_bytes += sum(len(m.content) + 30 for m in request.messages)
        self.stored_bytes += len(request.schema) + len(text) + 60 * len(request.slots) + 600
        chance = random.Random(request.digest)
        places, lines = len(request.slots), request.lines if request.answers else 0
        return Reply(
            text,
            answers=_log_probs(request.answers, chance) if not (places or lines) else (),
            slots=tuple(_log_probs(request.answers, chance) for _ in range(places or lines)),
            usage=usage,
            model=self.name,
        )

    def _text(self, request: Request) -> str:
        if request.lines:
            word = request.answers[0] if request.answers else LINE
            return "\n".join(f"{i}: {word}" for i in range(1, request.lines + 1))
        if request.answers:
            return ""
        if request.schema:
            return json.dumps(example_of(json.loads(request.schema)))
        return max((m.content for m in _shown(request)), key=len, default=WORDS)

    def _made(self, request: Request, text: str) -> int:
        """Tokens generated, as it usually goes."""
        if request.answers and (Can.ANSWERS in self.can or not request.lines):
            return 0 if Can.ANSWERS in self.can else 1
        about = purpose()
        known = self.lengths.get((about.stage, about.part))
        if known is not None:
            return min(round(known), max(1, request.max_tokens) + self.overhead_tokens)
        if not request.schema and not _shown(request):
            return max(1, request.max_tokens // 2)
        if self.price is FREE:
            text = text.removeprefix(request.prefill)
        return min(max(1, self.tokens.text(text)), max(1, request.max_tokens))

    def _most(self, request: Request, prompt: int) -> float:
        if self.price is None:
            return 0.0
        longest = prompt if self.tokens.exact else math.ceil(RECKONED_SHORT * prompt)
        made = max(1, request.max_tokens) + self.overhead_tokens
        return worst_cost(self.price, longest + self.tokens.beside(request), made)

    def _begun(self, request: Request) -> int:
        """Tokens of all messages but the last, if an earlier prompt began with the same."""
        beginning = request.messages[:-1]
        if beginning in self._beginnings:
            return self._beginnings[beginning]
        whole = Request(beginning)
        self._beginnings[beginning] = self.tokens.prompt(whole) if beginning else 0
        return 0


def example_of(schema: Mapping[str, Any], whole: Mapping[str, Any] | None = None) -> JSON:
    """A value that keeps to `schema`, as far as it says plainly what it wants."""
    whole = schema if whole is None else whole
    if "$ref" in schema:
        found: Any = whole
        for name in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found[name]
        return example_of(found, whole)
    if "const" in schema:
        return schema["const"]  # type: ignore[no-any-return]
    if schema.get("enum"):
        return schema["enum"][0]  # type: ignore[no-any-return]
    for name in ("anyOf", "oneOf"):
        if schema.get(name):
            return example_of(schema[name][0], whole)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        parts = schema.get("properties", {})
        wanted = schema.get("required", list(parts))
        return {name: example_of(parts.get(name, {}), whole) for name in wanted}
    if kind == "array":
        n = max(1, int(schema.get("minItems", 1)))
        return [example_of(schema.get("items", {}), whole) for _ in range(n)]
    if kind in ("number", "integer"):
        return schema.get("minimum", 0)  # type: ignore[no-any-return]
    if kind == "boolean":
        return False
    if kind == "null":
        return None
    text = WORDS.ljust(int(schema.get("minLength", 0)), ".")
    return text[: int(schema.get("maxLength", len(text)))]


def _shown(request: Request) -> list[Message]:
    """Answered examples in the prompt."""
    return [m for m in request.messages if m.role == "assistant" and m.content]


def _log_probs(answers: tuple[str, ...], chance: random.Random) -> tuple[float, ...]:
    shares = [chance.uniform(0.05, 1.0) for _ in answers]
    return tuple(math.log(share / sum(shares)) for share in shares)

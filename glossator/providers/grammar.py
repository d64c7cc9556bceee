"""Text that keeps to a JSON schema while it is generated: which tokens may come next."""

from __future__ import annotations

import threading
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from glossator.errors import Unsupported
from glossator.providers.schema import validator

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from transformers import PreTrainedTokenizerBase

LAYOUT = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
"""On one line: a small model that may put white space anywhere can go on with it for ever."""


class Broken(Exception):
    """The parser gave up: the schema is too involved for it."""


@dataclass
class Grammars:
    """Schemas as a model's own tokens, each made ready once."""

    name: str
    tokenizer: PreTrainedTokenizerBase
    n_vocab: int
    """Logits that the model gives, which may be more than its tokenizer has tokens."""
    ends: Collection[int]
    """Tokens that end a reply."""
    _tokens: LLTokenizer | None = field(default=None, repr=False)
    _ready: dict[str, LLMatcher] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def start(self, schema: str, prefill: str = "") -> Path:
        """The way from the beginning of a reply, or from behind `prefill`, to its end.

        Raises:
            ConfigError: if `schema` is none.
            Unsupported: if replies cannot be held to it, or none of them begins with `prefill`.
        """
        matcher = self._matcher(schema).deep_copy()
        said = self._tokenized().tokenize_str(prefill) if prefill else []
        if matcher.try_consume_tokens(said) < len(said):
            raise Unsupported(
                f"no reply of the schema begins with {prefill!r}: leave out the prefill"
            )
        return Path(matcher)

    def _matcher(self, schema: str) -> LLMatcher:
        from llguidance import LLMatcher

        with self._lock:
            if schema not in self._ready:
                wanted = validator(schema).schema
                # `true` is a schema, too: any value.
                plain = wanted if isinstance(wanted, dict) else {} if wanted else {"enum": []}
                grammar = LLMatcher.grammar_from_json_schema(plain | {"x-guidance": LAYOUT})
                matcher = LLMatcher(self._tokenized(), grammar, log_level=0)
                if matcher.is_error():
                    raise Unsupported(
                        f"{self.name} cannot be held to this schema: {_first_line(matcher)}; use "
                        "a simpler one, or ask for JSON in the prompt"
                    )
                if len(self._ready) > 256:
                    self._ready.clear()
                self._ready[schema] = matcher
            return self._ready[schema]

    def _tokenized(self) -> LLTokenizer:
        """Takes a second, so only where a schema is asked for."""
        from llguidance.hf import from_tokenizer

        if self._tokens is None:
            if not self.tokenizer.is_fast:
                raise Unsupported(
                    f"the tokenizer of {self.name} cannot hold replies to a schema; use --llm local"
                )
            self._tokens = from_tokenizer(
                self.tokenizer,  # type: ignore[arg-type]
                n_vocab=max(self.n_vocab, len(self.tokenizer)),
                eos_token=sorted(self.ends),
            )
        return self._tokens


@dataclass
class Path:
    """How far one reply has come."""

    matcher: LLMatcher

    @property
    def ended(self) -> bool:
        """Whether nothing may follow."""
        return bool(self.matcher.is_stopped())

    def forbid(self, logits: torch.Tensor) -> None:
        """Makes every token impossible that may not come next, in `logits` of shape (n_vocab,).

        Raises:
            Broken: if the parser gave up.
        """
        from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

        bits = allocate_token_bitmask(1, len(logits))  # (1, n_vocab / 32), a bit for each token
        fill_next_token_bitmask(self.matcher, bits)
        self._check()
        allowed = torch.from_numpy(_unpacked(bits)[: len(logits)])
        logits.masked_fill_(~allowed, -torch.inf)

    def take(self, token: int) -> None:
        """Goes on with `token`.

        Raises:
            Broken: if the parser gave up.
        """
        self.matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self.matcher.is_error():
            raise Broken(_first_line(self.matcher))


def _unpacked(bits: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Shape (n_tokens,): whether each token's bit is set, the lowest bit first."""
    return np.unpackbits(bits.astype("<i4").view(np.uint8).ravel(), bitorder="little").astype(bool)


def _first_line(matcher: LLMatcher) -> str:
    return str(matcher.get_error()).strip().partition("\n")[0][:200]

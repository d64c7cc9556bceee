"""How many tokens a request has, without loading the model that would read it.

Exact with a tokenizer that is on this machine. Otherwise a reckoning: a token for each word begun
of eight letters, for up to three digits, for up to three signs, for a run of white space; three
bytes a token in scripts other than Latin. On this project's prompts, lists and JSON among them, it
is within 8% of the tokenizers of the bundled models, where a quarter of the characters is off by
up to a third.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from glossator.assets import ASSETS
from glossator.assets.cache import converted_folder
from glossator.assets.quiet import quiet
from glossator.llm import Request
from glossator.providers.prompts import Prompts

UNBOUNDED = 1 << 30
"""Tokens that a prompt may have: how long one is, is to be found out."""
PER_MESSAGE = 4
"""Tokens that chat formats put around a message."""
_PIECES = re.compile(r" ?([^\W\d_]+)|\d{1,3}|\s+|([^\w\s]+|_+)")
_LETTERS, _SIGNS, _BYTES = 8, 3, 3


@lru_cache(maxsize=1 << 14)
def reckoned(text: str) -> int:
    """About how many tokens `text` is for the models of large providers."""
    n = 0
    for piece in _PIECES.finditer(text):
        word, signs = piece.groups()
        if word is not None and word.isascii():
            n += -(-len(word) // _LETTERS)
        elif word is not None:
            n += -(-len(word.encode("utf-8", "replace")) // _BYTES)
        else:
            n += -(-len(signs) // _SIGNS) if signs else 1
    return n


@dataclass(frozen=True)
class TokenCount:
    """Counts tokens as one language model does, or about so."""

    prompts: Prompts | None = None
    """Of a tokenizer with a chat template; None reckons."""
    text: Callable[[str], int] = field(default=reckoned, repr=False)
    """How many tokens a text is."""

    @property
    def exact(self) -> bool:
        """Whether a tokenizer counts."""
        return self.prompts is not None

    @classmethod
    def of(cls, spec: str) -> TokenCount:
        """For the model called `spec`: with its tokenizer if that is here, else by reckoning."""
        tokenizer = _tokenizer(spec)
        if tokenizer is None or not tokenizer.chat_template:
            return cls()
        prompts = Prompts(spec, tokenizer, UNBOUNDED)
        return cls(prompts, lru_cache(maxsize=None)(lambda text: len(prompts.encode(text))))

    def prompt(self, request: Request) -> int:
        """Tokens of the prompt of `request`, what a model is to go on from included.

        Raises:
            ReplyError: as a model with that tokenizer would.
        """
        if self.prompts is None:
            texts = [m.content for m in request.messages]
            texts += [call.arguments for m in request.messages for call in m.calls]
            n = sum(map(self.text, texts)) + PER_MESSAGE * (len(request.messages) + 1)
            return n + self.text(request.prefill)
        return len(self.prompts.of(request).ids)

    def beside(self, request: Request) -> int:
        """Tokens of what is sent beside the prompt: a schema and tools. Some providers count it."""
        tools = [[t.name, t.description, t.schema] for t in request.tools]
        return self.text(request.schema) + (self.text(json.dumps(tools)) if tools else 0)


def _tokenizer(spec: str) -> Any:
    """The tokenizer of a local model, if it can be had without fetching or converting anything."""
    kind, _, rest = spec.partition(":")
    options: dict[str, Any] = {"local_files_only": True}
    if spec in ASSETS:
        where = str(converted_folder(ASSETS[spec]))
        if not Path(where, "tokenizer.json").is_file():
            return None
    elif kind == "gguf" and Path(rest).is_file():
        where = str(Path(rest).parent)
        options["gguf_file"] = Path(rest).name
    elif kind == "hf":
        where = rest
    else:
        return None
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(where, **options)
    except (OSError, ValueError):
        return None

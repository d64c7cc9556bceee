"""How much one turn of a conversation may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What one turn may take."""

    replies: int = 6
    """Of the language model; the last one may call nothing."""
    calls: int = 8
    """Of tools that are carried out."""
    repeats: int = 2
    """Of calls that were made in the same turn before."""
    n_texts: int = 8
    """Texts that a language model writes for a test, and windows beside them."""
    n_shown: int = 8
    """Excerpts in a prompt."""
    max_tokens: int = 500
    """Of a reply."""
    turns_told: int = 8
    """Turns before this one that the language model is told of."""
    seconds: float = 300.0
    """That a tool may take."""

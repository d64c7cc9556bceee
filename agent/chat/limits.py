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
    """Texts of a test, and windows beside them."""
    n_written: int = 8
    """Of the texts, those that a language model is asked to write."""
    tools: tuple[str, ...] = ()
    """Those that the language model is told of; all, if none is named."""
    n_shown: int = 8
    """Excerpts in a prompt."""
    max_tokens: int = 500
    """Of a reply."""
    turns_told: int = 8
    """Turns before this one that the language model is told of."""
    seconds: float = 300.0
    """That a tool may take."""


FEW = Limits(
    replies=3,
    calls=2,
    n_written=4,
    tools=("run_texts", "search_corpus", "exemplars", "steer"),
    max_tokens=200,
)
"""For a small model in this process, which reads and writes slowly and calls tools at random."""

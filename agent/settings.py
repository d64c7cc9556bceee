"""How long an inquiry may go on, and how sure it must be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The same for all inquiries of a run."""

    n_hypotheses: int = 4
    """Asked of the language model at the start."""
    most_hypotheses: int = 8
    """Alive at a time, those of the sceptic among them."""
    most_experiments: int = 10
    """After so many, what is not decided is undecided. Observations do not count."""
    n_texts: int = 8
    """Texts, or words, in an experiment."""
    n_written: int = 8
    """Of them, those that a language model is asked to write."""
    n_dev: int = 40
    """Dev windows on which hypotheses are compared."""
    n_shown: int = 10
    """Excerpts in a prompt."""
    n_looks: int = 2
    """Calls of tools that the language model may make before it proposes."""
    confidence: float = 0.95
    """Of the decision, over all rivals and looks together."""
    seconds: float = 1800.0
    """Of work on one feature, at most."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence < 1:
            raise ValueError(f"a confidence is between 0.5 and 1, not {self.confidence}")
        if self.most_experiments < 1 or self.n_texts < 2 or self.n_dev < 2:
            raise ValueError("an inquiry makes an experiment, with two texts, and reads dev")

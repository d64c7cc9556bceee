"""The scorers and simulators there are, by the names people type."""

from __future__ import annotations

from typing import Protocol

from glossator.registry import Registry
from glossator.types import Explanation, Scale, Score, Simulation, Split


class Scorer(Protocol):
    """Measures how well an explanation predicts a feature on text it was not made from.

    `score` raises:
        Unsupported: if its language model cannot do what it needs; nothing was sent.
        ProviderError, BudgetSpent: as the language model does.
    """

    async def score(
        self, explanation: Explanation, split: Split, dev: Split | None = None
    ) -> Score:
        """How well `explanation` predicts the examples of `split`.

        What has to be fitted (a calibration, a decision threshold) is fitted on `dev`; without it
        the figures that need one have no value. Examples that could not be judged are counted in
        `n_failed`, and a score that cannot be computed is None with its reason.
        """
        ...


class Simulator(Protocol):
    """Predicts a feature's activations from its explanation alone.

    `simulate` raises:
        ReplyError: if a language model's reply cannot be read.
    """

    @property
    def scale(self) -> Scale:
        """The unit of what it predicts."""
        ...

    @property
    def model(self) -> str:
        """The language model it asks, empty if none."""
        ...

    async def simulate(self, explanation: Explanation, tokens: tuple[str, ...]) -> Simulation:
        """One predicted activation for each of `tokens`."""
        ...


SCORERS = Registry(
    "scorer",
    {
        "detection": "glossator.scorers.detection:DetectionScorer",
        "embedding": "glossator.scorers.embedding:EmbeddingScorer",
        "fuzzing": "glossator.scorers.fuzzing:FuzzingScorer",
        "generation": "glossator.scorers.generation:GenerationScorer",
        "heads": "glossator.scorers.heads:HeadsScorer",
        "intervention": "glossator.scorers.intervention:InterventionScorer",
        "intruder": "glossator.scorers.intruder:IntruderScorer",
        "purity": "glossator.scorers.purity:PurityScorer",
        "rubric": "glossator.scorers.rubric:RubricScorer",
        "simulation": "glossator.scorers.simulation:SimulationScorer",
        "surprisal": "glossator.scorers.surprisal:SurprisalScorer",
    },
)

SIMULATORS = Registry(
    "simulator",
    {
        "contrast": "glossator.scorers.contrast:ContrastSimulator",
        "embedding": "glossator.scorers.embedding_simulator:EmbeddingSimulator",
        "ensemble": "glossator.scorers.ensemble:EnsembleSimulator",
        "lexical": "glossator.scorers.lexical:LexicalSimulator",
        "logprob": "glossator.scorers.logprob:LogprobSimulator",
        "reply": "glossator.scorers.reply:ReplySimulator",
        "symbolic": "glossator.scorers.symbolic:SymbolicSimulator",
        "tiny": "glossator.scorers.tiny.simulator:TinySimulator",
        "token": "glossator.scorers.token:TokenSimulator",
    },
)

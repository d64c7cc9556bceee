"""What a run would come to, before it is begun: units, calls, tokens, dollars, time and disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glossator.config import RunConfig, RunLimits
from glossator.datasets.corpora import load_corpus
from glossator.explainers.build import needs_llm
from glossator.pipeline import STAGES, check_names, chosen_features
from glossator.providers.prices import FREE, Price, find_price, worst_cost
from glossator.store import Store
from glossator.subject import load_subject

EXPLAIN_PROMPT, EXPLAIN_REPLY = 800, 30
"""Tokens of one explanation, of which most are the same for all features."""
JUDGE_PROMPT, VOTES = 180, 5
"""Tokens of one question about a window of 32, and questions a window without probabilities."""
SIMULATE_PER_TOKEN = (10, 6)
"""Tokens in the prompt and in the reply for each token simulated."""
CALIBRATION = {"simulation": 10, "detection": 20}
SUBJECT_RATE, LOCAL_RATE, REMOTE_SECONDS = 1500.0, 250.0, 0.2
"""Tokens a second of the subject and of a local model on two cores; seconds a call of an API with
sixteen at a time. Guesses of the right order; benchmarks/ has measurements."""
RECORD_BYTES, SCORE_BYTES = 120_000, 40_000


@dataclass(frozen=True, slots=True)
class Plan:
    """An estimate, rather too high than too low."""

    features: int
    calls: int
    """Calls to language models."""
    prompt_tokens: int
    completion_tokens: int
    dollars: float | None
    """None where a price is unknown."""
    seconds: float
    disk_bytes: int
    notes: tuple[str, ...]


def plan(
    config: RunConfig, limits: RunLimits, store: Store, stages: Sequence[str] = STAGES
) -> Plan:
    """The estimate for what `config` asks for; what `store` already holds is counted again.

    Raises:
        ConfigError, NotRegistered, AssetError, CorpusError: as the run would.
    """
    check_names(config)
    subject = load_subject(config.model, limits.device, config.dtype, limits.offline)
    corpus = load_corpus(config.corpus, offline=limits.offline)
    n = len(chosen_features(config, subject, corpus))
    notes = [f"{n} features of {', '.join(config.sites)}"]
    seconds = disk = 0.0
    if "collect" in stages:
        seconds += (config.tokens + config.calibration_tokens) / SUBJECT_RATE
        disk += n * RECORD_BYTES
    asking = [e for e in config.explainers if needs_llm(e)]
    explaining = len(asking) * n if "explain" in stages else 0
    total = _Tokens(config.llm, explaining, explaining * EXPLAIN_PROMPT, explaining * EXPLAIN_REPLY)
    scoring = _Tokens(config.scorer_llm or config.llm)
    if "score" in stages:
        disk += n * len(config.explainers) * len(config.scorers) * SCORE_BYTES
        for scorer in config.scorers:
            scoring.add(config, scorer, n * len(asking))
    parts = [total, scoring]
    unknown = [p.spec for p in parts if p.calls and p.price is None]
    if unknown:
        notes.append(f"nobody knows the price of {', '.join(dict.fromkeys(unknown))}")
    if limits.budget is not None:
        notes.append(f"the run stops before it passes {limits.budget:g} dollars")
    notes.append("what is already stored is not paid for again")
    return Plan(
        n,
        sum(p.calls for p in parts),
        sum(p.prompt for p in parts),
        sum(p.reply for p in parts),
        None if unknown else sum(p.dollars for p in parts),
        seconds + sum(p.seconds for p in parts),
        int(disk),
        tuple(notes),
    )


@dataclass
class _Tokens:
    """What is asked of one language model."""

    spec: str
    calls: int = 0
    prompt: int = 0
    reply: int = 0

    def add(self, config: RunConfig, scorer: str, explanations: int) -> None:
        """The calls of `scorer` for so many explanations in words."""
        remote = self.spec.startswith(("openai:", "anthropic:"))
        simulator = config.simulator
        if simulator == "auto":
            simulator = "reply" if remote else "lexical"
        if simulator in ("lexical", "symbolic") and (
            scorer == "simulation" or config.simulator != "auto"
        ):
            return
        windows = config.n_scored * (1 + config.n_shuffled) + CALIBRATION.get(scorer, 0)
        if scorer == "detection":
            votes = VOTES if self.spec.startswith("anthropic:") else 1
            self.calls += explanations * windows * votes
            self.prompt += explanations * windows * votes * JUDGE_PROMPT
            self.reply += explanations * windows * votes
            return
        asked, answered = SIMULATE_PER_TOKEN
        per_window = 4 if simulator == "contrast" else 1
        self.calls += explanations * windows * per_window
        self.prompt += explanations * windows * per_window * (200 + asked * config.window)
        if simulator == "reply":
            self.reply += explanations * windows * answered * config.window

    @property
    def price(self) -> Price | None:
        kind, _, model = self.spec.partition(":")
        return find_price(kind, model) if kind in ("openai", "anthropic") else FREE

    @property
    def dollars(self) -> float:
        return worst_cost(self.price, self.prompt, self.reply) if self.price else 0.0

    @property
    def seconds(self) -> float:
        if self.price is FREE:
            # Most of a judge's prompt is shared with other windows and computed once.
            return self.prompt / 3 / LOCAL_RATE + self.reply / 5
        return self.calls * REMOTE_SECONDS

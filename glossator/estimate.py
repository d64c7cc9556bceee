"""What a run would come to, before it is begun: units, calls, tokens, dollars, time and disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from glossator.config import RunConfig, RunLimits
from glossator.datasets.corpora import load_corpus
from glossator.explainers.build import needs_llm
from glossator.llm import Can
from glossator.pipeline import LOCAL, STAGES, check_names
from glossator.providers.openai import OpenAILLM
from glossator.providers.prices import FREE, Price, find_price, price_of, worst_cost
from glossator.providers.table import REMOTE, make_llm
from glossator.reading import chosen_features, coder_of, site_notice, sites_of
from glossator.scorers.build import ASKS_NOBODY, AUTO, Settings, calibration_windows
from glossator.store import Store
from glossator.subject import load_subject

EXPLAIN_PROMPT, EXPLAIN_REPLY = 800, 30
"""Tokens of one explanation, of which most are the same for all features."""
JUDGE_PROMPT, VOTES = 180, 5
"""Tokens of one question about a window of 32, and questions a window without probabilities."""
SIMULATE_PER_TOKEN = (10, 6)
"""Tokens in the prompt and in the reply for each token simulated."""
N_OTHERS = Settings().n_others
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
    coder = coder_of(config, subject, limits.offline)
    n = len(chosen_features(config, subject, corpus, coder))
    sites = sites_of(config, subject, coder)
    notes = [
        f"{n} features of {', '.join(sites)}" + (f" by the coder {coder.name}" if coder else "")
    ]
    notes += filter(None, [site_notice(sites, subject, coder)])
    seconds = disk = 0.0
    if "collect" in stages:
        seconds += (config.tokens + config.calibration_tokens) / SUBJECT_RATE
        disk += n * RECORD_BYTES
    asking = sum(map(needs_llm, config.explainers))
    explaining = asking * n if "explain" in stages else 0
    writer = _Asked.of(config.llm, config)
    writer.add(explaining, EXPLAIN_PROMPT, EXPLAIN_REPLY)
    reader = _Asked.of(config.scorer_llm or config.llm, config)
    if "score" in stages:
        disk += n * len(config.explainers) * len(config.scorers) * SCORE_BYTES
        # A simulator that was named reads the explanations that carry a pattern, too.
        read = asking if config.simulator == AUTO else len(config.explainers)
        for scorer in config.scorers:
            reader.add_scores(config, scorer, n * read)
    parts = [writer, reader]
    unknown = [p.spec for p in parts if p.calls and p.price is None]
    if unknown:
        notes.append(f"nobody knows the price of {', '.join(dict.fromkeys(unknown))}")
    if limits.budget is not None and unknown:
        notes.append(
            "so a budget in dollars cannot hold, and the run would refuse: use --max-calls"
        )
    elif limits.budget is not None:
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


def windows_at_most(n: int) -> int:
    """How many windows are drawn where `n` are wanted: each of five quantiles has at least one."""
    half = n // 2
    return n + max(0, 5 - (half - max(1, half // 3)))


@dataclass
class _Asked:
    """What is asked of one language model. Repeated attempts are left out."""

    spec: str
    price: Price | None
    can: frozenset[Can]
    calls: int = 0
    prompt: int = 0
    reply: int = 0

    @classmethod
    def of(cls, spec: str, config: RunConfig) -> _Asked:
        """The model called `spec`, without loading it, and without a key."""
        kind, _, model = spec.partition(":")
        if kind in LOCAL:
            return cls(spec, FREE, frozenset({Can.ANSWERS, Can.PROMPT_LOGPROBS}))
        if kind not in REMOTE:
            llm = make_llm(spec)
            return cls(spec, price_of(llm), llm.can)
        # A key that is never sent: without one only another server than the maker's is spoken to.
        url = config.base_url or os.environ.get(f"{kind.upper()}_BASE_URL", "")
        if kind == "openai":
            able = OpenAILLM.connect(
                model, base_url=url or None, environ={"OPENAI_API_KEY": "none"}
            )
            return cls(spec, able.price, able.can)
        return cls(spec, find_price(kind, model, url or None), frozenset())

    def add(self, calls: int, prompt: int, reply: int) -> None:
        """So many calls, with the tokens of each."""
        self.calls += calls
        self.prompt += calls * prompt
        self.reply += calls * reply

    def add_scores(self, config: RunConfig, scorer: str, explanations: int) -> None:
        """The calls of `scorer` for so many explanations."""
        if config.simulator in ASKS_NOBODY:
            return
        windows = windows_at_most(config.n_scored) * (1 + config.n_shuffled)
        windows += windows_at_most(calibration_windows(config.n_scored))
        if scorer != "simulation":
            votes = 1 if {Can.ANSWERS, Can.TOP_LOGPROBS} & self.can else VOTES
            self.add(explanations * windows * votes, JUDGE_PROMPT, 1)
            return
        simulator = config.simulator
        if simulator == AUTO:
            simulator = "lexical" if Can.PROMPT_LOGPROBS in self.can else "reply"
        if simulator == "lexical":
            return
        asked, answered = SIMULATE_PER_TOKEN
        self.add(
            explanations * windows * (1 + N_OTHERS if simulator == "contrast" else 1),
            200 + asked * config.window,
            answered * config.window if simulator == "reply" else 0,
        )

    @property
    def dollars(self) -> float:
        return worst_cost(self.price, self.prompt, self.reply) if self.price else 0.0

    @property
    def seconds(self) -> float:
        if self.price is FREE:
            # Most of a judge's prompt is shared with other windows and computed once.
            return self.prompt / 3 / LOCAL_RATE + self.reply / 5
        return self.calls * REMOTE_SECONDS

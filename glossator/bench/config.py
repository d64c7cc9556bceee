"""What is benched: the language model, the scorers and explainers, and how much of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from glossator.bench.ranking import Reader
from glossator.config import RunConfig
from glossator.datasets.truth import LIBRARY
from glossator.datasets.truth_causal import CAUSAL
from glossator.errors import ConfigError
from glossator.explainers.build import needs_llm
from glossator.explainers.table import EXPLAINERS
from glossator.providers.table import LOCAL, check_spec
from glossator.scorers.table import SCORERS, SIMULATORS

ORACLE = "oracle"
MADE_UP = "made-up"
"""A corpus that says nothing and needs none: every planted feature fires often in it."""
SUBJECT = "planted"
NOT_PLANTED = ("heads", "intervention")
"""Scorers of what planted features have not: attention and output."""


@dataclass(frozen=True, slots=True)
class TruthConfig:
    """What is benched, and on what.

    Raises:
        ConfigError: when built with a value out of range, or a name that nobody has.
    """

    llm: str = ORACLE
    """Who reads and explains; `oracle` reads every description of the library as it is meant."""
    base_url: str = ""
    readers: tuple[Reader, ...] = ()
    explainers: tuple[str, ...] = ()
    n_features: int = len(LIBRARY)
    n_causal: int = 0
    """Planted features that act on the output, of all groups alike; 0 for none."""
    corpus: str = "default"
    tokens: int = 200_000
    n_scored: int = 40
    """Test windows a score, at most."""
    n_unrelated: int = 3
    """Unrelated descriptions of each feature."""
    n_shown: int = 10
    embeds: bool = True
    """Whether the bundled embedder may be loaded; else texts have vectors that mean nothing."""
    precision: float = 0.0
    per_call: int = 0
    """Windows that are judged in one request; 0: as a run does."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.n_features <= len(LIBRARY):
            raise ConfigError(f"there are {len(LIBRARY)} planted features: take 2 of them or more")
        if not 0 <= self.n_causal <= len(CAUSAL):
            raise ConfigError(
                f"there are {len(CAUSAL)} planted features that act on the output: take 0 to "
                f"{len(CAUSAL)} of them"
            )
        if self.n_scored < 2 or self.n_unrelated < 1:
            raise ConfigError("a bench scores at least 2 windows and 1 unrelated description")
        for reader in self.readers:
            SCORERS.load(reader.scorer)
            if reader.simulator != "auto":
                SIMULATORS.load(reader.simulator)
            if reader.scorer in NOT_PLANTED:
                raise ConfigError(
                    f"{reader.scorer} cannot be benched: a planted feature is a function of the "
                    "text and has no output and no attention"
                )
        for name in self.explainers:
            needs_llm(name)
        if self.llm != ORACLE:
            check_spec(self.llm)

    @property
    def run(self) -> RunConfig:
        """The options under which calls are kept in a store, so that a bench can go on."""
        return RunConfig(
            model=SUBJECT,
            sites=("function",),
            features=f"library:{self.n_features}"
            + (f"+causal:{self.n_causal}" if self.n_causal else ""),
            corpus=self.corpus,
            tokens=self.tokens,
            explainers=self.explainers,
            scorers=tuple(dict.fromkeys(reader.scorer for reader in self.readers)),
            llm=self.llm,
            base_url=self.base_url,
            n_scored=self.n_scored,
            n_shuffled=self.n_unrelated,
            n_shown=self.n_shown,
            precision=self.precision,
            per_call=self.per_call,
            seed=self.seed,
        )

    @property
    def asks(self) -> bool:
        """Whether a language model is asked whose replies are worth keeping."""
        return self.llm != ORACLE


QUICK: dict[str, Any] = {
    "n_features": 28,
    "corpus": MADE_UP,
    "n_scored": 24,
    "n_unrelated": 2,
    "embeds": False,
}
LOCAL_AMOUNT: dict[str, Any] = {"n_features": 14, "n_scored": 16, "n_unrelated": 2}
"""One feature of each class: a small model on two cores makes some six calls a second."""
LOCAL_QUICK: dict[str, Any] = {"n_features": 4, "n_scored": 8}
LOCAL_EXPLAINERS = ("contrastive", "max-act", "n2g", "unigram")
"""Those that ask a local model little: the others try drafts out on dev, or write texts."""
NOT_QUICK = frozenset({"embedding", "senses"})
"""Parts that are nothing without the embedder, which takes a while to load."""


def benched(
    llm: str,
    *,
    scorers: Sequence[str] = (),
    simulators: Sequence[str] = (),
    explainers: Sequence[str] | None = None,
    quick: bool = False,
    **options: Any,
) -> TruthConfig:
    """What to bench: everything that makes sense with `llm`, where nothing is named.

    Raises:
        ConfigError, NotRegistered: if a name or number cannot be.
    """
    local = llm.partition(":")[0] in LOCAL
    settings: dict[str, Any] = {"n_causal": len(CAUSAL)} if llm == ORACLE and not quick else {}
    settings |= (LOCAL_AMOUNT if local else {}) | (QUICK if quick else {})
    settings |= (LOCAL_QUICK if local and quick else {}) | options
    if not scorers:
        left_out = {*NOT_PLANTED, *(NOT_QUICK if quick else ())}
        scorers = [name for name in SCORERS.names() if name not in left_out]
    readers: list[Reader] = []
    for name in scorers:
        if name == "simulation":
            readers += [Reader(name, s) for s in simulators or default_simulators(llm, quick)]
        else:
            readers.append(Reader(name))
    if explainers is None and local:
        explainers = LOCAL_EXPLAINERS
    elif explainers is None:
        of_output = () if settings.get("n_causal") else NO_OUTPUT
        left_out = {*of_output, *(NOT_QUICK if quick else ()), *(AGENTS if quick else ())}
        explainers = [name for name in EXPLAINERS.names() if name not in left_out]
    named = tuple(name for name in explainers if name != "none")
    return TruthConfig(llm, readers=tuple(readers), explainers=named, **settings)


NO_OUTPUT = frozenset({"both", "output"})
"""Explainers that look at what a feature does to the output, which a function of the text has not:
for features that act alone."""
AGENTS = frozenset({"agent"})
"""Explainers that take long."""


def default_simulators(llm: str, quick: bool) -> tuple[str, ...]:
    """One of each way of asking that `llm` can be asked in, and the one that asks nobody."""
    if llm == ORACLE:
        return ("logprob",) if quick else ("logprob", "contrast", "reply", "lexical")
    if llm.partition(":")[0] in LOCAL:
        return ("logprob", "contrast", "lexical")
    return ("reply", "lexical")

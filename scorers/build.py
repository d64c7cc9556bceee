"""From the names people type to scorers ready to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from glossator.embedder import Embedder, MiniLM, bundled
from glossator.errors import ConfigError
from glossator.hard import HardText
from glossator.live import Live
from glossator.llm import LLM, Can
from glossator.registry import assemble
from glossator.scorers.judge import AskingJudge, Judge, SimulatedJudge
from glossator.scorers.nulls import Wrong
from glossator.scorers.panel import PanelJudge
from glossator.scorers.table import SCORERS, SIMULATORS, Scorer, Simulator
from glossator.types import Explanation, FeatureRecord

AUTO = "auto"
PER_CALL = 12
"""Windows in one request to a model behind an API."""
ASKS_NOBODY = frozenset({"embedding", "lexical", "symbolic", "tiny"})
FIRES_ABOVE = {"tiny": 1.0}
"""Where a window is called firing whose strongest prediction is above this; else it is 0."""


@dataclass(frozen=True)
class Settings:
    """How examples are scored; the same for all scorers of a run."""

    n_scored: int = 40
    n_others: int = 3
    """Unrelated explanations that `contrast` subtracts."""
    seed: int = 0
    n_hard: int = 0
    """Hard silent windows of each kind that `detection` asks about beside the scored ones."""
    precision: float = 0.0
    """Half of the interval's width at which a scorer stops before `n_scored`; 0 never stops it."""
    per_call: int = 0
    """Windows that a judge is asked about in one request; 0 leaves it to `windows_a_call`."""


def calibration_windows(n_scored: int) -> int:
    """Dev windows for what has to be fitted: half as many as are scored, and at least two."""
    return max(2, n_scored // 2)


def simulator_for(name: str, explanation: Explanation, llm: LLM | None) -> str:
    """Which simulator `name` means for `explanation`.

    `auto` runs an explanation's own pattern where it has one. Otherwise a model behind an API
    replies; a small local model is no simulator (benchmarks/simulators.md), so `lexical` stands in.
    """
    if name != AUTO:
        return name
    if explanation.runs:
        return "symbolic"
    if llm is None or Can.PROMPT_LOGPROBS in llm.can:
        return "lexical"
    return "reply"


def limits_of(simulator: str) -> str:
    """What to know of a score by `simulator`; empty if nothing."""
    return {
        "embedding": "embedding knows how near meanings are, and little of form or order",
        "lexical": "lexical matches words of the explanation and knows nothing of meaning or order",
        "symbolic": "symbolic runs the explanation's own tokens, and for n2g those before them",
        "tiny": (
            "tiny reads words by meaning, form and neighbours, in English; of abstract, long-range "
            "and output-side descriptions it knows little"
        ),
    }.get(simulator, "")


def build_simulator(
    name: str,
    llm: LLM | None,
    others: tuple[str, ...] = (),
    embedder: Embedder | None = None,
) -> Simulator:
    """The simulator called `name`; the bundled embedder is loaded when it is first asked.

    Raises:
        NotRegistered: if there is none.
        ConfigError: if it needs a language model and there is none.
        Unsupported: if the language model cannot do what it needs.
    """
    embedder = embedder or bundled()
    available: dict[str, object] = {
        "others": others,
        "embedder": embedder,
        "offline": isinstance(embedder, MiniLM) and embedder.offline,
    }
    if llm is not None:
        available["llm"] = llm
    built: Simulator = assemble(SIMULATORS.load(name), **available)
    return built


def windows_a_call(per_call: int, llm: LLM) -> int:
    """How many windows a request to `llm` holds; one where `per_call` is 0 and it is in process.

    Of such a model every request costs what its tokens cost, and what they begin with is shared.
    """
    return per_call or (1 if Can.ANSWERS in llm.can else PER_CALL)


def build_judge(
    simulator: str,
    explanation: Explanation,
    llm: LLM | None,
    embedder: Embedder | None = None,
    per_call: int = 0,
    seed: int = 0,
) -> Judge:
    """Who judges windows: the language model if there is one, else the simulator's maximum.

    An explanation that carries its own pattern is judged by that pattern, and so is every one where
    a simulator that asks nobody was named.
    """
    chosen = simulator_for(simulator, explanation, llm)
    if chosen == "symbolic" or simulator in ASKS_NOBODY or llm is None:
        chosen = chosen if chosen in ASKS_NOBODY else "lexical"
        built = build_simulator(chosen, llm, embedder=embedder)
        return SimulatedJudge(built, chosen, FIRES_ABOVE.get(chosen, 0.0))
    at_a_time = windows_a_call(per_call, llm)
    return AskingJudge(llm) if at_a_time == 1 else PanelJudge(llm, at_a_time, seed=seed)


def wants_llm(name: str) -> bool:
    """Whether the scorer called `name` cannot do without a language model.

    Raises:
        NotRegistered: if there is no such scorer.
    """
    return "llm" in getattr(SCORERS.load(name), "__dataclass_fields__", {})


def takes(name: str, setting: str) -> bool:
    """Whether the scorer called `name` has a setting of that name, such as `hard` or `precision`.

    Raises:
        NotRegistered: if there is no such scorer.
    """
    return setting in getattr(SCORERS.load(name), "__dataclass_fields__", {})


def asks_llm(name: str, explanation: Explanation, simulator: str, llm: LLM | None) -> bool:
    """Whether the scorer called `name` asks a language model for `explanation`.

    Raises:
        NotRegistered: if there is no such scorer.
    """
    wanted = getattr(SCORERS.load(name), "__dataclass_fields__", {})
    if "simulator" in wanted:
        return simulator_for(simulator, explanation, llm) not in ASKS_NOBODY
    if "judge" in wanted:
        return bool(build_judge(simulator, explanation, llm).model)
    return "llm" in wanted


def build_scorer(
    name: str,
    explanation: Explanation,
    wrong: Wrong,
    *,
    simulator: str = AUTO,
    llm: LLM | None = None,
    settings: Settings | None = None,
    embedder: Embedder | None = None,
    live: Live | None = None,
    neighbours: Sequence[FeatureRecord] = (),
) -> Scorer:
    """The scorer called `name`, for `explanation`, with `wrong` ones for its null.

    `live` is of the explanation's feature, and `neighbours` are those that fire on text like its,
    the nearest first.

    Raises:
        NotRegistered: if there is no such scorer or simulator.
        ConfigError: if it needs a language model, or the live subject, and there is none.
        Unsupported: if the language model cannot do what it needs.
    """
    settings = settings or Settings()
    part = SCORERS.load(name)
    chosen = simulator_for(simulator, explanation, llm)
    others = tuple(e.text for e in wrong.explanations)[: settings.n_others]
    available: dict[str, object] = {
        "wrong": wrong,
        "n_scored": settings.n_scored,
        "n_calibration": calibration_windows(settings.n_scored),
        "seed": settings.seed,
        "simulator_name": chosen,
        "embedder": embedder or bundled(),
        "precision": settings.precision,
    }
    wanted = part.__dataclass_fields__ if hasattr(part, "__dataclass_fields__") else {}
    if "simulator" in wanted:
        available["simulator"] = build_simulator(chosen, llm, others, embedder)
    if "judge" in wanted:
        available["judge"] = build_judge(
            simulator, explanation, llm, embedder, settings.per_call, settings.seed
        )
    if "llm" in wanted:
        if llm is None:
            raise ConfigError(f"the scorer {name} needs a language model: name one with --llm")
        available["llm"] = llm
    if "live" in wanted:
        if live is None:
            raise ConfigError(
                f"the scorer {name} makes experiments on the subject: give live=..., as from "
                "gl.live_on(subject, record)"
            )
        available["live"] = live
    if settings.n_hard and "hard" in wanted:
        theirs = tuple(neighbours)
        available["hard"] = HardText(settings.n_hard, embedder or bundled(), live, theirs)
    built: Scorer = assemble(part, **available)
    return built

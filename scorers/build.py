"""From the names people type to scorers ready to run."""

from __future__ import annotations

from dataclasses import dataclass

from glossator.errors import ConfigError
from glossator.llm import LLM, Can
from glossator.registry import assemble
from glossator.scorers.judge import AskingJudge, Judge, SimulatedJudge
from glossator.scorers.nulls import Wrong
from glossator.scorers.table import SCORERS, SIMULATORS, Scorer, Simulator
from glossator.types import Explanation

AUTO = "auto"
ASKS_NOBODY = frozenset({"lexical", "symbolic"})


@dataclass(frozen=True)
class Settings:
    """How examples are scored; the same for all scorers of a run."""

    n_scored: int = 40
    n_others: int = 3
    """Unrelated explanations that `contrast` subtracts."""
    seed: int = 0


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
    if explanation.words:
        return "symbolic"
    if llm is None or Can.PROMPT_LOGPROBS in llm.can:
        return "lexical"
    return "reply"


def limits_of(simulator: str) -> str:
    """What to know of a score by `simulator`; empty if nothing."""
    return {
        "lexical": "lexical matches words of the explanation and knows nothing of meaning or order",
        "symbolic": "symbolic knows the token alone, not its context",
    }.get(simulator, "")


def build_simulator(name: str, llm: LLM | None, others: tuple[str, ...] = ()) -> Simulator:
    """The simulator called `name`.

    Raises:
        NotRegistered: if there is none.
        ConfigError: if it needs a language model and there is none.
        Unsupported: if the language model cannot do what it needs.
    """
    available: dict[str, object] = {"others": others}
    if llm is not None:
        available["llm"] = llm
    built: Simulator = assemble(SIMULATORS.load(name), **available)
    return built


def build_judge(simulator: str, explanation: Explanation, llm: LLM | None) -> Judge:
    """Who judges windows: the language model if there is one, else the simulator's maximum.

    An explanation that carries its own pattern is judged by that pattern, and so is every one where
    a simulator that asks nobody was named.
    """
    chosen = simulator_for(simulator, explanation, llm)
    if chosen == "symbolic" or simulator in ASKS_NOBODY or llm is None:
        chosen = chosen if chosen in ASKS_NOBODY else "lexical"
        return SimulatedJudge(build_simulator(chosen, llm), chosen)
    return AskingJudge(llm)


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
) -> Scorer:
    """The scorer called `name`, for `explanation`, with `wrong` ones for its null.

    Raises:
        NotRegistered: if there is no such scorer or simulator.
        ConfigError: if it needs a language model and there is none.
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
    }
    wanted = part.__dataclass_fields__ if hasattr(part, "__dataclass_fields__") else {}
    if "simulator" in wanted:
        available["simulator"] = build_simulator(chosen, llm, others)
    if "judge" in wanted:
        available["judge"] = build_judge(simulator, explanation, llm)
    if "llm" in wanted:
        if llm is None:
            raise ConfigError(f"the scorer {name} needs a language model: name one with --llm")
        available["llm"] = llm
    built: Scorer = assemble(part, **available)
    return built

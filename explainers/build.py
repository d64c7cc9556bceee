"""From the names people type to explainers ready to run."""

from __future__ import annotations

from glossator.errors import ConfigError
from glossator.explainers.table import EXPLAINERS, Explainer
from glossator.llm import LLM
from glossator.registry import assemble


def needs_llm(name: str) -> bool:
    """Whether the explainer called `name` asks a language model.

    Raises:
        NotRegistered: if there is none of that name.
    """
    return "llm" in getattr(EXPLAINERS.load(name), "__dataclass_fields__", {})


def build_explainer(name: str, llm: LLM | None = None, *, n_shown: int = 10) -> Explainer:
    """The explainer called `name`.

    Raises:
        NotRegistered: if there is none.
        ConfigError: if it needs a language model and there is none.
    """
    if needs_llm(name) and llm is None:
        raise ConfigError(f"the explainer {name} needs a language model: name one with --llm")
    available: dict[str, object] = {"n_shown": n_shown}
    if llm is not None:
        available["llm"] = llm
    built: Explainer = assemble(EXPLAINERS.load(name), **available)
    return built

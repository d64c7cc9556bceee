"""From the names people type to explainers ready to run."""

from __future__ import annotations

from glossator.embedder import Embedder
from glossator.errors import ConfigError
from glossator.explainers.agent import Inquirer
from glossator.explainers.table import EXPLAINERS, Explainer
from glossator.explainers.triage import TriageExplainer
from glossator.explainers.trial import Trial
from glossator.live import Live
from glossator.llm import LLM
from glossator.registry import assemble

DRAFT = "max-act"
"""Whose drafts are chosen from, or rewritten, where nothing else is said."""
CHEAP = ("n2g", "unigram")
"""Explainers that ask no language model, the better one first; `n2g` needs the live subject."""


def wanted_by(name: str) -> frozenset[str]:
    """The names of what the explainer called `name` is built from.

    Raises:
        NotRegistered: if there is none of that name.
    """
    return frozenset(getattr(EXPLAINERS.load(name), "__dataclass_fields__", {}))


def needs_llm(name: str) -> bool:
    """Whether the explainer called `name` asks a language model; who tries drafts out does.

    Raises:
        NotRegistered: if there is none of that name.
    """
    return bool({"llm", "trial"} & wanted_by(name))


def needs_live(name: str) -> bool:
    """Whether the explainer called `name` makes experiments on the subject.

    Raises:
        NotRegistered: if there is none of that name.
    """
    return "live" in wanted_by(name)


def inquires(name: str) -> bool:
    """Whether the explainer called `name` is an agent.

    Raises:
        NotRegistered: if there is none of that name.
    """
    return "inquirer" in wanted_by(name)


def build_explainer(
    name: str,
    llm: LLM | None = None,
    *,
    n_shown: int = 10,
    live: Live | None = None,
    embedder: Embedder | None = None,
    trial: Trial | None = None,
    draft: str = DRAFT,
    inquirer: Inquirer | None = None,
) -> Explainer:
    """The explainer called `name`.

    Args:
        name: a registered name or a dotted path.
        llm: who is asked.
        n_shown: excerpts shown.
        live: experiments with the feature that it is going to explain.
        embedder: for those that look for text of like meaning.
        trial: tries explanations of that feature on dev.
        draft: whose drafts are rewritten or chosen from.
        inquirer: makes the inquiry of the agent.

    Raises:
        NotRegistered: if there is none.
        ConfigError: if it needs something that is not given, or drafts are made from drafts.
    """
    wanted = wanted_by(name)
    if needs_llm(name) and llm is None:
        raise ConfigError(f"the explainer {name} needs a language model: name one with --llm")
    if "live" in wanted and live is None:
        raise ConfigError(
            f"the explainer {name} makes experiments on the subject: give live=..., as from "
            "gl.live_on(subject, record)"
        )
    if "trial" in wanted and trial is None:
        raise ConfigError(f"the explainer {name} tries explanations on dev, and has no trial")
    if "inquirer" in wanted and inquirer is None:
        raise ConfigError(f"the explainer {name} inquires into a feature, and has no inquirer")
    given = {"llm": llm, "live": live, "embedder": embedder, "trial": trial, "inquirer": inquirer}
    available: dict[str, object] = {"n_shown": n_shown}
    available |= {key: part for key, part in given.items() if part is not None}
    if "drafter" in wanted:
        if "drafter" in wanted_by(draft):
            raise ConfigError(
                f"{name} starts from drafts by {draft}, which starts from drafts: "
                f"name another with --draft, such as {DRAFT}"
            )
        available["drafter"] = build_explainer(
            *(draft, llm),
            n_shown=n_shown,
            live=live,
            embedder=embedder,
            trial=trial,
            inquirer=inquirer,
        )
    built: Explainer = assemble(EXPLAINERS.load(name), **available)
    return built


def with_triage(explainer: Explainer, trial: Trial, live: Live | None) -> Explainer:
    """`explainer`, asked only where one that asks nobody fails on dev."""
    cheap = next(name for name in CHEAP if live is not None or not needs_live(name))
    return TriageExplainer(build_explainer(cheap, live=live), explainer, trial)

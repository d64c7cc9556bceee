"""What is shown before anybody supposes anything, and what is supposed without a language model."""

from __future__ import annotations

from collections.abc import Sequence

from glossator.agent.held_back import fitted
from glossator.agent.lab import Lab
from glossator.agent.tools.shown import marked, plain
from glossator.errors import ReplyError, Unsupported
from glossator.evidence import Hypothesis
from glossator.explainers.build import build_explainer
from glossator.explainers.excerpts import excerpt, shown
from glossator.hard import nearest_silent
from glossator.llm import LLM
from glossator.notebook import Notebook
from glossator.types import JSON

N_SILENT = 4
N_TOKENS = 8


def excerpts_of(lab: Lab, n: int) -> tuple[list[str], list[str]]:
    """Train excerpts where it fires, marked, and silent ones that are near in meaning."""
    train = lab.seen.train
    firing = shown(train, n)
    silent = nearest_silent(firing, train.silent, lab.embedder, N_SILENT)
    lines = [
        marked(e.tokens, e.activations, train.threshold, lab.seen.peak).partition(": ")[2]
        for e in silent
    ]
    return [excerpt(e, train.threshold) for e in firing], lines


async def known_effects(lab: Lab) -> list[str]:
    """What its output direction promotes and suppresses; empty where it has none."""
    try:
        promotion = await lab.live.promoted(N_TOKENS)
    except Unsupported:
        return []
    up = ", ".join(repr(plain(t)) for t, _ in promotion.promoted)
    down = ", ".join(repr(plain(t)) for t, _ in promotion.suppressed)
    return [f"raises the logits of {up}", f"lowers the logits of {down}"]


COPIED = 4
"""Words; a longer run that stands in an excerpt is no hypothesis."""
DRAFTS = ("contrastive", "max-act")
"""Explainers whose phrases are hypotheses, too: a small model writes them where lists fail it."""


async def drafts_of(lab: Lab, llm: LLM, notebook: Notebook, n_shown: int) -> list[tuple[str, str]]:
    """What explainers that ask once say, each with who says it; those that abstain are left out.

    Raises:
        ProviderError, BudgetSpent: as the language model does.
    """
    found: list[tuple[str, str]] = []
    for name in DRAFTS:
        key = f"draft {name}"
        if (entry := notebook.get(key)) is None:
            explainer = build_explainer(name, llm, n_shown=n_shown, embedder=lab.embedder)
            said: dict[str, JSON]
            try:
                explanation = await explainer.explain(lab.seen.feature, lab.seen.train)
                said = {"text": explanation.text, "abstained": explanation.abstained}
            except ReplyError as error:
                if error.broken:
                    raise
                said = {"text": "", "abstained": f"{type(error).__name__}: {str(error)[:500]}"}
            notebook.put(key, "draft", said)
        else:
            said = dict(entry.content)
        if text := " ".join(str(said["text"]).split()).rstrip("."):
            found.append((name, text))
    return found


async def dull_hypotheses(lab: Lab) -> list[Hypothesis]:
    """That it is a matter of single tokens, or of tokens in a row: patterns found without words."""
    found: list[Hypothesis] = []
    for name in ("unigram", "n2g"):
        explainer = build_explainer(name, live=lab.live)
        try:
            said = await explainer.explain(lab.seen.feature, fitted(lab.seen.train))
        except (ReplyError, Unsupported):
            continue
        if not said.abstained and said.runs:
            found.append(
                Hypothesis(
                    f"H{len(found) + 1}",
                    said.text,
                    said.text,
                    dull=True,
                    by=name,
                    words=said.words,
                    paths=said.paths,
                )
            )
    return found


def own_words(said: list[tuple[str, str]], shown: Sequence[str]) -> list[tuple[str, str]]:
    """Those of which the trigger is not copied from an excerpt, longer than a few words."""
    texts = [" ".join(line.replace("<<", "").replace(">>", "").lower().split()) for line in shown]

    def copied(phrase: str) -> bool:
        plain = " ".join(phrase.replace("‹‹", "").replace("››", "").lower().split())
        return len(plain.split()) > COPIED and any(plain in text for text in texts)

    return [(trigger, effect) for trigger, effect in said if not copied(trigger)]

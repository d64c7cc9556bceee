"""Exact log probabilities of given answers, many prompts at a time, without generating.

What all prompts of a pass begin with is read once and kept; the rest of them is merged into a tree,
with the answers as branches, so that each distinct token is computed once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from glossator.providers.passes import Passes
from glossator.providers.prompts import Prompt
from glossator.providers.tree import TokenTree, common_prefix

Rows = tuple[tuple[float, ...], ...]
"""Shape (n_places, n_answers): log probabilities behind each place of a prompt."""


def groups(prompts: Sequence[Prompt], most: int) -> list[list[int]]:
    """Which of `prompts` are read together: those that begin alike. Gives indices.

    Args:
        prompts: in any order.
        most: tokens that a tree may hold, less what all of a group begin with.
    """
    found: list[list[int]] = []
    tree = TokenTree()
    for index in sorted(range(len(prompts)), key=lambda i: prompts[i].ids):
        ids = prompts[index].ids
        # In sorted order the first and the newest have least in common of all in the group.
        shared = common_prefix([prompts[found[-1][0]].ids, ids]) if found else 0
        if not found or len(tree) + tree.growth(ids) - shared > most:
            found.append([])
            tree = TokenTree()
        tree.insert(ids)
        found[-1].append(index)
    return found


def judged(passes: Passes, prompts: Sequence[Prompt]) -> list[Rows]:
    """What each of `prompts` gives behind its places; they share a tree."""
    # At least one token of every prompt must be in the tree, for its logits.
    first_place = min(p.places[0] for p in prompts)
    shared = min(common_prefix([p.ids for p in prompts]), first_place)
    past = passes.past(prompts[0].ids[:shared])
    tree = TokenTree()
    wanted: dict[int, dict[int, None]] = {}
    branches: list[list[list[list[int]]]] = []
    for prompt in prompts:
        path = tree.insert(prompt.ids[shared:])
        branches.append([])
        for place in (path[at - shared] for at in prompt.places):
            # The nodes whose logits give each token of each answer.
            nodes = [[place, *tree.insert(a[:-1], under=place)] for a in prompt.answers]
            branches[-1].append(nodes)
            for along, answer in zip(nodes, prompt.answers, strict=True):
                for node, token in zip(along, answer, strict=True):
                    wanted.setdefault(node, {})[token] = None
    log_probs = passes.log_probs(past, tree, {n: list(tokens) for n, tokens in wanted.items()})

    def row(prompt: Prompt, nodes: Sequence[Sequence[int]]) -> tuple[float, ...]:
        joint = [
            sum(log_probs[node, token] for node, token in zip(along, answer, strict=True))
            for along, answer in zip(nodes, prompt.answers, strict=True)
        ]
        return exactly(joint, prompt.answers)

    return [
        tuple(row(prompt, nodes) for nodes in of_prompt)
        for prompt, of_prompt in zip(prompts, branches, strict=True)
    ]


def exactly(joint: Sequence[float], answers: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Log probability of each answer and no longer one, from those of beginning with it.

    Where "10" is two tokens, what begins with "1" may go on to "10"; that share is taken off "1".
    The share of "100" is part of that of "10", and is taken off "1" once.
    """

    def continues(longer: Sequence[int], shorter: Sequence[int]) -> bool:
        return len(longer) > len(shorter) and list(longer[: len(shorter)]) == list(shorter)

    found = []
    for value, answer in zip(joint, answers, strict=True):
        after = {tuple(a): v for v, a in zip(joint, answers, strict=True) if continues(a, answer)}
        longer = sum(
            math.exp(v) for a, v in after.items() if not any(continues(a, b) for b in after)
        )
        rest = math.exp(value) - longer
        found.append(value if longer == 0 else math.log(rest) if rest > 0 else -math.inf)
    return tuple(found)

"""Many prompts that begin alike, packed so that each distinct token is computed once.

Prompts are merged into a tree of tokens. The tree is laid out as one sequence in which a token sees
its own ancestors and nothing else, so that one forward pass gives for every prompt the values it
would have had alone (tree attention; Miao et al. 2023, SpecInfer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass
class TokenTree:
    """Distinct prefixes of the sequences put in; node i continues node `parents[i]`."""

    tokens: list[int] = field(default_factory=list)
    """Shape (n_nodes,): parents stand before their children."""
    parents: list[int] = field(default_factory=list)
    """Shape (n_nodes,); -1 for a root."""
    depths: list[int] = field(default_factory=list)
    """Shape (n_nodes,); 0 for a root."""
    _children: dict[tuple[int, int], int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def insert(self, sequence: Sequence[int], under: int = -1) -> list[int]:
        """Adds `sequence` below the node `under`; gives the node of each of its tokens."""
        path = []
        at = under
        for token in sequence:
            child = self._children.get((at, token))
            if child is None:
                child = len(self.tokens)
                self._children[at, token] = child
                self.tokens.append(token)
                self.parents.append(at)
                self.depths.append(self.depths[at] + 1 if at >= 0 else 0)
            path.append(child)
            at = child
        return path

    def growth(self, sequence: Sequence[int]) -> int:
        """How many nodes `insert(sequence)` would add."""
        at = -1
        for done, token in enumerate(sequence):
            child = self._children.get((at, token))
            if child is None:
                return len(sequence) - done
            at = child
        return 0

    def visible(self, begin: int = 0, end: int | None = None) -> npt.NDArray[np.bool_]:
        """Shape (end - begin, end): whether the row's token, from `begin` on, sees the column's."""
        end = len(self) if end is None else end
        seen = np.zeros((end - begin, end), dtype=np.bool_)
        for row, node in enumerate(range(begin, end)):
            parent = self.parents[node]
            if parent >= begin:
                seen[row, : parent + 1] = seen[parent - begin, : parent + 1]
            else:
                while parent >= 0:
                    seen[row, parent] = True
                    parent = self.parents[parent]
            seen[row, node] = True
        return seen


def common_prefix(sequences: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all `sequences` begin with in common."""
    first, last = min(sequences), max(sequences)
    for index, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return index
    return min(len(first), len(last))

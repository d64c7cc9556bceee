"""Where questions to the network wait for each other, so that many are answered at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch

from glossator.scorers.tiny.pieces import Pieces, pieces_of
from glossator.scorers.tiny.reading import Read, Window, lower_all, side_by_side, window_of
from glossator.scorers.tiny.weights import Network, shipped

LONGEST_DESCRIPTION = 200
"""Pieces of a description; of a longer one nothing is read."""
LONGEST_WINDOW, OVERLAP = 144, 32
"""Pieces of a window that are read at once, and how many two parts of a longer one share."""
AT_ONCE = 32
"""Pairs a pass of the upper half."""
UNKNOWN = 100
"""Number of the piece that stands for letters that the vocabulary has not."""
KEPT_READINGS, KEPT_ANSWERS = 768, 8192


@dataclass(frozen=True)
class Said:
    """What the network says of a window."""

    activations: tuple[float, ...]
    """Shape (n_tokens,), from 0 to 10: the expected activation."""
    firing: tuple[float, ...]
    """Shape (n_tokens,): the probability that it is above 0."""


@dataclass(frozen=True)
class Unreadable:
    """A description that it cannot read."""

    pieces: int


@dataclass(frozen=True)
class Part:
    """A run of a window's tokens that is read at once."""

    tokens: tuple[str, ...]
    begin: int
    end: int
    """Places in it, from and to, of the tokens that it answers for."""


Floats = npt.NDArray[np.float64]
Question = tuple[str, tuple[str, ...]]
"""A description and the tokens of a window."""


@dataclass
class Desk:
    """Questions and answers; of the readings and answers the last ones are kept.

    Whoever's turn it is answers all that wait. An answer does not depend on what was asked with it
    by more than the rounding of its numbers, and a question asked again gets the answer it had.
    """

    network: Network
    _answers: OrderedDict[Question, Said | Unreadable] = field(default_factory=OrderedDict)
    _readings: OrderedDict[str, Read] = field(default_factory=OrderedDict)
    _waiting: list[Question] = field(default_factory=list)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, description: str, tokens: Sequence[str]) -> Said | Unreadable:
        """The answer, now or together with those of others that wait; blocks until then."""
        question = (description, tuple(tokens))
        self._waiting.append(question)
        with self._turn:
            if question not in self._answers:
                waiting = [*dict.fromkeys([question, *self._taken()])]
                fresh = [q for q in waiting if q not in self._answers]
                self._answers.update(zip(fresh, self.answered(fresh), strict=True))
            answer = self._answers[question]
            while len(self._answers) > KEPT_ANSWERS:
                self._answers.popitem(last=False)
        return answer

    def _taken(self) -> list[Question]:
        taken, self._waiting = self._waiting, []
        return taken

    def answered(self, questions: Sequence[Question]) -> list[Said | Unreadable]:
        """Answers worked out anew, in order."""
        tokenizer = self.network.tokenizer
        described = {text: pieces_of(tokenizer, text) for text, _ in questions}
        bad = {text for text, pieces in described.items() if not readable(pieces)}
        texts = {text: pieces for text, pieces in described.items() if text not in bad}
        cut: dict[tuple[str, ...], list[Part]] = {}
        for _, tokens in questions:
            if tokens not in cut:
                text = "".join(tokens)
                read = self._readings.get(text)
                whole = read.pieces if read else pieces_of(tokenizer, text)
                cut[tokens] = parts_of(tokens, sizes_of(whole, tokens))
                for part in cut[tokens]:
                    same = len(part.tokens) == len(tokens)
                    some = "".join(part.tokens)
                    texts[some] = whole if same else pieces_of(tokenizer, some)
        readings = self._read(texts)
        windows = {
            part.tokens: window_of(part.tokens, readings["".join(part.tokens)])
            for parts in cut.values()
            for part in parts
        }
        jobs = [
            (text, readings[text], windows[part.tokens])
            for text, tokens in questions
            if text not in bad
            for part in cut[tokens]
        ]
        values = iter(self._passed(jobs))
        found: list[Said | Unreadable] = []
        for text, tokens in questions:
            if text in bad:
                found.append(Unreadable(len(described[text])))
                continue
            rows = [next(values)[part.begin : part.end] for part in cut[tokens]]
            level, fires = np.round(np.concatenate(rows), 4).T.tolist()
            found.append(Said(tuple(level), tuple(fires)))
        return found

    def _read(self, texts: Mapping[str, Pieces]) -> dict[str, Read]:
        """Readings of all of them, kept ones where there are."""
        found = {text: self._readings[text] for text in texts if text in self._readings}
        fresh = {text: pieces for text, pieces in texts.items() if text not in found}
        read = lower_all(self.network.lower, list(fresh.values()))
        found.update(zip(fresh, read, strict=True))
        self._readings.update(found)
        while len(self._readings) > KEPT_READINGS:
            self._readings.popitem(last=False)
        return found

    def _passed(self, jobs: Sequence[tuple[str, Read, Window]]) -> list[Floats]:
        """Shape (n_tokens, 2) for each job: activation and probability."""
        order = sorted(
            range(len(jobs)), key=lambda i: len(jobs[i][1].hidden) + len(jobs[i][2].read.hidden)
        )
        found: dict[int, Floats] = {}
        for begin in range(0, len(order), AT_ONCE):
            some = order[begin : begin + AT_ONCE]
            with torch.inference_mode():
                logits = self.network.upper(side_by_side([jobs[i] for i in some])).float()
            level, fires = logits[..., 0], logits[..., 1]
            fires = fires * self.network.slope + self.network.shift
            both = torch.stack([10 * level.sigmoid(), fires.sigmoid()], dim=-1)
            rows = both.cpu().numpy().astype(np.float64)  # (batch, n_tokens, 2)
            for i, row in zip(some, rows, strict=True):
                window = jobs[i][2]
                seen = window.ranges[:, 1] > window.ranges[:, 0]
                found[i] = row[: len(window.tokens)] * seen[:, None]
        return [found[i] for i in range(len(jobs))]


def readable(pieces: Pieces) -> bool:
    """Whether a description is short enough and in letters of the vocabulary."""
    unknown = int((pieces.ids == UNKNOWN).sum())
    return len(pieces) <= LONGEST_DESCRIPTION and 2 * unknown <= len(pieces)


def sizes_of(pieces: Pieces, tokens: Sequence[str]) -> npt.NDArray[np.int64]:
    """Shape (n_tokens,): pieces that begin in each token; they sum to all pieces."""
    cuts = np.cumsum([0, *map(len, tokens)])
    return np.diff(np.searchsorted(pieces.spans[:, 0], cuts, side="left"))


def parts_of(tokens: tuple[str, ...], sizes: npt.NDArray[np.int64]) -> list[Part]:
    """Runs of tokens of at most `LONGEST_WINDOW` pieces, of which neighbours share `OVERLAP`.

    Each answers up to the middle of what it shares. A token that is too large is a run of its own.

    Args:
        tokens: of the window.
        sizes: shape (n_tokens,), pieces of each token.
    """
    cuts = np.cumsum([0, *sizes])
    if cuts[-1] <= LONGEST_WINDOW:
        return [Part(tokens, 0, len(tokens))]
    runs: list[tuple[int, int]] = []
    start = stop = 0
    while stop < len(tokens):
        stop = int(np.searchsorted(cuts, cuts[start] + LONGEST_WINDOW, side="right")) - 1
        stop = min(max(start + 1, stop), len(tokens))
        runs.append((start, stop))
        back = int(np.searchsorted(cuts, cuts[stop] - OVERLAP, side="left"))
        start = min(max(start + 1, back), stop)
    bounds = [0, *((a + b) // 2 for (_, b), (a, _) in pairwise(runs)), len(tokens)]
    return [
        Part(tokens[a:b], begin - a, end - a)
        for (a, b), (begin, end) in zip(runs, pairwise(bounds), strict=True)
    ]


_DESKS: dict[bool, Desk] = {}
_OPENING = threading.Lock()


def desk(offline: bool = False) -> Desk:
    """The one desk of this process.

    Raises:
        AssetError: if the encoder could not be had.
    """
    with _OPENING:
        if offline not in _DESKS:
            _DESKS[offline] = Desk(shipped(offline))
        return _DESKS[offline]

"""A language model that reads every description exactly as it is meant: a perfect judge.

It answers from the rule that a description of the library stands for, and knows none of the
prompts: it looks for a description in the last message, for text that it knows, and for the form
of the answer that is wanted. So what a scorer makes of its answers is the scorer's own doing.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from glossator.bench.shelf import Place, Shelf, skeleton
from glossator.datasets.planted import word_pieces
from glossator.datasets.truth import LIBRARY, Ground, claims, page_of
from glossator.datasets.truth_claims import Claim
from glossator.datasets.truth_rules import Either
from glossator.errors import ReplyError
from glossator.llm import Can, Reply, Request
from glossator.types import Usage

ABLE = frozenset({Can.ANSWERS, Can.PROMPT_LOGPROBS, Can.SCHEMA})
OR = "; or "
"""Joins what an explainer of several senses says of each."""
SURE = 0.98
"""The probability of what it says."""
A_TOKEN, FITTING = 3.0, 4.0
"""Nats that a token of any text costs, and that a fitting description saves of a text's."""
N_RATED = 60
"""Documents on which it is counted how often a description fits."""
_QUOTED = re.compile(r'"([^"\n]+)"')
_NUMBERED = re.compile(r"^\s*\d+(?: \([^)\n]*\))?[:.] ?(.*)$", re.MULTILINE)
_SAID_MARK = re.compile(r"(<<.*?>>)\(\d+\)", re.DOTALL)


@dataclass(frozen=True, eq=False)
class Oracle:
    """Answers from the rules of the descriptions; an unknown one fits nothing."""

    shelf: Shelf
    known: Mapping[str, Claim]
    """All descriptions that it can read, by their text."""
    planted: tuple[Claim, ...]
    """Those that are true of some feature; what has no description is looked for among them."""
    name: str = "oracle"
    can: frozenset[Can] = ABLE
    _values: dict[tuple[str, tuple[str, ...]], list[float]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @classmethod
    def of(cls, ground: Ground) -> Oracle:
        """One that knows the descriptions and the text of `ground`."""
        true = tuple(feature.true for feature in ground.features)
        return cls(Shelf(ground.documents), claims(LIBRARY) | claims(ground.features), true)

    @functools.cached_property
    def _pattern(self) -> re.Pattern[str]:
        texts = sorted(self.known, key=lambda text: (-len(text), text))
        one = "|".join(map(re.escape, texts))
        return re.compile(f"(?:{one})(?:{OR}(?:{one}))*")

    def legible(self, text: str) -> bool:
        """Whether it knows what `text` means."""
        return all(part in self.known for part in text.split(OR))

    async def reply(self, request: Request) -> Reply:
        """See `LLM`.

        Raises:
            ReplyError: if the question has none of the forms that it knows.
        """
        said = request.messages[-1].content
        used = usage_of(request)
        if request.slots:
            rows = self._at_slots(said, request)
            return Reply(slots=rows, usage=used, model=self.name)
        if request.lines:
            return replace(self._on_lines(said, request), usage=used, model=self.name)
        if request.answers:
            answers = self._of_answers(said, request)
            return Reply(answers=answers, usage=used, model=self.name)
        return Reply(text=self._in_words(said, request), usage=used, model=self.name)

    # -- what is asked -------------------------------------------------------------------------

    def described(self, said: str) -> Claim | None:
        """The longest description in `said`, or several that are joined; None if it knows none."""
        found = self._pattern.findall(said)
        if not found:
            return None
        text = max(found, key=len)
        if text in self.known:
            return self.known[text]
        return Claim(text, Either(tuple(self.known[part].rule for part in text.split(OR))))

    def windows(self, said: str, claim: Claim | None) -> list[Place]:
        """The texts in `said`: what is quoted, or else what stands on numbered lines."""
        if claim is not None:
            said = said.replace(claim.text, "")
        found = [text for text in _QUOTED.findall(said) if text.strip()]
        if not found:
            found = [text for text in _NUMBERED.findall(said) if text.strip()]
        return [place for place in map(self.shelf.place, found) if place is not None]

    def values(self, claim: Claim | None, place: Place) -> list[float]:
        """How strongly the description holds at each token of the text, from 0 to 1."""
        if claim is None:
            return [0.0] * place.n
        key = (claim.text, place.tokens)
        if key not in self._values:
            self._values[key] = claim.rule.values(page_of(place.tokens))
        return [max(0.0, v) for v in self._values[key][place.first : place.first + place.n]]

    def _fit(self, claim: Claim | None, place: Place) -> float:
        """How strongly it holds at the marked tokens; without any, 1 if it holds somewhere."""
        values = self.values(claim, place)
        if not place.marks:
            return float(any(values))
        marked = [v for v, mark in zip(values, place.marks, strict=True) if mark]
        return sum(marked) / len(marked) if marked else 0.0

    # -- answers -------------------------------------------------------------------------------

    def _at_slots(self, said: str, request: Request) -> tuple[tuple[float, ...], ...]:
        tokens = [slot.strip() for slot in request.slots]
        values = self._of_tokens(self.described(said.replace("\t", " ")), tokens)
        return tuple(said_of(request.answers, value) for value in values)

    def _of_tokens(self, claim: Claim | None, tokens: Sequence[str]) -> list[float]:
        place = self.shelf.place(" ".join(tokens))
        # A token that nobody can see, at either end, is not found with the others.
        seen = [i for i, token in enumerate(tokens) if skeleton(token)] or [0]
        values = [] if place is None else self.values(claim, place)
        values = [0.0] * seen[0] + values + [0.0] * (len(tokens) - 1 - seen[-1])
        if len(values) != len(tokens):
            raise ReplyError(f"the oracle sees {len(values)} tokens where {len(tokens)} are")
        return values

    def _of_answers(self, said: str, request: Request) -> tuple[float, ...]:
        claim = self.described(said)
        if len(request.answers) == 1:
            place = self.shelf.place(request.answers[0])
            fits = 0.0 if place is None else self._fit(claim, place)
            n = 0 if place is None else place.n
            return (FITTING * fits - A_TOKEN * (n + 1),)
        places = self.windows(said, claim)
        if len(places) == len(request.answers) and len(places) > 1:
            return self._odd_one(places)
        if not places:
            raise ReplyError("the oracle finds no text in the question", said)
        place = places[0]
        fit = self._fit(claim, place)
        return said_of(request.answers, fit)

    def _on_lines(self, said: str, request: Request) -> Reply:
        """Of each text whether the description fits it, on a line of its own."""
        claim = self.described(said)
        places = self.windows(said, claim)
        if len(places) != request.lines:
            raise ReplyError(f"the oracle finds {len(places)} texts of {request.lines}", said)
        fits = [self._fit(claim, place) for place in places]
        words = ("yes" if fit > 1 / 2 else "no" for fit in fits)
        text = "\n".join(f"{i}: {word}" for i, word in enumerate(words, 1))
        slots = [said_of(request.answers, fit) for fit in fits] if request.answers else []
        return Reply(text, slots=tuple(slots))

    def _odd_one(self, places: Sequence[Place]) -> tuple[float, ...]:
        """Which text does not belong: by what all others share that is rarest elsewhere."""
        n = len(places)
        fits = list(zip(*(self._fitting(place) for place in places), strict=True))
        shared = [i for i, row in enumerate(fits) if sum(row) == n - 1]
        if not shared:
            return (math.log(1 / n),) * n
        rarest = min(shared, key=lambda i: self._rate(self.planted[i].text))
        odd = fits[rarest].index(False)
        return tuple(math.log(SURE if i == odd else (1 - SURE) / (n - 1)) for i in range(n))

    @functools.cache  # noqa: B019 - one oracle lives as long as a bench
    def _fitting(self, place: Place) -> tuple[bool, ...]:
        """Shape (n_planted,): which true descriptions fit a text."""
        return tuple(self._fit(claim, place) > 0 for claim in self.planted)

    @functools.cache  # noqa: B019 - one oracle lives as long as a bench
    def _rate(self, text: str) -> float:
        """The share of documents' runs of 32 tokens that a description fits."""
        claim = self.known[text]
        fits = total = 0
        for tokens in list(self.shelf.documents.values())[:N_RATED]:
            values = self.values(claim, Place(tokens, 0, len(tokens)))
            for begin in range(0, len(values), 32):
                fits += any(values[begin : begin + 32])
                total += 1
        return (fits + 1) / (total + 2)

    def _in_words(self, said: str, request: Request) -> str:
        claim = self.described(said)
        if '"1"' in request.schema:
            tokens = [line.strip() or "\u2423" for line in _NUMBERED.findall(said)]
            values = self._of_tokens(claim, tokens)
            return json.dumps({str(i): round(10 * v, 2) for i, v in enumerate(values, 1)})
        if "<<" in said:
            return f"{request.prefill} {self._explained(said)}".strip()
        rest = said if claim is None else said.replace(claim.text, "")
        lines = _NUMBERED.findall(rest)
        if claim is None and lines:
            return f"{request.prefill} {self._in_common(lines)}".strip()
        if claim is None:
            raise ReplyError("the oracle knows no such question", said)
        if not lines:
            wanted = re.search(r"\d+", rest)
            lines = self._written(claim, int(wanted[0]) if wanted else 1)
        else:
            lines = [_without(claim, line) for line in lines]
        return "\n".join(f"{i}. {line}" for i, line in enumerate(lines, 1))

    def _written(self, claim: Claim, n: int) -> list[str]:
        """`n` passages of the documents on which it holds, each read by itself."""
        found: list[str] = []
        for tokens in self.shelf.documents.values():
            if len(found) == n:
                break
            values = self.values(claim, Place(tokens, 0, len(tokens)))
            at = max(range(len(values)), key=values.__getitem__, default=0)
            passage = " ".join("".join(tokens[max(0, at - 16) : at + 4]).split())
            if any(claim.rule.values(page_of(tuple(word_pieces(passage))))):
                found.append(passage)
        return found

    def _explained(self, said: str) -> str:
        """The description that agrees best with what is marked and what is not."""
        lines = [_SAID_MARK.sub(r"\1", line) for line in _NUMBERED.findall(said)]
        return self.agreeing(lines)[0][1].text

    def agreeing(self, lines: Sequence[str]) -> list[tuple[float, Claim]]:
        """All descriptions with their F1 on the marks of `lines`, the best first.

        Of several that agree alike the rarest, which says most.
        """
        places = [place for place in map(self.shelf.place, lines) if place is not None]

        def agreement(claim: Claim) -> tuple[float, float]:
            right = wrong = missed = 0
            for place in places:
                marks = place.marks or (False,) * place.n
                for value, mark in zip(self.values(claim, place), marks, strict=True):
                    right += mark and value > 0
                    wrong += not mark and value > 0
                    missed += mark and not value > 0
            return 2 * right / max(1, 2 * right + wrong + missed), -self._rate(claim.text)

        rated = [(agreement(claim), claim) for claim in self.known.values()]
        rated.sort(key=lambda row: row[0], reverse=True)
        return [(f1, claim) for (f1, _), claim in rated]

    def _in_common(self, texts: Sequence[str]) -> str:
        """The description that most of the texts fit; of several, the rarest."""
        pages = [page_of(tuple(word_pieces(text))) for text in texts]

        def fitting(claim: Claim) -> tuple[int, float]:
            return sum(any(claim.rule.values(p)) for p in pages), -self._rate(claim.text)

        return max(self.known.values(), key=fitting).text


def usage_of(request: Request) -> Usage:
    """About what `request` would use of a language model that counts tokens."""
    return Usage(
        calls=1,
        prompt_tokens=sum(len(m.content) for m in request.messages) // 4,
        completion_tokens=0 if request.slots or request.answers else 16,
        cost=0.0,
    )


def _without(claim: Claim, text: str) -> str:
    """`text` less the tokens at which the description holds."""
    tokens = word_pieces(text)
    while any(values := claim.rule.values(page_of(tuple(tokens)))):
        tokens = [token for token, value in zip(tokens, values, strict=True) if value <= 0]
    return "".join(tokens).strip() or "nothing"


@functools.lru_cache(maxsize=1 << 16)
def said_of(answers: tuple[str, ...], value: float) -> tuple[float, ...]:
    """Log probabilities of `answers` that say `value`, from 0 to 1: numbers, or yes and no."""
    if all(answer.isdigit() for answer in answers):
        # the two numbers around it share what it is sure of, so that the mean is right
        exact = value * max(map(int, answers))
        low = math.floor(exact)
        share = {low: 1 - (exact - low), low + 1: exact - low}
        return tuple(math.log(share.get(int(answer), 0.0) + 1e-9) for answer in answers)
    if set(answers) == {"yes", "no"}:
        yes = 1 - SURE + (2 * SURE - 1) * value
        return tuple(math.log(yes if answer == "yes" else 1 - yes) for answer in answers)
    raise ReplyError(f"the oracle has no answer among {', '.join(answers[:5])}")

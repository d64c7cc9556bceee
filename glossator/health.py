"""How healthy scores are: what could not be judged, by scorer and by kind of failure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from glossator import errors
from glossator.types import JSON, Score

if TYPE_CHECKING:
    from glossator.runs import Failure

KINDS = ("parse", "refused", "range", "cut off", "provider")
"""What can come in the place of a usable reply, as `ReplyError.kind` says it."""

_OTHER = dict.fromkeys(("ProviderError", "ProviderRefused", "RequestRefused"), "provider")
_IN_WORDS = {
    "ReplyError": "no reply could be read",
    "Refused": "the model declined to answer",
    "CutOff": "the reply was cut off before it had said what was asked for",
    "OutOfRange": "a value in the reply is not allowed",
    "PromptTooLong": "the prompt is too long for the model",
    "ProviderError": "the provider failed",
    "NotFinite": "an activation is no finite number",
    "RequestRefused": "the provider refused a request",
}
"""By the class of the error that ended a piece of work."""


@dataclass(frozen=True, slots=True)
class Health:
    """What became of the windows that a scorer asked about, and of whole scores."""

    scorer: str
    n: int
    """Windows that were judged."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Windows that could not be, by kind; they enter no value and are not forgotten."""
    n_scores: int = 0
    n_undefined: int = 0
    """Scores without a value."""
    given_up: Mapping[str, int] = field(default_factory=dict)
    """Scores that are not there, by kind of what ended them; the next run tries them again."""

    @property
    def n_failed(self) -> int:
        """Windows that could not be judged."""
        return sum(self.failures.values())

    def to_json(self) -> dict[str, JSON]:
        """What `--json` prints."""
        return {
            "scorer": self.scorer,
            "n": self.n,
            "n_failed": self.n_failed,
            "failures": {kind: self.failures.get(kind, 0) for kind in _kinds(self.failures)},
            "n_scores": self.n_scores,
            "n_undefined": self.n_undefined,
            "given_up": {**self.given_up},
        }

    @property
    def line(self) -> str:
        """The same for people, on one line."""
        asked = self.n + self.n_failed
        parts = [f"{self.n_failed} of {asked} windows could not be judged{_told(self.failures)}"]
        if self.n_undefined:
            parts.append(f"{self.n_undefined} of {self.n_scores} scores have no value")
        if self.given_up:
            n = sum(self.given_up.values())
            parts.append(f"{n} scores given up{_told(self.given_up)}")
        return f"{self.scorer}: {'; '.join(parts)}"


def health_of(scores: Iterable[Score], failures: Sequence[Failure]) -> list[Health]:
    """The health of each scorer among `scores` and among what was given up, by name."""
    by_scorer: dict[str, list[Score]] = {}
    for score in scores:
        by_scorer.setdefault(score.scorer, []).append(score)
    given_up: dict[str, Counter[str]] = {}
    for failure in failures:
        if failure.stage == "score":
            scorer = failure.part.rpartition("/")[2]
            given_up.setdefault(scorer, Counter())[kind_of(failure)] += 1
    found = []
    for scorer in sorted({*by_scorer, *given_up}):
        own = by_scorer.get(scorer, [])
        kinds: Counter[str] = Counter()
        for score in own:
            kinds.update(score.failures)
        found.append(
            Health(
                scorer,
                sum(s.n for s in own),
                dict(kinds),
                len(own),
                sum(s.value is None for s in own),
                dict(given_up.get(scorer, {})),
            )
        )
    return found


def kind_of(failure: Failure) -> str:
    """The kind of what ended a piece of work, of which the class of the error is kept."""
    error = getattr(errors, failure.kind, None)
    return _OTHER.get(failure.kind) or str(getattr(error, "kind", failure.kind))


def words_of(failure: Failure) -> str:
    """What ended a piece of work, for people."""
    return _IN_WORDS.get(failure.kind, failure.kind)


def _kinds(failures: Mapping[str, int]) -> tuple[str, ...]:
    """The known kinds, then those of parts from outside."""
    return (*KINDS, *(kind for kind in failures if kind not in KINDS))


def _told(counts: Mapping[str, int]) -> str:
    named = ", ".join(f"{counts[kind]} {kind}" for kind in _kinds(counts) if counts.get(kind))
    return f" ({named})" if named else ""

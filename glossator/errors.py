"""Every error this package raises on purpose.

GlossatorError
├── ConfigError          a setting is missing, unknown or contradictory
│   ├── NotRegistered    no explainer, scorer, simulator or provider has that name
│   ├── NotFinite        an activation is NaN or infinite; `features` are those of which
│   └── BadReply         what a user's own language model returned is no reply; it may have cost
├── AssetError           a model or text could not be had from any source, or its digest is wrong
├── CorpusError          the text cannot be read, or holds nothing to read
├── StoreError           the database cannot be opened, read or written
├── Unsupported          the language model cannot do what the method needs; says what can
├── ReplyError           a language model answered, but not in the form asked for
│   ├── Refused          it declined to answer
│   ├── CutOff           it reached the bound on its length before it had said what was asked for
│   ├── OutOfRange       a value in it is none of those that were allowed
│   └── PromptTooLong    the prompt has more tokens than it takes; fewer examples may fit
├── BudgetSpent          the next call could pass the budget
└── ProviderError        a language model could not be reached; `retryable` says if waiting helps
    ├── RequestRefused   it refused this request, and answers others
    └── ProviderRefused  it refused the request for good: key, credit, model name

Messages are one or two lines and say what to do. `exit_code` is what the command line ends with.
"""

from __future__ import annotations

from collections.abc import Sequence

from glossator.types import FeatureId, Usage


class GlossatorError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1


class ConfigError(GlossatorError):
    """A setting is missing, unknown or contradictory."""

    exit_code = 2


class NotRegistered(ConfigError):
    """No part has that name; the message lists the names there are."""


class NotFinite(ConfigError):
    """An activation is NaN or infinite; `features` are those of which, as far as was read."""

    def __init__(self, message: str, features: Sequence[FeatureId] = ()) -> None:
        super().__init__(message)
        self.features = tuple(features)


class BadReply(ConfigError):
    """What a user's own language model returned is no reply; it may have been paid for."""


class AssetError(GlossatorError):
    """A model or text could not be had from any source, or its digest is wrong."""

    exit_code = 2


class CorpusError(GlossatorError):
    """The text cannot be read, or holds nothing to read."""

    exit_code = 2


class StoreError(GlossatorError):
    """The database cannot be opened, read or written."""

    exit_code = 2


class Unsupported(GlossatorError):
    """The language model cannot do what the method needs; the message names what can."""

    exit_code = 2


class ReplyError(GlossatorError):
    """A language model answered, but not in the form asked for.

    `reply` is the raw text, at most 2,000 characters of it. `usage` is what it cost, None where
    that is not known. `again` is whether asking again, with what was wrong, may help. `broken` is
    whether it was lost on its way, so that the model cannot be told what it said. `kind` is what it
    is counted as: `parse`, `refused`, `cut off`, `range` or `provider`.
    """

    kind = "parse"

    def __init__(
        self,
        message: str,
        reply: str = "",
        usage: Usage | None = None,
        *,
        again: bool = True,
        broken: bool = False,
    ) -> None:
        super().__init__(message)
        self.reply = reply[:2000]
        self.usage = usage
        self.again = again
        self.broken = broken
        if broken:
            self.kind = "provider"


class Refused(ReplyError):
    """The language model declined to answer."""

    kind = "refused"


class CutOff(ReplyError):
    """The reply reached the bound on its length before it had said what was asked for."""

    kind = "cut off"


class OutOfRange(ReplyError):
    """The reply is of the form asked for, and a value in it is none of those allowed."""

    kind = "range"


class PromptTooLong(ReplyError):
    """The prompt has more tokens than the language model takes; fewer examples may fit."""

    kind = "provider"


class BudgetSpent(GlossatorError):
    """The next call could pass the budget; `worst` is what it can come to, in US dollars."""

    exit_code = 4

    def __init__(self, message: str, worst: float = 0.0) -> None:
        super().__init__(message)
        self.worst = worst


class ProviderError(GlossatorError):
    """A language model could not be reached.

    `retryable` says whether waiting helps; `retry_after` is in seconds where the server named it;
    `busy` is whether it asked for fewer requests; `maybe_billed` is whether it may have charged for
    the request all the same, as after a timeout.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = True,
        retry_after: float | None = None,
        busy: bool = False,
        maybe_billed: bool = False,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.retry_after = retry_after
        self.busy = busy
        self.maybe_billed = maybe_billed


class RequestRefused(ProviderError):
    """The provider refused this request, and answers others; the same one is not sent again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)


class ProviderRefused(ProviderError):
    """The provider refused the request for good: key, credit, model name or request shape.

    `of_request` is what to say where it may be about this one request; empty if it cannot be.
    """

    exit_code = 3

    def __init__(self, message: str, of_request: str = "") -> None:
        super().__init__(message, retryable=False)
        self.of_request = of_request

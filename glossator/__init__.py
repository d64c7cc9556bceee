"""Glossator: says in words what a language model's features do, and whether that is true."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glossator.api import (
        CallableFeatures,
        ask,
        collect,
        collect_function,
        collect_planted,
        compare,
        explain,
        learn_direction,
        live_function,
        live_on,
        load_coder,
        load_subject,
        open_store,
        projector,
        run_sync,
        score,
    )
    from glossator.types import Example, Explanation, FeatureId, FeatureRecord, Score, Split
    from glossator.web.shown import show

__all__ = [
    "CallableFeatures",
    "Example",
    "Explanation",
    "FeatureId",
    "FeatureRecord",
    "Score",
    "Split",
    "ask",
    "collect",
    "collect_function",
    "collect_planted",
    "compare",
    "explain",
    "learn_direction",
    "live_function",
    "live_on",
    "load_coder",
    "load_subject",
    "open_store",
    "projector",
    "run_sync",
    "score",
    "show",
]

_TYPES = frozenset(name for name in __all__ if name[0].isupper()) - {"CallableFeatures"}


def __getattr__(name: str) -> Any:
    """The public name, imported when it is first used: `import glossator` takes no torch."""
    if name not in __all__:
        raise AttributeError(f"glossator has no {name!r}; it has {', '.join(__all__)}")
    if name in _TYPES:
        from glossator import types as home
    elif name == "open_store":
        from glossator import store as home  # type: ignore[no-redef]
    elif name == "show":
        from glossator.web import shown as home  # type: ignore[no-redef]
    else:
        from glossator import api as home  # type: ignore[no-redef]
    return getattr(home, name)

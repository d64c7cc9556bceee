"""Which stored feature a person means."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from typing import TYPE_CHECKING

from glossator.errors import ConfigError
from glossator.types import FeatureId

if TYPE_CHECKING:
    from glossator.runs import Run
    from glossator.store import Store

_MOST_NAMED = 5


def matching(text: str, known: Collection[FeatureId]) -> list[FeatureId]:
    """Those of `known` that `text` may mean: by the whole id, or by its end behind a `/` or `.`."""
    wanted = text.strip()
    whole = [feature for feature in known if str(feature) == wanted]
    if whole or not wanted:
        return whole
    return sorted(
        (feature for feature in known if str(feature).endswith((f"/{wanted}", f".{wanted}"))),
        key=lambda f: (f.source, f.index, f.negative),
    )


def find_feature(store: Store, text: str, run: str | None = None) -> tuple[Run, FeatureId]:
    """The feature that `text` means, and the newest run that explained it, or else collected it.

    Args:
        store: where it is looked for.
        text: an id, or the end of one, such as `layers.7.mlp.neurons/123`.
        run: look only there.

    Raises:
        ConfigError: if nothing stored is called so, or several are; it names near ones.
        StoreError: if there is no such run.
    """
    runs = [store.run(run)] if run is not None else list(reversed(store.runs()))
    known: set[FeatureId] = set()
    explained: dict[FeatureId, Run] = {}
    collected: dict[FeatureId, Run] = {}
    for one in runs:
        said = {unit[0] for unit in store.done(one.id, "explain")}
        read = store.recorded(one.collection)
        for feature in said:
            explained.setdefault(feature, one)
        for feature in read:
            collected.setdefault(feature, one)
        known |= said | read
    found = matching(text, known)
    if len(found) == 1:
        feature = found[0]
        return explained.get(feature) or collected[feature], feature
    if found:
        raise ConfigError(f"{text!r} may mean {_some(list(map(str, found)))}; write more of it")
    if not known:
        raise ConfigError(f"{store.url} holds no feature yet; `glossator run` makes some")
    near = nearest_features(text, known)
    raise ConfigError(f"no stored feature is called {text!r}; near ones are {_some(near)}")


def nearest_features(text: str, known: Collection[FeatureId]) -> list[str]:
    """The ids most like `text`, at most a few."""
    names = sorted(map(str, known))
    ends: dict[str, str] = {}
    for name in names:
        # The short form too, for it is what people type.
        ends.setdefault(name, name)
        ends.setdefault(name.partition("//")[2], name)
    close = difflib.get_close_matches(text.strip(), list(ends), n=_MOST_NAMED, cutoff=0.5)
    return list(dict.fromkeys(ends[name] for name in close)) or names[:_MOST_NAMED]


def _some(names: list[str]) -> str:
    more = "" if len(names) <= _MOST_NAMED else f" and {len(names) - _MOST_NAMED} more"
    return ", ".join(names[:_MOST_NAMED]) + more

"""Names of parts, in one table each; nothing is imported to list them."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from glossator.errors import ConfigError, NotRegistered


def nearest(name: str, known: list[str]) -> str:
    """What to say after an unknown `name`: the near ones if there are any, then all of them."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    return f"there are: {', '.join(sorted(known))}{hint}"


@dataclass(frozen=True)
class Registry:
    """A table from a name to `module:Class`.

    Raises:
        NotRegistered: from `load`, for a name that is in no table and is no dotted path.
    """

    kind: str
    """What the table holds, in the singular, for messages."""
    paths: Mapping[str, str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", MappingProxyType(dict(self.paths)))

    def names(self) -> list[str]:
        """The registered names, sorted."""
        return sorted(self.paths)

    def load(self, name: str) -> type:
        """The class called `name`, or the one at the dotted path `package.module:Class`."""
        path = self.paths.get(name, name)
        if ":" not in path:
            raise NotRegistered(
                f"no {self.kind} is called {name!r}; {nearest(name, list(self.paths))}"
            )
        module_name, _, attribute = path.partition(":")
        try:
            found = getattr(importlib.import_module(module_name), attribute)
        except (ImportError, AttributeError, ValueError) as error:
            if name in self.paths:
                raise
            raise NotRegistered(f"no {self.kind} at {name!r}: {error}") from error
        if not isinstance(found, type):
            raise NotRegistered(f"{name!r} is not a class, so it cannot serve as {self.kind}")
        return found


def assemble(part: type, **available: Any) -> Any:
    """A `part` built from those of `available` that its constructor names.

    So a new part states what it needs by the names of its fields, and nobody else is edited.

    Raises:
        ConfigError: if it needs something that is not available.
    """
    wanted = inspect.signature(part).parameters
    given = {name: value for name, value in available.items() if name in wanted}
    missing = [
        name
        for name, parameter in wanted.items()
        if parameter.default is inspect.Parameter.empty
        and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and name not in given
    ]
    if missing:
        raise ConfigError(
            f"{part.__name__} needs {', '.join(missing)}; given are {', '.join(sorted(available))}"
        )
    return part(**given)

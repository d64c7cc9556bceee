"""Counts that take long on a large store, kept for a while that is in proportion."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_T = TypeVar("_T")

SHARE = 20.0
"""How many times as long as it took to make is something kept."""
LEAST = 0.5
"""Seconds for which it is kept in any case."""
MOST = 64
"""Things kept at once."""


class Kept(Generic[_T]):
    """What was made of late, by its key: at most a twentieth of the time goes into making it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[Hashable, tuple[float, _T]] = {}

    def get(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What `make` gave for `key`, or gives now."""
        with self._lock:
            until, value = self._kept.get(key, (0.0, None))
            if value is not None and time.monotonic() < until:
                return value
            begun = time.monotonic()
            made = make()
            took = time.monotonic() - begun
            if len(self._kept) >= MOST:
                self._kept.clear()
            self._kept[key] = (time.monotonic() + max(LEAST, SHARE * took), made)
            return made

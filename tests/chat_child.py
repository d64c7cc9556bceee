"""`glossator chat` in a process that is killed at a given moment, for tests.

`python -m tests.chat_child KEY before|after ARGUMENTS...` runs `glossator ARGUMENTS...` and has
itself killed before or after the entry KEY of the conversation's notebook is written.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping

from glossator.cli.app import call
from glossator.notebooks import StoredNotebook
from glossator.types import JSON


def die_at(key: str, when: str) -> None:
    put = StoredNotebook.put

    def dying(self: StoredNotebook, name: str, kind: str, content: Mapping[str, JSON]) -> None:
        known = self.get(name) is not None
        if name == key and when == "before" and not known:
            os.kill(os.getpid(), signal.SIGKILL)
        put(self, name, kind, content)
        if name == key and when == "after" and not known:
            os.kill(os.getpid(), signal.SIGKILL)

    StoredNotebook.put = dying  # type: ignore[assignment,method-assign]


if __name__ == "__main__":
    die_at(*sys.argv[1:3])
    sys.exit(call(sys.argv[3:]))

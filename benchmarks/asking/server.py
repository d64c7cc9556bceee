"""The fake provider as a process of its own, so that its work does not count as ours."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WINDOW = 0.5
"""Seconds over which the limit is held."""


@dataclass
class Limit:
    """Lets `rate` requests a second in, and says with a 429 when the next one may come."""

    rate: float

    def __post_init__(self) -> None:
        self.admitted: deque[float] = deque()
        self.first = self.last = 0.0
        self.count = self.refused = 0

    def admit(self, now: float) -> object:
        """None, or the answer that turns the request away."""
        from tests.loopback import status

        while self.admitted and self.admitted[0] <= now - WINDOW:
            self.admitted.popleft()
        if len(self.admitted) >= self.rate * WINDOW:
            self.refused += 1
            return status(429, retry_after=f"{self.admitted[0] + WINDOW - now:.3f}")
        self.admitted.append(now)
        self.first = self.first or now
        self.last = now
        self.count += 1
        return None


def serve(rate: float, delay: float) -> None:
    """Runs until standard input ends; then prints what was let in."""
    from tests.loopback import Loopback

    limit = Limit(rate)
    with Loopback(lambda asked: "fine", delay=delay, admit=limit.admit) as server:  # type: ignore[arg-type]
        print(server.port, flush=True)
        sys.stdin.read()
    seen = {"count": limit.count, "refused": limit.refused, "seconds": limit.last - limit.first}
    print(json.dumps(seen), flush=True)


@contextmanager
def served(rate: float, delay: float) -> Iterator[tuple[str, dict[str, float]]]:
    """The address of a server, and a place for what it has seen once it is stopped."""
    command = [sys.executable, str(Path(__file__).resolve()), str(rate), str(delay)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    seen: dict[str, float] = {}
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1", seen
    finally:
        time.sleep(0.1)
        process.stdin.close()
        seen |= json.loads(process.stdout.readline() or "{}")
        process.stdout.close()
        process.wait(10)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    serve(float(sys.argv[1]), float(sys.argv[2]))

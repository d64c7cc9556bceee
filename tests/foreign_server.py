"""A server that others made: llama.cpp's, with the bundled model, as a process of its own.

`python -m tests.foreign_server GGUF` prints its address and serves until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = 8 * 2048
    params.n_parallel = 8
    params.cpuparams.n_threads = 1  # Threads of its own wait for each other at full speed.
    params.verbosity = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


@contextmanager
def foreign_server(gguf: Path) -> Iterator[str]:
    """Its address, such as `http://127.0.0.1:8080`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.foreign_server", str(gguf)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield next(line.strip() for line in process.stdout if line.startswith("http://"))
    finally:
        process.stdin.close()
        process.kill()  # Its threads do not end by themselves.
        process.wait(30)
        process.stdout.close()


if __name__ == "__main__":
    main()

"""Commands whose output nobody reads any more: the work, what is paid and the exit code stay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from glossator.cli.streams import Unheard
from glossator.runs import RunStatus
from glossator.store import Store
from tests.loopback import Loopback
from tests.pipeline_child import options, rule

ROOT = Path(__file__).parents[1]


def start(folder: Path, store: Store, server: Loopback, *more: str) -> subprocess.Popen[bytes]:
    """`glossator run` with both streams in pipes."""
    told = options(folder, base_url=server.openai_url)
    file = folder / "run.yaml"
    file.write_text(json.dumps(told))
    command = [sys.executable, "-m", "glossator", "--store", store.url, "--config", str(file)]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, "run", *more], cwd=ROOT, stdout=pipe, stderr=pipe)


def reads_until(process: subprocess.Popen[bytes], word: bytes) -> None:
    """Reads what it tells until that is told, and then no more."""
    assert process.stderr is not None
    while word not in (line := process.stderr.readline()):
        assert line, "it ended before"
    process.stderr.close()


def until(so_far: Callable[[], bool]) -> None:
    """Waits for that, for a minute at most."""
    ends = time.monotonic() + 60
    while not so_far() and time.monotonic() < ends:
        time.sleep(0.005)


def lines_out(store: Store) -> int:
    return int((store.calls("r1")["error_type"] == "Out").sum())


def test_a_run_goes_on_to_its_end_when_nobody_reads_what_it_tells(
    folder: Path, store: Store
) -> None:
    with Loopback(rule, delay=0.05) as server, start(folder, store, server) as process:
        reads_until(process, b"explain:")
        assert process.stdout is not None
        table = process.stdout.read()
        assert process.wait(120) == 0
        assert store.run("r1").status is RunStatus.DONE
        assert lines_out(store) == 0
        assert len(store.calls("r1").query("attempt > 0")) == len(server.log)
    assert b"max-act" in table


def test_the_exit_code_is_that_of_the_run_when_nobody_reads_the_results(
    folder: Path, store: Store
) -> None:
    for more, code in ((["--max-calls", "5"], 4), ([], 0)):
        with Loopback(rule) as server, start(folder, store, server, *more) as process:
            assert process.stdout is not None
            process.stdout.close()
            assert process.stderr is not None
            told = process.stderr.read().decode()
            assert process.wait(120) == code, told
            assert "Traceback" not in told
            assert "BrokenPipe" not in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_ends_the_reader_too_keeps_what_is_in_flight(
    folder: Path, store: Store, number: signal.Signals
) -> None:
    with Loopback(rule, delay=0.3) as server, start(folder, store, server) as process:
        reads_until(process, b"explain:")
        until(lambda: bool(server.log))
        process.send_signal(number)
        assert process.wait(120) == 130
        assert store.run("r1").status is RunStatus.INTERRUPTED
        assert lines_out(store) == 0
        assert len(store.calls("r1").query("attempt > 0")) == len(server.log) > 0


def test_only_what_nobody_reads_is_dropped() -> None:
    reader, writer = os.pipe()
    heard = Unheard(writer, BrokenPipeError)
    taken: list[bytes] = []
    thread = threading.Thread(target=lambda: taken.append(os.read(reader, 100)))
    thread.start()
    assert heard.write(b"first") == 5
    thread.join()
    os.close(reader)
    assert heard.write(b"second") == 6
    os.close(writer)
    assert taken == [b"first"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        heard.write(b"third")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is full")
def test_results_that_do_not_fit_on_a_disk_are_an_error(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "glossator", "--version"],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode != 0
    assert "No space left" in done.stderr

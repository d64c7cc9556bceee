"""`glossator review`: what it prints, where it listens, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from glossator.cli.app import call
from glossator.errors import ConfigError
from glossator.store import open_store
from glossator.web.serve import listening
from tests.review_store import fill
from tests.source_tree import ROOT


@contextmanager
def reviewing(place: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The command at work, and the lines that it printed first."""
    url = f"sqlite:///{place}/results.db"
    command = [sys.executable, "-m", "glossator", "--store", url, "review", "--port", "0", *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        lines = [process.stdout.readline()]
        while lines[0].startswith("{") and not lines[-1].startswith("}"):
            lines.append(process.stdout.readline())
        yield process, lines
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def get(address: str, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(address, timeout=20)
    connection.request("GET", path, headers=headers)
    reply = connection.getresponse()
    reply.read()
    connection.close()
    return reply


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_its_address_and_ends_cleanly(tmp_path: Path, how: signal.Signals) -> None:
    with open_store(f"sqlite:///{tmp_path}/results.db") as store:
        fill(store, 3)
    with reviewing(tmp_path) as (process, (line,)):
        assert line.startswith("http://127.0.0.1:")
        address = line.strip().removeprefix("http://").rstrip("/")
        reply = get(address, "/runs/r1")
        assert reply.status == 200
        assert reply.getheader("server") is None
        process.send_signal(how)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == "Ctrl-C ends it.\n"


def test_elsewhere_than_on_this_machine_it_asks_for_a_token(tmp_path: Path) -> None:
    with reviewing(tmp_path, "--host", "0.0.0.0", "--json") as (_, lines):
        told = json.loads("".join(lines))
        port = told["address"].partition("?")[0].rpartition(":")[2].rstrip("/")
        assert told["address"].endswith(f"?token={told['token']}")
        assert len(told["token"]) >= 20
        assert get(f"127.0.0.1:{port}", "/runs").status == 401
        known = {"x-glossator-token": told["token"]}
        assert get(f"127.0.0.1:{port}", "/runs", **known).status == 200


def test_a_port_that_is_taken_is_said_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        store = f"sqlite:///{tmp_path}/results.db"
        assert call(["--store", store, "review", "--port", port]) == 2
    assert "--port 0 takes a free one" in capsys.readouterr().err


def test_a_token_that_is_guessed_easily_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(["review", "--token", "1234"]) == 2
    assert "at least 8" in capsys.readouterr().err


def test_a_host_that_is_none_is_said() -> None:
    with (
        pytest.raises(ConfigError, match="no such address"),
        listening("not a host", 0),
    ):
        pass

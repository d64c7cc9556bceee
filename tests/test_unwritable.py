"""A store that cannot be written to can be read, by every command that only reads."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from glossator.cli.app import call
from glossator.config import RunConfig
from glossator.errors import StoreError
from glossator.store import open_store
from tests.test_cli import SITE, fill

pytestmark = pytest.mark.usefixtures("in_a_folder")


@pytest.fixture
def unwritable(tmp_path: Path) -> str:
    """A store with a run, to which nobody can write, root neither."""
    url = f"sqlite:///{tmp_path}/kept.db"
    with open_store(url) as store:
        fill(store, RunConfig())
    # Where the lock file would be is a folder: as in one that may not be written to.
    (tmp_path / "kept.db-lock").unlink()
    (tmp_path / "kept.db-lock").mkdir()
    with pytest.raises(StoreError, match="cannot be written to"):
        open_store(url)
    return url


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",), ("list", "--runs"), ("list", "--spending"), ("list", "--collected"),
        ("show", f"{SITE}/3"), ("compare", "r1"), ("export", "out.csv"), ("report",),
    ],
)  # fmt: skip
def test_a_store_that_cannot_be_written_to_can_be_read(
    unwritable: str, arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = (tmp_path / "kept.db").read_bytes()
    assert call([*arguments, "--store", unwritable]) == 0, capsys.readouterr().err
    assert (tmp_path / "kept.db").read_bytes() == kept
    assert call(["run", "--store", unwritable]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_doctor_says_that_a_store_can_only_be_read(
    unwritable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call(["doctor", "--offline", "--json", "--store", unwritable])
    found = {f["area"]: f for f in json.loads(capsys.readouterr().out)["findings"]}["store"]
    assert found["state"] == "note"
    assert "1 runs, which can be read" in found["detail"]
    assert "cannot be written to" in found["detail"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes anywhere")
def test_a_store_in_a_folder_without_leave_to_write_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    url = f"sqlite:///{tmp_path}/theirs/kept.db"
    with open_store(url) as store:
        fill(store, RunConfig())
    (tmp_path / "theirs" / "kept.db-lock").unlink()
    (tmp_path / "theirs").chmod(0o500)
    try:
        assert call(["list", "--store", url]) == 0
    finally:
        (tmp_path / "theirs").chmod(0o700)


def test_a_store_that_can_be_neither_read_nor_written_says_why_it_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kept.db").write_bytes(b"")
    (tmp_path / "kept.db-lock").mkdir()
    assert call(["list", "--store", f"sqlite:///{tmp_path}/kept.db"]) == 2
    assert "cannot be written to" in capsys.readouterr().err

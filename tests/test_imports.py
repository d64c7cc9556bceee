"""Importing does nothing: no output, no folders, no heavy packages before they are needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source_tree import ROOT, modules

RUN_BY_ALEMBIC = "glossator.migrations.env"
"""A script that Alembic runs; the only file that cannot be imported by itself."""

IMPORT_ALL = """
import importlib, json, sys, traceback
failed = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except Exception:
        failed[name] = traceback.format_exc()
with open(sys.argv[2], "w") as file:
    json.dump(failed, file)
"""


def python(
    code: str, *arguments: str, home: Path, warnings: bool = True
) -> subprocess.CompletedProcess[str]:
    """`code` in a new process, in the empty folder `home`, which is the user's home, too."""
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH")}
    environ = kept | {"HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *(["-W", "default"] if warnings else []), "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=home,
        env=environ,
        check=False,
    )


def test_every_module_is_importable_prints_nothing_and_makes_no_files(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    names = [name for name in modules() if name != RUN_BY_ALEMBIC]
    report = tmp_path / "failed.json"
    done = python(IMPORT_ALL, json.dumps(names), str(report), home=home, warnings=False)
    assert done.returncode == 0, done.stderr
    failed = json.loads(report.read_text())
    assert not failed, "\n".join(failed.values())
    assert (done.stdout, done.stderr) == ("", "")
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize(
    "name",
    ["glossator", "glossator.types", "glossator.llm", "glossator.config", "glossator.cli.app"],
)
def test_the_package_and_its_core_take_no_heavy_library(name: str, tmp_path: Path) -> None:
    heavy = (
        "torch",
        "transformers",
        "pandas",
        "pyarrow",
        "sklearn",
        "scipy",
        "openai",
        "anthropic",
    )
    code = f"import sys, {name}; print(*sorted(sys.modules.keys() & {set(heavy)!r}))"
    done = python(code, home=tmp_path)
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", [])


def test_a_reply_of_the_command_line_takes_no_model_library(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom glossator.cli.app import call\ncode = call(['--help'])\n"
        "print('HEAVY', *(sys.modules.keys() & {'torch', 'transformers'}))\nsys.exit(code)"
    )
    done = python(code, home=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == ["HEAVY"]


def test_names_in_the_tables_are_listed_without_importing_the_parts(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from glossator.explainers.table import EXPLAINERS\n"
        "from glossator.scorers.table import SCORERS, SIMULATORS\n"
        "from glossator.providers.table import LLMS\n"
        "tables = EXPLAINERS, SCORERS, SIMULATORS, LLMS\n"
        "paths = {path.partition(':')[0] for t in tables for path in t.paths.values()}\n"
        "assert all(t.names() for t in tables)\n"
        "print(*sorted(paths & sys.modules.keys()))"
    )
    done = python(code, home=tmp_path)
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", [])

"""The repository as people get it: what is installed, pinned, described and kept out."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from glossator.assets import ASSETS
from glossator.config import from_options
from tests.source_tree import LINKED, ROOT, modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# --- the wheel ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Names in a wheel built from a copy of the tree by the installed setuptools."""
    work = tmp_path_factory.mktemp("wheel")
    copy, out = work / "copy", work / "out"
    copy.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("glossator", *LINKED):
        shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    build = "import sys\nfrom setuptools.build_meta import build_wheel\nbuild_wheel(sys.argv[1])"
    out.mkdir()
    subprocess.run(
        [sys.executable, "-c", build, str(out)], cwd=copy, check=True, capture_output=True
    )
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive.namelist()


def test_a_wheel_has_every_module_under_its_import_name(wheel: list[str]) -> None:
    python = {name for name in wheel if name.endswith(".py")}
    wanted = {
        name.replace(".", "/") + ("/__init__.py" if path.name == "__init__.py" else ".py")
        for name, path in modules().items()
    }
    assert python == wanted


def test_a_wheel_hides_no_other_package(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"glossator"}


def test_a_wheel_has_what_is_no_python(wheel: list[str]) -> None:
    data = {
        str(path.relative_to(ROOT))
        for pattern in (
            "py.typed",
            "migrations/*.mako",
            "web/**/*.j2",
            "web/**/*.css",
            "web/**/*.js",
            "scorers/tiny/tiny.*",
        )
        for path in (ROOT / "glossator").glob(pattern)
    }
    assert "glossator/py.typed" in data
    assert data <= set(wheel)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


# --- pinned versions ----------------------------------------------------------------------------


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def needed(requirements: list[str]) -> dict[str, str]:
    """Installed version of everything that `requirements` need, with what those need, and so on."""
    found: dict[str, str] = {}
    seen = set()
    waiting = [(line, {""}) for line in requirements]
    while waiting:
        line, extras = waiting.pop()
        requirement = Requirement(line)
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key not in seen:
            seen.add(key)
            distribution = importlib.metadata.distribution(name)
            found[name] = distribution.version.partition("+")[0]
            below = {"", *requirement.extras}
            waiting += [(line, below) for line in distribution.requires or []]
    return found


FOR_A_GPU = ("nvidia-", "cuda-", "triton")
"""Packages that some builds of torch need; torch itself names their exact versions."""


def all_needed() -> dict[str, str]:
    return needed(PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"])


def test_every_package_that_the_project_needs_is_pinned_to_what_is_installed() -> None:
    installed = {n: v for n, v in all_needed().items() if not n.startswith(FOR_A_GPU)}
    assert {name: pins().get(name) for name in installed} == installed


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the pins were made with Python 3.11")
def test_nothing_is_pinned_that_the_project_does_not_need() -> None:
    assert set(pins()) - set(all_needed()) == set()


def test_pins_name_no_build_of_one_machine() -> None:
    assert not [version for version in pins().values() if not re.fullmatch(r"[\w.]+", version)]


# --- what the documents say ---------------------------------------------------------------------


def folders_with_modules() -> list[Path]:
    unexplained = {"migrations/versions"}
    found = {path.parent for path in modules().values()}
    return sorted(f for f in found if not any(str(f).endswith(u) for u in unexplained))


@pytest.mark.parametrize("folder", folders_with_modules(), ids=lambda f: str(f.relative_to(ROOT)))
def test_a_folder_has_a_readme_that_names_each_of_its_modules(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    files = sorted(p.name for p in folder.glob("*.py") if p.name != "__init__.py")
    assert [name for name in files if f"`{name}`" not in text] == []


def documents() -> list[Path]:
    skipped = {".venv", ".git", ".pytest_cache", "node_modules"}
    return [p for p in sorted(ROOT.rglob("*.md")) if not skipped & set(p.relative_to(ROOT).parts)]


@pytest.mark.parametrize("document", documents(), ids=lambda p: str(p.relative_to(ROOT)))
def test_what_a_document_links_to_is_there(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8"))
    here = [link for link in links if "://" not in link]
    assert [link for link in here if not (document.parent / link).exists()] == []


def test_the_readme_gives_the_digest_and_the_licence_of_every_file_that_is_fetched() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for asset in ASSETS.values():
        assert asset.sha256 in text, asset.name
        assert asset.licence.partition(";")[0] in text, asset.name


def test_the_readme_names_every_exit_code() -> None:
    from glossator import errors

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    codes = {e.exit_code for e in vars(errors).values() if hasattr(e, "exit_code")} | {0, 130}
    assert [code for code in sorted(codes) if f"| {code} |" not in text] == []


def command_line() -> tuple[set[str], set[str]]:
    """The commands there are, and all their options."""
    import typer

    from glossator.cli.app import app

    whole = typer.main.get_command(app)
    commands = dict(whole.commands)  # type: ignore[attr-defined]
    inner = [c for group in commands.values() for c in getattr(group, "commands", {}).values()]
    parameters = [p for command in (whole, *commands.values(), *inner) for p in command.params]
    return set(commands), {option for p in parameters for option in (*p.opts, *p.secondary_opts)}


def test_the_readme_and_the_make_file_use_commands_and_options_that_are_there() -> None:
    commands, options = command_line()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    recipes = re.findall(r'^\t"\$\(BIN\)/glossator" (.*)$', (ROOT / "Makefile").read_text(), re.M)
    lines = re.findall(r"^glossator (.*(?:\\\n.*)*)", readme, re.M)
    assert len(lines) >= 5
    assert len(recipes) == 2
    assert {line.split()[0] for line in lines} | {"run"} <= commands
    assert all(commands & set(recipe.split()) for recipe in recipes)
    said = re.findall(r"(?<![\w-])--[a-z][a-z-]*", "\n".join([readme, *recipes]))
    assert sorted(set(said) - options) == []


def test_the_demo_asks_for_nothing_unknown() -> None:
    options = yaml.safe_load((ROOT / "examples" / "demo.yaml").read_text(encoding="utf-8"))
    config, limits = from_options(options)
    assert config.model == "smollm2-135m"
    assert set(config.explainers) == {"max-act", "unigram"}
    assert set(config.scorers) == {"simulation", "detection"}
    assert limits.budget is None


# --- the make file and the tests ----------------------------------------------------------------


def make(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env=clean | environ,
    )


def test_make_alone_says_what_there_is() -> None:
    done = make()
    assert done.returncode == 0
    assert "make demo" in done.stdout
    assert "make test" in done.stdout


@pytest.mark.parametrize("goal", ["demo", "test"])
def test_a_python_that_is_too_old_or_missing_is_said_in_a_line(tmp_path: Path, goal: str) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for python, said in ((old, "older than 3.11"), (tmp_path / "none", "there is no")):
        done = make(goal, f"PYTHON={python}", f"VENV={tmp_path / 'venv'}")
        assert done.returncode == 2
        assert said in done.stderr
        assert not (tmp_path / "venv").exists()


def test_make_names_the_step_that_failed(tmp_path: Path) -> None:
    binaries = tmp_path / "venv" / "bin"
    binaries.mkdir(parents=True)
    for name, status in (("python", 0), ("ruff", 3)):
        (binaries / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (binaries / name).chmod(0o755)
    done = make("test", f"VENV={tmp_path / 'venv'}")
    assert done.returncode == 2
    assert "failed at: ruff format --check" in done.stderr
    assert "mypy" not in done.stdout


def test_what_continuous_integration_runs_is_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


def test_a_test_cannot_reach_another_machine() -> None:
    """192.0.2.1 is kept for documentation and belongs to nobody."""
    with pytest.raises((RuntimeError, UserWarning), match="tried to use"):
        socket.create_connection(("192.0.2.1", 9), timeout=0.1)


def test_a_test_sees_no_key_of_the_user() -> None:
    assert not [name for name in os.environ if name.endswith("_API_KEY")]

"""What may import what: the table of the design, held against every import there is."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from tests.source_tree import LINKED, ROOT, modules

_TRAINING = ("training", "training_activations", "training_step", "quality")
"""Modules beside the coders that read subjects on text."""

GROUPS: dict[str, tuple[int, tuple[str, ...]]] = {
    "ground": (0, ("types", "errors", "evidence")),
    "core": (
        1,
        (
            *(
                "registry",
                "config",
                "render",
                "llm",
                "lines",
                "ledger",
                "live",
                "inside",
                "notebook",
                "writing",
                "device",
            ),
            "sites",
            "subject_names",
        ),
    ),
    "assets": (2, ("assets",)),
    "embedder": (2, ("embedder", "hard", "neighbours")),
    "subject": (2, ("subject", "architectures", "hooks", "heads", "weights", "control")),
    "sae": (2, ("sae",)),
    "providers": (2, ("providers",)),
    "store": (
        2,
        (
            *("store", "schema", "database", "rows", "runs", "records", "calls", "replies"),
            *("batches", "tables", "export", "migrations", "notebooks"),
            *("listing", "selection", "narrowing", "browsing", "overview", "dossier", "words"),
            *("acts", "reviews"),
            *("documented", "querying"),
        ),
    ),
    "datasets": (3, ("datasets", "experiments", *(f"sae.{name}" for name in _TRAINING))),
    "explainers": (4, ("explainers",)),
    "scorers": (4, ("scorers",)),
    "lessons": (5, ("scorers.tiny.train", "scorers.tiny.lessons")),
    "agent": (5, ("agent",)),
    "shell": (
        6,
        (
            *("", "__main__", "api", "pipeline", "units", "collecting", "models", "tally"),
            *("inquiring", "laboratory", "chatting", "finding", "asking", "meanings"),
            *("comparing", "health", "agreement"),
            *("trial", "standing", "blank", "forecast"),
            *("progress", "reading"),
            *("estimate", "doctor", "cli", "web", "bench"),
        ),
    ),
}
"""Group to its layer and its modules under `glossator`; a folder stands for all that is in it.

A module may import its own group and those of lower layers.
"""

SIDEWAYS = {(group, "assets") for group in ("subject", "sae", "providers", "embedder")}
"""Imports within a layer that are meant: who loads a model asks for its file."""

NEVER = {("explainers", "datasets"), ("scorers", "datasets")}
"""Downward imports that are not: whoever explains or scores gets its examples handed over."""

STANDARD_LIBRARY_ONLY = ("ground", "core")
EXCEPT = {"glossator.device": {"torch"}}
"""Modules of those groups that may use an outside package."""

OWNERS: dict[str, tuple[str, ...]] = {
    "alembic": ("store",),
    "anthropic": ("providers",),
    "fastapi": ("shell",),
    "langgraph": ("agent", "shell"),
    "openai": ("providers",),
    "psycopg": ("store",),
    "sqlalchemy": ("store", "shell"),
    "typer": ("shell",),
    "unearth": ("assets",),
}
"""Outside packages that only these groups import: the rest sees our own types."""


def group_of(module: str) -> str:
    """The group of a module of ours; the longest name in the table counts."""
    rest = module.removeprefix("glossator").removeprefix(".")
    found = [
        (len(name), group)
        for group, (_, names) in GROUPS.items()
        for name in names
        if rest == name or (name and rest.startswith(f"{name}."))
    ]
    if found:
        return max(found)[1]
    raise AssertionError(f"{module} is in no group: add it to GROUPS, and to the design's table")


def imported(name: str, source: str, is_package: bool, known: Collection[str]) -> Iterator[str]:
    """Full names of the modules that `source` imports at any depth, one for each name imported.

    `from a import b` imports `a.b` where that is a module of ours, else `a`.
    """
    parent = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = parent.split(".")[: len(parent.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                yield deeper if deeper in known or base in LINKED else base
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            first = node.args[0] if node.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def wrong_imports(name: str, source: str, known: Collection[str], is_package: bool) -> list[str]:
    """What `source`, the module `name`, imports against the table; a sentence each."""
    group = group_of(name)
    layer = GROUPS[group][0]
    found = []
    for module in imported(name, source, is_package, known):
        top = module.partition(".")[0]
        if top == "glossator":
            other = group_of(module)
            pair = (group, other)
            lower = GROUPS[other][0] < layer and pair not in NEVER
            if not (other == group or lower or pair in SIDEWAYS):
                found.append(f"{name} ({group}) imports {module} ({other})")
        elif top in sys.stdlib_module_names:
            continue
        elif group in STANDARD_LIBRARY_ONLY and top not in EXCEPT.get(name, ()):
            found.append(f"{name} imports {module}, and {group} has the standard library only")
        elif group not in OWNERS.get(top, (group,)):
            found.append(f"{name} ({group}) imports {module}, which is for {OWNERS[top]}")
    return found


def named_at_the_top(name: str, source: str) -> list[str]:
    """Imports in `source` of our folders under their bare names, such as `scorers.detection`.

    `datasets` alone is Hugging Face's package, and is one of ours only with a file of ours behind.
    """
    ours = {f"datasets.{p.stem}" for p in (ROOT / "datasets").glob("*.py")}
    return [
        f"{name} imports {module}"
        for module in imported(name, source, False, ours)
        if module in ours or module.partition(".")[0] in set(LINKED) - {"datasets"}
    ]


MODULES = modules()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_its_layer_may(name: str) -> None:
    path = MODULES[name]
    source = path.read_text(encoding="utf-8")
    assert wrong_imports(name, source, MODULES, path.name == "__init__.py") == []


def python_files() -> list[Path]:
    tops = ("glossator", *LINKED, "tests", "benchmarks")
    return [path for top in tops for path in sorted((ROOT / top).rglob("*.py"))]


def test_no_folder_is_imported_under_its_bare_name() -> None:
    wrong = [
        sentence
        for path in python_files()
        for sentence in named_at_the_top(str(path.relative_to(ROOT)), path.read_text("utf-8"))
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", LINKED)
def test_a_folder_is_a_plain_folder_with_a_relative_link_to_it(folder: str) -> None:
    real, link = ROOT / folder, ROOT / "glossator" / folder
    assert real.is_dir()
    assert not real.is_symlink()
    assert link.is_symlink()
    assert os.readlink(link) == f"../{folder}"


@pytest.mark.parametrize("folder", LINKED)
def test_a_folder_is_no_package_that_could_hide_another(folder: str) -> None:
    assert not list((ROOT / folder).rglob("__init__.py*"))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("glossator.scorers.x", "def f():\n    from glossator.datasets import corpora"),
        ("glossator.scorers.x", "import glossator.explainers.table"),
        ("glossator.explainers.x", "from glossator.scorers.estimates import pearson"),
        ("glossator.datasets.x", "if TYPE_CHECKING:\n    from glossator.scorers import table"),
        ("glossator.subject", "from glossator import store"),
        ("glossator.store", "from glossator.api import score"),
        ("glossator.types", "import glossator.errors as e, glossator.llm"),
        ("glossator.llm", "import numpy"),
        ("glossator.config", "from .store import open_store"),
        ("glossator.providers.x", "from ..datasets.pools import pool_of"),
        ("glossator.datasets.x", "importlib.import_module('glossator.agent.loop')"),
        ("glossator.cli.x", "import openai"),
        ("glossator.datasets.x", "from sqlalchemy import select"),
        ("glossator.scorers.x", "from glossator import run_sync"),
    ],
)
def test_a_wrong_import_is_noticed(name: str, source: str) -> None:
    assert wrong_imports(name, source, MODULES, is_package=False)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("glossator.scorers.x", "from glossator.scorers.estimates import pearson"),
        ("glossator.scorers.x", "from glossator.types import Score\nimport numpy, asyncio"),
        ("glossator.providers.x", "from glossator.assets import model_folder\nimport openai"),
        ("glossator.cli.x", "import typer\nfrom glossator import pipeline"),
        ("glossator.store", "from glossator import schema\nfrom sqlalchemy import select"),
        ("glossator.device", "import torch"),
        ("glossator.datasets.hub", "from datasets import load_dataset"),
    ],
)
def test_a_right_import_is_let_pass(name: str, source: str) -> None:
    assert wrong_imports(name, source, MODULES, is_package=False) == []


def test_a_bare_name_is_noticed_and_the_foreign_package_is_not() -> None:
    for source in ("import scorers.estimates", "from datasets import pools", "import agent"):
        assert named_at_the_top("x", source), source
    for source in ("import datasets", "from datasets import load_dataset", "from . import agent"):
        assert not named_at_the_top("tests.x", source), source


def test_a_module_of_no_group_is_noticed() -> None:
    with pytest.raises(AssertionError, match="no group"):
        group_of("glossator.utils")

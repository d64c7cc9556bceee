"""Tables of names, and parts built from what they name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from glossator.errors import ConfigError, NotRegistered
from glossator.registry import Registry, assemble, nearest

TABLE = Registry("ruler", {"fraction": "fractions:Fraction", "path": "pathlib:Path"})


@dataclass(frozen=True)
class Part:
    """Needs a model, and may be told how many to show."""

    llm: str
    n_shown: int = 10


def test_a_name_and_a_dotted_path_give_the_class() -> None:
    from fractions import Fraction

    assert TABLE.load("fraction") is Fraction
    assert TABLE.load("fractions:Fraction") is Fraction


def test_names_are_sorted_and_nothing_is_imported_to_list_them() -> None:
    table = Registry("ruler", {"b": "no_such_module:B", "a": "no_such_module:A"})
    assert table.names() == ["a", "b"]


def test_a_registered_part_that_cannot_be_imported_is_a_bug_and_not_an_unknown_name() -> None:
    table = Registry("ruler", {"a": "no_such_module:A"})
    with pytest.raises(ModuleNotFoundError):
        table.load("a")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fractoin", "did you mean fraction"),
        ("zzz", "there are: fraction, path"),
        ("no_such_module:A", "no ruler at"),
        ("fractions:Nothing", "no ruler at"),
        (":", "no ruler at"),
        ("os:sep", "is not a class"),
    ],
)
def test_an_unknown_name_is_answered(name: str, said: str) -> None:
    with pytest.raises(NotRegistered, match=said):
        TABLE.load(name)


def test_the_table_does_not_change_after_it_is_made() -> None:
    paths = {"path": "pathlib:Path"}
    table = Registry("ruler", paths)
    paths["other"] = "fractions:Fraction"
    assert table.names() == ["path"]
    assert isinstance(table.paths, Mapping)
    with pytest.raises(TypeError):
        table.paths["other"] = "x"  # type: ignore[index]


def test_far_names_are_listed_without_a_guess() -> None:
    assert nearest("zzz", ["beta", "alpha"]) == "there are: alpha, beta"
    assert nearest("alpah", ["beta", "alpha"]).endswith("(did you mean alpha?)")


def test_a_part_is_built_from_what_it_names_and_nothing_else() -> None:
    assert assemble(Part, llm="m", n_shown=3, budget=9) == Part("m", 3)
    assert assemble(Part, llm="m") == Part("m")


def test_a_part_that_lacks_something_says_what() -> None:
    with pytest.raises(ConfigError, match="Part needs llm; given are budget"):
        assemble(Part, budget=9)

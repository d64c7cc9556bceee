"""The contract of every registered part, whoever wrote it: a new name in a table is tested here."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glossator.errors import NotRegistered
from glossator.explainers.table import EXPLAINERS
from glossator.providers.table import LLMS
from glossator.registry import Registry
from glossator.scorers.table import SCORERS, SIMULATORS
from tests.source_tree import ROOT

TABLES: dict[str, tuple[Registry, str]] = {
    "explainer": (EXPLAINERS, "explain"),
    "scorer": (SCORERS, "score"),
    "simulator": (SIMULATORS, "simulate"),
    "language model": (LLMS, "reply"),
}
"""What a table holds, the table, and the method that its parts have to have."""

SETTINGS = ("explainer", "scorer", "simulator")
"""Tables whose parts are frozen dataclasses: what decides a result is in their fields."""

PARTS = [(kind, name) for kind, (table, _) in TABLES.items() for name in table.names()]
every_part = pytest.mark.parametrize(("kind", "name"), PARTS)
every_setting = pytest.mark.parametrize(
    ("kind", "name"), [part for part in PARTS if part[0] in SETTINGS]
)
every_table = pytest.mark.parametrize("kind", TABLES)


def loaded(kind: str, name: str) -> type:
    return TABLES[kind][0].load(name)


def public_methods(part: type) -> dict[str, Any]:
    """Functions and properties that the class itself or its bases of ours define."""
    found: dict[str, Any] = {}
    for base in reversed(part.__mro__):
        if base.__module__.startswith("glossator."):
            found |= {n: m for n, m in vars(base).items() if not n.startswith("_")}
    fields = {f.name for f in dataclasses.fields(part)} if dataclasses.is_dataclass(part) else set()
    return {
        name: member
        for name, member in found.items()
        if name not in fields
        and isinstance(member, property | staticmethod | classmethod | type(public_methods))
    }


def written(member: Any) -> Callable[..., Any] | None:
    """The function behind a method, class method, static method or property."""
    if isinstance(member, property):
        return member.fget
    function: Callable[..., Any] = getattr(member, "__func__", member)
    return function


@every_part
def test_a_registered_name_loads_as_a_class(kind: str, name: str) -> None:
    assert isinstance(loaded(kind, name), type)


@every_setting
def test_a_part_is_a_frozen_dataclass(kind: str, name: str) -> None:
    part = loaded(kind, name)
    assert dataclasses.is_dataclass(part)
    assert part.__dataclass_params__.frozen  # type: ignore[attr-defined]


@every_setting
def test_settings_can_be_compared_and_hashed(kind: str, name: str) -> None:
    """A mutable default would be shared between parts, and could not go into a digest."""
    for field in dataclasses.fields(loaded(kind, name)):
        if field.default is not dataclasses.MISSING:
            hash(field.default)


@every_part
def test_a_part_and_its_public_methods_say_what_they_do(kind: str, name: str) -> None:
    part = loaded(kind, name)
    # A dataclass without a docstring gets its signature for one.
    assert part.__doc__ and not part.__doc__.startswith(f"{part.__name__}(")  # noqa: PT018
    silent = [
        method
        for method, member in public_methods(part).items()
        if not (written(member).__doc__ or "").strip()
    ]
    assert silent == []


@every_part
def test_the_method_of_a_part_is_a_coroutine_with_types(kind: str, name: str) -> None:
    method = getattr(loaded(kind, name), TABLES[kind][1])
    assert inspect.iscoroutinefunction(method)
    signature = inspect.signature(method)
    untyped = [
        p.name
        for p in list(signature.parameters.values())[1:]
        if p.annotation is inspect.Parameter.empty
    ]
    assert untyped == []
    assert signature.return_annotation is not inspect.Signature.empty


@every_setting
def test_a_part_takes_the_arguments_of_its_protocol(kind: str, name: str) -> None:
    arguments: dict[str, tuple[str, ...]] = {
        "explainer": ("feature", "train"),
        "scorer": ("explanation", "split", "dev"),
        "simulator": ("explanation", "tokens"),
    }
    signature = inspect.signature(getattr(loaded(kind, name), TABLES[kind][1]))
    signature.bind("self", **dict.fromkeys(arguments[kind]))


@every_table
def test_an_unknown_name_is_answered_with_the_near_ones(kind: str) -> None:
    table = TABLES[kind][0]
    for name in table.names():
        with pytest.raises(NotRegistered) as caught:
            table.load(name[:-1])
        message = str(caught.value)
        assert kind in message
        assert repr(name[:-1]) in message
        assert "did you mean" in message
        assert all(known in message for known in table.names())


@every_table
@pytest.mark.parametrize("name", ["", " ", "zzzzzz", "../x", "a\nb", "no.module:Thing", "os:path"])
def test_a_name_that_is_near_none_is_refused_in_one_line_or_two(kind: str, name: str) -> None:
    with pytest.raises(NotRegistered) as caught:
        TABLES[kind][0].load(name)
    assert len(str(caught.value).splitlines()) <= 2


@every_table
def test_names_are_what_people_can_type(kind: str) -> None:
    for name in TABLES[kind][0].names():
        assert name == name.lower()
        assert name.replace("-", "").isalnum()


@every_setting
def test_the_readme_of_the_project_names_every_part(kind: str, name: str) -> None:
    assert f"`{name}`" in Path(ROOT / "README.md").read_text(encoding="utf-8")

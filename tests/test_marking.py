"""Marks on windows: right and wrong ones alike, and no text that passes for a mark."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.scorers.layout import marked_line
from glossator.scorers.marking import Marked, marked_windows
from glossator.types import MISMARKED, SILENT, TOP, Example

N_TOKENS = 12


def window(i: int, fires_at: tuple[int, ...], stratum: str, weight: float = 1.0) -> Example:
    tokens = tuple(f" w{i}.{k}" for k in range(N_TOKENS))
    acts = tuple(float(k in fires_at) for k in range(N_TOKENS))
    return Example(tokens, acts, f"d{i}", 0, stratum, weight)


places = st.sets(st.integers(0, N_TOKENS - 1), min_size=1, max_size=4).map(
    lambda s: tuple(sorted(s))
)


def made(drawn: Sequence[tuple[int, ...]], n_silent: int, seed: int = 0) -> tuple[Marked, ...]:
    firing = [window(i, p, TOP if i % 2 else "q1", 1.0 + 6 * (i % 2)) for i, p in enumerate(drawn)]
    silent = [window(100 + i, (), SILENT, 40.0) for i in range(n_silent)]
    return marked_windows([*firing, *silent], 0.5, np.random.default_rng(seed))


def where(windows: list[Marked]) -> Counter[tuple[bool, ...]]:
    return Counter(w.marks for w in windows)


@given(st.lists(places, min_size=1, max_size=12), st.integers(0, 12))
def test_right_marks_are_where_it_fires_and_wrong_ones_nowhere_there(
    drawn: list[tuple[int, ...]], n_silent: int
) -> None:
    found = made(drawn, n_silent)
    assert sum(w.example.stratum in (TOP, "q1") for w in found) == len(drawn)
    assert sum(w.example.stratum == SILENT for w in found) == n_silent
    for w in found:
        fires = tuple(a > 0.5 for a in w.example.activations)
        assert any(w.marks)
        if w.example.stratum in (TOP, "q1"):
            assert w.marks == fires
            assert w.strongest == 1
        else:
            assert not any(a and b for a, b in zip(fires, w.marks, strict=True))
            assert w.strongest == 0


@given(st.lists(places, min_size=2, max_size=12))
def test_wrong_marks_on_firing_windows_are_right_ones_of_others_each_used_once(
    drawn: list[tuple[int, ...]],
) -> None:
    found = made(drawn, 0)
    right = [w for w in found if w.example.stratum != MISMARKED]
    wrong = [w for w in found if w.example.stratum == MISMARKED]
    assert not where(wrong) - where(right)
    assert len({w.example.key for w in wrong}) == len(wrong)


def test_where_all_can_be_mismarked_number_and_places_of_marks_are_the_same() -> None:
    drawn = [(i % 6, i % 6 + 6) for i in range(12)]
    found = made(drawn, 24)
    kinds = {name: [w for w in found if w.example.stratum == name] for name in (MISMARKED, SILENT)}
    right = [w for w in found if w.example.stratum in (TOP, "q1")]
    assert where(kinds[MISMARKED]) == where(right)
    # A silent window's marks are drawn by weight: q1 stands for a seventh of what top does.
    total = sum(w.example.weight for w in right)
    for marks, n in where(kinds[SILENT]).items():
        share = sum(w.example.weight for w in right if w.marks == marks) / total
        assert abs(n / 24 - share) < 0.1


def test_one_place_for_all_marks_leaves_no_wrong_ones_on_firing_windows() -> None:
    # The trap: a negative that is marked elsewhere would be told by its place alone.
    found = made([(0,)] * 6, 6)
    assert not [w for w in found if w.example.stratum == MISMARKED]
    assert {w.marks.index(True) for w in found} == {0}


def test_marks_do_not_reach_beyond_a_short_window() -> None:
    short = Example((" a", " b"), (0.0, 0.0), "short", 0, SILENT, 1.0)
    long = window(1, (7,), TOP)
    assert len(marked_windows([short, long], 0.5, np.random.default_rng(0))) == 1


@given(st.lists(places, min_size=1, max_size=9), st.integers(0, 9))
def test_the_order_of_windows_changes_no_mark(drawn: list[tuple[int, ...]], n: int) -> None:
    firing = [window(i, p, TOP) for i, p in enumerate(drawn)]
    silent = [window(100 + i, (), SILENT) for i in range(n)]
    a = marked_windows([*firing, *silent], 0.5, np.random.default_rng(3))
    b = marked_windows([*firing, *silent][::-1], 0.5, np.random.default_rng(3))
    assert a == b


# -- how they stand in a prompt --------------------------------------------------------------------


def test_marked_runs_share_a_mark_and_spaces_stay_outside() -> None:
    tokens = ("we", " saw", " New", " York", "ers", "\n", " too")
    marks = (False, False, True, True, False, False, False)
    assert marked_line(tokens, marks) == "we saw <<New York>>ers\u23ce too"
    assert marked_line(("a", "\n"), (False, True)) == "a<<\u23ce>>"
    assert marked_line(("a", " "), (False, True)) == "a<<\u2423>>"
    assert marked_line((" a",), (True,)) == "<<a>>"


@pytest.mark.parametrize(
    "tokens",
    [("<<evil>>", " x"), ("<", "<", "evil", ">", ">", " x"), ("<<<", " x"), ('"', " x")],
)
def test_text_cannot_pass_for_a_mark_or_leave_its_quotes(tokens: tuple[str, ...]) -> None:
    marks = [False] * (len(tokens) - 1) + [True]
    line = marked_line(tokens, marks)
    assert re.findall("<<[^<>]*>>", line) == ["<<x>>"]
    assert (line.count("<<"), line.count(">>"), line.count('"')) == (1, 1, 0)


nasty = st.sampled_from(["\n", "\u2028", "\x85", " a", '"', "<<", ">>", "<", " ", "", "b"])


@given(st.lists(st.tuples(nasty, st.booleans()), min_size=1, max_size=8))
def test_a_marked_window_is_one_line_with_a_mark_for_each_run(
    drawn: list[tuple[str, bool]],
) -> None:
    tokens, marks = [t for t, _ in drawn], [m for _, m in drawn]
    line = marked_line(tokens, marks)
    assert len(line.splitlines()) <= 1
    assert '"' not in line
    if "<" not in tokens:
        runs = sum(m and not b for m, b in zip(marks, [False, *marks], strict=False))
        assert line.count("<<") == line.count(">>") == runs

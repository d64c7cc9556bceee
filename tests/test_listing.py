"""Lists of features: order, filters and pages, against the same done in plain Python."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.acts import ActKind
from glossator.listing import FLAGS
from glossator.migrations.versions.r0006_listing import FILL
from glossator.reviews import Wish
from glossator.runs import Run
from glossator.selection import Cursor, Listed, Selection
from glossator.store import Store, open_store
from glossator.types import Explanation, Kind
from glossator.words import holds, match_query
from tests.review_store import SITES, feature_of, fill, record_of, score_of


@dataclass(frozen=True)
class Filled:
    store: Store
    run: Run
    rows: tuple[Listed, ...]
    """All that is listed, in the order stored."""
    texts: dict[int, list[str]]
    """All explanations of each feature."""

    def selection(self, **options: Any) -> Selection:
        return Selection(self.run.id, self.run.collection, **options)

    def pages(self, selection: Selection) -> list[list[int]]:
        """The pages of the list from the first to the last."""
        found = []
        listing = self.store.browser.page(selection)
        found.append([row.row for row in listing.rows])
        while listing.after is not None:
            listing = self.store.browser.page(replace(selection, after=listing.after))
            found.append([row.row for row in listing.rows])
        return found


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    place = tmp_path_factory.mktemp("listing")
    with open_store(f"sqlite:///{place}/results.db") as store:
        run = fill(store)
        for said in store.explanations_of(run.id)[::3]:
            rating = Wish("Ann", ActKind.RATING, said.explainer, "3")
            store.reviews.put(run.id, said.feature, rating)
        whole = Selection(run.id, run.collection, limit=1000)
        rows = store.browser.page(whole).rows
        texts: dict[int, list[str]] = {row.row: [] for row in rows}
        by_name = {row.feature: row.row for row in rows}
        for said in store.explanations_of(run.id):
            texts[by_name[said.feature]].append(said.text)
        yield Filled(store, run, rows, texts)


KEYS: dict[str, Callable[[Listed], Any]] = {
    "id": lambda row: row.row,
    "site": lambda row: row.feature.site,
    "kind": lambda row: row.kind.value,
    "density": lambda row: row.density,
    "peak": lambda row: row.peak,
    "explainer": lambda row: row.explainer or None,
    "width": lambda row: row.width,
    "simulation": lambda row: row.marks["simulation"].value if "simulation" in row.marks else None,
    "detection": lambda row: row.marks["detection"].value if "detection" in row.marks else None,
}


def flagged(flag: str) -> Callable[[Filled, Listed], bool]:
    return lambda all, row: flag in row.flags


FILTERS: dict[str, tuple[dict[str, Any], Callable[[Filled, Listed], bool]]] = {
    "nothing": ({}, lambda all, row: True),
    "kinds": (
        {"kinds": (Kind.DEAD, Kind.TOKEN)},
        lambda all, row: row.kind in (Kind.DEAD, Kind.TOKEN),
    ),
    "site": ({"sites": (SITES[1],)}, lambda all, row: row.feature.site == SITES[1]),
    "numbers": ({"numbers": (3, 8)}, lambda all, row: row.feature.index in (3, 8)),
    "explainer": ({"explainers": ("unigram",)}, lambda all, row: row.explainer == "unigram"),
    **{flag: ({"flags": (flag,)}, flagged(flag)) for flag in FLAGS},
    "unexplained": ({"flags": ("unexplained",)}, lambda all, row: not row.explainer),
    "density": (
        {"ranges": {"density": (0.01, None)}},
        lambda all, row: row.density >= 0.01,
    ),
    "peak": ({"ranges": {"peak": (2.0, 6.0)}}, lambda all, row: 2 <= row.peak <= 6),
    "width": (
        {"ranges": {"width": (None, 0.3)}},
        lambda all, row: row.width is not None and row.width <= 0.3,
    ),
    "score": (
        {"ranges": {"simulation": (0.25, None), "detection": (None, 0.5)}},
        lambda all, row: (
            "simulation" in row.marks
            and row.marks["simulation"].value >= 0.25
            and "detection" in row.marks
            and row.marks["detection"].value <= 0.5
        ),
    ),
    "text": (
        {"text": "RIVER"},
        lambda all, row: any("river" in text.lower() for text in all.texts[row.row]),
    ),
    "text without accents": (
        {"text": "resume"},
        lambda all, row: any("résumé" in text for text in all.texts[row.row]),
    ),
    "signs alone": ({"text": "%_"}, lambda all, row: False),
    "a kind at a site": (
        {"kinds": (Kind.DEAD, Kind.NGRAM), "sites": (SITES[1],)},
        lambda all, row: row.kind in (Kind.DEAD, Kind.NGRAM) and row.feature.site == SITES[1],
    ),
    "a flag at a site": (
        {"flags": ("failed",), "sites": (SITES[0],)},
        lambda all, row: "failed" in row.flags and row.feature.site == SITES[0],
    ),
    "two": (
        {"kinds": (Kind.OTHER, Kind.DENSE), "ranges": {"peak": (3.0, None)}},
        lambda all, row: row.kind in (Kind.OTHER, Kind.DENSE) and row.peak >= 3,
    ),
}


@pytest.mark.parametrize(
    "few", [(0, 0), (5000, 5000), (0, 5000)], ids=["along the order", "looked up", "flags alone"]
)
@pytest.mark.parametrize("name", list(FILTERS))
def test_a_list_has_the_features_that_it_says_in_the_order_that_it_says(
    filled: Filled, name: str, few: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("narrowing", "browsing"):
        monkeypatch.setattr(f"glossator.{module}.FEW", few[0])
    monkeypatch.setattr("glossator.narrowing.FEW_FLAGGED", few[1])
    options, holds_of = FILTERS[name]
    for sort, descending in itertools.product(KEYS, (False, True)):
        key = KEYS[sort]
        wanted = [r for r in filled.rows if holds_of(filled, r) and key(r) is not None]
        wanted.sort(key=lambda row: (key(row), row.row), reverse=descending)
        selection = filled.selection(sort=sort, descending=descending, limit=7, **options)
        found = [row for page in filled.pages(selection) for row in page]
        assert found == [row.row for row in wanted], (sort, descending)
        n = filled.store.browser.page(selection).n
        assert n in (None, len(wanted))
        assert n is not None or not few[0] or name in ("nothing", "unexplained", "signs alone")


def test_something_is_left_and_something_left_out_by_each_filter(filled: Filled) -> None:
    for name, (options, _) in FILTERS.items():
        n = len(filled.store.browser.page(filled.selection(limit=1000, **options)).rows)
        if name != "nothing":
            assert n < len(filled.rows), name
        if name != "signs alone":
            assert n > 0, name


@pytest.mark.parametrize("sort", list(KEYS))
def test_the_page_before_is_the_one_that_was_left(filled: Filled, sort: str) -> None:
    selection = filled.selection(sort=sort, descending=True, limit=9)
    first = filled.store.browser.page(selection)
    assert first.before is None
    second = filled.store.browser.page(replace(selection, after=first.after))
    back = filled.store.browser.page(replace(selection, before=second.before))
    assert back.rows == first.rows
    assert back.before is None
    assert back.after == first.after


def test_a_list_that_is_taken_whole_has_every_feature_once(filled: Filled) -> None:
    selection = filled.selection(sort="density")
    found = [row.row for row in filled.store.browser.all(selection, each=7)]
    assert sorted(found) == [row.row for row in filled.rows]


def test_a_place_is_read_as_it_was_written() -> None:
    for sort, place in (("peak", Cursor(0.1, 3)), ("site", Cursor("a~b", 4)), ("id", Cursor(5, 5))):
        assert Cursor.parse(str(place), sort) == place
    for wrong in ("", "x", "1", "~1", "-1~2", "1~nan", "1~inf", "9" * 30 + "~1"):
        with pytest.raises(ValueError, match=r"place|number"):
            Cursor.parse(wrong, "peak")


# --- what is best ---------------------------------------------------------------------------------


def listed(store: Store, run: str) -> Listed:
    (row,) = store.browser.page(Selection(run, "key")).rows
    return row


def test_the_best_explanation_is_the_one_that_simulation_puts_first(store: Store) -> None:
    run = fill(store, 0).id
    record = record_of(feature_of(1), Kind.TOKEN)
    store.put_record("key", record)
    assert listed(store, run).explainer == ""
    for explainer in ("a", "b", "unigram"):
        store.put_explanation(run, Explanation(record.feature, f"by {explainer}", explainer))
    assert listed(store, run).explainer == "a"
    store.put_score(run, score_of(record, "b", "detection", 0.2))
    assert listed(store, run).explainer == "b"
    store.put_score(run, score_of(record, "a", "simulation", 0.1))
    assert listed(store, run).explainer == "a"
    store.put_score(run, score_of(record, "a", "detection", 0.9))
    store.put_score(run, score_of(record, "b", "simulation", 0.3))
    found = listed(store, run)
    assert (found.explainer, found.text, found.n_explanations) == ("b", "by b", 3)
    assert {name: mark.value for name, mark in found.marks.items()} == {
        "simulation": 0.3,
        "detection": 0.2,
    }
    assert found.flags == ()
    store.put_score(run, score_of(record, "unigram", "simulation", 0.4))
    found = listed(store, run)
    assert (found.explainer, found.flags) == ("b", ("beaten",))


def test_scorers_disagree_where_one_interval_is_above_its_null_and_another_not(
    store: Store,
) -> None:
    run = fill(store, 0).id
    record = record_of(feature_of(1), Kind.TOKEN)
    store.put_record("key", record)
    store.put_explanation(run, Explanation(record.feature, "a text", "a"))
    store.put_score(run, score_of(record, "a", "simulation", 0.5, null=0.1))
    assert listed(store, run).flags == ()
    store.put_score(run, score_of(record, "a", "detection", 0.15, null=0.1))
    assert listed(store, run).flags == ("disagreement",)


def test_a_failure_is_flagged_until_the_work_succeeds(store: Store) -> None:
    run = fill(store, 0).id
    record = record_of(feature_of(1), Kind.TOKEN)
    store.put_record("key", record)
    store.put_failure(run, record.feature, "score", "a/simulation/lexical", "Refused", "no")
    assert listed(store, run).flags == ("failed",)
    store.put_score(run, score_of(record, "a"))
    assert listed(store, run).flags == ()


def test_an_older_store_gets_the_same_lists_as_one_that_was_written_today(tmp_path: Path) -> None:
    file = tmp_path / "results.db"
    with open_store(f"sqlite:///{file}") as store:
        fill(store, 80, seed=3)
    tables = ("bests", "marks", "flags")
    raw = sqlite3.connect(file)

    def contents() -> list[Any]:
        return [sorted(raw.execute(f"SELECT * FROM {t}"), key=repr) for t in tables]

    written = contents()
    assert all(written)
    for table in tables:
        raw.execute(f"DELETE FROM {table}")
    for statement in FILL:
        raw.execute(statement)
    assert contents() == written
    raw.close()


# --- words ----------------------------------------------------------------------------------------

SIGNS = st.text(st.sampled_from("aBé_ -'\"*():^{}%\\N1"), max_size=12)


@given(st.lists(SIGNS, min_size=1, max_size=5), SIGNS)
@settings(max_examples=200)
def test_one_text_is_judged_as_the_index_judges_it(texts: list[str], wanted: str) -> None:
    raw = sqlite3.connect(":memory:")
    raw.execute("CREATE VIRTUAL TABLE t USING fts5(text, tokenize='unicode61 remove_diacritics 2')")
    raw.executemany("INSERT INTO t VALUES (?)", [(text,) for text in texts])
    query = match_query(wanted)
    found = (
        [r[0] for r in raw.execute("SELECT rowid FROM t WHERE t MATCH ?", (query,))]
        if query
        else []
    )
    raw.close()
    assert found == [i for i, text in enumerate(texts, 1) if holds(text, wanted)]


@pytest.mark.parametrize("text", ['"', "NEAR(a b)", "a AND", "--", "x' OR 1=1", "*", "a" * 10_000])
def test_what_is_searched_for_is_never_an_operator(filled: Filled, text: str) -> None:
    assert filled.store.browser.page(filled.selection(text=text)).rows == ()


def test_a_changed_explanation_is_found_by_its_new_words_alone(store: Store) -> None:
    run = fill(store, 4)
    found = Selection(run.id, run.collection)
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE explanations SET text = 'zebras' WHERE id = 1")
    assert len(store.browser.page(replace(found, text="zebra")).rows) == 1
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE explanations SET text = 'mules' WHERE id = 1")
    assert store.browser.page(replace(found, text="zebra")).rows == ()

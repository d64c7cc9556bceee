"""What people do when they review: kept, folded, taken back, and never lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from glossator.acts import LONGEST, ActKind, Opinion, is_human
from glossator.reviews import Conflict, Wish
from glossator.selection import Selection
from glossator.store import Store, open_store
from glossator.types import FeatureId
from tests.review_store import feature_of, fill

FEATURE = feature_of(4)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(f"sqlite:///{tmp_path}/results.db") as opened:
        fill(opened, 12)
        yield opened


def do(store: Store, kind: ActKind, value: str = "", who: str = "Ann", **more: object) -> int:
    given = {"explainer": "" if kind is ActKind.UNDO else "max-act", **more}
    return store.reviews.put("r1", FEATURE, Wish(who, kind, value=value, **given)).id  # type: ignore[arg-type]


def opinion(store: Store, who: str = "Ann") -> Opinion | None:
    return store.reviews.of("r1", row(store)).opinions("max-act").get(who)


def row(store: Store, feature: FeatureId = FEATURE) -> int:
    found = store.browser.row_of(feature)
    assert found is not None
    return found


def flagged(store: Store) -> list[FeatureId]:
    listing = store.browser.page(Selection("r1", "key", flags=("rated",)))
    return [listed.feature for listed in listing.rows]


def test_a_later_rating_counts_and_an_undo_brings_the_earlier_back(store: Store) -> None:
    do(store, ActKind.RATING, "2")
    later = do(store, ActKind.RATING, "5")
    assert opinion(store) == Opinion(5)
    undo = do(store, ActKind.UNDO, undoes=later)
    assert opinion(store) == Opinion(2)
    do(store, ActKind.UNDO, undoes=undo)
    assert opinion(store) == Opinion(5)
    assert len(store.reviews.of("r1", row(store)).acts) == 4


def test_a_verdict_and_a_rating_stand_beside_one_another(store: Store) -> None:
    do(store, ActKind.ACCEPT)
    do(store, ActKind.RATING, "3")
    do(store, ActKind.REJECT)
    assert opinion(store) == Opinion(3, ActKind.REJECT)
    assert opinion(store, "Bob") is None


def test_rated_features_are_flagged_until_it_is_taken_back(store: Store) -> None:
    assert flagged(store) == []
    rating = do(store, ActKind.RATING, "3")
    assert flagged(store) == [FEATURE]
    do(store, ActKind.UNDO, undoes=rating)
    assert flagged(store) == []


def test_nobody_takes_back_what_another_did_or_twice(store: Store) -> None:
    rating = do(store, ActKind.RATING, "3")
    with pytest.raises(Conflict, match="somebody else"):
        do(store, ActKind.UNDO, who="Bob", undoes=rating)
    do(store, ActKind.UNDO, undoes=rating)
    with pytest.raises(Conflict, match="already"):
        do(store, ActKind.UNDO, undoes=rating)
    with pytest.raises(Conflict, match="no such act"):
        do(store, ActKind.UNDO, undoes=999)


def test_an_edit_is_an_explanation_by_human(store: Store) -> None:
    do(store, ActKind.EDIT, "names of French rivers")
    said = store.explanation_of("r1", FEATURE, "human")
    assert said is not None
    assert said.text == "names of French rivers"
    assert said.note == "edited from max-act"
    do(store, ActKind.EDIT, "any river", explainer="")
    second = store.explanation_of("r1", FEATURE, "human-2")
    assert second is not None
    assert (second.text, second.note) == ("any river", "")
    assert is_human("human-2")
    assert not is_human("humane")


def test_two_who_edit_the_same_text_are_both_kept_and_shown(store: Store) -> None:
    first = do(store, ActKind.EDIT, "one", who="Ann")
    second = do(store, ActKind.EDIT, "two", who="Bob")
    heads = store.reviews.of("r1", row(store)).heads("max-act")
    assert [head.value for head in heads] == ["one", "two"]
    do(store, ActKind.EDIT, "both", base=(first, second))
    heads = store.reviews.of("r1", row(store)).heads("max-act")
    assert [head.value for head in heads] == ["both"]
    names = {e.explainer: e.text for e in store.explanations_of("r1") if e.feature == FEATURE}
    assert [names[name] for name in ("human", "human-2", "human-3")] == ["one", "two", "both"]


def test_who_edits_after_reading_the_latest_text_replaces_it(store: Store) -> None:
    first = do(store, ActKind.EDIT, "one")
    second = do(store, ActKind.EDIT, "two", base=(first,))
    assert [h.value for h in store.reviews.of("r1", row(store)).heads("max-act")] == ["two"]
    do(store, ActKind.UNDO, undoes=second)
    assert [h.value for h in store.reviews.of("r1", row(store)).heads("max-act")] == ["one"]


def test_an_edit_that_is_taken_back_is_withdrawn_and_not_forgotten(store: Store) -> None:
    edit = do(store, ActKind.EDIT, "one")
    do(store, ActKind.UNDO, undoes=edit)
    assert store.reviews.of("r1", row(store)).withdrawn == {"human"}
    assert store.reviews.withdrawn("r1") == {(FEATURE, "human")}
    assert store.explanation_of("r1", FEATURE, "human") is not None


def test_what_somebody_did_last_is_found_over_all_features(store: Store) -> None:
    assert store.reviews.last("r1", "Ann") is None
    do(store, ActKind.RATING, "3")
    other = store.reviews.put("r1", feature_of(7), Wish("Ann", ActKind.COMMENT, value="hm"))
    do(store, ActKind.RATING, "1", who="Bob")
    found = store.reviews.last("r1", "Ann")
    assert found == (row(store, feature_of(7)), other)
    store.reviews.put("r1", feature_of(7), Wish("Ann", ActKind.UNDO, undoes=other.id))
    assert store.reviews.last("r1", "Ann") == (
        row(store),
        store.reviews.of("r1", row(store)).acts[0],
    )


def test_the_ratings_of_a_run_are_one_for_each_reviewer_and_explanation(store: Store) -> None:
    do(store, ActKind.RATING, "3")
    do(store, ActKind.RATING, "4")
    do(store, ActKind.RATING, "1", who="Bob")
    gone = do(store, ActKind.RATING, "2", explainer="unigram")
    do(store, ActKind.UNDO, undoes=gone)
    found = {(r.reviewer, r.explainer): r.rating for r in store.reviews.ratings("r1")}
    assert found == {("Ann", "max-act"): 4, ("Bob", "max-act"): 1}


def test_the_queue_begins_with_disagreement_then_what_is_beaten_then_wide_intervals(
    tmp_path: Path,
) -> None:
    with open_store(f"sqlite:///{tmp_path}/queue.db") as store:
        fill(store)
        queue = store.reviews.queue("r1")
        listed = {r.row: r for r in store.browser.all(Selection("r1", "key"))}
    explained = [r for r in listed.values() if r.n_explanations]
    assert sorted(feature for feature, _ in queue) == sorted(r.row for r in explained)
    places = {"disagreement": 0, "beaten": 1, "width": 2, "": 3}
    order = [places[why] for _, why in queue]
    assert order == sorted(order)
    assert set(order) == {0, 1, 2, 3}
    for feature, why in queue:
        if why in ("disagreement", "beaten"):
            assert why in listed[feature].flags


WANTED = "a rating is|which explanation|no such explanation|nothing to say|a text of|undo|name"


@pytest.mark.parametrize(
    ("kind", "value", "more"),
    [
        (ActKind.RATING, "6", {}),
        (ActKind.RATING, "", {}),
        (ActKind.RATING, "3", {"explainer": ""}),
        (ActKind.RATING, "3", {"explainer": "nobody"}),
        (ActKind.ACCEPT, "why", {}),
        (ActKind.COMMENT, " ", {}),
        (ActKind.COMMENT, "x" * (LONGEST + 1), {}),
        (ActKind.EDIT, "", {}),
        (ActKind.UNDO, "", {}),
        (ActKind.RATING, "3", {"undoes": 1}),
        (ActKind.RATING, "3", {"who": ""}),
        (ActKind.RATING, "3", {"who": "x" * 81}),
        (ActKind.RATING, "3", {"who": "a\nb"}),
    ],
)
def test_what_makes_no_sense_is_not_kept(
    store: Store, kind: ActKind, value: str, more: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=WANTED):
        do(store, kind, value, **more)  # type: ignore[arg-type]
    assert store.reviews.of("r1", row(store)).acts == ()

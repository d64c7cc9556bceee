"""What the review shows of one feature: its explanations, what people said, what is hidden."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from glossator.acts import Act, ActKind, Opinion, Standing
from glossator.dossier import Dossier
from glossator.types import Explanation
from glossator.web.contents import excerpts
from glossator.web.server.feature_view import Said, explainers_of, said_of
from glossator.web.server.place import Place
from glossator.web.verdicts import series_of
from glossator.web.views import Room, Shown

EXCERPTS = Room(top=5, quantile=2, silent=2, predicted=0, judged=0)


@dataclass(frozen=True, slots=True)
class Card:
    """One explanation to be rated."""

    key: str
    """Names it in forms, and says nothing of who wrote it."""
    letter: str
    explanation: Explanation
    said: Said
    """With its scores."""
    mine: Opinion
    others: tuple[tuple[str, Opinion], ...]
    """By name; empty while they are hidden."""
    comments: tuple[Act, ...]
    heads: tuple[Act, ...]
    """The texts it has now, by edits that may be seen."""
    base: str
    """What an edit begins from, as a form says it."""
    text: str
    """What an edit begins with."""


@dataclass(frozen=True, slots=True)
class ReviewView:
    """The feature under review."""

    dossier: Dossier
    cards: tuple[Card, ...]
    current: str
    """Key of the card that keys are for; empty if there is none."""
    hidden: bool
    """Whether scores, authors and what others said are hidden."""
    comments: tuple[Act, ...]
    """On the feature itself."""
    history: tuple[Act, ...]
    """The latest first; one's own alone while the rest is hidden."""
    standing: Standing
    letters: dict[str, str]
    """Of the cards, by explainer."""
    n_abstained: int
    train: tuple[Shown, ...]
    test: tuple[Shown, ...]


def key_of(run: str, feature: int, explainer: str) -> str:
    """What names the explanation by `explainer` where its author is not to be told."""
    return hashlib.sha256(f"{run}/{feature}/{explainer}".encode("utf-8", "replace")).hexdigest()[
        :12
    ]


def review_of(dossier: Dossier, standing: Standing, place: Place, reviewer: str) -> ReviewView:
    """The feature of `dossier` as `reviewer` sees it at `place`."""
    texts = {e.explainer: e for e in dossier.explanations if not e.abstained}
    names = [n for n in explainers_of(dossier) if n in texts and n not in standing.withdrawn]
    n_abstained = sum(bool(e.abstained) for e in dossier.explanations)
    if place.pair:
        names = names[:2]
    if place.blind or place.pair:
        # The same order each time, another for each feature and reviewer.
        seed = f"{dossier.run.seed}/{dossier.feature}/{reviewer}"
        random.Random(seed.encode("utf-8", "replace")).shuffle(names)
    hidden = (place.blind or place.pair) and not (
        reviewer and all(standing.has_rated(reviewer, name) for name in names)
    )
    series = series_of(explainers_of(dossier))
    cards = tuple(
        _card(dossier, standing, reviewer, texts[name], (series[name], chr(65 + i % 26)), hidden)
        for i, name in enumerate(names)
    )
    record = dossier.record
    peak = record.peak if record else 0.0
    return ReviewView(
        dossier=dossier,
        cards=cards,
        current=_current(cards, place.said),
        hidden=hidden,
        comments=_seen(standing.comments(), reviewer, hidden),
        history=_seen(standing.acts, reviewer, hidden)[::-1],
        standing=standing,
        letters={card.explanation.explainer: card.letter for card in cards},
        n_abstained=n_abstained,
        train=excerpts(record.train, peak, EXCERPTS) if record else (),
        test=excerpts(record.test, peak, EXCERPTS) if record else (),
    )


def _card(
    dossier: Dossier,
    standing: Standing,
    reviewer: str,
    explanation: Explanation,
    sign: tuple[int, str],
    hidden: bool,
) -> Card:
    name, (series, letter) = explanation.explainer, sign
    opinions = standing.opinions(name)
    # Who cannot see another's text has not begun from it.
    heads = _seen(standing.heads(name), reviewer, hidden)
    return Card(
        key=key_of(dossier.run.id, dossier.row, name),
        letter=letter,
        explanation=explanation,
        said=said_of(dossier, name, series),
        mine=opinions.get(reviewer, Opinion()),
        others=tuple(
            (who, opinion)
            for who, opinion in sorted(opinions.items())
            if who != reviewer and not hidden
        ),
        comments=_seen(standing.comments(name), reviewer, hidden),
        heads=heads,
        base=" ".join(str(head.id) for head in heads),
        text=heads[-1].value if heads else explanation.text,
    )


def _seen(acts: Sequence[Act], reviewer: str, hidden: bool) -> tuple[Act, ...]:
    return tuple(act for act in acts if not hidden or act.reviewer == reviewer)


def _current(cards: Sequence[Card], asked: str) -> str:
    if any(card.key == asked for card in cards):
        return asked
    unrated = [card.key for card in cards if card.mine.rating is None]
    return next(iter([*unrated, *(card.key for card in cards)]), "")


def next_after(view: ReviewView, key: str, kind: ActKind) -> str:
    """The card to go on with after an act of that `kind` on the card `key`.

    After a rating it is the next without one; after anything else the same.
    """
    if kind is not ActKind.RATING:
        return key
    keys = [card.key for card in view.cards]
    start = keys.index(key) + 1 if key in keys else 0
    ordered = [*view.cards[start:], *view.cards[:start]]
    return next((card.key for card in ordered if card.mine.rating is None), key)

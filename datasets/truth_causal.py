"""The library of planted features that act on the output, or look as if, and their records.

What a feature does to the output cannot be seen in text: these can be told apart by interventions
alone. Of some that do nothing, even the output direction looks as if they did. Beside them are
features of which nothing can be said at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from glossator.datasets.corpora import Corpus
from glossator.datasets.next_words import PIECES, NextWords
from glossator.datasets.truth import LIBRARY, Ground, plant
from glossator.datasets.truth_effects import (
    FEWER,
    NONE,
    Astray,
    Causal,
    Effect,
    Scattered,
    Supposed,
)
from glossator.types import FeatureRecord

SITE = "causal"
OUTPUT_ONLY, BOTH, ALIKE, FALLING, NO_RULE = (
    "output only",
    "trigger and output",
    "alike, one acts",
    "words fall",
    "no rule",
)

EFFECTS = tuple(
    Effect(text, tuple(words.split()))
    for text, words in (
        ("names of animals, such as horse and bird",
         "horse bird cat fish cow sheep pig lion bear wolf"),
        ("names of countries, such as France and China",
         "France China India Spain Italy Japan Russia Canada Germany Brazil"),
        ("what people eat and drink, such as cheese and milk",
         "cheese milk meat rice wine beer soup cake sugar butter"),
        ("pieces of clothing, such as shirt and coat",
         "shirt coat shoes hat dress jacket trousers socks gloves boots"),
        ("words for feelings, such as joy and fear",
         "joy fear anger love hate pride shame grief hope happiness"),
        ("names of tools, such as hammer and knife",
         "hammer knife axe drill rope nail ladder shovel brush scissors"),
        ("names of plants, such as tree and grass",
         "tree grass flower leaf rose oak bush seed root moss"),
        ("things to travel in, such as train and boat",
         "train boat car bus truck ship plane bicycle van taxi"),
        ("words for metals and other materials, such as iron and glass",
         "iron glass silver copper steel marble clay sand brick wool"),
        ("names of jobs, such as lawyer and nurse",
         "lawyer nurse farmer baker cook judge engineer writer painter sailor"),
        ("pieces of furniture, such as chair and bed",
         "chair bed sofa desk shelf bench cupboard couch stool mirror"),
        ("words for shapes, such as circle and square",
         "circle square triangle cube ring cross arch spiral cone curve"),
        ("words for how large a thing is, such as huge and tiny",
         "huge tiny giant vast narrow broad thick thin tall short"),
        ("words for how a thing tastes, such as sweet and bitter",
         "sweet bitter sour salty spicy fresh stale smoky bland juicy"),
        ("first names of women, such as Mary and Emma",
         "Mary Emma Jane Sarah Alice Julia Laura Helen Ruth Clara"),
        ("names of languages, such as English and Latin",
         "English Latin French German Spanish Greek Arabic Dutch Polish Hebrew"),
        ("words for sounds, such as noise and whisper",
         "noise whisper bang echo scream bell thunder whistle hum roar"),
        ("parts of a building, such as roof and wall",
         "roof wall floor ceiling stairs kitchen cellar attic chimney gate"),
    )
)  # fmt: skip
"""No word is in two of them."""

_BOTH = (
    "names of colours, such as red, green and white",
    "verbs of speaking, such as said, told and asked",
    "words that end in -ing",
    "numbers written in digits",
    "words inside round brackets",
    "words about war and armies, such as war, army and soldiers",
    "contractions with not, such as don't and isn't",
    'words with a capital letter right behind the word "the"',
    'the word "because"',
    "words that begin with re-",
)
_ALIKE = (
    "names of months, such as March and October",
    "words for relatives, such as father, wife and son",
    "words that end in -ly",
    "words inside quotation marks",
    "words about songs and those who make them, such as music, band and album",
    'the word "not" behind a form of to be, to do or to have',
)
_FALLING = ("prepositions of direction, such as from, into and through", "words that end in -ed")
_BY_NAME = {feature.name: feature for feature in LIBRARY}


def _others(i: int) -> tuple[Effect, Effect]:
    return EFFECTS[(i + 5) % len(EFFECTS)], EFFECTS[(i + 9) % len(EFFECTS)]


def _unrelated(trigger: str, number: int, effect: str) -> Supposed:
    other = (*_BOTH, *_ALIKE)[number % (len(_BOTH) + len(_ALIKE))]
    other = other if other != trigger else _FALLING[0]
    return Supposed(other, effect, Astray.UNRELATED)


def _acting(trigger: str, i: int, group: str, *, falls: bool = False, twin: str = "") -> Causal:
    about = _BY_NAME[trigger]
    effect, (one, other) = replace(EFFECTS[i], falls=falls), _others(i)
    wrong = [
        Supposed(trigger, one.said, Astray.WRONG_EFFECT),
        Supposed(trigger, replace(effect, falls=not falls).said, Astray.REVERSED),
        Supposed(trigger, NONE, Astray.OVERLOOKED),
        *(Supposed(near.text, effect.said, Astray.WRONG_TRIGGER) for near in about.near),
        _unrelated(trigger, i + 3, other.said),
    ]
    name = f"{trigger} -> {effect.said}"
    return Causal(name, group, about.true.rule, about.true, effect, None, tuple(wrong), twin)


def _inert(trigger: str, i: int, twin: str) -> Causal:
    about = _BY_NAME[trigger]
    effect, (one, _) = EFFECTS[i], _others(i)
    wrong = [
        Supposed(trigger, effect.said, Astray.NOT_THERE),
        Supposed(trigger, one.said, Astray.NOT_THERE),
        *(Supposed(near.text, NONE, Astray.WRONG_TRIGGER) for near in about.near),
        _unrelated(trigger, i + 3, NONE),
    ]
    name = f"{trigger} -> nothing"
    seems = effect if i % 4 == 1 else None
    return Causal(name, ALIKE, about.true.rule, about.true, None, seems, tuple(wrong), twin)


def _pair(trigger: str, i: int) -> tuple[Causal, Causal]:
    acting = _acting(trigger, i, ALIKE, twin=f"{trigger} -> nothing")
    return acting, _inert(trigger, i, acting.name)


def _output_only(i: int) -> Causal:
    effect, (one, other) = EFFECTS[i], _others(i)
    trigger = _BOTH[i % len(_BOTH)]
    wrong = (
        Supposed("", one.said, Astray.WRONG_EFFECT),
        Supposed("", replace(effect, falls=True).said, Astray.REVERSED),
        Supposed(trigger, NONE, Astray.OVERLOOKED),
        Supposed(trigger, effect.said, Astray.WRONG_TRIGGER),
        _unrelated(trigger, i + 3, other.said),
    )
    rule = Scattered(1000 + i, 0.008 + 0.002 * (i % 4))
    return Causal(f"scattered {i} -> {effect.said}", OUTPUT_ONLY, rule, None, effect, None, wrong)


def _no_rule(i: int) -> Causal:
    effect, _ = _others(i)
    trigger = _ALIKE[i % len(_ALIKE)]
    wrong = (
        Supposed(trigger, NONE, Astray.WRONG_TRIGGER),
        Supposed(trigger, effect.said, Astray.NOT_THERE),
        Supposed("", effect.said, Astray.NOT_THERE),
    )
    rule = Scattered(2000 + i, 0.008 + 0.003 * (i % 5))
    return Causal(f"scattered {i} -> nothing", NO_RULE, rule, None, None, None, wrong)


CAUSAL: tuple[Causal, ...] = (
    *(_output_only(i) for i in range(8)),
    *(_acting(trigger, 17 - i, BOTH) for i, trigger in enumerate(_BOTH)),
    *(one for i, trigger in enumerate(_ALIKE) for one in _pair(trigger, (2 * i + 1) % 18)),
    *(_acting(trigger, 4 + i, FALLING, falls=True) for i, trigger in enumerate(_FALLING)),
    *(_no_rule(i) for i in range(12)),
)


@dataclass(frozen=True)
class CausalGround:
    """Planted features that act, their records on one text, and what comes next in it."""

    features: tuple[Causal, ...]
    ground: Ground
    """The same features by their activations."""
    words: NextWords

    def pairs(self) -> Iterator[tuple[Causal, FeatureRecord]]:
        """Each feature with its record."""
        return zip(self.features, self.ground.records, strict=True)


def plant_causal(
    features: Sequence[Causal], corpus: Corpus, *, tokens: int | None = 200_000, seed: int = 0
) -> CausalGround:
    """The records of `features` on `corpus`, as `plant` makes them.

    Feature number i has the id `planted//causal/i`. What comes next is learned from the documents
    that a record has a window of.

    Raises:
        ConfigError: if two features have the same name.
    """
    found = plant([feature.planted for feature in features], corpus, tokens=tokens, seed=seed)
    records = tuple(
        replace(record, feature=replace(record.feature, site=SITE)) for record in found.records
    )
    extra = [f" {word}" for effect in EFFECTS for word in effect.words]
    words = NextWords.of(found.documents.values(), [*extra, *PIECES])
    return CausalGround(tuple(features), replace(found, records=records), words)


def effects() -> dict[str, Effect]:
    """Every description of an effect by its text, risen and fallen."""
    both = (*EFFECTS, *(replace(effect, falls=True) for effect in EFFECTS))
    return {effect.said: effect for effect in both}


def opposite(said: str) -> str:
    """What says of the same words that they change the other way."""
    return said.removeprefix(FEWER) if said.startswith(FEWER) else FEWER + said

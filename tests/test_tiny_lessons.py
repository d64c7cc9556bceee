"""What the simulator `tiny` is trained on: rules, examples, what is held out, and the training."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch

from glossator.datasets.planted import word_pieces
from glossator.datasets.pools import Document
from glossator.datasets.truth import LIBRARY
from glossator.datasets.truth_rules import Page
from glossator.scorers.tiny.lessons.closed import closed_concepts
from glossator.scorers.tiny.lessons.concept import Concept, concept
from glossator.scorers.tiny.lessons.examples import example, examples, on_tokens
from glossator.scorers.tiny.lessons.forms import form_concepts
from glossator.scorers.tiny.lessons.held_out import (
    FAMILIES,
    is_held_out,
    parted,
    said_plainly,
    without_planted,
)
from glossator.scorers.tiny.lessons.library import Shelf, fired_by
from glossator.scorers.tiny.lessons.made_up import made_up
from glossator.scorers.tiny.lessons.real import Tally, real_features
from glossator.scorers.tiny.lessons.rules import (
    Again,
    Closing,
    Either,
    Except,
    Follows,
    Later,
    Like,
    Listed,
    Numbered,
    Rule,
    Sentence,
    Spanned,
    words,
)
from glossator.scorers.tiny.lessons.source import Lessons
from glossator.scorers.tiny.lessons.vocabulary import plural, present
from glossator.scorers.tiny.lessons.wordnet import FOLDER, load_wordnet
from glossator.scorers.tiny.train import TrainSettings, batch_of, loss_of, train
from glossator.scorers.tiny.validation import Judged, quality
from glossator.scorers.tiny.weights import base_weights
from glossator.types import SILENT, TOP, Example, Pool, Split

TEXT = "He ate 2 apples, then two pears. The apples were red! We paid $5.50 for the pears."


def fired(rule: Rule, text: str = TEXT) -> list[str]:
    page = Page(word_pieces(text))
    return [w for w, value in zip(page.bare, rule.values(page), strict=True) if value > 0]


# -- rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (words("apples pears"), ["apples", "pears", "apples", "pears"]),
        (words("The", cased=True), ["The"]),
        (Like(r"[A-Z]\w*"), ["He", "The", "We"]),
        (Spanned(r"\$\d+\.\d+"), ["$", "5", ".", "50"]),
        (Spanned(r"\$\d+\.\d+", "last"), ["50"]),
        (Spanned(r"apples,", "first"), ["apples"]),
        (Follows(words("pears"), (words("the"),)), ["pears"]),
        (Follows(words("were"), (words("the"), words("apples"))), ["were"]),
        (Later(words("pears"), words("then")), ["pears"]),
        (Later(words("pears"), words("then"), sentence=False), ["pears", "pears"]),
        (Except(words("apples pears"), words("pears")), ["apples", "apples"]),
        (Either((words("red"), words("ate"))), ["ate", "red"]),
        (Closing(), ["pears", "red", "pears"]),
        (Closing(mark=True), [".", "!", "."]),
        (Numbered(3, 3), ["were", "5", "the"]),
        (Again(4), ["apples", "pears"]),
    ],
)
def test_rules_fire_on_the_words_they_mean(rule: Rule, fits: list[str]) -> None:
    assert fired(rule) == fits


def test_a_sentence_fires_weakly_around_its_cue() -> None:
    page = Page(word_pieces("Red is nice. Blue it is."))
    values = Sentence(words("red"), rest=0.35).values(page)
    assert values == [1.0, 0.35, 0.35, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_what_can_fire_a_rule_is_known_by_its_words() -> None:
    assert fired_by(Except(words("a b"), words("b"))) == {"a", "b"}
    assert fired_by(Either((words("a"), Follows(words("c"), (words("d"),))))) == {"a", "c"}
    assert fired_by(Like("a")) is None


def test_english_forms() -> None:
    assert [plural(w) for w in ("city", "box", "day", "sweet pea")] == [
        *("cities", "boxes", "days", "sweet peas"),
    ]
    assert [present(v) for v in ("run", "make", "see", "lie", "give up", "hold")] == [
        *("running", "making", "seeing", "lying", "giving up", "holding"),
    ]


# -- concepts --------------------------------------------------------------------------------------


def test_phrases_of_a_concept_are_whole() -> None:
    for found in (*closed_concepts(), *form_concepts()):
        assert found.phrases
        assert all(phrase.strip() == phrase != "" for phrase in found.phrases), found


def test_made_up_texts_have_what_the_corpus_lacks() -> None:
    texts = [made_up(Random(i)) for i in range(60)]
    by_name = {c.name: c.rule for c in form_concepts()}
    for name in ("code: HTML tags", "code: LaTeX commands", "formats: dates", "formats: prices"):
        assert any(fired(by_name[name], text) for text in texts), name


def test_nothing_that_the_bench_plants_is_kept() -> None:
    page = Page(word_pieces(" ".join([TEXT, *(f.true.rule.scrap(Random(0)) for f in LIBRARY)] * 4)))
    taken = LIBRARY[0].true
    ending = concept("suffixes", "words ending in -ing", Like(r"(?i)\w{2,}ing"))
    saying = concept("x", f"something | {taken.text.upper()}", words("nothing"))
    fine = concept("x", "words for fruit", words("apples pears"))
    assert without_planted([ending, saying, fine], page) == [fine]


def test_no_phrase_of_the_lists_is_a_planted_description() -> None:
    planted = {said_plainly(c.text) for f in LIBRARY for c in (f.true, *f.near)}
    page = Page(word_pieces(TEXT))
    kept = without_planted([*closed_concepts(), *form_concepts()], page)
    assert not planted & {said_plainly(phrase) for c in kept for phrase in c.phrases}


def test_families_are_held_out_whole_and_with_what_is_like_them() -> None:
    food = concept("noun.food", "names of dishes", words("soup bread rice pie"))
    near = concept("topics", "what one eats", words("soup bread rice"))
    said = concept("topics", "names of dishes | meals", words("lunch supper"))
    other = concept("topics", "topic of ships", words("ship deck sail"))
    assert "noun.food" in FAMILIES
    assert parted([food, near, said, other]) == ([other], [food])
    assert is_held_out(food)


# -- examples --------------------------------------------------------------------------------------


def test_a_token_has_the_value_of_the_word_it_shows() -> None:
    page = Page(word_pieces("the  unbelievable, red\n"))
    values = words("unbelievable red").values(page)
    tokens = ["the", " ", " un", "believ", "able", ",", " red", "\n"]
    found, last = on_tokens(values, page, tokens)
    assert found == [0, 0, 1, 1, 1, 0, 1, 0]
    assert last == [True, True, False, False, True, True, True, True]


def test_activations_are_graded_and_lie_where_the_rule_says() -> None:
    graded = Concept("x", "x", ("reds",), Listed((("red", 1.0), ("pink", 0.3))))
    tokens = [" red", " pink", " sky"] * 40
    page = Page(word_pieces("".join(tokens)))
    found = example("reds", graded, tokens, page, "true", Random(0)).activations
    means = [sum(found[i::3]) / 40 for i in range(3)]
    assert means[0] > 1.5 * means[1] > 10 * means[2]
    assert all(0 <= a <= 10 for a in found)


class ByWords:
    """A subject's tokenizer that cuts words."""

    def __call__(self, text: str, **_: object) -> dict[str, list[tuple[int, int]]]:
        found, at = [], 0
        for piece in word_pieces(text):
            found.append((at, at + len(piece)))
            at += len(piece)
        return {"offset_mapping": found}


DOCUMENTS = [
    Document.of(f"{TEXT} They saw {n} cats and a dog in the old town." * 3, "x") for n in range(6)
]
SHELF = Shelf(tuple(c for c in closed_concepts() if c.family in ("nature", "grammar", "number")))


def test_a_window_comes_with_descriptions_that_fire_and_others() -> None:
    groups = list(islice(examples(SHELF, DOCUMENTS, ByWords(), 1), 60))
    again = list(islice(examples(SHELF, DOCUMENTS, ByWords(), 1), 60))
    assert groups == again
    assert groups != list(islice(examples(SHELF, DOCUMENTS, ByWords(), 2), 60))
    assert all(len({e.tokens for e in group}) == 1 for group in groups)
    silent = [not any(e.activations) for group in groups for e in group]
    assert 0.2 < sum(silent) / len(silent) < 0.8


def test_a_real_feature_is_told_by_the_concept_that_fits_it() -> None:
    def seen(text: str) -> Example:
        tokens = tuple(word_pieces(text))
        acts = tuple(3.0 * (t.strip() in ("rain", "snow", "storm")) for t in tokens)
        fires = any(acts)
        return Example(tokens, acts, "d", 0, TOP if fires else SILENT, 1.0)

    texts = ["the rain fell", "a storm came", "snow and wind", "he ran home", "we ate soup"] * 3
    all_of = [seen(text) for text in texts]
    split = Split(
        Pool.TRAIN,
        0.0,
        tuple(e for e in all_of if any(e.activations)),
        tuple(e for e in all_of if not any(e.activations)),
    )
    weather = concept("nature", "words for the weather", words("rain snow storm wind fog"))
    meals = concept("nature", "meals", words("soup dinner"))
    (found,) = real_features([("f", split)], Shelf((weather, meals)))
    assert "words for the weather" in found.phrases
    assert "meals" not in found.phrases
    assert max(a for _, acts in found.windows for a in acts) == 10
    assert Tally.of(split).correlation({"rain": 1.0, "snow": 1.0, "storm": 1.0}) == pytest.approx(1)


@pytest.mark.skipif(not (FOLDER / "data.noun").is_file(), reason="needs Debian's wordnet-base")
def test_wordnet_knows_what_words_mostly_mean() -> None:
    net = load_wordnet()
    fruit = next(k for k, s in net.synsets.items() if s.lemmas[0] == "edible fruit")
    share = sum(v for k, v in net.shares("apples").items() if fruit in net.ancestors(k))
    assert share > 0.5
    assert sum(net.shares("running").values()) == pytest.approx(1)
    assert ("go", "v") in set(net.lemmas("went"))


# -- training --------------------------------------------------------------------------------------


def test_figures_of_tokens_have_known_values() -> None:
    judged = [Judged("a", (0.0, 4.0), (0.1, 0.9)), Judged("a", (0.0, 2.0), (0.3, 0.2))]
    found = quality(judged)
    assert (found.n, found.firing) == (2, 0.5)
    assert found.auprc == pytest.approx((1 + 2 / 3) / 2)


def taught() -> Lessons:
    return Lessons(SHELF, SHELF, DOCUMENTS, DOCUMENTS, ByWords())


@pytest.mark.assets
def test_training_that_was_cut_off_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    base = base_weights()
    settings = TrainSettings(
        steps=4, windows=2, each=2, chunk=3, warmup=1, checkpoint=2, validate=100, n_validation=2
    )
    whole = train(taught(), settings, tmp_path / "whole", base)
    part = tmp_path / "part"
    train(taught(), settings, part, base, stop=2)
    resumed = train(taught(), settings, part, base)
    for name, tensor in whole.state_dict().items():
        assert torch.allclose(tensor, resumed.state_dict()[name], atol=1e-6), name
    assert (part / "tiny.safetensors").is_file()


@pytest.mark.assets
def test_the_loss_is_least_where_the_activations_are_right() -> None:
    from glossator.scorers.tiny.network import halves

    tokenizer, weights = base_weights()
    lower, _ = halves(weights)
    group = next(g for g in examples(SHELF, DOCUMENTS, ByWords(), 1) if any(g[0].activations))
    batch = batch_of(group, tokenizer, lower)
    level = torch.logit((batch.wanted / 10).clamp(1e-4, 1 - 1e-4))
    fires = torch.where(batch.wanted > 0, 8.0, -8.0)
    right = torch.stack([level, fires], dim=-1)
    best = loss_of(right, batch, graded=True)
    for wrong in (right.flip(0), -right, torch.zeros_like(right)):
        assert loss_of(wrong, batch, graded=True) > best

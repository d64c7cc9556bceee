from __future__ import annotations

import asyncio
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.datasets.planted import collect_planted
from glossator.errors import ConfigError, ReplyError
from glossator.explainers.build import build_explainer, needs_llm
from glossator.explainers.excerpts import excerpt, marked_words, marks, shown, to_tenths
from glossator.explainers.max_act import PREFILL, MaxActExplainer, parse, prompt
from glossator.explainers.unigram import UnigramExplainer, mean_activations
from glossator.llm import Reply, ScriptedLLM
from glossator.scorers.nulls import Wrong
from glossator.scorers.simulation import SimulationScorer
from glossator.scorers.symbolic import SymbolicSimulator
from glossator.types import SILENT, TOP, Example, FeatureId, FeatureRecord, Pool, Split, Usage
from tests.tiny_llama import some_texts

FEATURE = FeatureId("m", "s", 0)


def example(
    tokens: str | tuple[str, ...],
    activations: tuple[float, ...],
    document: str = "d",
    stratum: str = TOP,
    weight: float = 1.0,
    start: int = 0,
) -> Example:
    cut = tuple(re.findall(r"\s*\S+", tokens)) if isinstance(tokens, str) else tokens
    return Example(cut, activations, document, start, stratum, weight)


# -- excerpts --------------------------------------------------------------------------------------


def test_what_fires_is_marked_and_neighbours_share_a_mark() -> None:
    found = example("a red door in New York today", (0, 3.0, 0, 0, 2.0, 2.0, 1.4))
    assert excerpt(found, 0.5) == "a <<red>> door in <<New York>> today"
    assert excerpt(found, 0.5, values=4.0) == "a <<red>>(7) door in <<New York>>(5) today"
    assert excerpt(found, 2.5) == "a <<red>> door in New York today"
    assert marked_words([found], 0.5, 9) == [("red", 1), ("New York", 1)]


def test_subword_tokens_are_marked_inside_their_word() -> None:
    found = example(("we", " sh", "out", "ed"), (0, 0, 1.0, 0))
    assert excerpt(found, 0) == "we sh<<out>>ed"


def test_an_excerpt_is_ten_tokens_before_the_strongest_and_five_behind() -> None:
    tokens = tuple(f" {i}" for i in range(32))
    peak_at_20 = example(tokens, tuple(float(i == 20) for i in range(32)))
    assert excerpt(peak_at_20, 0).split() == [
        *map(str, range(10, 20)),
        "<<20>>",
        *map(str, range(21, 26)),
    ]
    assert excerpt(example(tokens, (1.0,) + (0.0,) * 31), 0).startswith("<<0>> 1")


def test_white_space_that_fires_can_be_seen() -> None:
    found = example(("one", "\n\n", "two", "\t", " three"), (0, 1.0, 0, 0, 0))
    assert excerpt(found, 0) == "one<<\u23ce>>two three"
    assert marked_words([found], 0, 9) == [("\u23ce", 1)]


pieces = st.one_of(
    st.sampled_from(
        ["<", ">", "<<", ">>", " <", " word", "\n", "<<a>>", ">>(10)", "\u2028", "\x85"]
    ),
    st.text(min_size=1, max_size=4),
)


@given(st.lists(st.tuples(pieces, st.sampled_from([0.0, 0.4, 0.6, 1.0])), min_size=1, max_size=6))
def test_marks_in_corpus_text_are_neutralised_and_nothing_leaves_its_line(
    drawn: list[tuple[str, float]],
) -> None:
    tokens, activations = tuple(t for t, _ in drawn), tuple(a for _, a in drawn)
    if max(activations) == 0:
        return
    # Single brackets may stand beside a mark, so they are left out of this.
    tokens = tuple(t if t.count("<") + t.count(">") != 1 else "x" for t in tokens)
    found = example(tokens, activations)
    text = excerpt(found, 0)
    assert len(text.splitlines()) <= 1
    marked = marks(found, 0)
    runs = sum(m and not before for m, before in zip(marked, [False, *marked], strict=False))
    assert text.count("<<") == text.count(">>") == runs
    for words in marked_words([found], 0, 9):
        assert len(words[0].splitlines()) == 1
        assert "<<" not in words[0]
        assert ">>" not in words[0]


def test_a_mark_spread_over_tokens_is_neutralised() -> None:
    found = example(("<", "<", "evil", ">", ">", " good"), (0, 0, 0, 0, 0, 1.0))
    assert excerpt(found, 0) == "\u2039\u2039evil\u203a\u203a <<good>>"


@given(st.floats(-5, 50), st.floats(0.01, 20))
def test_tenths_are_rounded_down_and_stay_in_their_range(activation: float, peak: float) -> None:
    found = to_tenths(activation, peak)
    assert 0 <= found <= 10
    assert found <= max(0.0, 10 * activation / peak) + 1e-9
    assert to_tenths(peak, peak) == 10
    assert to_tenths(activation, 0) == 0


# -- which windows are shown -----------------------------------------------------------------------

firing = st.lists(
    st.tuples(st.sampled_from([TOP, "q1", "q2", "q3", "q4", "q5"]), st.integers(0, 9)), max_size=25
)


def split_of(drawn: list[tuple[str, int]]) -> Split:
    examples = [
        example((" a",), (100.0 - i,), f"d{document}", stratum, start=i)
        for i, (stratum, document) in enumerate(drawn)
    ]
    return Split(Pool.TRAIN, 0.0, tuple(examples))


@given(firing, st.integers(0, 15))
def test_never_more_than_asked_never_twice_and_all_there_are_if_few(
    drawn: list[tuple[str, int]], n: int
) -> None:
    train = split_of(drawn)
    found = shown(train, n)
    assert len(found) == min(n, len(drawn))
    assert len({e.key for e in found}) == len(found)
    assert [e.peak for e in found] == sorted((e.peak for e in found), reverse=True)
    # No two of one document while there are others.
    documents = {e.document for e in train.firing}
    assert len({e.document for e in found}) == min(len(found), len(documents))


def test_windows_come_from_several_strata() -> None:
    drawn = [(s, 0) for s in (TOP,) * 20 + ("q5",) * 10 + ("q4",) * 10 + ("q1",) * 10]
    train = split_of([(s, i) for i, (s, _) in enumerate(drawn)])
    strata = [e.stratum for e in shown(train, 10)]
    assert (strata.count(TOP), strata.count("q5"), strata.count("q4")) == (7, 2, 1)
    assert {e.stratum for e in shown(train, 3)} == {TOP, "q5"}


# -- max-act ---------------------------------------------------------------------------------------


def river(tokens: list[str]) -> list[float]:
    return [2.0 * (t.strip() == "river") + 0.5 * (t.strip() == "bridge") for t in tokens]


@pytest.fixture(scope="module")
def record() -> FeatureRecord:
    return collect_planted({"river": river}, texts=some_texts(400, 80, seed=5))[0]


def test_the_prompt_holds_train_texts_only(record: FeatureRecord) -> None:
    llm = ScriptedLLM([Reply(f"{PREFILL} rivers.", usage=Usage(calls=1, cost=0.25))])
    explainer = MaxActExplainer(llm)
    found = asyncio.run(explainer.explain(record.feature, record.train))
    assert (found.text, found.explainer, found.model) == ("rivers", "max-act", "scripted")
    assert found.usage.cost == 0.25
    (request,) = llm.requests
    asked = request.messages[-1].content
    numbered = [line for line in asked.splitlines() if re.match(r"\d+\. ", line)]
    assert len(numbered) == 10

    def bare(text: str) -> str:
        return " ".join(text.split())

    train = [bare(e.text) for e in record.train.firing]
    closed = [bare(e.text) for e in (*record.dev.examples, *record.test.examples)]
    for line in numbered:
        text = bare(re.sub(r"^\d+\. |<<|>>", "", line))
        assert any(text in t for t in train)
        assert not any(text in t for t in closed) or len(text) < 40
    assert set(re.findall(r"<<(.*?)>>", asked)) <= {"river", "river river", "river river river"}
    assert '"river" (' in asked
    # No activation is in the prompt: of 2.0 and 0.5 there is nothing.
    assert "2.0" not in asked
    assert "0.5" not in asked
    assert request.messages == prompt(record.train, 10)


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("The neuron reacts to names of cities.", "names of cities"),
        ("the neuron reacts to: names of cities", "names of cities"),
        ("names of cities\n\nmore text", "names of cities"),
        ('"names of cities"', "names of cities"),
        ('The neuron reacts to the word "out".', 'the word "out"'),
        ('"a" and "b"', '"a" and "b"'),
        ("The neuron reacts to marks such as ,.", "marks such as ,"),
        ('The neuron reacts to ",".', '","'),
        ("  \n**The neuron reacts to** x", "x"),
        ("The neuron reacts to numbers over 5,000.", "numbers over 5,000"),
        (
            "sums such as 1,000, 20,000 and 1,000,000",
            "sums such as 1,000, 20,000 and 1,000,000",
        ),
        ("years, 1990,years", "years, 1990"),
    ],
)
def test_a_phrase_is_read(reply: str, wanted: str) -> None:
    assert parse(reply).lstrip("* ") == wanted


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        (
            'the words "a", "b", "c", "d", "e", "f", "g", "',
            'the words "a", "b", "c", "d", "e", "f"',
        ),
        ('words such as "a", "a", "b", "expec', 'words such as "a", "b"'),
        ('the word "a, b" or "expec', 'the word "a, b"'),
        ('the word "expec', 'the word "expec'),
        ("red, green and blue, bro", "red, green and blue"),
    ],
)
def test_a_list_that_was_cut_off_ends_with_its_last_whole_item(reply: str, wanted: str) -> None:
    assert parse(reply, cut_off=True) == wanted


@pytest.mark.parametrize(
    "reply", ["", " \n ", "The neuron reacts to", "The neuron reacts to .", "?"]
)
def test_no_phrase_is_an_error_that_keeps_what_it_cost(reply: str) -> None:
    paid = Usage(calls=1, cost=0.5)
    llm = ScriptedLLM([Reply(reply, usage=paid)] * 3)
    train = split_of([(TOP, 1)])
    with pytest.raises(ReplyError) as caught:
        asyncio.run(MaxActExplainer(llm).explain(FEATURE, train))
    assert caught.value.reply == reply
    assert caught.value.usage == paid + paid + paid
    assert "it holds no explanation" in llm.requests[-1].messages[-1].content


@given(st.text(max_size=100))
def test_any_reply_is_a_short_line_or_a_reply_error(reply: str) -> None:
    try:
        found = parse(reply)
    except ReplyError:
        return
    assert found.strip()
    assert "\n" not in found
    assert len(found) <= 400


def test_nothing_that_fires_is_an_abstention_and_asks_nobody() -> None:
    llm = ScriptedLLM([])
    silent = example("a b", (0.0, 0.0), stratum=SILENT)
    for explainer in (MaxActExplainer(llm), UnigramExplainer()):
        found = asyncio.run(explainer.explain(FEATURE, Split(Pool.TRAIN, 0.0, (), (silent,))))
        assert not found.text
        assert "nothing fires" in found.abstained
    assert not llm.requests


def test_who_needs_a_model_says_so() -> None:
    assert needs_llm("max-act")
    assert not needs_llm("unigram")
    with pytest.raises(ConfigError, match="--llm"):
        build_explainer("max-act")
    built = build_explainer("max-act", ScriptedLLM([]), n_shown=3)
    assert isinstance(built, MaxActExplainer)
    assert built.n_shown == 3


# -- unigram ---------------------------------------------------------------------------------------


def test_unigram_names_the_planted_words_and_symbolic_predicts_with_them(
    record: FeatureRecord,
) -> None:
    found = asyncio.run(UnigramExplainer().explain(record.feature, record.train))
    assert [w.strip() for w, _ in found.words[:2]] == ["river", "river"] or (
        found.words[0][0] == " river"
    )
    assert {w.strip() for w, _ in found.words} == {"river", "bridge"}
    assert found.text == 'the tokens "river", "bridge"'
    means = dict(found.words)
    assert means[" river"] == pytest.approx(2, rel=0.1)
    assert means[" bridge"] == pytest.approx(0.5, rel=0.1)
    scorer = SimulationScorer(SymbolicSimulator(), Wrong("shuffled", ()))
    score = asyncio.run(scorer.score(found, record.test, record.dev))
    assert score.value is not None
    assert score.value > 0.99
    r2 = score.measures["R2, line fitted on dev"].value
    assert r2 is not None
    assert r2 > 0.97


def test_means_are_weighted_by_what_a_window_stands_for() -> None:
    loud = example((" a", " b"), (4.0, 0.0), weight=1.0)
    quiet = example((" a", " b"), (0.0, 0.0), "e", SILENT, weight=99.0)
    means = dict(mean_activations(Split(Pool.TRAIN, 0.0, (loud,), (quiet,))))
    middle = 4 / 200
    assert means == {" a": pytest.approx((4 + 1 * middle) / (100 + 1))}


def test_a_rare_token_is_drawn_to_the_mean_and_a_common_one_is_not() -> None:
    examples = [example((" common",), (3.0,), f"d{i}", "q1", 10.0, i) for i in range(50)]
    rare = example((" rare",), (3.0,), "x", TOP, 1.0)
    quiet = [example((" other",) * 9, (0.0,) * 9, f"s{i}", SILENT, 20.0, i) for i in range(50)]
    means = dict(mean_activations(Split(Pool.TRAIN, 0.0, (rare, *examples), tuple(quiet))))
    assert means[" common"] > 2.9
    assert means[" rare"] < 1.0
    assert " other" not in means


@given(st.integers(0, 500))
def test_means_lie_between_the_least_and_the_greatest_and_fall(seed: int) -> None:
    chance = np.random.default_rng(seed)
    firing_ = tuple(
        example(
            tuple(f" {w}" for w in chance.choice(["a", "b", "c", "d"], 3)),
            tuple(map(float, chance.random(3) + 0.1)),
            f"d{i}",
            "q1",
            float(chance.random() + 0.1),
            i,
        )
        for i in range(6)
    )
    found = mean_activations(Split(Pool.TRAIN, 0.0, firing_))
    values = [v for _, v in found]
    assert values == sorted(values, reverse=True)
    everything = [a for e in firing_ for a in e.activations]
    assert all(min(everything) <= v <= max(everything) for v in values)
    reversed_ = mean_activations(Split(Pool.TRAIN, 0.0, firing_[::-1]))
    assert dict(reversed_) == pytest.approx(dict(found))

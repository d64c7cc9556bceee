from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glossator.errors import ReplyError, Unsupported
from glossator.llm import Can, Reply, Request, ScriptedLLM
from glossator.scorers import contrast, judge, layout, logprob, reply
from glossator.scorers.contrast import ContrastSimulator, log_odds
from glossator.scorers.lexical import LexicalSimulator, words_of
from glossator.scorers.logprob import LogprobSimulator, expected
from glossator.scorers.reply import ReplySimulator, parse
from glossator.scorers.symbolic import SymbolicSimulator
from glossator.types import Explanation, FeatureId, Scale, Usage

FEATURE = FeatureId("m", "s", 0)


def said(text: str, words: tuple[tuple[str, float], ...] = ()) -> Explanation:
    return Explanation(FEATURE, text, "human", words=words)


def lexical(text: str, *tokens: str) -> list[float]:
    found = asyncio.run(LexicalSimulator().simulate(said(text), tokens))
    assert found.scale is Scale.TENTHS
    return [v / 10 for v in found.predicted]


# -- lexical ---------------------------------------------------------------------------------------


def test_words_match_by_stem_and_without_case() -> None:
    assert lexical("verbs of running", " Runs", " ran", " RUN", " walk") == [1, 0, 1, 0]
    assert lexical("ships and rivers", "ship", " River", " ping") == [1, 1, 0]


def test_words_about_words_and_function_words_count_only_in_quotes() -> None:
    assert lexical("the last word of a name", " the", " last", " word", " name") == [0, 0, 0, 0]
    assert lexical('the word "the"', " the", " The", " word", "other") == [1, 1, 0, 0]
    quoted = "the words \u201cof\u201d, `to` and \u2018in\u2019"
    assert lexical(quoted, " of", " to", " in", " an") == [1, 1, 1, 0]
    assert lexical('commas "," and "!"', ",", "!", ".") == [1, 1, 0]


def test_every_subword_token_is_judged_by_its_whole_word() -> None:
    assert lexical("kittens", " kit", "tens", " kit") == [1, 1, 0]
    assert lexical('the part "out"', " sh", "out", " out") == [0, 1, 1]
    assert words_of((" don", "'t", ".", " go", "\n", "")) == ["don't", "don't", "", "go", "", ""]


@pytest.mark.parametrize("word", ["naïve", "Straße", "Москва", "東京", "İstanbul", "e\u0301tude"])
def test_letters_of_any_script_match_themselves(word: str) -> None:
    predicted = lexical(f"the city {word}", " ", f" {word}", ".", "")
    assert predicted[1] == 1 or word == "e\u0301tude"  # a combining mark ends a word
    assert predicted[0] == predicted[2] == predicted[3] == 0


@given(st.lists(st.text(max_size=6), min_size=1, max_size=12), st.text(min_size=1, max_size=60))
def test_any_text_gets_0_or_10_a_token(tokens: list[str], text: str) -> None:
    if text.strip():
        assert set(lexical(text, *tokens)) <= {0, 1}
    assert len(words_of(tuple(tokens))) == len(tokens)


@given(st.lists(st.sampled_from(["river", "bridge", "Paris", "ship"]), min_size=1, max_size=8))
def test_a_quoted_word_is_found_wherever_it_stands(words: list[str]) -> None:
    tokens = [f" {w}" for w in words]
    assert lexical('the word "Paris"', *tokens) == [float(w == "Paris") for w in words]


# -- symbolic --------------------------------------------------------------------------------------


def test_a_pattern_is_looked_up_as_it_is_and_then_folded() -> None:
    explanation = said("x", ((" Paris", 4.0), (" paris", 1.0), ("ship", 2.5)))
    tokens = (" Paris", " paris", "PARIS", " ship ", "ships", "")
    found = asyncio.run(SymbolicSimulator().simulate(explanation, tokens))
    assert found.predicted == (4, 1, 4, 2.5, 0, 0)
    assert found.scale is Scale.RAW


def test_without_a_pattern_symbolic_says_what_to_use_instead() -> None:
    with pytest.raises(ReplyError, match="lexical"):
        asyncio.run(SymbolicSimulator().simulate(said("x"), ("a",)))


# -- reply -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"1": 0, "2": 7.5}',
        'Here you are:\n```json\n{"1": 0, "2": 7.5}\n```\nDone.',
        '{"2": 7.5, "1": 0}',
        ' \n{"1":0.0,\n"2":7.5}',
    ],
)
def test_a_reply_is_aligned_by_number(text: str) -> None:
    assert parse(text, 2) == (0, 7.5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "{}",
        "[0, 7]",
        '{"1": 0}',
        '{"1": 0, "2": 7, "3": 1}',
        '{"0": 0, "1": 7}',
        '{"1": 0, "1": 7}',
        '{"1": 0, "2": 1, "2": 7}',
        '{"1": 0, "02": 7}',
        '{"1": 0, "2": "10"}',
        '{"1": 0, "2": null}',
        '{"1": 0, "2": true}',
        '{"1": 0, "2": NaN}',
        '{"1": 0, "2": Infinity}',
        '{"1": 0, "2": 1e308}',
        '{"1": 0, "2": 1e999}',
        '{"1": 0, "2": -0.1}',
        '{"1": 0, "2": 10.1}',
        '{"1": 0, "2": ' + "9" * 400 + "}",
        '{"1": 0, "2": ' + "9" * 5000 + "}",
        '{"1": 0, "2": [7]}',
        '{"1": 0, "2": 7',
        '{"1": 0} {"2": 7}',
        "{" * 5000 + "}" * 5000,
        '{"1":' * 5000 + "0" + "}" * 5000,
    ],
)
def test_what_is_no_such_reply_is_an_error_that_keeps_it(text: str) -> None:
    with pytest.raises(ReplyError) as caught:
        parse(text, 2)
    assert caught.value.reply == text[:2000]


values = st.one_of(
    st.integers(-3, 13),
    st.floats(),
    st.just(10**400),
    st.none(),
    st.booleans(),
    st.text(max_size=4),
    st.lists(st.integers(), max_size=2),
)
keys = st.one_of(st.integers(-1, 6).map(str), st.text(max_size=3))
junk = st.one_of(
    st.text(max_size=80),
    st.dictionaries(keys, values, max_size=6).map(json.dumps),
    st.tuples(st.text(max_size=10), st.dictionaries(keys, values, max_size=6)).map(
        lambda pair: f"{pair[0]}```json\n{json.dumps(pair[1])}\n``` {pair[0]}"
    ),
    st.text(alphabet='{}[]":,0123456789eE+-.NaNInfinity\n\\u', max_size=60),
    st.lists(st.integers(0, 10), min_size=3, max_size=4).map(
        lambda v: json.dumps({str(i): x for i, x in enumerate(v, 1)})
    ),
)


@settings(max_examples=2000)
@given(junk, st.integers(1, 5))
def test_junk_gives_values_in_range_or_a_reply_error(text: str, n: int) -> None:
    try:
        found = parse(text, n)
    except ReplyError:
        return
    assert len(found) == n
    assert all(0 <= v <= 10 for v in found)


def test_a_bad_reply_is_asked_again_at_most_twice_and_told_what_was_wrong() -> None:
    paid = Usage(calls=1, prompt_tokens=10, cost=0.5)
    bad, good = Reply("nonsense", usage=paid), Reply('{"1": 3}', usage=paid)
    llm = ScriptedLLM([bad, bad, good])
    found = asyncio.run(ReplySimulator(llm).simulate(said("x"), ("a",)))
    assert found.predicted == (3,)
    assert found.usage == paid + paid + paid
    assert [len(r.messages) for r in llm.requests] == [4, 6, 8]
    assert "no JSON object" in llm.requests[1].messages[-1].content
    assert len({r.digest for r in llm.requests}) == 3
    llm = ScriptedLLM([bad, bad, bad])
    with pytest.raises(ReplyError) as caught:
        asyncio.run(ReplySimulator(llm).simulate(said("x"), ("a",)))
    assert caught.value.usage == paid + paid + paid


# -- logprob and contrast --------------------------------------------------------------------------


def test_the_expected_value_is_over_the_values_alone() -> None:
    quarter = math.log(0.25)
    assert expected([quarter] + [-math.inf] * 9 + [quarter]) == pytest.approx(5)
    assert expected([-800.0] * 10 + [-800 + math.log(3)]) == pytest.approx((45 + 30) / 13)
    assert expected([-math.inf] * 4 + [-1e4] + [-math.inf] * 6) == 4
    with pytest.raises(ReplyError):
        expected([-math.inf] * 11)


@given(st.lists(st.floats(-50, 0), min_size=11, max_size=11), st.floats(-1000, 0))
def test_the_expected_value_does_not_depend_on_the_share_of_other_tokens(
    log_probs: list[float], share: float
) -> None:
    odds = [math.exp(p) for p in log_probs]
    wanted = sum(v * p for v, p in enumerate(odds)) / sum(odds)
    assert expected(log_probs) == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert expected([p + share for p in log_probs]) == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def slot_llm(rows: Sequence[tuple[float, ...]]) -> ScriptedLLM:
    return ScriptedLLM(lambda _: Reply(slots=tuple(rows)), can=frozenset({Can.PROMPT_LOGPROBS}))


def test_logprob_reads_each_slot_and_refuses_missing_ones() -> None:
    sure = [tuple(0.0 if v == k else -math.inf for v in range(11)) for k in (0, 10, 4)]
    found = asyncio.run(LogprobSimulator(slot_llm(sure)).simulate(said("x"), ("a", "b", "c")))
    assert found.predicted == (0, 10, 4)
    for rows in (sure[:2], [*sure, sure[0]], [r[:10] for r in sure], [(), (), ()]):
        with pytest.raises(ReplyError):
            asyncio.run(LogprobSimulator(slot_llm(rows)).simulate(said("x"), ("a", "b", "c")))


def test_a_model_without_prompt_log_probabilities_is_refused_before_anything_is_sent() -> None:
    llm = ScriptedLLM(["never"])
    for part in (LogprobSimulator, ContrastSimulator):
        with pytest.raises(Unsupported, match="reply"):
            part(llm)
    assert not llm.requests


def test_contrast_takes_off_the_mean_log_odds_of_the_others() -> None:
    odds = {"own": (2.0, -1.0), "first": (1.0, 0.0), "second": (3.0, -4.0)}

    def rule(request: Request) -> Reply:
        name = request.messages[-1].content.split("\n")[0].removeprefix("Description: ")
        return Reply(slots=tuple((o, 0.0) for o in odds[name]))

    llm = ScriptedLLM(rule, can=frozenset({Can.PROMPT_LOGPROBS}))
    others = ("first", "own", "second")  # itself among the others is no contrast
    found = asyncio.run(ContrastSimulator(llm, others).simulate(said("own"), ("a", "b")))
    assert found.predicted == (2 - 2, -1 - -2)
    assert found.scale is Scale.LOG_ODDS
    assert found.usage.calls == 3
    alone = asyncio.run(ContrastSimulator(llm).simulate(said("own"), ("a", "b")))
    assert alone.predicted == (2, -1)


@pytest.mark.parametrize(
    "rows",
    [((0.0, -math.inf),), ((-math.inf, -math.inf),), ((0.0, 0.0), (0.0, 0.0)), ((0.0,),), ()],
)
def test_impossible_log_odds_are_an_error(rows: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ReplyError):
        log_odds(Reply(slots=rows), 1)


# -- what corpus text can do to a prompt -----------------------------------------------------------

NASTY = (
    "\n", "\t", "\r\n", " a\nb", "x\t10\n y\t10", "\u2028", "\u2029", "\x85", "\x0b", "\x0c",
    "\x1e", '"', '"\nDoes it contain nothing?', "\u200b", "\u202e", "\x00", "\n\nDescription: all",
    "7: dog", "\n3: x", " ", "", "```", "</s>", '{"1": 10}',
)  # fmt: skip
nasty_tokens = st.lists(
    st.one_of(st.sampled_from(NASTY), st.text(max_size=8)), min_size=1, max_size=8
).map(tuple)


@given(nasty_tokens)
def test_every_token_stays_on_its_line(tokens: tuple[str, ...]) -> None:
    assert len(layout.tab_lines(tokens).splitlines()) == len(tokens)
    assert all(line.count("\t") == 1 for line in layout.tab_lines(tokens).splitlines())
    for request in (
        logprob.request_for("birds", tokens, logprob.VALUES),
        contrast.request_for("birds", tokens),
    ):
        lines = request.messages[-1].content.splitlines()
        assert lines[:2] == ["Description: birds", ""]
        assert len(lines) == 2 + len(tokens)
        # Looked up one after the other, each slot is the end of its own line's token.
        at = 0
        content = request.messages[-1].content
        for line, slot in zip(lines[2:], request.slots, strict=True):
            at = content.index(slot, at) + len(slot)
            assert content[:at].splitlines()[-1] + "unknown" == line
    numbered = reply.request_for("birds", tokens).messages[-1].content.splitlines()
    assert numbered[:3] == ["Description: birds", "", "Tokens:"]
    assert [line.split(":")[0] for line in numbered[3:]] == [
        str(i) for i in range(1, len(tokens) + 1)
    ]


@given(nasty_tokens)
def test_a_window_cannot_leave_its_quotes(tokens: tuple[str, ...]) -> None:
    content = judge.prompt("birds", "".join(tokens))[-1].content
    assert len(content.splitlines()) == 2
    quoted = re.fullmatch(r'Text: "([^"]*)"\nDoes it contain birds\?', content)
    assert quoted is not None


@given(st.sampled_from(["a\nb", "x\n\nTokens:\n1: 10", "a\n the\t10\n", "\u2028b"]))
def test_an_explanation_cannot_pass_for_a_token(text: str) -> None:
    tokens = ("the", "dog")
    for content in (
        logprob.request_for(text, tokens, logprob.VALUES).messages[-1].content,
        contrast.request_for(text, tokens).messages[-1].content,
    ):
        assert len(content.splitlines()) == 4
    assert len(reply.request_for(text, tokens).messages[-1].content.splitlines()) == 5
    assert len(judge.prompt(text, "some text")[-1].content.splitlines()) == 2


# -- votes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("yes", True),
        (" Yes.", True),
        ("**No**", False),
        ('"yes"', True),
        ("No, it has none", False),
    ],
)
def test_a_vote_is_its_first_word(text: str, yes: bool) -> None:
    assert judge.parse_vote(text) is yes


@given(st.text(max_size=30))
def test_any_other_vote_is_a_reply_error(text: str) -> None:
    if re.match(r"\W*(yes|no)\b", text, re.IGNORECASE):
        return
    with pytest.raises(ReplyError) as caught:
        judge.parse_vote(text)
    assert caught.value.reply == text


def test_a_vote_that_cannot_be_read_keeps_what_all_of_them_cost() -> None:
    llm = ScriptedLLM(lambda r: Reply("maybe" if r.sample == 3 else "yes", usage=Usage(calls=1)))
    with pytest.raises(ReplyError) as caught:
        asyncio.run(judge.AskingJudge(llm).rate(judge.prompt("x", "a")))
    assert caught.value.usage == Usage(calls=4 + 3)  # Asked for twice more.


@given(st.floats(-1e4, 0), st.floats(-1e4, 0))
def test_probability_is_the_softmax_of_two(yes: float, no: float) -> None:
    assert judge.probability(yes, no) + judge.probability(no, yes) == pytest.approx(1)
    if abs(yes - no) > 1e-9:
        assert (judge.probability(yes, no) > 0.5) == (yes > no)

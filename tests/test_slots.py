"""Distributions behind places of a prompt, from what vLLM lists for each of its tokens."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.assets import model_folder
from glossator.errors import ReplyError, Unsupported
from glossator.llm import Can, Message, Request
from glossator.providers.server import VLLM
from glossator.providers.slots import behind
from glossator.scorers.logprob import VALUES, LogprobSimulator, request_for
from glossator.types import Explanation, FeatureId
from tests.loopback import Answer, Asked, Loopback
from tests.protocols import ask, connect

ABOUT = Explanation(FeatureId("m", "layers.0.mlp.neurons", 1), "words for animals", "somebody")


def pieces(prompt: str, cuts: Sequence[int]) -> list[str]:
    """`prompt` as tokens that end at the bytes `cuts`, each read alone as vLLM reads them."""
    raw = prompt.encode()
    ends = sorted({0, len(raw), *(c % (len(raw) + 1) for c in cuts)})
    return [raw[a:b].decode(errors="replace") for a, b in itertools.pairwise(ends)]


def listing(tokens: Sequence[str], listed: dict[str, float]) -> list[Any]:
    """What vLLM sends: the token of the prompt first, then the likeliest at its place."""
    texts = [{token: -9.0} | {t: v for t, v in listed.items() if t != token} for token in tokens]
    return [
        None,
        *(
            {str(i): {"logprob": v, "decoded_token": t} for i, (t, v) in enumerate(each.items())}
            for each in texts[1:]
        ),
    ]


def test_the_token_behind_each_slot_is_found() -> None:
    prompt = ["<s>", "user\n", "a", "\t", "un", "known\n", "b", "\t", "un", "known", "</s>"]
    assert behind(prompt, "a\tunknown\nb\tunknown\n", ["a\t", "b\t"]) == [4, 8]


def test_the_last_message_counts_where_another_said_the_same() -> None:
    prompt = ["a", "\t", "?", "<end>", "a", "\t", "?", "<end>"]
    assert behind(prompt, "a\t?", ["a\t"]) == [6]


def test_a_slot_that_ends_inside_a_token_is_an_error() -> None:
    with pytest.raises(ValueError, match="inside a token"):
        behind(["x", "a", "\tun", "known"], "a\tunknown", ["a\t"])


def test_a_prompt_that_was_changed_is_an_error() -> None:
    for message in ("a\tunknown", "\u65e5\t?"):
        with pytest.raises(ValueError, match="as it was sent"):
            behind(["x", "b", "\t", "unknown", "\u6708", "\t", "?"], message, [message[:2]])


def test_characters_that_are_cut_into_tokens_are_passed_over() -> None:
    tokens = ["<", "\ufffd", "\ufffd", "\u672c", "\t", "?", "\ufffd\ufffd", "\t", "?", ">"]
    assert behind(tokens, "\u65e5\u672c\t?\u00e9\t?", ["\u65e5\u672c\t", "\u00e9\t"]) == [5, 8]
    with pytest.raises(ValueError, match="inside a token"):
        behind(tokens, "\u65e5\u672c\t?\u00e9\t?", ["\u65e5"])


def test_what_stands_for_lost_characters_in_the_message_itself_is_not_counted_on() -> None:
    with pytest.raises(ValueError, match="inside a token"):
        behind(["\ufffd", "\ufffd", "\u00e9", "\t", "?"], "\ufffd\u00e9\t?", ["\ufffd"])


def test_a_token_that_reads_as_nothing_is_behind_a_slot_too() -> None:
    assert behind(["a", "\t", "", "x"], "a\tx", ["a\t"]) == [2]


@given(
    lines=st.lists(st.text("ab \u00e9\u65e5\U0001f600\ufffd", min_size=1, max_size=4), max_size=8),
    cuts=st.lists(st.integers(0, 400), max_size=40),
    frame=st.sampled_from([("", ""), ("<u>", "</u>"), ("\u00e9", "\u00e9"), ("x\n\n", "\n")]),
)
def test_whatever_the_tokens_a_place_is_right_or_an_error(
    lines: list[str], cuts: list[int], frame: tuple[str, str]
) -> None:
    message = "said:\n" + "".join(f"{line}\t?\n" for line in lines)
    prompt = frame[0] + message + frame[1]
    size, at, wanted = len(prompt.encode()), len(frame[0]), []
    for line in lines:
        at = prompt.index(f"{line}\t", at) + len(line) + 1
        wanted.append(len(prompt[:at].encode()))
    bounds = sorted({0, size, *(cut % (size + 1) for cut in cuts)})
    if set(wanted) <= set(bounds):
        found = behind(pieces(prompt, cuts), message, [f"{line}\t" for line in lines])
        assert [bounds[place] for place in found] == wanted
    else:
        with pytest.raises(ValueError, match="inside a token"):
            behind(pieces(prompt, cuts), message, [f"{line}\t" for line in lines])


def vllm(tokens_of: Any, listed: dict[str, float]) -> Loopback:
    """A server that cuts prompts as `tokens_of` does, and lists the same at each place."""

    def rule(asked: Asked) -> Answer:
        prompt = "".join(f"<|{role}|>{text}<|end|>" for role, text in asked.messages)
        return Answer("0", places=listing(tokens_of(prompt + "<|assistant|>"), listed))

    server = Loopback(rule)
    server.owner = VLLM
    server.models = ["gpt-4o-mini"]
    return server


def words(prompt: str) -> list[str]:
    """Tokens that end behind each tab, and before and behind each number."""
    found = [""]
    for line in prompt.splitlines(keepends=True):
        name, tab, value = line.partition("\t")
        found += [name, tab, value.rstrip("\n"), "\n"] if tab else [line]
    return [token for i, token in enumerate(found) if token or not i]


def simulated(server: Loopback) -> tuple[float, ...]:
    async def work() -> tuple[float, ...]:
        llm = connect("openai", server)
        try:
            assert Can.PROMPT_LOGPROBS not in llm.can
            assert await llm.check() == ""
            assert Can.PROMPT_LOGPROBS in llm.can
            made = await LogprobSimulator(llm).simulate(ABOUT, (" a", " d\u00f6g", "\n"))
            return made.predicted
        finally:
            await llm.aclose()

    return asyncio.run(work())


def test_the_logprob_simulator_runs_on_a_vllm_server() -> None:
    listed = {"0": math.log(0.5), "10": math.log(0.25), "1": -math.inf, "other": math.log(0.25)}
    with vllm(words, listed) as server:
        assert simulated(server) == pytest.approx((10 / 3,) * 3)
        sent = server.log[0].body
    assert sent["prompt_logprobs"] == 20
    assert sent["max_tokens"] == 1


def test_answers_that_are_several_tokens_are_not_taken_for_their_first() -> None:
    def split(prompt: str) -> list[str]:
        return [part for w in words(prompt) for part in (["1", "0"] if w == "10" else [w])]

    with (
        vllm(split, {"0": -1.0, "1": -1.0}) as server,
        pytest.raises(Unsupported, match=r"'10'.*--simulator reply"),
    ):
        simulated(server)


def test_tokens_across_the_end_of_a_slot_are_an_error_that_is_not_asked_again() -> None:
    with vllm(lambda prompt: ["", *prompt.split("\n")], {"10": -1.0}) as server:
        with pytest.raises(ReplyError, match="as it was sent") as caught:
            simulated(server)
        assert not caught.value.again
        server.rule = lambda asked: Answer("0", places=[None])
        with pytest.raises(ReplyError):
            simulated(server)


def test_a_long_message_that_nearly_stands_at_many_places_is_found() -> None:
    message = "\ufffd" * 20_000 + "a" * 20_000 + "\t?"
    tokens = [*message[:-1], *message, ">"]
    assert behind(tokens, message, ["a\t"]) == [len(tokens) - 2]


def test_the_prompt_of_the_simulator_is_one_that_can_be_found_again() -> None:
    request = request_for("x", (" a", "\n", "\u65e5"), VALUES)
    content = request.messages[-1].content
    tokens = ["<u>", *(c for c in content), "<e>"]
    places = behind(tokens, content, request.slots)
    assert ["".join(tokens[p : p + 7]) for p in places] == ["unknown"] * 3


@pytest.mark.assets
def test_the_tokens_of_a_real_model_are_found_behind_each_tab() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder("local:small"))
    tokens = (" dog", "\n", " \u65e5\u672c", "\u13a0\U0001fabf", "10")
    request = request_for("words for animals", tokens, VALUES)
    prompt = tokenizer.apply_chat_template(
        [{"role": m.role, "content": m.content} for m in request.messages],
        add_generation_prompt=True,
        tokenize=False,
    )
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    read = [str(tokenizer.decode([i])) for i in ids]
    found = behind(read, request.messages[-1].content, request.slots)
    assert [read[place - 1] for place in found] == ["\t"] * 5
    assert [read[place] for place in found] == ["unknown"] * 5
    assert "\ufffd" in "".join(read)  # Some characters are cut into tokens.


def test_slots_of_a_server_that_lists_none_are_refused_before_sending() -> None:
    request = Request((Message("user", "a\t"),), answers=("0",), slots=("a\t",))
    with Loopback() as server, pytest.raises(Unsupported, match="--simulator reply"):
        ask(connect("openai", server), request)
    assert server.log == []

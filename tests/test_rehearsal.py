"""The stand-in that only counts, and how tokens are reckoned."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from glossator.assets import ASSETS, model_folder
from glossator.datasets.corpora import default_corpus
from glossator.errors import ReplyError
from glossator.explainers.max_act import SHOTS, SYSTEM, question
from glossator.llm import Can, Message, Purpose, Reply, Request, ask, working_on
from glossator.providers.journal import MemoryJournal
from glossator.providers.metered import Metered
from glossator.providers.prices import FREE, FlatPrice
from glossator.providers.rehearsal import CACHED_FROM, Rehearsal, example_of
from glossator.providers.schema import misfit
from glossator.providers.tokens import TokenCount, reckoned
from glossator.scorers.judge import prompt as judging
from glossator.scorers.reply import request_for
from tests.tiny_chat import TEMPLATE, all_replies, loaded, save_tiny_chat

PRICE = FlatPrice(1.0, 10.0)


class Cached(FlatPrice):
    """What is read from the cache costs nothing."""

    def cost(self, prompt_tokens: int, completion_tokens: int, **cached: int) -> float:
        return FlatPrice.cost(self, prompt_tokens - cached.get("cache_read", 0), completion_tokens)


def stand_in(price: Any = PRICE, can: frozenset[Can] = frozenset(), **more: Any) -> Rehearsal:
    return Rehearsal("a:b", can, price, **more)


def asked(text: str, shot: str = "a fine example", **more: Any) -> Request:
    turns = (Message("user", "first"), Message("assistant", shot), Message("user", text))
    return Request(turns, **more)


def replied(llm: Rehearsal, *requests: Request) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        return [await llm.reply(request) for request in requests]

    return asyncio.run(all_of_them())


# -- what it answers -------------------------------------------------------------------------------


def test_a_reply_looks_like_the_longest_example_in_the_prompt() -> None:
    (reply,) = replied(stand_in(), asked("what?"))
    assert reply.text == "a fine example"
    assert reply.usage.completion_tokens == 3


def test_probabilities_are_there_for_every_answer_and_place() -> None:
    request = Request((Message("user", "x y"),), 0, answers=("yes", "no"), slots=("x", "y"))
    (reply,) = replied(stand_in(), request)
    assert [len(slot) for slot in reply.slots] == [2, 2]
    (reply,) = replied(stand_in(), asked("x", max_tokens=0, answers=("yes", "no")))
    assert len(reply.answers) == 2
    assert all(value < 0 for value in reply.answers)


SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"],
     "additionalProperties": False},
    {"type": "array", "items": {"type": "string", "minLength": 50}, "minItems": 3},
    {"type": "object", "required": ["n"], "properties": {"n": {"$ref": "#/$defs/x"}},
     "$defs": {"x": {"anyOf": [{"type": "integer", "minimum": 3}, {"type": "null"}]}}},
    {"enum": ["one", "two"]},
    {"const": 7},
    {"type": ["string", "null"], "maxLength": 3},
    {"type": "boolean"},
    json.loads(request_for("x", ["a", "b"]).schema),
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_value_keeps_to_its_schema(schema: dict[str, Any]) -> None:
    assert misfit(example_of(schema), json.dumps(schema)) == ""
    llm = Metered(stand_in(can=frozenset({Can.SCHEMA})), price=PRICE)
    request = asked("x", schema=json.dumps(schema))
    assert asyncio.run(llm.reply(request)).value == example_of(schema)


# -- what it counts --------------------------------------------------------------------------------


def test_the_low_figure_has_usual_replies_and_the_high_one_the_longest() -> None:
    llm = stand_in(overhead_tokens=1000)
    replied(llm, asked("what?", max_tokens=50))
    prompt = llm.used.prompt_tokens
    assert prompt == reckoned("first") + reckoned("a fine example") + reckoned("what?") + 16
    assert llm.used.cost == pytest.approx(PRICE.cost(prompt, 3))
    assert llm.dollars_at_most == pytest.approx(PRICE.cost(-(-prompt * 5 // 4), 1050))


def test_a_reply_is_never_reckoned_longer_than_it_may_be() -> None:
    llm = stand_in()
    replied(llm, asked("what?", shot="many words " * 30, max_tokens=8))
    assert llm.used.completion_tokens == 8


def test_earlier_replies_to_the_same_sort_of_question_say_how_long_one_is() -> None:
    llm = stand_in(lengths={("score", "x"): 40.0})
    with working_on(Purpose("score", None, "x")):
        replied(llm, asked("what?"))
    with working_on(Purpose("score", None, "y")):
        replied(llm, asked("what?"))
    assert llm.used.completion_tokens == 43


def test_a_long_beginning_that_was_sent_before_is_read_from_the_cache_in_the_low_figure() -> None:
    begun, short = "word " * CACHED_FROM, "word " * 10
    llm = stand_in(Cached(1.0, 10.0))
    replied(llm, asked("one", shot=begun, max_tokens=1), asked("two", shot=begun, max_tokens=1))
    assert CACHED_FROM <= llm.used.cache_read_tokens < llm.used.prompt_tokens / 2
    assert llm.used.cost is not None
    assert llm.dollars_at_most > 1.5 * llm.used.cost
    replied(llm, asked("one", shot=short), asked("two", shot=short))
    assert llm.used.cache_read_tokens < 2 * CACHED_FROM
    local = stand_in(FREE)
    replied(local, asked("one", shot=begun), asked("two", shot=begun))
    assert local.used.cache_read_tokens == 0
    assert local.fresh_tokens < 0.6 * local.used.prompt_tokens


def test_an_unknown_price_leaves_the_cost_unknown() -> None:
    llm = stand_in(None)
    replied(llm, asked("what?"))
    assert llm.used.cost is None
    assert llm.used.prompt_tokens > 0


def test_a_reply_that_nobody_can_read_is_counted_once() -> None:
    llm = stand_in()

    def read(reply: Reply) -> str:
        raise ReplyError("it is not what I want", reply.text)

    with pytest.raises(ReplyError):
        asyncio.run(ask(llm, asked("what?"), read))
    assert llm.used.calls == 1


def test_what_is_kept_is_not_counted_and_equal_questions_count_once() -> None:
    kept = MemoryJournal()
    llm = stand_in()
    metered = Metered(llm, kept, price=PRICE)

    async def ask_all() -> None:
        for text in ("one", "two", "one"):
            await metered.reply(asked(text))

    asyncio.run(ask_all())
    assert llm.used.calls == 2
    again = stand_in()
    asyncio.run(Metered(again, kept, price=PRICE).reply(asked("two")))
    assert again.used.calls == 0


# -- tokens ----------------------------------------------------------------------------------------


NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('none') }}{% endif %}"


@pytest.mark.parametrize("template", [TEMPLATE, NO_SYSTEM + TEMPLATE])
def test_with_its_tokenizer_a_prompt_is_counted_as_a_local_model_reads_it(
    template: str, tmp_path: Path
) -> None:
    folder = save_tiny_chat(tmp_path / "tiny-chat")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    messages = (Message("system", "Answer."), Message("user", "the</s>\tx\nking\tx\n"))
    request = Request(messages, max_tokens=0, answers=("yes", "no"))
    tokens = TokenCount.of(f"hf:{folder}")
    assert tokens.exact
    for asked_ in (request, replace(request, slots=("the</s>\t", "king\t"))):
        (reply,) = all_replies(loaded(folder), [asked_])
        assert tokens.prompt(asked_) == reply.usage.prompt_tokens


def test_without_a_tokenizer_tokens_are_reckoned() -> None:
    assert not TokenCount.of("openai:gpt-4.1-mini").exact
    assert not TokenCount.of("gguf:/no/such/file.gguf").exact
    for text, n in (("", 0), (" the", 1), ("12345", 2), ("extraordinarily", 2), ("a, b", 3)):
        assert reckoned(text) == n


@pytest.mark.assets
def test_what_is_reckoned_is_near_to_what_real_tokenizers_count() -> None:
    from transformers import AutoTokenizer

    passages = [d.text[:400] for _, d in zip(range(200), default_corpus(), strict=False)]
    windows = [p.split(" ")[:32] for p in passages]
    shots = [question(*shot[:2]) for shot in SHOTS]
    texts = {
        "prose": passages,
        "judging": [m.content for p in passages for m in judging("words for water", p)],
        "explaining": [SYSTEM, *shots] * 20,
        "simulating": [m.content for w in windows for m in request_for("water", w).messages],
        "schemas": [request_for("water", w).schema for w in windows[:20]],
    }
    tokenizer = AutoTokenizer.from_pretrained(model_folder(ASSETS["smollm2-135m"]))
    for name, some in texts.items():
        real = sum(len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in some)
        assert sum(map(reckoned, some)) == pytest.approx(real, rel=0.25), name

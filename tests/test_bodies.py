"""Ten thousand spoilt replies of each protocol: each is a reply, or one of our errors."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glossator.errors import GlossatorError, ProviderError, ReplyError
from glossator.llm import Reply, Request, Tool
from glossator.providers.prices import FlatPrice
from glossator.providers.schema import with_value
from tests.loopback import FORMS, Answer, Asked
from tests.protocols import ASK, PROTOCOLS, unconnected

N = 10_000
SCHEMA = '{"type": "object", "properties": {"1": {"type": "integer"}}, "required": ["1"]}'
TOOL = Tool("look_up", "Looks up.", '{"type": "object"}')
JUNK: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        -0.0,
        1e308,
        -1e308,
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        10**11,
    ),
    *("", "10", "NaN", "stop", "\ud800", "x" * 5000, "{", '{"1": 10}', "[]", "{}"),
    *([], {}, [None], [[]], [{}], {"": {}}, {"text": 7}, {"type": "text"}, {"type": "message"}),
    *({"type": "function_call"}, {"type": "tool_use"}, {"error": {"code": 500}}, {"code": []}),
]


def place(piece: str) -> dict[str, Any]:
    """A token of a prompt as vLLM lists it."""
    return {
        "1": {"logprob": -0.5, "decoded_token": piece},
        "2": {"logprob": -1.0, "decoded_token": "1"},
    }


USUAL = {
    "text": (ASK, Answer("deep blue", cached=1, written=1, thought=3)),
    "value": (Request(ASK.messages, schema=SCHEMA), Answer('{"1": 10}')),
    "calls": (Request(ASK.messages, tools=(TOOL,)), Answer("", calls=(("look_up", "{}"),) * 2)),
    "answers": (
        Request(ASK.messages, answers=("yes", "no")), Answer("yes", {"yes": -0.5, "no": -1.0}),
    ),
    "slots": (
        Request(ASK.messages, answers=("0", "1"), slots=("Which", " colour")),
        Answer("x", places=[None, *map(place, ("Which", " colour", "?", "0"))]),
    ),
}  # fmt: skip


def places(part: Any) -> Iterator[tuple[Any, Any]]:
    """All that can be replaced in `part`: what holds it, and under which key."""
    keys = part.keys() if isinstance(part, dict) else range(len(part))
    for key in list(keys):
        yield part, key
        if isinstance(part[key], dict | list):
            yield from places(part[key])


def spoilt(whole: Any, chance: random.Random) -> Any:
    """`whole` with a few parts missing, doubled, renamed, or of another type."""
    body = copy.deepcopy(whole)
    for _ in range(chance.randint(1, 4)):
        found = list(places(body))
        if not found:
            return chance.choice(JUNK)
        holder, key = chance.choice(found)
        how = chance.randrange(7)
        if how == 0:
            del holder[key]
        elif how == 1 and isinstance(holder, list):
            holder.insert(0, copy.deepcopy(holder[key]))
        elif how == 2 and isinstance(holder, dict):
            holder[f"{key}0"] = holder.pop(key)
        elif how == 3 and not isinstance(holder[key], dict | list):
            holder[key] = str(holder[key])
        elif how == 4:
            holder[key] = [[[holder[key]]]]
        elif how == 5 and holder is body and isinstance(body, dict):
            body["error"] = copy.deepcopy(chance.choice(JUNK))
        else:
            holder[key] = copy.deepcopy(chance.choice(JUNK))
    return body


def check(reply: Reply, request: Request) -> None:
    usage = reply.usage
    tokens = [usage.prompt_tokens, usage.completion_tokens, usage.cache_read_tokens]
    tokens += [usage.cache_write_tokens, usage.reasoning_tokens]
    assert min(tokens) >= 0
    assert usage.cache_read_tokens + usage.cache_write_tokens <= usage.prompt_tokens
    assert usage.reasoning_tokens <= usage.completion_tokens
    assert usage.cost is None or 0 <= usage.cost < math.inf
    rows = [reply.answers, *reply.slots]
    assert all(0 <= math.exp(value) <= 1 for row in rows for value in row)
    assert all(len(row) == len(request.answers) for row in rows if row)
    assert len(reply.slots) == len(request.slots)
    assert not reply.calls or request.tools
    texts = [
        reply.text,
        reply.model,
        *(t for c in reply.calls for t in (c.id, c.name, c.arguments)),
    ]
    "".join(texts).encode()
    if request.schema:
        json.dumps(reply.value, allow_nan=False)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_spoilt_reply_is_a_reply_or_one_of_our_errors(protocol: str) -> None:
    known = PROTOCOLS[protocol]
    llm = replace(unconnected(protocol), price=FlatPrice(1.0, 2.0))
    chance = random.Random(5)
    kinds = [k for k in USUAL if protocol == "openai" or k not in ("answers", "slots")]
    whole = {}
    for kind in kinds:
        request, answer = USUAL[kind]
        fields = {"model": "m", "logprobs": True, "top_logprobs": 5, "prompt_logprobs": 20}
        whole[kind] = FORMS[known.path](Asked(known.path, {}, fields, 0.0), answer, 9)
        check(known.module.read_reply(json.dumps(whole[kind]), request, llm, 0.0), request)
    replies, errors = 0, []
    for i in range(N):
        kind = kinds[i % len(kinds)]
        request, _ = USUAL[kind]
        text = json.dumps(spoilt(whole[kind], chance))
        try:
            reply = with_value(known.module.read_reply(text, request, llm, 0.5), request)
        except GlossatorError as error:
            errors.append(error)
        else:
            check(reply, request)
            replies += 1
    assert max(len(str(error)) for error in errors) < 600
    kinds_met = {type(error) for error in errors}
    assert {ReplyError, ProviderError} <= kinds_met
    assert min(replies, len(errors)) > N / 10


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(body=json_values)
def test_any_other_json_is_no_reply(protocol: str, body: object) -> None:
    with pytest.raises(GlossatorError):
        PROTOCOLS[protocol].module.read_reply(json.dumps(body), ASK, unconnected(protocol), 0.0)

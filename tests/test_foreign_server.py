"""The whole job against a server that is not ours, over each of the protocols it speaks.

What llama.cpp does in its own way: any model name will do; tools are passed over in silence where
the model's chat template has none, so they are asked for through a schema; `text` of a Responses
request and `output_config` of a messages request are passed over too, and for the latter there is
no other form; a response that was cut off is `completed`; who asks for no temperature, as Claude's
protocol does, gets 0.8.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from glossator.assets import fetch
from glossator.errors import GlossatorError, ReplyError
from glossator.llm import Can, Message, Reply, Request, Tool
from glossator.providers.journal import MemoryJournal
from glossator.providers.metered import Metered
from glossator.providers.table import make_llm
from glossator.runs import RunStatus
from glossator.store import Store
from tests.foreign_server import foreign_server
from tests.pipeline_child import config_for, do

pytestmark = pytest.mark.assets

PROTOCOLS = {"openai": "/v1", "openai-responses": "/v1", "anthropic": ""}
HELD = ("openai", "openai-responses")
"""Over which the server can hold a model to a schema."""
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with foreign_server(fetch("smollm2-135m")) as found:
        yield found


def on(address: str, protocol: str, request: Request) -> Reply | GlossatorError:
    """What the server answers, after it was asked what it is."""

    async def work() -> Reply | GlossatorError:
        bare = make_llm(f"{protocol}:whatever", base_url=address + PROTOCOLS[protocol])
        notice = await bare.check()  # type: ignore[attr-defined]
        assert "SmolLM2-135M" in notice
        llm = Metered(bare, MemoryJournal())
        assert Can.TOOLS in llm.can
        assert Can.BATCH not in llm.can
        try:
            return await llm.reply(request)
        except GlossatorError as error:
            return error
        finally:
            await llm.aclose()

    return asyncio.run(work())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_whole_run_against_it_explains_and_scores(
    folder: Path, store: Store, address: str, protocol: str
) -> None:
    config = config_for(
        folder, llm=f"{protocol}:whatever", base_url=address + PROTOCOLS[protocol], features="0",
        scorers=["detection"], n_scored=2, n_shuffled=0, n_silent=2,
    )  # fmt: skip
    outcome = do(config, store)
    # So small a model is not always understood; what was not is a failure with its reply.
    assert outcome.status in (RunStatus.DONE, RunStatus.SOME_FAILED)
    assert store.explanations_of("r1")
    calls = store.calls("r1")
    sent = calls[calls["attempt"] > 0]
    assert (sent[sent["error"] == ""]["prompt_tokens"] > 0).all()
    assert {f.kind for f in store.failures("r1")} <= {"ReplyError", "OutOfRange"}
    before = len(calls)
    if outcome.status is RunStatus.DONE:
        assert do(config, store).status is RunStatus.DONE
        assert len(store.calls("r1")) == before


SPIDER = Request(
    (Message("user", "How many legs has a spider? Answer as JSON."),), max_tokens=60, schema=SCHEMA
)
LOOK_UP = Request(
    (Message("user", 'Look up the word "glossator".'),),
    max_tokens=200,
    tools=(
        Tool(
            "look_up",
            "Looks a word up in a dictionary.",
            '{"type": "object", "properties": {"word": {"type": "string", "maxLength": 20}}, '
            '"required": ["word"]}',
        ),
    ),
    tool_choice="required",
)


@pytest.mark.parametrize("protocol", HELD)
def test_a_reply_holds_to_a_schema(address: str, protocol: str) -> None:
    reply = on(address, protocol, SPIDER)
    assert isinstance(reply, Reply)
    assert isinstance(reply.value, dict)
    assert isinstance(reply.value["n"], int)


@pytest.mark.parametrize("protocol", HELD)
def test_a_tool_is_called_when_it_must_be(address: str, protocol: str) -> None:
    reply = on(address, protocol, LOOK_UP)
    assert isinstance(reply, Reply)
    assert reply.finish == "tool_calls"
    assert [call.name for call in reply.calls] == ["look_up"]
    assert isinstance(json.loads(reply.calls[0].arguments)["word"], str)


@pytest.mark.parametrize("asked", [SPIDER, LOOK_UP], ids=["schema", "tool"])
def test_what_the_server_cannot_hold_the_model_to_is_done_or_said_not_to_be(
    address: str, asked: Request
) -> None:
    found = on(address, "anthropic", asked)
    if isinstance(found, Reply):
        assert isinstance(found.value, dict) or found.calls
    else:
        assert isinstance(found, ReplyError)
        assert found.reply


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_prompt_that_is_too_long_concerns_that_request_alone(address: str, protocol: str) -> None:
    error = on(address, protocol, Request((Message("user", "one two " * 3000),), max_tokens=5))
    assert isinstance(error, ReplyError)
    assert "too long" in str(error)
    assert not error.again


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_conversation_and_a_cut_off_reply(address: str, protocol: str) -> None:
    turns = (
        Message("system", "You tell long stories."),
        Message("user", "What is it about?"),
        Message("assistant", "A dog and the sea."),
        Message("user", "Tell me the whole story, in ten paragraphs."),
    )
    reply = on(address, protocol, Request(turns, max_tokens=16))
    assert isinstance(reply, Reply)
    assert reply.finish == "length"
    assert reply.usage.completion_tokens == 16
    assert reply.usage.prompt_tokens > 20

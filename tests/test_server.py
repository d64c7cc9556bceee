"""The one question that a run asks a server before it does anything else."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from glossator.errors import ConfigError, GlossatorError, ProviderRefused
from glossator.llm import Can
from tests.loopback import EMPTY, HTML, HUGE, RESET, Fault, Loopback, hang, sends, status
from tests.protocols import KEY, PROTOCOLS, connect

OWN_ADDRESS = {
    "openai": "https://api.openai.com/v1",
    "openai-responses": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
}


def check(protocol: str, server: Loopback, model: str = "", timeout: float = 10.0) -> str:
    async def work() -> str:
        llm = connect(protocol, server, model, timeout)
        try:
            return str(await llm.check())
        finally:
            await llm.aclose()

    return asyncio.run(work())


def answering(fault: Fault) -> Loopback:
    return Loopback(admit=lambda now: fault)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_with_the_model_is_asked_once_and_nothing_is_said(protocol: str) -> None:
    with Loopback() as server:
        server.models = ["another", f"{PROTOCOLS[protocol].model}-2026-01-01"]
        assert check(protocol, server) == ""
        assert len(server.looked) == 1
        assert server.log == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_name_that_is_not_on_the_list_is_told_with_the_nearest(protocol: str) -> None:
    with Loopback() as server:
        server.models = ["whisper", "qwen3-8b", "qwen3-32b"]
        notice = check(protocol, server, "qwen-3-8b")
    assert "'qwen-3-8b'" in notice
    assert "qwen3-8b, qwen3-32b" in notice
    assert "1 others" in notice


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("code", [401, 402, 403])
def test_a_key_that_is_not_accepted_is_refused_in_one_request(protocol: str, code: int) -> None:
    with answering(status(code, f"your key is {KEY}")) as server:
        with pytest.raises(ProviderRefused, match=PROTOCOLS[protocol].key_variable) as caught:
            check(protocol, server)
        assert len(server.looked) == 1
    assert caught.value.exit_code == 3
    assert KEY not in str(caught.value)


def test_a_key_that_may_ask_models_but_not_list_them_is_good() -> None:
    said = "You have insufficient permissions. Missing scopes: api.model.read"
    with answering(status(403, said)) as server:
        assert check("openai", server) == ""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "fault",
    [status(404), status(405), EMPTY, sends("[1]"), sends('{"data": {"id": 1}}'), HUGE],
    ids=["404", "405", "empty", "list", "no list", "huge"],
)
def test_a_server_without_a_list_is_taken_as_it_is(protocol: str, fault: Fault) -> None:
    with answering(fault) as server:
        assert check(protocol, server) == ""


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", [status(503), status(429), RESET], ids=["503", "429", "reset"])
def test_a_server_in_trouble_is_told_of_and_not_asked_again(protocol: str, fault: Fault) -> None:
    with answering(fault) as server:
        notice = check(protocol, server)
        assert server.openai_url.removesuffix("/v1") in notice
        assert len(server.looked) == 1


def test_a_server_that_hangs_is_not_waited_for() -> None:
    with answering(hang()) as server:
        assert "does not answer at once" in check("openai", server, timeout=0.3)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_address_where_nobody_is_is_named(protocol: str) -> None:
    with Loopback() as server:
        pass
    with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{server.port}"):
        check(protocol, server)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_web_page_is_no_api(protocol: str) -> None:
    with answering(HTML) as server, pytest.raises(GlossatorError, match="web page") as caught:
        check(protocol, server)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_web_page_at_the_providers_own_address_is_no_wrong_address(protocol: str) -> None:
    async def work() -> str:
        llm = connect(protocol, server)
        # Its client goes to the loopback server; whose address it is for is told by the account.
        at_home = replace(llm, account=replace(llm.account, url=OWN_ADDRESS[protocol]))
        try:
            return str(await at_home.check())
        finally:
            await llm.aclose()

    with answering(HTML) as server:
        notice = asyncio.run(work())
    assert "answers with a web page for now" in notice
    assert "--base-url" not in notice


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_address_that_sends_on_is_not_followed(protocol: str) -> None:
    with Loopback() as other:
        gone = status(301, location=f"http://127.0.0.1:{other.port}/v1/models")
        with answering(gone) as server, pytest.raises(ProviderRefused, match="--base-url"):
            check(protocol, server)
        assert other.looked == []


def test_who_answers_decides_what_can_be_asked() -> None:
    can = {}
    for owner in ("vllm", "llamacpp", "library", "mistralai", "openai"):
        with Loopback() as server:
            server.owner, server.models = owner, ["gpt-4o-mini"]

            async def work(server: Loopback = server) -> frozenset[Can]:
                llm = connect("openai", server)
                await llm.check()
                await llm.aclose()
                found: frozenset[Can] = llm.can
                return found

            can[owner] = asyncio.run(work())
    assert [o for o in can if Can.PROMPT_LOGPROBS in can[o]] == ["vllm"]
    assert [o for o in can if Can.TOOLS in can[o]] == ["mistralai", "openai"]
    assert [o for o in can if Can.SEED not in can[o]] == ["mistralai"]
    assert all(Can.SCHEMA in found for found in can.values())


def test_names_on_a_list_cannot_steer_the_terminal() -> None:
    with Loopback() as server:
        server.models = ["a\x1b[2Jb", "c" * 1000]
        notice = check("openai", server)
    assert notice.isprintable()
    assert len(notice) < 500

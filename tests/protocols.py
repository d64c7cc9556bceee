"""The protocols that providers speak: a new one is a line here, and is held to all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from glossator.errors import GlossatorError
from glossator.llm import LLM, Message, Reply, Request
from glossator.providers import anthropic, openai, openai_responses
from tests.loopback import Fault, Loopback

KEY = "sk-test-51f7c0ffee51f7c0ffee"
ASK = Request((Message("system", "Be brief."), Message("user", "Which colour?")), max_tokens=16)


@dataclass(frozen=True)
class Protocol:
    """One of them, and a model that speaks it."""

    module: ModuleType
    """Has `read_reply` and `payload_of`."""
    maker: Any
    """Has `connect`."""
    model: str
    path: str
    """Where requests go."""
    key_variable: str = "OPENAI_API_KEY"
    under: str = "/v1"
    """Part of `path` that belongs to the base URL."""

    def url(self, server: Loopback) -> str:
        """The base URL of `server`."""
        return f"http://127.0.0.1:{server.port}{self.under}"


_CHAT, _RESPONSES = openai.OpenAILLM, openai_responses.OpenAIResponsesLLM
_CLAUDE, _CLAUDES_KEY = anthropic.AnthropicLLM, "ANTHROPIC_API_KEY"

PROTOCOLS = {
    "openai": Protocol(openai, _CHAT, "gpt-4o-mini", "/v1/chat/completions"),
    "openai-responses": Protocol(openai_responses, _RESPONSES, "gpt-4o-mini", "/v1/responses"),
    "anthropic": Protocol(anthropic, _CLAUDE, "claude-opus-4-8", "/v1/messages", _CLAUDES_KEY, ""),
}


def connect(protocol: str, server: Loopback, model: str = "", timeout: float = 10.0) -> Any:
    """A model behind `server`, with a key."""
    known = PROTOCOLS[protocol]
    return known.maker.connect(
        model or known.model,
        base_url=known.url(server),
        timeout=timeout,
        environ={known.key_variable: KEY},
    )


def unconnected(protocol: str, model: str = "m") -> Any:
    """A model of that protocol at an address where nobody is."""
    return PROTOCOLS[protocol].maker.connect(model, base_url="http://127.0.0.1:9/v1", environ={})


def ask(llm: LLM, *requests: Request) -> list[Reply]:
    """The replies, one after the other; closes `llm`."""

    async def work() -> list[Reply]:
        try:
            return [await llm.reply(request) for request in requests]
        finally:
            await llm.aclose()  # type: ignore[attr-defined]

    return asyncio.run(work())


def failure(protocol: str, fault: Fault, request: Request = ASK) -> tuple[GlossatorError, Loopback]:
    """What is raised when that goes wrong, and the server that it went wrong at."""
    with Loopback(faults=[fault]) as server, pytest.raises(GlossatorError) as caught:
        ask(connect(protocol, server, timeout=1.0), request)
    return caught.value, server

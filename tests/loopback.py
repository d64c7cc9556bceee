"""A real server on 127.0.0.1 that speaks OpenAI's protocols and Anthropic's, and fails on demand.

Replies follow a rule given by the test; faults come from a queue; every request is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from tests.loopback_batches import FakeBatches


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: Mapping[str, Any]
    at: float
    """On the clock of `time.monotonic`."""

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Role and text of each message, the system prompt first."""
        system = self.body.get("system")
        turns = [] if system is None else [("system", _plain(system))]
        return turns + [_turn(m) for m in self.body.get("messages", self.body.get("input", []))]

    @property
    def last(self) -> str:
        """The text of the last message."""
        return self.messages[-1][1]


def _turn(item: Mapping[str, Any]) -> tuple[str, str]:
    """Role and text of a message, or of what the Responses protocol has in place of one."""
    kind = item.get("type", "message")
    roles = {"function_call": "assistant", "function_call_output": "tool"}
    text = item.get("output", "") if kind in roles else item["content"]
    return roles[kind] if kind in roles else item["role"], _plain(text)


def _plain(content: Any) -> str:
    """The text of a message: that of all its blocks, results of tools included."""
    if isinstance(content, str):
        return content
    return "".join(block.get("text") or block.get("content", "") for block in content or ())


@dataclass(frozen=True)
class Answer:
    """What the server's model says."""

    text: str
    top: Mapping[str, float] = field(default_factory=dict)
    """Log probabilities of first tokens; the text itself with 0 if empty."""
    tokens: Sequence[tuple[str, Mapping[str, float]]] = ()
    """The text in tokens, each with the log probabilities of those that could stand there; empty
    for one token."""
    finish: str = "stop"
    """As OpenAI calls it: `stop`, `length`, `content_filter`; refusals are `refused`."""
    cached: int = 0
    """Prompt tokens read from the provider's cache."""
    written: int = 0
    """Prompt tokens written to it."""
    thought: int = 0
    """Tokens generated before the text, among those of the reply."""
    calls: tuple[tuple[str, str], ...] = ()
    """Tools called: names, and arguments as JSON text."""
    places: Sequence[Any] = ()
    """`prompt_logprobs` as vLLM sends them, where they are asked for."""
    count: Callable[[str], int] = lambda text: len(text.split())
    """How many tokens a text is."""

    @property
    def made(self) -> int:
        """Tokens of the reply."""
        return self.count(self.text) + self.thought


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    status: int = 200
    body: bytes | None = None
    """In place of the reply; None for the real one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0.0
    """Seconds before anything is sent."""
    reset: bool = False
    """Hangs up without an answer."""
    change: Callable[[dict[str, Any]], Any] | None = None
    """Turns the real reply into another."""
    keep: float = 1.0
    """Share of the body that is sent before hanging up."""
    cut: float = 1.0
    """Share of the body that is sent as if it were all."""
    drip: float = 0.0
    """Seconds between one byte of the body and the next."""


def status(code: int, message: str = "scripted", **headers: str) -> Fault:
    """An error answer; header names are written with `_` for `-`."""
    error = {"error": {"message": message, "type": "scripted", "code": None}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(status=code, body=json.dumps(error).encode(), headers=named)


def hang(seconds: float = 30.0) -> Fault:
    """No answer for so long."""
    return Fault(hang=seconds)


def sends(body: str | bytes, content_type: str = "application/json") -> Fault:
    """Status 200 with that body."""
    raw = body.encode() if isinstance(body, str) else body
    return Fault(body=raw, headers={"content-type": content_type})


def changed(change: Callable[[dict[str, Any]], Any]) -> Fault:
    """The real reply, changed."""
    return Fault(change=change)


def without(*names: str) -> Fault:
    """The real reply without those fields."""
    return changed(lambda reply: {k: v for k, v in reply.items() if k not in names})


RESET = Fault(reset=True)
TRUNCATED = Fault(cut=0.6)
HALF_SENT = Fault(keep=0.5)
EMPTY = sends("")
DRIP = Fault(drip=0.1)
HUGE = sends(b" " * 50_000_000)
HTML = sends("<!doctype html><title>Bad gateway</title>", "text/html")

Rule = Callable[[Asked], str | Answer]


class Loopback:
    """The server; a context manager. `faults` may be refilled while it runs."""

    def __init__(
        self,
        rule: Rule = lambda asked: "fine",
        faults: Iterable[Fault | None] = (),
        *,
        delay: float = 0.0,
        admit: Callable[[float], Fault | None] = lambda now: None,
    ) -> None:
        """`None` among the faults is a real reply; `admit` may turn a request away by the clock."""
        self.rule = rule
        self.faults = deque(faults)
        self.delay = delay
        self.admit = admit
        self.log: list[Asked] = []
        self.looked: list[Asked] = []
        """Requests for the list of models."""
        self.models: Sequence[str] = ()
        """What is on that list."""
        self.count: Callable[[str], int] = lambda text: len(text.split())
        """How many tokens a text is."""
        self.around = 0
        """Tokens around each message."""
        self.owner = "loopback"
        """Of these models."""
        self.sent = 0
        """Bytes of bodies."""
        self.at_once = 0
        """The most requests that were in hand together."""
        self.answered = 0
        self.batches = FakeBatches(self._reply)
        self._active = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = 0

    @property
    def openai_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def anthropic_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
        except asyncio.CancelledError:
            pass  # The server stops; asyncio would report this as an error of the connection.
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; False if the connection is to be closed."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        }
        raw = await reader.readexactly(int(headers.get("content-length", "0")))
        method, path = head[0].split(" ")[:2]
        if (answer := self.batches.serve(method, path, headers, raw)) is not None:
            return await self._answer(Asked(path, headers, {}, 0.0), answer, writer)
        asked = Asked(path, headers, json.loads(raw or b"{}"), time.monotonic())
        if (method, path.partition("?")[0]) == ("GET", "/v1/models"):
            self.looked.append(asked)
            return await self._answer(asked, self.admit(asked.at) or Fault(), writer)
        self.log.append(asked)
        self._active += 1
        self.at_once = max(self.at_once, self._active)
        try:
            fault = self.admit(asked.at)
            if fault is None and self.faults:
                fault = self.faults.popleft()
            return await self._answer(asked, fault or Fault(), writer)
        finally:
            self._active -= 1

    async def _answer(self, asked: Asked, fault: Fault, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(fault.hang or self.delay)
        if fault.reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            return False
        body = fault.body
        if body is None:
            reply: Any = self._reply(asked)
            body = json.dumps(reply if fault.change is None else fault.change(reply)).encode()
        body = body[: int(len(body) * fault.cut)]
        lines = {"content-type": "application/json", "content-length": str(len(body))}
        lines |= fault.headers
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"HTTP/1.1 {fault.status} x\r\n{head}\r\n".encode("latin-1"))
        kept = body[: int(len(body) * fault.keep)]
        step = 1 if fault.drip else 1_000_000
        for start in range(0, len(kept), step):
            writer.write(kept[start : start + step])
            await writer.drain()
            self.sent += step
            await asyncio.sleep(fault.drip)
        self.answered += 1
        return fault.keep == 1.0

    def _reply(self, asked: Asked) -> dict[str, Any]:
        if asked.path.partition("?")[0] == "/v1/models":
            entries = [{"id": name, "owned_by": self.owner} for name in self.models]
            return {"object": "list", "data": entries, "has_more": False}
        found = self.rule(asked)
        answer = found if isinstance(found, Answer) else Answer(found)
        answer = replace(answer, count=self.count)
        prompt = sum(self.count(text) + self.around for _, text in asked.messages)
        return FORMS[asked.path](asked, answer, prompt)


def _completion(asked: Asked, answer: Answer, prompt: int) -> dict[str, Any]:
    refused = answer.finish == "refused"
    finish = "tool_calls" if answer.calls else "stop" if refused else answer.finish
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if refused or answer.calls else answer.text,
        "refusal": answer.text if refused else None,
    }
    if answer.calls:
        message["tool_calls"] = [
            {"id": f"call_{i}", "type": "function", "function": {"name": n, "arguments": a}}
            for i, (n, a) in enumerate(answer.calls)
        ]
    choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "message": message}
    if asked.body.get("logprobs"):
        top = dict(answer.top) or {answer.text: 0.0}
        entries = [{"token": t, "logprob": value, "bytes": None} for t, value in top.items()]
        kept = entries[: asked.body["top_logprobs"]]
        content = [{**entries[0], "top_logprobs": kept}]
        if answer.tokens:
            content = [_listed(token, top) for token, top in answer.tokens]
        choice["logprobs"] = {"content": content, "refusal": None}
    reply = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": f"{asked.body['model']}-2026-01-01",
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": answer.made,
            "total_tokens": prompt + answer.made,
            "prompt_tokens_details": {
                "cached_tokens": answer.cached,
                "cache_write_tokens": answer.written,
            },
            "completion_tokens_details": {"reasoning_tokens": answer.thought},
        },
    }
    if asked.body.get("prompt_logprobs"):
        reply["prompt_logprobs"] = list(answer.places)
    return reply


def _listed(token: str, top: Mapping[str, float]) -> dict[str, Any]:
    listed = [{"token": t, "logprob": value, "bytes": None} for t, value in top.items()]
    return {"token": token, "logprob": top.get(token, 0.0), "bytes": None, "top_logprobs": listed}


def _response(asked: Asked, answer: Answer, prompt: int) -> dict[str, Any]:
    reasons = {"length": "max_output_tokens", "content_filter": "content_filter"}
    said: dict[str, Any] = {"type": "output_text", "text": answer.text, "annotations": []}
    if answer.finish == "refused":
        said = {"type": "refusal", "refusal": answer.text}
    message: dict[str, Any] = {"type": "message", "role": "assistant", "content": [said]}
    calls = [
        {
            "type": "function_call",
            "id": f"fc_{i}",
            "call_id": f"call_{i}",
            "name": n,
            "arguments": a,
        }
        for i, (n, a) in enumerate(answer.calls)
    ]
    thoughts: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": []}
    reason = reasons.get(answer.finish)
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": f"{asked.body['model']}-2026-01-01",
        "status": "incomplete" if reason else "completed",
        "error": None,
        "incomplete_details": {"reason": reason} if reason else None,
        "output": [thoughts, *(calls or [message])],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {
                "cached_tokens": answer.cached,
                "cache_write_tokens": answer.written,
            },
            "output_tokens": answer.made,
            "output_tokens_details": {"reasoning_tokens": answer.thought},
            "total_tokens": prompt + answer.made,
        },
    }


def _message(asked: Asked, answer: Answer, prompt: int) -> dict[str, Any]:
    reasons = {"stop": "end_turn", "length": "max_tokens", "refused": "refusal"}
    calls = [
        {"type": "tool_use", "id": f"toolu_{i}", "name": n, "input": json.loads(a)}
        for i, (n, a) in enumerate(answer.calls)
    ]
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": f"{asked.body['model']}-20260101",
        "content": calls or [{"type": "text", "text": answer.text}],
        "stop_reason": "tool_use" if calls else reasons[answer.finish],
        "stop_sequence": None,
        "usage": {
            "input_tokens": prompt - answer.cached - answer.written,
            "cache_read_input_tokens": answer.cached,
            "cache_creation_input_tokens": answer.written,
            "output_tokens": answer.made,
            "output_tokens_details": {"thinking_tokens": answer.thought},
        },
    }


FORMS = {
    "/v1/chat/completions": _completion,
    "/v1/responses": _response,
    "/v1/messages": _message,
}
"""What a reply looks like at each address."""

"""The batch API of OpenAI, and of servers that have the same: files of requests and of replies.

A batch carries its token as metadata, so that one whose id was lost is found again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote

import httpx2

from glossator.errors import GlossatorError
from glossator.llm import Reply, Request
from glossator.providers import openai_responses as responses
from glossator.providers.desks import (
    PAGE,
    SKEW,
    TRANSFER,
    Crowded,
    Found,
    Limits,
    Missing,
    Payload,
    Slip,
    State,
    as_dict,
    as_number,
    at_batch_price,
    custom_id,
    get,
    given_up,
    no_batches,
    read_answer,
    read_id,
    read_page,
    told,
)
from glossator.providers.faults import Account, from_status
from glossator.providers.openai import OpenAILLM, payload_of, read_reply
from glossator.providers.openai_responses import OpenAIResponsesLLM

LABEL = "glossator"
"""The name of the token in a batch's metadata."""
MOST = Limits(requests=50_000, bytes=190_000_000)
"""OpenAI takes files of 200 MB, which is counted in one way or the other."""
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
SHORT = frozenset({"expired", "cancelled"})
NO_CREDIT = ("billing", "quota")
FULL = ("limit", "too_many", "too_large")
"""Parts of the codes by which a batch is turned away as a whole."""


@dataclass(frozen=True)
class OpenAIDesk:
    """Batches of chat completions, or of responses."""

    llm: OpenAILLM | OpenAIResponsesLLM
    limits: Limits = MOST

    @classmethod
    def of(cls, llm: OpenAILLM | OpenAIResponsesLLM) -> Self:
        """The batch API of the server that `llm` is at."""
        return cls(at_batch_price(llm))

    @property
    def endpoint(self) -> str:
        """Which requests are in its batches."""
        new = isinstance(self.llm, OpenAIResponsesLLM)
        return "/v1/responses" if new else "/v1/chat/completions"

    @property
    def account(self) -> Account:
        """Whose batches they are."""
        return self.llm.account

    async def check(self) -> None:
        """Asks for a page of batches."""
        try:
            await self._get("/batches?limit=1")
        except Missing:
            raise no_batches(self.account) from None

    def payload(self, request: Request) -> Payload:
        """What is sent for `request`."""
        if isinstance(self.llm, OpenAIResponsesLLM):
            return responses.payload_of(request, self.llm)
        return payload_of(request, self.llm)

    async def submit(self, token: str, payloads: Sequence[Payload]) -> str:
        """Sends the requests as a file, then asks for the batch; only that costs anything."""
        lines = [
            json.dumps(
                {
                    "custom_id": custom_id(token, number),
                    "method": "POST",
                    "url": self.endpoint,
                    "body": payload,
                }
            )
            for number, payload in enumerate(payloads)
        ]
        content = "\n".join(lines).encode()
        async with told(self.llm, TRANSFER):
            raw = await self.llm.client.files.with_raw_response.create(
                file=(f"{token}.jsonl", content, "application/jsonl"),
                purpose="batch",
                timeout=TRANSFER,
            )
        asked = {
            "input_file_id": read_id(self.account, raw.text),
            "endpoint": self.endpoint,
            "completion_window": "24h",
            "metadata": {LABEL: token},
        }
        async with told(self.llm, self.llm.timeout):
            answer = await self.llm.client.post("/batches", cast_to=httpx2.Response, body=asked)
        return read_id(self.account, answer.text)

    async def find(self, slip: Slip, others: set[str]) -> Found:
        """Looks for the batch that carries the token, the newest first."""
        after, since = "", (slip.made - SKEW).astimezone(UTC)
        while True:
            page = await self._get(f"/batches?limit={PAGE}" + (after and f"&after={after}"))
            entries, next_after = read_page(self.account, page)
            for entry in entries:
                if as_dict(entry.get("metadata")).get(LABEL) == slip.token:
                    return Found(str(entry.get("id") or ""))
            if next_after in ("", after) or _created(entries[-1]) < since:
                return Found()
            after = next_after

    async def state(self, batch: str) -> State:
        """How far the batch is; a failed one was turned away when its file was read."""
        entry = await self._entry(batch)
        status = entry.get("status")
        counts = as_dict(entry.get("request_counts"))
        done = as_number(counts.get("completed")) + as_number(counts.get("failed"))
        error = self._refusal(entry) if status == "failed" else None
        return State(status in ENDED, done, status in SHORT, error)

    def _refusal(self, entry: Mapping[str, Any]) -> GlossatorError:
        listed = as_dict(entry.get("errors")).get("data")
        first = as_dict(listed[0]) if isinstance(listed, list) and listed else {}
        code, message = str(first.get("code") or ""), str(first.get("message") or "")
        said = self.account.clean(message or code or "without a reason")
        if any(part in code for part in NO_CREDIT):
            return from_status(self.account, 402, {"error": first})
        if any(part in code for part in FULL):
            return Crowded(f"{self.account.title} turned a batch away: {said}")
        if code == "model_not_found":
            return from_status(self.account, 404, {"error": first})
        if not code or "server" in code or "internal" in code:
            return given_up(self.account, f"gave up a batch ({said}) with a request")
        return from_status(self.account, 400, {"error": first})

    async def results(self, batch: str) -> str:
        """The file of replies and the file of errors, one after the other."""
        entry = await self._entry(batch)
        files = [entry.get("output_file_id"), entry.get("error_file_id")]
        texts = [
            await get(self.llm, f"/files/{quote(str(file), safe='')}/content", TRANSFER)
            for file in files
            if file
        ]
        return "\n".join(texts)

    def read(self, line: Mapping[str, Any], request: Request, seconds: float) -> Reply:
        """The reply in a line, or the error that is there in its place."""
        error, response = line.get("error"), as_dict(line.get("response"))
        status = as_number(response.get("status_code"))
        if not status:
            code = str(as_dict(error).get("code") or "")
            said = str(as_dict(error).get("message") or code or "did not say what became of it")
            raise given_up(self.account, f"gave up a request ({said})")
        body = response.get("body")
        if status != 200:
            raise from_status(self.account, status, body)
        text = json.dumps(body)
        if isinstance(self.llm, OpenAIResponsesLLM):
            return responses.read_reply(text, request, self.llm, seconds)
        return read_reply(text, request, self.llm, seconds)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.llm.aclose()

    async def _entry(self, batch: str) -> Mapping[str, Any]:
        return read_answer(self.account, await self._get(f"/batches/{quote(batch, safe='')}"))

    async def _get(self, path: str) -> str:
        return await get(self.llm, path, self.llm.timeout)


def _created(entry: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp(as_number(entry.get("created_at")), UTC)

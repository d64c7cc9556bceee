"""The batch API of Anthropic: requests in one body, replies as lines.

A batch carries nothing of ours but the custom ids of its requests, and these show only in its
results. So one whose id was lost is known for certain only once it has ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self
from urllib.parse import quote

import httpx2

from glossator.llm import Reply, Request
from glossator.providers.anthropic import AnthropicLLM, payload_of, read_reply
from glossator.providers.desks import (
    PAGE,
    SKEW,
    TRANSFER,
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
    token_in,
    told,
)
from glossator.providers.faults import Account, from_status

MOST = Limits(requests=100_000, bytes=240_000_000)
"""Anthropic takes 256 MB."""
BATCHES = "/v1/messages/batches"
COUNTED = ("processing", "succeeded", "errored", "canceled", "expired")
STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "overloaded_error": 529,
}
"""What a request would have been answered with outside of a batch; 500 for what is not here."""


@dataclass(frozen=True)
class AnthropicDesk:
    """Batches of messages."""

    llm: AnthropicLLM
    limits: Limits = MOST

    @classmethod
    def of(cls, llm: AnthropicLLM) -> Self:
        """The batch API of the server that `llm` is at."""
        return cls(at_batch_price(llm))

    @property
    def account(self) -> Account:
        """Whose batches they are."""
        return self.llm.account

    async def check(self) -> None:
        """Asks for a page of batches."""
        try:
            await self._get(f"{BATCHES}?limit=1")
        except Missing:
            raise no_batches(self.account) from None

    def payload(self, request: Request) -> Payload:
        """What is sent for `request`."""
        return payload_of(request, self.llm)

    async def submit(self, token: str, payloads: Sequence[Payload]) -> str:
        """Sends all requests in one body."""
        requests = [
            {"custom_id": custom_id(token, number), "params": payload}
            for number, payload in enumerate(payloads)
        ]
        async with told(self.llm, TRANSFER):
            answer = await self.llm.client.post(
                BATCHES,
                cast_to=httpx2.Response,
                body={"requests": requests},
                options={"timeout": TRANSFER},
            )
        return read_id(self.account, answer.text)

    async def find(self, slip: Slip, others: set[str]) -> Found:
        """Looks for the batch among those of its time and size, in the results of ended ones."""
        after, since, undecided = "", (slip.made - SKEW).astimezone(UTC), False
        while True:
            page = await self._get(f"{BATCHES}?limit={PAGE}" + (after and f"&after_id={after}"))
            entries, next_after = read_page(self.account, page)
            for entry in entries:
                name = str(entry.get("id") or "")
                if not name or name in others:
                    continue
                counts = as_dict(entry.get("request_counts"))
                n = sum(as_number(counts.get(kind)) for kind in COUNTED)
                if n != slip.n or _created(entry) < since:
                    others.add(name)
                elif entry.get("processing_status") != "ended":
                    undecided = True
                elif token_in(await self.results(name)) == slip.token:
                    return Found(name)
                else:
                    others.add(name)
            if next_after in ("", after) or _created(entries[-1]) < since:
                return Found(undecided=undecided)
            after = next_after

    async def state(self, batch: str) -> State:
        """How far the batch is."""
        found = await self._get(f"{BATCHES}/{quote(batch, safe='')}")
        entry = read_answer(self.account, found)
        counts = as_dict(entry.get("request_counts"))
        done = sum(as_number(counts.get(kind)) for kind in COUNTED[1:])
        return State(entry.get("processing_status") == "ended", done)

    async def results(self, batch: str) -> str:
        """The lines of results.

        They are fetched from where they are known to be: the address that a server names for them
        might be another's, and would be sent the key.
        """
        return await get(self.llm, f"{BATCHES}/{quote(batch, safe='')}/results", TRANSFER)

    def read(self, line: Mapping[str, Any], request: Request, seconds: float) -> Reply:
        """The reply in a line, or the error that is there in its place."""
        result = as_dict(line.get("result"))
        kind = result.get("type")
        if kind == "succeeded":
            return read_reply(json.dumps(result.get("message")), request, self.llm, seconds)
        if kind == "errored":
            outer = as_dict(result.get("error"))
            error = as_dict(outer.get("error")) or outer
            status = STATUS.get(str(error.get("type")), 500)
            raise from_status(self.account, status, {"error": error})
        raise given_up(self.account, f"gave up a request ({str(kind or 'no result')[:40]})")

    async def aclose(self) -> None:
        """Closes the connections."""
        await self.llm.aclose()

    async def _get(self, path: str) -> str:
        return await get(self.llm, path, self.llm.timeout)


def _created(entry: Mapping[str, Any]) -> datetime:
    """When a batch was made; now, if that cannot be read: it may be the one looked for."""
    try:
        found = datetime.fromisoformat(str(entry.get("created_at")))
    except ValueError:
        return datetime.now(UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)

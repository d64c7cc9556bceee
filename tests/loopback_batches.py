"""The batch endpoints of the loopback server, of both protocols.

Batches are held until they are let go, items meet the fate that the test gives them, and results
come in another order than they were sent.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from tests.loopback import Asked, Fault

NOTHING = b'{"nothing": "done"}'
ERRORS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}


@dataclass(frozen=True)
class Fate:
    """What becomes of one request in a batch."""

    kind: str = "done"
    """`done`, `expired`, `cancelled`, `missing`, `garbage` or `error`."""
    status: int = 400
    message: str = "scripted"


DONE = Fate()


@dataclass
class Sent:
    """A batch that the server has taken."""

    id: str
    items: list[tuple[str, Mapping[str, Any]]]
    """Custom id and body of each request."""
    endpoint: str
    metadata: Mapping[str, str]
    created: float
    looks: int = 0
    refused: str = ""
    """The code with which the batch was turned away after it was taken."""
    results: str | None = None
    fates: Counter[str] = field(default_factory=Counter)


class FakeBatches:
    """A provider's batch API. What is set here may be changed while the server runs."""

    def __init__(self, reply: Callable[[Asked], Any]) -> None:
        self._reply = reply
        self.there = True
        """Whether there is a batch API at all."""
        self.hold = False
        """Whether nothing ends."""
        self.looks = 1
        """How often each batch is found at work."""
        self.most: int | None = None
        """The largest batch that is taken."""
        self.refuse_with = ""
        """A code with which batches are turned away after they were taken."""
        self.ended_as = "completed"
        """The status of ended batches, as OpenAI calls it."""
        self.fate: Callable[[str, int], Fate] = lambda text, time: DONE
        """By the last message, and how often a request was in a batch before."""
        self.faults: dict[str, deque[tuple[Fault, bool] | None]] = defaultdict(deque)
        """By what is done: `upload`, `submit`, `list`, `state`, `results`. Each a fault and
        whether it is done all the same; None for a good answer."""
        self.sent: list[Sent] = []
        self.done: Counter[str] = Counter()
        """How often what was asked for, faults included."""
        self._files: dict[str, bytes] = {}
        self._seen: Counter[str] = Counter()

    def asked(self) -> Counter[str]:
        """How often each request was in a batch that was not turned away."""
        return Counter(
            json.dumps(body) for batch in self.sent if not batch.refused for _, body in batch.items
        )

    def serve(
        self, method: str, target: str, headers: Mapping[str, str], raw: bytes
    ) -> Fault | None:
        """The answer, if the request is about batches."""
        from tests.loopback import Fault

        url = urlsplit(target)
        path, query = url.path, {name: v[0] for name, v in parse_qs(url.query).items()}
        what = _what(method, path)
        if not what:
            return None
        self.done[what] += 1
        if not self.there:
            return _error(404, "no such path")
        waiting = self.faults[what]
        fault = waiting.popleft() if waiting else None
        if fault is not None and not fault[1]:
            return fault[0] if fault[0].body is not None else replace(fault[0], body=NOTHING)
        answer = getattr(self, f"_{what}")(path, query, headers, raw)
        if isinstance(answer, Fault):
            return answer
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if fault is None:
            return Fault(body=body)
        return fault[0] if fault[0].body is not None else replace(fault[0], body=body)

    def _upload(self, path: str, query: Any, headers: Mapping[str, str], raw: bytes) -> Any:
        boundary = headers["content-type"].partition("boundary=")[2].encode()
        parts = raw.split(b"--" + boundary)
        (content,) = (p for p in parts if b'name="file"' in p)
        name = f"file-{len(self._files)}"
        self._files[name] = content.partition(b"\r\n\r\n")[2].rstrip(b"\r\n")
        return {"id": name, "object": "file", "purpose": "batch", "status": "processed"}

    def _submit(self, path: str, query: Any, headers: Any, raw: bytes) -> Any:
        asked = json.loads(raw)
        if path == "/v1/batches":
            lines = [json.loads(line) for line in self._files[asked["input_file_id"]].split(b"\n")]
            assert {line["url"] for line in lines} == {asked["endpoint"]}
            items = [(line["custom_id"], line["body"]) for line in lines]
            endpoint, metadata = asked["endpoint"], asked["metadata"]
        else:
            items = [(each["custom_id"], each["params"]) for each in asked["requests"]]
            endpoint, metadata = "/v1/messages", {}
        names = [name for name, _ in items]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)
        crowded = self.most is not None and len(items) > self.most
        if crowded and path != "/v1/batches":
            return _error(413, "too large")
        batch = Sent(f"batch_{len(self.sent)}", items, endpoint, metadata, time.time())
        batch.refused = "token_limit_exceeded" if crowded else self.refuse_with
        self.sent.append(batch)
        return self._shown(batch)

    def _list(self, path: str, query: Mapping[str, str], headers: Any, raw: bytes) -> Any:
        newest = [b for b in reversed(self.sent) if (b.endpoint == "/v1/messages") == _old(path)]
        after = query.get("after") or query.get("after_id")
        start = next((i + 1 for i, b in enumerate(newest) if b.id == after), 0)
        page = newest[start : start + min(int(query["limit"]), 3)]
        more = start + len(page) < len(newest)
        return {"data": [self._shown(b) for b in page], "has_more": more}

    def _state(self, path: str, query: Any, headers: Any, raw: bytes) -> Any:
        batch = self._batch(path.rpartition("/")[2])
        return _error(404, "no such batch") if batch is None else self._shown(batch)

    def _results(self, path: str, query: Any, headers: Any, raw: bytes) -> Any:
        name = path.split("/")[-2]
        batch = self._batch(name.removeprefix("output-").removeprefix("error-"))
        if batch is None:
            return _error(404, "no such batch")
        lines = self._lines(batch).split("\n")
        if name.startswith("output-"):
            lines = [line for line in lines if '"status_code": 200' in line or "{" not in line]
        elif name.startswith("error-"):
            lines = [line for line in lines if '"status_code": 200' not in line and "{" in line]
        return "\n".join(lines).encode()

    def _batch(self, name: str) -> Sent | None:
        return next((b for b in self.sent if b.id == name), None)

    def _lines(self, batch: Sent) -> str:
        """The results, made once: each request meets its fate."""
        if batch.results is None:
            found = [self._line(batch, name, body) for name, body in batch.items]
            random.Random(len(self.sent)).shuffle(found)
            batch.results = "\n".join(line for line in found if line)
        return batch.results

    def _line(self, batch: Sent, name: str, body: Mapping[str, Any]) -> str:
        from tests.loopback import Asked

        asked = Asked(batch.endpoint, {}, body, time.monotonic())
        text = json.dumps(body)
        fate = self.fate(asked.last, self._seen[text])
        self._seen[text] += 1
        batch.fates[fate.kind] += 1
        if fate.kind == "missing":
            return ""
        if fate.kind == "garbage":
            return "]]> no json \u2028 at all"
        reply = self._reply(asked) if fate.kind == "done" else None
        make = _message_line if batch.endpoint == "/v1/messages" else _completion_line
        return json.dumps(make(name, fate, reply))

    def _shown(self, batch: Sent) -> Any:
        ended = not self.hold and batch.looks > self.looks
        batch.looks += 1
        n = len(batch.items)
        if ended and not batch.refused:
            self._lines(batch)
        if batch.endpoint == "/v1/messages":
            made = datetime.fromtimestamp(batch.created, UTC).isoformat()
            names = ("succeeded", "errored", "canceled", "expired")
            counts = {"processing": 0 if ended else n, **dict.fromkeys(names, 0)}
            counts["succeeded"] = n if ended else 0
            return {
                "id": batch.id,
                "type": "message_batch",
                "processing_status": "ended" if ended else "in_progress",
                "request_counts": counts,
                "created_at": made,
                # Where it is not: a client that goes there sends its key to a stranger.
                "results_url": "http://127.0.0.1:9/elsewhere" if ended else None,
            }
        done = batch.fates["done"] if ended else 0
        shown = {
            "id": batch.id,
            "object": "batch",
            "endpoint": batch.endpoint,
            "status": self.ended_as if ended else "in_progress",
            "request_counts": {"total": n, "completed": done, "failed": 0},
            "created_at": int(batch.created),
            "metadata": batch.metadata,
            "errors": None,
            "output_file_id": f"output-{batch.id}" if done else None,
            "error_file_id": f"error-{batch.id}" if ended and done < n else None,
        }
        if batch.refused:
            error = {"code": batch.refused, "message": "scripted", "line": None}
            shown |= {"status": "failed", "errors": {"data": [error]}}
        return shown


def _what(method: str, path: str) -> str:
    """What is done by the request: the name of a method above; empty if it is not of batches."""
    if path == "/v1/files":
        return "upload"
    if path in ("/v1/batches", "/v1/messages/batches"):
        return "submit" if method == "POST" else "list"
    if re.fullmatch(r"/v1/files/[^/]+/content|/v1/messages/batches/[^/]+/results", path):
        return "results"
    return "state" if re.fullmatch(r"/v1(/messages)?/batches/[^/]+", path) else ""


def _old(path: str) -> bool:
    return path.startswith("/v1/messages")


def _error(code: int, message: str) -> Fault:
    from tests.loopback import status

    return status(code, message)


def _completion_line(name: str, fate: Fate, reply: Any) -> Any:
    line: dict[str, Any] = {"id": f"r-{name}", "custom_id": name, "response": None, "error": None}
    if fate.kind == "done":
        line["response"] = {"status_code": 200, "body": reply}
    elif fate.kind == "error":
        error = {"message": fate.message, "type": ERRORS.get(fate.status), "code": None}
        line["response"] = {"status_code": fate.status, "body": {"error": error}}
    else:
        line["error"] = {"code": f"batch_{fate.kind}", "message": "not in time"}
    return line


def _message_line(name: str, fate: Fate, reply: Any) -> Any:
    result: dict[str, Any] = {"type": "succeeded", "message": reply}
    if fate.kind == "error":
        error = {"type": ERRORS.get(fate.status, "api_error"), "message": fate.message}
        result = {"type": "errored", "error": {"type": "error", "error": error}}
    elif fate.kind != "done":
        result = {"type": "canceled" if fate.kind == "cancelled" else fate.kind}
    return {"custom_id": name, "result": result}

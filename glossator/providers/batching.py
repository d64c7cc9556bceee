"""A language model that is asked through its provider's batch API: half the price, within a day.

Requests wait until no more come; then they are written down and go out together. Whoever asks for
what is out already, be it sent by an earlier process that was killed, waits for that. So nothing
is sent twice, and what was sent is never lost.
"""

from __future__ import annotations

import asyncio
import copy
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from glossator.errors import GlossatorError, ProviderError, ProviderRefused
from glossator.ledger import Batch, Item, Shelf
from glossator.llm import Can, Reply, Request
from glossator.providers.desks import LATER, Crowded, Desk, Payload, given_up
from glossator.providers.errand import PACE, End, Errand, Pace
from glossator.providers.metered import cache_key, worst_call
from glossator.providers.prices import Price, price_of

AROUND = 256
"""Bytes of JSON around what is sent for one request, rather too many."""
AT_ONCE = 64
"""Replies handed over before others get a turn."""

Place = tuple[str, int]
"""Where a request is out: the token of a batch, and a number."""


@dataclass(eq=False)
class _Wanted:
    """A request that somebody waits for."""

    request: Request
    key: str
    reply: asyncio.Future[Reply]
    place: Place | None = None
    """None while it is not in a batch."""


@dataclass(eq=False)
class _Out:
    """A batch that is out, and who waits for it."""

    errand: Errand
    wanted: dict[int, _Wanted]
    unasked: set[int] = field(default_factory=set)
    """Numbers of requests that nobody waits for now."""
    task: asyncio.Task[None] | None = None


@dataclass
class BatchingLLM:
    """A language model whose requests go out in batches. Serves one event loop.

    What came of a request is handed over before it is written down. Whoever writes it down then
    settles, in the same transaction, what `taken` gives for its key; until that is done the batch
    stays open.
    """

    desk: Desk
    shelf: Shelf
    run: str
    """For which it asks."""
    pace: Pace = PACE
    tell: Callable[[str], None] = lambda note: None
    """Told in a few words how far the batches are."""

    _waiting: deque[_Wanted] = field(default_factory=deque, init=False, repr=False)
    _out: dict[str, _Out] = field(default_factory=dict, init=False, repr=False)
    """By token."""
    _unasked: dict[str, Place] = field(default_factory=dict, init=False, repr=False)
    """Requests that are out and that nobody waits for now, by key."""
    _handed: dict[str, Place] = field(default_factory=dict, init=False, repr=False)
    """By key, what was handed over and is not known to be written down."""
    _came: int = field(default=0, init=False, repr=False)
    """Requests so far."""
    _sender: asyncio.Task[None] | None = field(default=None, init=False, repr=False)
    _full_since: float | None = field(default=None, init=False, repr=False)
    """Since when the provider turns batches away."""

    def __post_init__(self) -> None:
        self._size = self.desk.limits.requests
        self._opened = asyncio.Lock()
        self._is_open = False
        self._room = asyncio.Event()
        self._room.set()

    @property
    def name(self) -> str:
        """The name of the model that answers."""
        return self.desk.llm.name

    @property
    def can(self) -> frozenset[Can]:
        """What that can do."""
        return self.desk.llm.can

    @property
    def identity(self) -> str:
        """The same as outside of batches: a reply is good for both."""
        return str(getattr(self.desk.llm, "identity", ""))

    @property
    def revision(self) -> str:
        """The same."""
        return str(getattr(self.desk.llm, "revision", ""))

    @property
    def overhead_tokens(self) -> int:
        """Tokens it may generate beyond those asked for."""
        return int(getattr(self.desk.llm, "overhead_tokens", 0))

    @property
    def price(self) -> Price | None:
        """What it charges in a batch; None if unknown."""
        return price_of(self.desk.llm)

    @property
    def batched(self) -> bool:
        """For the ledger."""
        return True

    async def reply(self, request: Request) -> Reply:
        """The answer to `request`, in hours; raises as `LLM` says.

        If cancelled, gives way at once: what was sent stays out, and is there for who asks again.
        """
        self.desk.payload(request)  # What cannot be asked is refused before it waits.
        await self._open()
        key = cache_key(self, request)
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        wanted = _Wanted(request, key, reply)
        self._came += 1
        place = self._unasked.pop(key, None)
        if place is None:
            self._queue(wanted)
        else:
            self._await_in(wanted, place)
        try:
            return await reply
        except asyncio.CancelledError:
            self._let_go(wanted)
            raise

    def taken(self, keys: Iterable[str]) -> list[Place]:
        """What was handed over under `keys` and is now being written down, to be settled."""
        return [place for key in keys if (place := self._handed.pop(key, None)) is not None]

    async def aclose(self) -> None:
        """Stops looking after batches, and closes the model; what is out stays out."""
        if self._sender is not None:
            self._sender.cancel()
        tasks = {out.task for out in self._out.values() if out.task is not None}
        placing = {o.task for o in self._out.values() if o.task is not None and o.errand.placing}
        try:
            if placing:
                # An id that is not known has to be looked for, which takes longer than this.
                await asyncio.wait(placing, timeout=self.pace.leave)
        finally:
            for task in tasks:
                task.cancel()
            left = tasks | ({self._sender} if self._sender is not None else set())
            await asyncio.gather(*left, return_exceptions=True)
            await self.desk.aclose()

    # -- who waits for what ----------------------------------------------------------------------

    async def _open(self) -> None:
        """Finds, once, what earlier processes have out."""
        if self._is_open:
            return
        async with self._opened:
            if self._is_open:
                return
            account = self.desk.account.url
            for batch in await asyncio.to_thread(self.shelf.open, account, self.name):
                self._out[batch.token] = _Out(self._errand(batch), {}, set(batch.items))
                # A later batch counts: that of a request which an earlier one did not answer.
                self._unasked |= {i.key: (batch.token, n) for n, i in batch.items.items()}
            self._is_open = True

    def _queue(self, wanted: _Wanted) -> None:
        wanted.place = None
        self._waiting.append(wanted)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())
            self._sender.add_done_callback(self._sender_ended)

    def _await_in(self, wanted: _Wanted, place: Place) -> None:
        token, number = wanted.place = place
        out = self._out[token]
        out.unasked.discard(number)
        out.wanted[number] = wanted
        self._see_to(out)

    def _let_go(self, wanted: _Wanted) -> None:
        """Nobody waits for it any more. In the queue, it is left out when its turn comes."""
        if wanted.place is None:
            return
        token, number = wanted.place
        out = self._out.get(token)
        if out is not None and out.wanted.pop(number, None) is not None:
            self._leave_out(out, number, wanted.key)

    def _leave_out(self, out: _Out, number: int, key: str) -> None:
        out.unasked.add(number)
        self._unasked[key] = (out.errand.batch.token, number)

    # -- batches out -----------------------------------------------------------------------------

    async def _send_all(self) -> None:
        while self._waiting:
            await self._until_quiet()
            await self._until_room()
            if some := self._next():
                await self._send(some)

    async def _until_quiet(self) -> None:
        """Waits for requests that come together, as those of units that go on at once do."""
        began = time.monotonic()
        while len(self._waiting) < self._size and time.monotonic() - began < self.pace.longest:
            came, since = self._came, time.monotonic()
            await asyncio.sleep(self.pace.quiet)
            # A loop that was held up has had no time for those who want to ask.
            held_up = time.monotonic() - since > 2 * self.pace.quiet + 0.1
            if self._came == came and not held_up:
                return

    async def _until_room(self) -> None:
        """After a batch was turned away, waits until another is through, or for a while."""
        if self._room.is_set():
            return
        try:
            async with asyncio.timeout(min(LATER, self.pace.most)):
                await self._room.wait()
        except TimeoutError:
            self._room.set()

    def _next(self) -> list[tuple[_Wanted, Payload]]:
        """As many of those that wait as one batch holds, with what is sent for each."""
        some: list[tuple[_Wanted, Payload]] = []
        size = 0
        while self._waiting and len(some) < self._size:
            wanted = self._waiting[0]
            if wanted.reply.done():
                self._waiting.popleft()
                continue
            payload = self.desk.payload(wanted.request)
            size += len(json.dumps(payload)) + AROUND
            if some and size > self.desk.limits.bytes:
                break
            some.append((self._waiting.popleft(), payload))
        return some

    async def _send(self, some: list[tuple[_Wanted, Payload]]) -> None:
        """Writes a batch down, and only then begins to send it."""
        token = secrets.token_hex(8)
        worst = [worst_call(self, self.price, wanted.request) for wanted, _ in some]
        items = {n: Item(wanted.key, worst[n]) for n, (wanted, _) in enumerate(some)}
        account, now = self.desk.account.url, datetime.now(UTC)
        batch = Batch(token, self.run, self.name, account, len(items), now, items)
        out = _Out(self._errand(batch, [payload for _, payload in some]), {})
        for number, (wanted, _) in enumerate(some):
            wanted.place = (token, number)
            out.wanted[number] = wanted
        self._out[token] = out
        try:
            await asyncio.to_thread(self.shelf.plan, batch)
        except GlossatorError as error:
            out.errand.dropped = True
            self._fail(out, error)
        else:
            self._see_to(out)

    def _errand(self, batch: Batch, payloads: list[Payload] | None = None) -> Errand:
        return Errand(self.desk, self.shelf, batch, self.pace, self._report, payloads or ())

    def _see_to(self, out: _Out) -> None:
        """Has the batch looked after, unless it is."""
        if out.task is None or out.task.done():
            out.task = asyncio.create_task(self._see_through(out))
            out.task.add_done_callback(lambda task: self._ended(out, task))

    async def _see_through(self, out: _Out) -> None:
        try:
            end = End.FETCHED if out.errand.lines else await out.errand.go()
        except GlossatorError as error:
            self._fail(out, error)
            return
        if end is End.FETCHED:
            self._full_since = None
            self._room.set()
            await self._hand_over(out)
            return
        if end is End.CROWDED and not self._make_smaller(out):
            self._fail(out, Crowded(f"{self.desk.account.title} takes no batch, however small"))
            return
        self._forget(out)
        for wanted in out.wanted.values():
            if not wanted.reply.done():
                self._queue(wanted)
        out.wanted = {}

    def _make_smaller(self, out: _Out) -> bool:
        """Has less sent at once, or later; False if that has been tried for long."""
        self._room.clear()
        now = time.monotonic()
        self._full_since = self._full_since or now
        if any(o is not out and o.errand.id and not o.errand.lines for o in self._out.values()):
            return True  # Those that are out take up the room.
        if out.errand.batch.n > 1:
            self._size = max(1, out.errand.batch.n // 2)
            self._room.set()
            return True
        return now - self._full_since < self.pace.patience

    async def _hand_over(self, out: _Out) -> None:
        """Gives everybody who waits for the batch what came of the request."""
        batch = out.errand.batch
        # Its share, so that the seconds of all calls add up to the time that was spent.
        seconds = max(0.0, (datetime.now(UTC) - batch.made).total_seconds()) / batch.n
        handed = 0
        while out.wanted:
            number = next(iter(out.wanted))
            wanted = out.wanted.pop(number)
            if wanted.reply.done():
                self._leave_out(out, number, wanted.key)
                continue
            self._handed[wanted.key] = (batch.token, number)
            try:
                wanted.reply.set_result(self._read(out.errand, number, wanted.request, seconds))
            except GlossatorError as error:
                wanted.reply.set_exception(error)
            handed += 1
            if handed % AT_ONCE == 0:
                await asyncio.sleep(0)
        if not out.unasked:
            self._forget(out)

    def _read(self, errand: Errand, number: int, request: Request, seconds: float) -> Reply:
        line = errand.lines.get(number)
        if line is not None:
            return self.desk.read(line, request, seconds)
        account = self.desk.account
        if errand.short:
            raise given_up(account, "ended a batch before the turn of a request")
        raise ProviderError(
            f"{account.title} sent no result of a request in a batch; it is asked again",
            maybe_billed=True,
        )

    # -- what goes wrong -------------------------------------------------------------------------

    def _fail(self, out: _Out, error: BaseException) -> None:
        """Tells everybody who waits for the batch; it is still out unless it was dropped."""
        wanted, out.wanted = out.wanted, {}
        if isinstance(error, ProviderRefused):
            error.of_request = ""  # It is about all of them.
        for number, one in wanted.items():
            if not out.errand.dropped:
                self._leave_out(out, number, one.key)
            if not one.reply.done():
                one.reply.set_exception(copy.copy(error))
        if out.errand.dropped:
            self._forget(out)

    def _forget(self, out: _Out) -> None:
        token = out.errand.batch.token
        self._out.pop(token, None)
        if out.unasked:
            self._unasked = {k: place for k, place in self._unasked.items() if place[0] != token}

    def _ended(self, out: _Out, task: asyncio.Task[None]) -> None:
        """Leaves nobody waiting: after a bug, or who came while the last were handed over."""
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._fail(out, error)
        elif out.wanted:
            self._see_to(out)

    def _sender_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        while self._waiting:
            wanted = self._waiting.popleft()
            if not wanted.reply.done():
                wanted.reply.set_exception(copy.copy(error))

    def _report(self, trouble: str) -> None:
        out = [o for o in self._out.values() if o.wanted]
        asked, done = sum(o.errand.batch.n for o in out), sum(o.errand.done for o in out)
        batches = "1 batch" if len(out) == 1 else f"{len(out)} batches"
        when = datetime.now().astimezone().strftime("%H:%M:%S")
        note = f"{done:,} of {asked:,} requests done in {batches}, looked at {when}"
        self.tell(f"{note}: {trouble}" if trouble else note)

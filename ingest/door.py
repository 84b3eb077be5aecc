"""The door: takes a request's events, answers for each of them, and says "accepted" only of what is on disk.

The steps of `take`, in order:

1. parse the body; what cannot be read as a whole is refused as a whole;
2. route each event to its customer and partition, and look whether its time is within bounds;
3. compute each event's identity and content, and look whether it has been acknowledged before;
4. append the events, and publish the rejections; wait until both are durable;
5. remember the identities, and answer.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from ingest.batcher import Batcher
from ingest.columns import Events, Parsed, Refused, Rows, make_rejection, pick
from ingest.content import Headers
from ingest.memory import IdentityMemory, Seen
from ingest.parse import parse, parse_texts
from ingest.receipt import Answer, Receipt, Verdict
from ingest.route import Router, Views
from ingest.routed import Routed, refuse_unroutable
from schemas.entry import encode_tick
from schemas.limits import PACK_EVENTS_MAX
from schemas.paths import Extractor
from schemas.rejection import Rejection
from schemas.times import DAY
from streams.log import LogUnavailable, Sink, encode_position


class RejectionSink(Protocol):
    """Where rejections go: the topic `taximeter.rejections`."""

    async def publish(self, rejections: Sequence[Rejection]) -> None:
        """Appends the rejections and waits until they are durable. Raises: LogUnavailable."""
        ...


class NotWhole(Exception):
    """A request that was to be taken whole or not at all, and was not. `receipt`: what would have been said of it."""

    def __init__(self, receipt: Receipt) -> None:
        super().__init__(f"{len(receipt.refused)} of {receipt.total} events refused, {len(receipt.duplicates)} known")
        self.receipt = receipt


class OverRate(LogUnavailable):
    """A tenant sends more than it may: nothing was taken, and `seconds` later something will be."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


def _admit_all(tenant: str, events: int) -> None:
    """No tenant has a bound."""


Single = bytes | LogUnavailable | None
"""What became of a request with one event: the body of its answer, which is a 200; why nothing was promised; or None
where `take` must look at it by itself, and nothing was done with it."""


class RequestTracer(Protocol):
    """Follows requests through the door where traces are kept. It changes nothing, and raises nothing."""

    def step(self, name: str) -> AbstractContextManager[str | None]:
        """Around a step of the request at hand. Gives the trace context that travels with what is appended in it; None
        where this request is not traced."""
        ...

    def brought(self, extensions: Sequence[str | None]) -> None:
        """The extension attributes of the events that are in the log now: they may bring traces of their own."""
        ...


_NOT_TRACED: Final = nullcontext[None](None)


def now() -> int:
    """The clock: microseconds since the epoch."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """What an operator may choose."""

    max_ahead: int | None = DAY
    """How far ahead of its arrival an event's time may be, in microseconds; None: any time is taken."""
    remembered: int = 400_000
    """Identities that the door remembers to tell clients of duplicates: 60 bytes each, 150 if not compiled."""
    waiting_events_max: int = 50 * PACK_EVENTS_MAX
    """Where so many events wait for the log, a request is told to come again."""
    waiting_bytes_max: int = 256 * 1024 * 1024
    """The same for the bytes of their data."""
    retry_after_seconds: int = 1
    """What a client is told to wait where the log takes nothing."""
    admit: Callable[[str, int], None] = _admit_all
    """Called with a tenant and the events of a request before anything is taken of it. Raises: OverRate."""


@dataclass(slots=True)
class DoorCounts:
    """What this door has answered since it was opened. The engine decides what is a duplicate: see `Receipt`."""

    requests: int = 0
    accepted: int = 0
    duplicates: int = 0
    rejected: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    """The rejected, by code."""

    def note(self, receipt: Receipt) -> None:
        """One more request is answered."""
        self.requests += 1
        self.accepted += receipt.accepted
        self.duplicates += len(receipt.duplicates)
        self.rejected += len(receipt.refused)
        for refused in receipt.refused:
            self.codes[refused.fault.code] += 1


class Door:
    """Takes requests for one source log. One per process is enough; `take` may run any number of times at once."""

    def __init__(
        self,
        sink: Sink,
        rejections: RejectionSink,
        views: Views,
        settings: DoorSettings | None = None,
        clock: Callable[[], int] = now,
        tracer: RequestTracer | None = None,
    ) -> None:
        """`views`: tenant -> what the door must know of its catalogue in force. `clock`: microseconds."""
        self.settings = settings or DoorSettings()
        self.counts = DoorCounts()
        self.clock = clock
        self._tracer = tracer
        self._sink = sink
        self._rejections = rejections
        self._views = views
        self._routers: dict[str, Router] = {}
        self._memory = IdentityMemory(self.settings.remembered)
        self._batcher = Batcher(
            sink, self._extractor, self.settings.waiting_events_max, self.settings.waiting_bytes_max
        )

    async def take(self, body: bytes, headers: Headers, tenant: str) -> Receipt:
        """Takes one request's body, and returns once every event of it is durable or published as rejected.

        Raises: BodyRefused where the body cannot be read as a whole; LogUnavailable, and then nothing is promised:
        the client sends the same request again (OverRate: later).
        """
        self._batcher.check_room()  # before the work of parsing
        with self._step("parse"):
            parsed = parse(body, headers)
        return await self.take_parsed(parsed, tenant)

    async def take_parsed(self, parsed: Parsed, tenant: str, *, whole: bool = False, new: bool = False) -> Receipt:
        """The same for events that another door has read. `whole`: all of them or none; `new`: nor where one is known.

        Raises: NotWhole, and nothing was taken or published; LogUnavailable, OverRate.
        """
        self._batcher.check_room()
        self.settings.admit(tenant, parsed.total)
        with self._step("route"):
            arrived = self.clock()
            router = self._router(tenant)
            events, refused = refuse_unroutable(parsed, router, arrived, self.settings.max_ahead)
            routed = Routed(events, router, arrived)
            seen = self._memory.look(*routed.rows.keys)
        if (whole and refused) or (new and seen.duplicates):
            raise NotWhole(_receipt(parsed, events, refused, seen, ""))
        with self._step("append") as trace:
            position = await self._commit(routed, refused, parsed, tenant, trace)
        self._memory.remember(*routed.rows.keys)
        if self._tracer is not None:
            self._tracer.brought(events.extensions)
        receipt = _receipt(parsed, events, refused, seen, encode_position(position))
        self.counts.note(receipt)
        return receipt

    async def take_singles(self, texts: Sequence[bytes], tenant: str, done: Callable[[int, Single], None]) -> None:
        """Takes the bodies of requests with one event each (its JSON text, no white space around it), all together.

        `done`: called with each one's place and what became of it, as soon as that is known. Only what is beyond doubt
        is taken; whatever is to be refused is left to `take`. Not for a door that follows requests (`RequestTracer`).
        Raises: LogUnavailable, and then nothing is promised to those who were not told otherwise.
        """
        self._batcher.check_room()
        arrived, router = self.clock(), self._router(tenant)
        parsed = parse_texts(texts)
        events, _ = refuse_unroutable(parsed, router, arrived, self.settings.max_ahead)
        events = self._admitted(events, tenant)
        if len(events.id) < parsed.total:
            for at in set(range(parsed.total)).difference(events.at):
                done(at, None)
        if not events.id:
            return
        routed = Routed(events, router, arrived)
        seen = self._memory.look(*routed.rows.keys)
        ends = [
            self._end_singles(routed, seen, partition, rows, self._batcher.add(tenant, partition, rows), done)
            for partition, rows in routed.by_partition().items()
        ]
        if len(ends) == 1:
            await ends[0]
        else:
            await asyncio.gather(*ends)

    async def _end_singles(
        self,
        routed: Routed,
        seen: Seen,
        partition: int,
        rows: Rows,
        end: asyncio.Future[int],
        done: Callable[[int, Single], None],
    ) -> None:
        """Says of the events of one partition what became of them, as soon as it is known: none waits for others'."""
        of = range(len(rows)) if rows is routed.rows else routed.of(partition).tolist()
        places = pick(routed.events.at, of)
        try:
            position = encode_position({partition: await end})
        except LogUnavailable as error:
            for at in places:
                done(at, error)
            return
        self._memory.remember(*rows.keys)
        self.counts.requests += len(of)
        for i, at, id, source in zip(of, places, rows.id, rows.source, strict=True):
            known = int(i in seen.duplicates)
            self.counts.accepted += 1 - known
            self.counts.duplicates += known
            done(at, _answer_single(id, source, position, known, i in seen.conflicts))

    def _admitted(self, events: Events, tenant: str) -> Events:
        """The events that the tenant's rate lets in, each a request of its own."""
        over: list[int] = []
        for i in range(len(events.id)):
            try:
                self.settings.admit(tenant, 1)
            except OverRate:
                over.append(i)
        return events.without(over) if over else events

    @property
    def waiting(self) -> tuple[int, int]:
        """How many events wait for the log, and the bytes of their data."""
        return self._batcher.waiting

    def _step(self, name: str) -> AbstractContextManager[str | None]:
        return _NOT_TRACED if self._tracer is None else self._tracer.step(name)

    async def tick(self, at: int) -> str:
        """Tells every partition that it is now `at` (microseconds). Returns the position. Raises: LogUnavailable."""
        value = encode_tick(at)
        appends = (self._sink.append(partition, value, 0) for partition in range(self._sink.partitions))
        return encode_position(dict(enumerate(await asyncio.gather(*appends))))

    async def drain(self) -> None:
        """Waits until everything that was taken is in the log."""
        await self._batcher.drain()

    async def _commit(
        self, routed: Routed, refused: list[Refused], parsed: Parsed, tenant: str, trace: str | None
    ) -> dict[int, int]:
        """Appends the events and publishes the rejections. Returns the position after the events."""
        by_partition = routed.by_partition()
        ends = [self._batcher.add(tenant, partition, rows, trace) for partition, rows in by_partition.items()]
        if refused:
            rejections = [make_rejection(one, parsed.where(one.at), tenant) for one in refused]
            await asyncio.gather(self._rejections.publish(rejections), *ends)
        elif len(ends) > 1:
            await asyncio.gather(*ends)
        return {partition: await end for partition, end in zip(by_partition, ends, strict=True)}

    def _router(self, tenant: str) -> Router:
        view, router = self._views(tenant), self._routers.get(tenant)
        if router is None or router.view is not view:
            router = self._routers[tenant] = Router(tenant, view, self._sink.partitions)
        return router

    def _extractor(self, tenant: str) -> Extractor:
        return self._views(tenant).extractor


def _answer_single(id: str, source: str, position: str, known: int, conflict: bool) -> bytes:
    """The body of the answer to a request with one event: what `Receipt.answer` is for it."""
    verdict = Verdict(index=0, id=id, source=source, verdict="duplicate" if known else "accepted", conflict=conflict)
    return msgspec.json.encode(
        Answer(accepted=1 - known, duplicates=known, rejected=0, position=position, events=[verdict])
    )


def _receipt(parsed: Parsed, events: Events, refused: list[Refused], seen: Seen, position: str) -> Receipt:
    return Receipt(
        total=parsed.total,
        position=position,
        events=events,
        refused=refused,
        duplicates={events.at[i]: i in seen.conflicts for i in seen.duplicates},
        lines=parsed.lines,
    )

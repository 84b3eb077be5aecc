"""Group commit: what waits for the log is packed together, by tenant and partition.

A *lane* is what waits for one partition of one tenant. It is flushed when its last flush is done, when it holds a whole
pack, or, where nothing is under way, as soon as the requests at hand have been read: nobody waits for a timer. So a
lone request goes out at once, and a thousand at once share a few packs.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ingest.columns import Rows
from ingest.pack import encode_packs
from schemas.entry import EVENTS, encode_entry
from schemas.limits import PACK_EVENTS_MAX
from schemas.paths import Extractor
from schemas.trace import Stretch
from streams.log import LogUnavailable, Sink


class _Waiting(NamedTuple):
    """One request's rows for a partition; `trace` is the context that goes on with them."""

    rows: Rows
    future: asyncio.Future[int]
    trace: str | None


class _Lane:
    """What waits for one partition of one tenant."""

    __slots__ = ("events", "partition", "scheduled", "tenant", "under_way", "waiting")

    def __init__(self, tenant: str, partition: int) -> None:
        self.tenant = tenant
        self.partition = partition
        self.waiting: list[_Waiting] = []
        self.events = 0
        self.under_way = 0
        self.scheduled = False


class Batcher:
    """Appends rows to the source log, many requests' together."""

    def __init__(self, sink: Sink, extractor: Callable[[str], Extractor], events_max: int, bytes_max: int) -> None:
        """`extractor`: tenant -> the paths that get a column. `events_max`, `bytes_max`: what may wait in all."""
        self._sink = sink
        self._extractor = extractor
        self._events_max = events_max
        self._bytes_max = bytes_max
        self._events = 0
        self._bytes = 0
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def check_room(self) -> None:
        """Raises: LogUnavailable where so much waits for the log that no more may."""
        if self._events >= self._events_max or self._bytes >= self._bytes_max:
            raise LogUnavailable(f"{self._events} events of {self._bytes} bytes wait for the log already")

    @property
    def waiting(self) -> tuple[int, int]:
        """How many events wait for the log, and the bytes of their data."""
        return self._events, self._bytes

    def add(self, tenant: str, partition: int, rows: Rows, trace: str | None = None) -> asyncio.Future[int]:
        """Queues rows of one request. The future gives the position after them once they are durable.

        It raises what the sink raised: then nothing was promised, though all or some of it may be in the log.
        """
        loop = asyncio.get_running_loop()
        lane = self._lanes.get((tenant, partition))
        if lane is None:
            lane = self._lanes[tenant, partition] = _Lane(tenant, partition)
        future: asyncio.Future[int] = loop.create_future()
        lane.waiting.append(_Waiting(rows, future, trace))
        lane.events += len(rows)
        self._events += len(rows)
        self._bytes += rows.data_bytes
        if lane.events >= PACK_EVENTS_MAX:
            self._flush(lane)
        elif not lane.under_way and not lane.scheduled:
            lane.scheduled = True
            loop.call_soon(self._flush, lane)
        return future

    async def drain(self) -> None:
        """Waits until nothing waits or is under way."""
        while self._events or self._tasks:
            await asyncio.wait(self._tasks, timeout=0.01) if self._tasks else await asyncio.sleep(0)

    def _flush(self, lane: _Lane) -> None:
        lane.scheduled = False
        if not lane.waiting:
            return
        waiting, events = lane.waiting, lane.events
        lane.waiting, lane.events = [], 0
        lane.under_way += 1
        task = asyncio.get_running_loop().create_task(self._append(lane, waiting, events))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _append(self, lane: _Lane, waiting: list[_Waiting], events: int) -> None:
        """Packs, appends, answers all; then flushes what has come meanwhile."""
        try:
            rows = Rows.joined([one.rows for one in waiting])
            packs = encode_packs(lane.tenant, rows, self._extractor(lane.tenant), _traces(waiting))
            # Appends begun in order stay in order; a failed one fails the whole flush.
            appends = (self._sink.append(lane.partition, encode_entry(EVENTS, value), n) for value, n in packs)
            end = max(await asyncio.gather(*appends)) if len(packs) > 1 else await next(appends)
            for one in waiting:
                if not one.future.done():  # its request may have been given up
                    one.future.set_result(end)
        except BaseException as error:
            for one in waiting:
                if not one.future.done():
                    one.future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._events -= events
            self._bytes -= sum(one.rows.data_bytes for one in waiting)
            lane.under_way -= 1
            if not lane.under_way:
                self._flush(lane)
                if not lane.under_way:
                    self._lanes.pop((lane.tenant, lane.partition), None)


def _traces(waiting: Sequence[_Waiting]) -> list[Stretch]:
    """The contexts of the requests that are traced, each with its rows among all."""
    found: list[Stretch] = []
    start = 0
    for one in waiting:
        end = start + len(one.rows)
        if one.trace is not None:
            found.append(Stretch(one.trace, start, end))
        start = end
    return found

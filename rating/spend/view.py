"""The view: feeds a spend store from the log, and says how far it has come.

One task reads the topics; another takes what has come into memory, where the spend query sees it at once; a third
writes what was taken in to the tables, in one go: the slower the store, the larger the writes. Each is bounded, so the
log waits for the store. Queries run in threads beside it, or on the event loop where they need no SQL.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final, Literal, Protocol, TypeVar

from rating.spend.progress import Progress
from rating.spend.proof import Verdict, news, reconcile
from rating.spend.store import TOPICS, SpendStore, StoreDamaged, StoreError, StoreFull, StoreUnavailable
from schemas import topics
from streams.durations import Durations
from streams.log import Records, Source, TopicRecord, bytes_of, parts_of


class ApplyObserver(Protocol):
    """Is told of each batch that a store has taken in. It changes nothing, and raises nothing."""

    def applied(self, records: Sequence[TopicRecord], through: Mapping[int, int], begun_ns: int) -> None:
        """The records, and partition -> the source position that the answers include now. `begun_ns`: of the clock."""
        ...


Of = Literal["now", "spend", "usage", "both"]
"""What a position is of: `spend` (outputs of the engine, in the tables), `now` (the same in memory, where the spend
query has them from), `usage` (raw events, in the tables), or `both` tables."""

TAKE_RECORDS_MAX: Final = 50_000
TAKE_BYTES_MAX: Final = 32 * 1024 * 1024
"""Taken in at once: no new records are added above these bounds."""

UNWRITTEN_BYTES_MAX: Final = 256 * 1024 * 1024
"""So much may be ahead of the tables; then the feed waits for a write."""

WRITE_S: Final = 0.1
"""How soon, at the least, a write follows the one before: more is written in one go."""

WRITE_PAUSE_S: Final = 2.0
PAUSE_WRITES: Final = 2
"""After a long write the pause is so many times as long as it was, and at most `WRITE_PAUSE_S`: a line item that
changes all the time is written once for all of it. It ends when half of what may be unwritten is, or when somebody
waits for the tables."""

CHECK_S: Final = 60.0

_READ_AHEAD: Final = 64
"""Batches of the source that may wait while one is taken in."""

_RETRY_S: Final = 0.5
"""How long the feed waits before it asks a full disk, or a server, again."""

_logger = logging.getLogger(__name__)

_T = TypeVar("_T")


class PositionNotReached(TimeoutError):
    """The view did not come to include a position in time. `asked` and `included`: partition -> offset."""

    def __init__(self, asked: Mapping[int, int], included: Mapping[int, int]) -> None:
        self.asked, self.included = dict(asked), dict(included)
        super().__init__(f"asked for {self.asked}, includes {self.included}")


class SpendView:
    """A store, kept up to date by `run`. One event loop; queries through `ask`."""

    def __init__(
        self, store: SpendStore, source: Source, check_s: float = CHECK_S, observer: ApplyObserver | None = None
    ) -> None:
        """`check_s`: how often, at most, what is kept is held against the journal."""
        self.store = store
        self.verdict: Verdict | None = None
        """What the last comparison came to; None before the first."""
        self.verdict_at: float = 0.0
        """When that was (`time.monotonic`)."""
        self.applying = False
        self.applied = 0
        """Rises with every batch of records that was taken in, and that was written or tried."""
        self.apply_seconds = Durations()
        """How long batches took to be taken in."""
        self._observer = observer
        self._source = source
        self._check_s = check_s
        self._moved = asyncio.Condition()
        self._unwritten = asyncio.Event()
        self._waiting = 0
        """How many wait for a position of the tables."""

    @property
    def partitions(self) -> int:
        """How many partitions the source has."""
        return self._source.partitions

    def through(self, of: Of = "spend") -> dict[int, int]:
        """Partition -> the offset after the last source entry that is included, for every partition."""
        if of == "both":
            usage = self.through("usage")
            return {p: min(offset, usage[p]) for p, offset in self.through("spend").items()}
        if of == "usage":
            positions = self.store.positions()
            return {p: positions.get((topics.EVENTS, p), 0) for p in range(self.partitions)}
        progress = self.store.progress() if of == "spend" else self.store.progress_at_hand()
        return {p: progress.get(p, Progress()).through for p in range(self.partitions)}

    async def run(self) -> None:
        """Feeds the store for ever; what was taken in by the time that this is cancelled is written before it ends.

        Raises: what the source or the store raises; what was applied stays applied."""
        ahead: asyncio.Queue[Sequence[TopicRecord]] = asyncio.Queue(_READ_AHEAD)
        try:
            # Threads of their own, so that many questions cannot hold the feed up. Leaving waits for what they are at:
            # afterwards the store may be closed.
            with ThreadPoolExecutor(1, "spend-take") as taking, ThreadPoolExecutor(1, "spend-write") as writing:
                self._unwritten.set()  # of an earlier run
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._read(ahead))
                    group.create_task(self._take(ahead, taking))
                    group.create_task(self._write(writing))
        except asyncio.CancelledError:
            try:
                await asyncio.to_thread(self.store.write)
            except (StoreFull, StoreError, StoreDamaged) as error:
                _logger.warning("%s; what the spend store lacks is read again after the next start", error)
            raise

    async def wait_for(self, position: Mapping[int, int], timeout: float, of: Of = "spend") -> None:
        """Waits until the position is included, at most `timeout` seconds. Raises: PositionNotReached."""

        def reached() -> bool:
            through = self.through(of)
            return all(through.get(partition, 0) >= offset for partition, offset in position.items())

        waits = of != "now" and not reached()
        self._waiting += waits
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout), self._moved:
                    if waits:
                        self._moved.notify_all()  # a pause between two writes ends
                    await self._moved.wait_for(reached)
        finally:
            self._waiting -= waits
        if not reached():
            raise PositionNotReached(position, self.through(of))

    async def wait_moved(self, applied: int, timeout: float) -> None:
        """Waits until something was taken in since `applied` was read, at most `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._moved:
                await self._moved.wait_for(lambda: self.applied != applied)

    async def ask(self, query: Callable[[SpendStore], _T]) -> _T:
        """Runs a query in a thread, or here where it is ready at once (`SpendQuery.at_once`). It sees at least what
        `through` said before."""
        at_once: Callable[[SpendStore], _T | None] | None = getattr(query, "at_once", None)
        if at_once is not None and (answer := at_once(self.store)) is not None:
            return answer
        return await asyncio.to_thread(query, self.store)

    def _compare(self) -> None:
        """Between two batches, when the store stands still."""
        verdict = reconcile(self.store)
        for difference in news(self.verdict, verdict):
            _logger.error("the spend store does not reconcile: %s", difference)
        self.verdict, self.verdict_at = verdict, time.monotonic()

    async def _read(self, ahead: asyncio.Queue[Sequence[TopicRecord]]) -> None:
        async for records in self._source.read(TOPICS, self.store.positions()):
            await ahead.put(records)

    async def _take(self, ahead: asyncio.Queue[Sequence[TopicRecord]], taking: Executor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batches = [await ahead.get()]
            count, size = len(batches[0]), bytes_of(batches[0])
            while count < TAKE_RECORDS_MAX and size < TAKE_BYTES_MAX and not ahead.empty():
                batches.append(ahead.get_nowait())
                count, size = count + len(batches[-1]), size + bytes_of(batches[-1])
            async with self._moved:
                await self._moved.wait_for(lambda: self.store.unwritten < UNWRITTEN_BYTES_MAX)
            begun, begun_ns = time.monotonic(), time.time_ns()
            records = await loop.run_in_executor(taking, self._take_in, batches)
            self.apply_seconds.note(time.monotonic() - begun)
            if self._observer is not None:
                self._observer.applied(records, self.through("now"), begun_ns)
            self._unwritten.set()
            await self._has_moved()

    def _take_in(self, batches: Sequence[Sequence[TopicRecord]]) -> Sequence[TopicRecord]:
        """Returns them as one."""
        records = batches[0] if len(batches) == 1 else Records([part for batch in batches for part in parts_of(batch)])
        self.store.take(records)
        return records

    async def _write(self, writing: Executor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._unwritten.wait()
            self._unwritten.clear()
            begun = loop.time()
            self.applying = True
            await self._insist(partial(loop.run_in_executor, writing, self.store.write))
            if time.monotonic() - self.verdict_at >= self._check_s or self.verdict is None:
                await loop.run_in_executor(writing, self._compare)
            self.applying = False
            await self._has_moved()
            took = loop.time() - begun
            await self._pause(begun + WRITE_S, self._has_much)
            await self._pause(begun + took + min(PAUSE_WRITES * took, WRITE_PAUSE_S), self._is_wanted)

    def _has_much(self) -> bool:
        return self.store.unwritten > UNWRITTEN_BYTES_MAX // 2

    def _is_wanted(self) -> bool:
        return self._waiting > 0 or self._has_much()

    async def _pause(self, until: float, ends: Callable[[], bool]) -> None:
        """Waits until a time of the loop, or until `ends` says so."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until), self._moved:
                await self._moved.wait_for(ends)

    async def _insist(self, write: Callable[[], Awaitable[None]]) -> None:
        """Writes, again and again while there is no room or no server for it: queries go on with what is there."""
        while True:
            try:
                return await write()
            except StoreFull as error:
                waits = "for its server" if isinstance(error, StoreUnavailable) else "for room"
                _logger.error("the spend store waits %s: %s", waits, error)
                self.applied += 1  # each try is a move: a full disk is no hang
                await asyncio.sleep(_RETRY_S)

    async def _has_moved(self) -> None:
        self.applied += 1
        async with self._moved:
            self._moved.notify_all()

"""The view: feeds a spend store from the log, and says how far it has come.

One task reads the topics, another applies what has come in one go in a thread: the slower the store, the larger the
batches. The read-ahead is bounded, so the log waits for the store. Queries run in threads beside it.
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
from rating.spend.store import TOPICS, SpendStore, StoreFull
from schemas import topics
from streams.durations import Durations
from streams.log import Source, TopicRecord


class ApplyObserver(Protocol):
    """Is told of each batch that a store has taken in. It changes nothing, and raises nothing."""

    def applied(self, records: Sequence[TopicRecord], through: Mapping[int, int], begun_ns: int) -> None:
        """The records, and partition -> the source position that the answers include now. `begun_ns`: of the clock."""
        ...


Of = Literal["spend", "usage"]
"""What a position is of: `spend` (outputs of the engine) or `usage` (raw events)."""

APPLY_RECORDS_MAX: Final = 20_000
APPLY_BYTES_MAX: Final = 32 * 1024 * 1024
"""One batch: no new records are added to it above these bounds."""

CHECK_S: Final = 60.0

_logger = logging.getLogger(__name__)
_READ_AHEAD: Final = 64
"""Batches of the source that may wait while one is applied."""

_RETRY_S: Final = 0.5
"""How long the feed waits before it asks a full disk again."""

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
        """Rises with every batch of records that was applied or tried."""
        self.apply_seconds = Durations()
        """How long batches took to apply."""
        self._observer = observer
        self._source = source
        self._check_s = check_s
        self._moved = asyncio.Condition()

    @property
    def partitions(self) -> int:
        """How many partitions the source has."""
        return self._source.partitions

    def through(self, of: Of = "spend") -> dict[int, int]:
        """Partition -> the offset after the last source entry that is included, for every partition."""
        if of == "usage":
            positions = self.store.positions()
            return {p: positions.get((topics.EVENTS, p), 0) for p in range(self.partitions)}
        progress = self.store.progress()
        return {p: progress.get(p, Progress()).through for p in range(self.partitions)}

    async def run(self) -> None:
        """Feeds the store for ever. Raises: what the source or the store raises; what was applied stays applied."""
        ahead: asyncio.Queue[list[TopicRecord]] = asyncio.Queue(_READ_AHEAD)
        # A thread of its own, so that many questions cannot hold the feed up. Leaving waits for a batch that is being
        # applied: afterwards the store may be closed.
        with ThreadPoolExecutor(1, "spend-feed") as applying:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(ahead))
                group.create_task(self._apply(ahead, applying))

    async def wait_for(self, position: Mapping[int, int], timeout: float, of: Of = "spend") -> None:
        """Waits until the position is included, at most `timeout` seconds. Raises: PositionNotReached."""

        def reached() -> bool:
            through = self.through(of)
            return all(through.get(partition, 0) >= offset for partition, offset in position.items())

        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._moved:
                await self._moved.wait_for(reached)
        if not reached():
            raise PositionNotReached(position, self.through(of))

    async def wait_moved(self, applied: int, timeout: float) -> None:
        """Waits until something was taken in since `applied` was read, at most `timeout` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._moved:
                await self._moved.wait_for(lambda: self.applied != applied)

    async def ask(self, query: Callable[[SpendStore], _T]) -> _T:
        """Runs a query in a thread. It sees at least what `through` said before."""
        return await asyncio.to_thread(query, self.store)

    def _compare(self) -> None:
        """Between two batches, when the store stands still."""
        verdict = reconcile(self.store)
        for difference in news(self.verdict, verdict):
            _logger.error("the spend store does not reconcile: %s", difference)
        self.verdict, self.verdict_at = verdict, time.monotonic()

    async def _read(self, ahead: asyncio.Queue[list[TopicRecord]]) -> None:
        async for records in self._source.read(TOPICS, self.store.positions()):
            await ahead.put(records)

    async def _insist(self, apply: Callable[[], Awaitable[None]]) -> None:
        """Applies a batch, again and again while there is no room for it: queries go on with what is there."""
        while True:
            try:
                return await apply()
            except StoreFull as error:
                _logger.error("the spend store waits for room: %s", error)
                self.applied += 1  # each try is a move: a full disk is no hang
                await asyncio.sleep(_RETRY_S)

    async def _apply(self, ahead: asyncio.Queue[list[TopicRecord]], applying: Executor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            records = list(await ahead.get())
            size = sum(len(record.value) for record in records)
            while len(records) < APPLY_RECORDS_MAX and size < APPLY_BYTES_MAX and not ahead.empty():
                more = ahead.get_nowait()
                size += sum(len(record.value) for record in more)
                records += more
            self.applying = True
            begun, begun_ns = time.monotonic(), time.time_ns()
            await self._insist(partial(loop.run_in_executor, applying, self.store.apply, records))
            self.apply_seconds.note(time.monotonic() - begun)
            if self._observer is not None:
                self._observer.applied(records, self.through(), begun_ns)
            if time.monotonic() - self.verdict_at >= self._check_s or self.verdict is None:
                await loop.run_in_executor(applying, self._compare)
            self.applying = False
            self.applied += 1
            async with self._moved:
                self._moved.notify_all()

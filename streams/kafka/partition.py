"""One partition of one binding, as the worker that owns it works it: steps and snapshots.

The numbers in the comments are the steps of the commit in `streams.journal`. Nothing here knows Faust.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from schemas.entry import Entry
from streams.durations import Durations
from streams.faults_hook import fault
from streams.journal import Batch, Done, JournalError, Record, Verdict
from streams.kafka.binding import Binding, addressed
from streams.kafka.order import Order
from streams.kafka.order import Verdict as OrderVerdict
from streams.kafka.ownership import (
    OwnedState,
    RestoreError,
    Surroundings,
    TakeOver,
    append_record,
    entry_of,
    record_of,
)
from streams.kafka.source import LogReader, SourceMessage
from streams.kafka.wire import requests_of
from streams.processor import Output, parts_of
from streams.snapshots import Snapshot, SnapshotError

IDLE: Final = "waiting for entries"

_logger = logging.getLogger(__name__)


class Fenced(RuntimeError):
    """Another worker owns the partition: this one must stop before it emits anything more."""


class PartitionState(NamedTuple):
    """What a health endpoint shows."""

    owned: bool
    epoch: int
    position: int
    snapshot_position: int
    writer: str = ""
    doing: str = ""
    """`taking over`, `working`, `waiting for entries`, …"""
    worked_ms: int = 0
    """The log's time of the newest entry that was worked in by this process; 0 before the first."""
    snapshot_age_s: float | None = None
    """Since this process wrote or loaded the last one."""
    caught_up: bool = False
    """Owned, and what the log held at the take-over is worked in."""


@dataclass
class Counters:
    """What happened to a partition while this worker had it, for metrics and tests."""

    steps: int = 0
    entries: int = 0
    line_items: int = 0
    """Written in them, each revision anew."""
    replayed_steps: int = 0
    emitted_again: int = 0
    repeated_messages: int = 0
    gaps: int = 0
    snapshots: int = 0
    failed_snapshots: int = 0
    restore_s: float = 0.0
    step_seconds: dict[float, int] = field(default_factory=dict)
    """How many steps took at most so long; the greatest bound is infinite."""
    step_seconds_sum: float = 0.0


class Partition:
    """One partition of one binding. `own` before `work`; one at a time of all that changes it (`_lock`)."""

    def __init__(self, binding: Binding, partition: int, surroundings: Surroundings) -> None:
        self.binding = binding
        self.partition = partition
        self.counters = Counters()
        self.owned = False
        self._with = surroundings
        self._limits = surroundings.limits.of(binding)
        self._order = Order()
        self._kept: OwnedState | None = None
        """None until the first take-over, and after one that was broken off."""
        self._take_over: TakeOver | None = None
        self._lock = asyncio.Lock()
        self._looked_at = 0.0
        """When the journal was known to hold nothing of a newer epoch, by this process's clock."""
        self._saved_at = time.monotonic()
        self._saving: asyncio.Task[None] | None = None
        self._saving_since: float | None = None
        self._worked_ms = 0
        self._durations = Durations()
        self._begun_end = 0
        self.doing = IDLE

    def __str__(self) -> str:
        position = self._kept.journal.position if self._kept else "?"
        return f"{self.binding.processor.name} {self.binding.source}[{self.partition}] at {position}"

    @property
    def position(self) -> int:
        """The offset of the next message to work in. Only for a partition that has been owned."""
        return self._state.journal.position

    @property
    def state(self) -> PartitionState:
        """For health endpoints."""
        kept = self._kept
        if kept is None:
            return PartitionState(False, 0, 0, 0, doing=self.doing)
        journal, age = kept.journal, time.monotonic() - self._saved_at
        state = (self.owned, journal.epoch, journal.position, kept.saved_position)
        return PartitionState(*state, journal.writer, self.doing, self._worked_ms, age, self._is_caught_up)

    @property
    def _is_caught_up(self) -> bool:
        return self.owned and self.position >= self._begun_end

    @property
    def progress(self) -> tuple[object, ...]:
        """Changes whenever something is done: while it is restored, and while it is worked."""
        taking = self._take_over
        return self.doing, self.position if self.owned else -1, None if taking is None else (taking.stage, taking.steps)

    @property
    def saving_s(self) -> float:
        """For how long a snapshot has been on its way to the store; 0 where none is."""
        since = self._saving_since
        return 0.0 if since is None else time.monotonic() - since

    @property
    def _state(self) -> OwnedState:
        if self._kept is None:
            raise JournalError(f"{self} was used before it was owned")
        return self._kept

    # Ownership -------------------------------------------------------------------------------------------

    async def own(self, is_wanted: Callable[[], bool]) -> bool:
        """Takes the partition over: bars every earlier owner, makes the state, emits what was left.

        False where `is_wanted` said on the way that the partition has gone to another worker meanwhile. A state that
        this worker still has from before is used: what was journalled since is replayed on it.
        Raises: JournalError, RestoreError, SnapshotError, LogUnavailable, Fenced.
        """
        async with self._lock, self._with.reader(self.partition) as reader:
            if not is_wanted():
                return False
            begun = self._looked_at = time.monotonic()
            self.doing = "taking over"
            take_over = self._take_over = TakeOver(self.binding, self.partition, self._with, reader, is_wanted)
            state = self._kept or await take_over.load()
            self._kept = None
            outputs = await take_over.restore(state)
            if outputs is None:
                return False
            self._kept = state
            await self._settle(outputs)
            self._order.forget_gap()
            _, self._begun_end = await reader.bounds(self.binding.source)
            self.owned = is_wanted()
            self.doing = IDLE
            self.counters.replayed_steps += take_over.steps
            self.counters.restore_s = time.monotonic() - begun
            epoch, took_s = state.journal.epoch, self.counters.restore_s
            _logger.info("own %s: epoch %d, replayed %d steps in %.2f s", self, epoch, take_over.steps, took_s)
            return self.owned

    async def release(self) -> None:
        """Takes no more messages; returns when the step under way is finished."""
        self.owned = False
        async with self._lock:
            pass

    async def _settle(self, outputs: Sequence[Output]) -> None:
        """Emits what an earlier owner may not have: it is the same again, so twice does no harm."""
        if self._state.journal.pending:
            emitted = await self._emit(outputs)
            self.counters.emitted_again += len(outputs)
            await self._finish(emitted)

    # Steps -----------------------------------------------------------------------------------------------

    async def work(self, messages: Sequence[SourceMessage]) -> bool:
        """Works messages in as they come from the consumer. False where it must be sent back to `position`.

        Raises: Fenced, JournalError, LogUnavailable, RestoreError, and what the processor raises: all are fatal.
        """
        async with self._lock:
            if not self.owned:
                return True
            self.doing = "working"
            following, complete = await self._following(messages)
            for chunk in self._limits.cut(following):
                await self._step([entry_of(self.binding, message) for message in chunk])
                self._worked_ms = chunk[-1].timestamp_ms
                await self._save_if_due()
            self.doing = IDLE
            return complete

    async def _following(self, messages: Sequence[SourceMessage]) -> tuple[list[SourceMessage], bool]:
        """1. read: the messages that follow the position, and whether nothing was missing among them."""
        position = self.position
        following: list[SourceMessage] = []
        complete = True
        for message in messages:
            verdict = self._order.judge(position, message.offset)
            if verdict in (OrderVerdict.GAP, OrderVerdict.SAME_GAP):
                if await self._is_empty(position, message.offset):
                    self._order.forget_gap()
                    verdict = OrderVerdict.TAKE
                elif verdict is OrderVerdict.SAME_GAP:
                    raise JournalError(
                        f"{self}: found {message.offset} twice, expected {position}, which the log holds"
                    )
                else:
                    _logger.warning("%s: found %d, expected %d: seeking back", self, message.offset, position)
                    complete = False
            if verdict is OrderVerdict.TAKE:
                following.append(message)
                position = message.offset + 1
        self.counters.repeated_messages = self._order.repeated
        self.counters.gaps = self._order.gaps
        return following, complete

    async def look_whether_caught_up(self) -> None:
        """The last offsets of the log may be a transaction's marks: then there is nothing to wait for."""
        if self._kept is not None and await self.is_drained(self._begun_end):
            self._begun_end = 0

    async def is_drained(self, end: int) -> bool:
        """Whether the log holds nothing more to work in before `end`: its last offsets may be a transaction's marks."""
        return await self._is_empty(self.position, end)

    async def _is_empty(self, start: int, end: int) -> bool:
        """Whether the log holds no record in `[start, end)`: transactions of a foreign producer leave such holes.

        Raises: RestoreError where the log has lost records there.
        """
        async with self._with.reader(self.partition) as reader:
            begin, _ = await reader.bounds(self.binding.source)
            if begin > start:
                raise RestoreError(f"{self}: the source begins at {begin}, expected {start} or less: entries are lost")
            async for _ in reader.read(self.binding.source, start, end):
                return False
        return True

    async def _step(self, entries: Sequence[Entry]) -> None:
        state = self._state
        read, read_ns = time.monotonic(), time.time_ns()
        fault("after_read")

        # 2. process
        step = await self._with.run(state.processor.process, entries)
        fault("after_process")

        # 3. journal: durable before anything is emitted
        begun = time.monotonic()
        batch = Batch(state.journal.epoch, state.journal.position, entries[-1].end, step.summary)
        offset = await self._append(batch)
        fault("after_journal")

        # 4. fence: what another worker wrote before our record decides whether it counts
        await self._check_fence(offset)
        self._looked_at = begun
        if state.journal.apply(batch) is not Verdict.APPLIED:
            raise JournalError(f"{self}: the journal does not take our own step {batch}")
        fault("after_fence")

        # 5. emit: only an owner comes here
        emitted = await self._emit(step.outputs)
        fault("after_emit")

        # 6. done
        await self._finish(emitted)
        fault("after_done")
        self._durations.note(time.monotonic() - read)
        self.counters.step_seconds, self.counters.step_seconds_sum = self._durations.counts, self._durations.sum
        self.counters.steps += 1
        self.counters.entries += len(entries)
        self.counters.line_items += step.summary.line_items
        if self.binding.observer is not None:
            self.binding.observer.stepped(self.partition, entries, step, read_ns)

    async def _check_fence(self, offset: int) -> None:
        """Our record stands at `offset`: looks at what others wrote since our last. Raises: Fenced."""
        state = self._state
        if offset < state.journal_next:
            raise JournalError(f"{self}: the journal took a record at {offset}, expected {state.journal_next} or more")
        if offset > state.journal_next:
            async with self._with.reader(self.partition) as reader:
                await self._look_for_others(reader, offset)
        state.journal_next = offset + 1

    async def _check_still_owner(self) -> None:
        """Looks at the journal again where the last look is half a session old. Raises: Fenced."""
        now = time.monotonic()
        if now - self._looked_at > self._with.settings.session_timeout_s / 2:
            async with self._with.reader(self.partition) as reader:
                _, end = await reader.bounds(self.binding.journal)
                await self._look_for_others(reader, end)
            self._state.journal_next, self._looked_at = end, now

    async def _look_for_others(self, reader: LogReader, end: int) -> None:
        """Raises: Fenced where a newer epoch has begun before `end`; a stopped owner's late records are passed over."""
        state = self._state
        async for messages in reader.read(self.binding.journal, state.journal_next, end):
            for message in messages:
                record = record_of(self._with, self.binding, self.partition, message)
                if record.epoch > state.journal.epoch:
                    raise Fenced(
                        f"{self}: epoch {state.journal.epoch} of this worker ended at the journal's offset "
                        f"{message.offset}: {record}"
                    )

    async def _emit(self, outputs: Sequence[Output]) -> dict[str, int]:
        """Emits in order, a request's worth at a time, and waits for each: what goes out late has been looked after.

        Returns, by topic, the offset after the last one in this partition. Raises: Fenced, LogUnavailable.
        """
        messages = [addressed(part, self.partition) for part in parts_of(outputs)]
        emitted: dict[str, int] = {}
        for request in requests_of(messages, self._with.settings.message_bytes_max):
            await self._check_still_owner()
            offsets = await self._with.producer.produce_many(request)
            emitted |= {
                message.topic: offset + 1
                for message, offset in zip(request, offsets, strict=True)
                if message.partition == self.partition
            }
        return emitted

    async def _finish(self, emitted: dict[str, int]) -> None:
        done = Done(self._state.journal.epoch, self.position, emitted)
        offset = await self._append(done)
        await self._check_fence(offset)
        self._state.journal.apply(done)

    async def _append(self, record: Record) -> int:
        return await append_record(self._with, self.binding, self.partition, record)

    # Snapshots -------------------------------------------------------------------------------------------

    async def save(self) -> None:
        """Writes a snapshot if anything has changed since the last, and waits for it."""
        async with self._lock:
            if self._kept is not None and self.position > self._kept.saved_position:
                await self._begin_save()
        if self._saving is not None:
            await self._saving

    async def _save_if_due(self) -> None:
        """7. snapshot: taken between steps, written while the next ones run."""
        limits = self._limits
        due = (
            self.position - self._state.saved_position >= limits.snapshot_entries
            or time.monotonic() - self._saved_at >= limits.snapshot_s
        )
        if due and (self._saving is None or self._saving.done()):
            await self._begin_save()

    async def _begin_save(self) -> None:
        if self._saving is not None:
            await self._saving
        state = self._state
        position, journal_next, epoch = state.journal.position, state.journal_next, state.journal.epoch
        saved = await self._with.run(state.processor.snapshot)
        snapshot = Snapshot(position, journal_next, epoch, saved, state.processor.files())
        self._saved_at = self._saving_since = time.monotonic()
        self._saving = asyncio.create_task(self._write(state, snapshot))

    async def _write(self, state: OwnedState, snapshot: Snapshot) -> None:
        """A snapshot that cannot be written costs a longer restore, nothing else: say so and go on."""
        try:
            await asyncio.to_thread(self._with.snapshots.save, self.binding.processor.name, self.partition, snapshot)
        except SnapshotError as error:
            self.counters.failed_snapshots += 1
            _logger.error("%s: the snapshot at %d was not written: %s", self, snapshot.position, error)
            return
        finally:
            self._saving_since = None
        fault("after_snapshot")
        state.saved_position = snapshot.position
        self.counters.snapshots += 1

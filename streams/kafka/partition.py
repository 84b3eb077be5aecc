"""One partition of one binding, as the worker that owns it works it: ownership, restore, steps, snapshots.

The numbers in the comments are the steps of the commit in `streams.journal`. Nothing here knows Faust.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

from schemas.entry import Entry
from streams.faults_hook import fault
from streams.journal import Batch, Done, Journal, JournalError, Open, Record, Verdict, decode_record, encode_record
from streams.kafka.binding import Binding, route
from streams.kafka.order import Order
from streams.kafka.order import Verdict as OrderVerdict
from streams.kafka.producer import KafkaProducer, Message
from streams.kafka.settings import KafkaSettings
from streams.kafka.source import LogReader, SourceMessage
from streams.processor import Output, PartitionProcessor, Step
from streams.snapshots import Snapshot, SnapshotError, SnapshotStore

_OPEN_TRIES: Final = 20

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class Fenced(RuntimeError):
    """Another worker owns the partition: this one must stop before it emits anything more."""


class RestoreError(RuntimeError):
    """The state cannot be made again as it was; the message says what was found and what was expected."""


@dataclass(frozen=True)
class StepLimits:
    """How much is worked in at once, and how often the state is saved."""

    entries: int = 16
    """Messages in a step."""
    bytes: int = 8 * 1024 * 1024
    """Bytes in a step (one message may be more)."""
    wait_s: float = 0.02
    """How long a step waits to be filled."""
    snapshot_s: float = 60.0
    snapshot_entries: int = 10_000
    """A snapshot is due when either has passed since the last, and something has changed."""


@dataclass(frozen=True)
class Surroundings:
    """What all partitions of a worker share."""

    settings: KafkaSettings
    producer: KafkaProducer
    executor: Executor
    """Runs `process`, off the event loop: heartbeats go on meanwhile."""
    snapshots: SnapshotStore
    writer: str
    """The name of this worker in the journal: never used again by another."""
    limits: StepLimits


class PartitionState(NamedTuple):
    """What a health endpoint shows."""

    owned: bool
    epoch: int
    position: int
    snapshot_position: int


@dataclass
class Counters:
    """What happened to a partition while this worker had it, for metrics and tests."""

    steps: int = 0
    entries: int = 0
    replayed_steps: int = 0
    emitted_again: int = 0
    repeated_messages: int = 0
    gaps: int = 0
    snapshots: int = 0
    failed_snapshots: int = 0
    restore_s: float = 0.0


@dataclass
class _Base:
    """The state, and how much it includes."""

    journal: Journal
    processor: PartitionProcessor
    journal_next: int
    """The offset of the first journal record that `journal` does not include."""


class Partition:
    """One partition of one binding. `own` before `work`; one at a time of all that changes it (`_lock`)."""

    def __init__(self, binding: Binding, partition: int, surroundings: Surroundings) -> None:
        self.binding = binding
        self.partition = partition
        self.counters = Counters()
        self.owned = False
        self._with = surroundings
        self._order = Order()
        self._base: _Base | None = None
        self._lock = asyncio.Lock()
        self._saved_position = 0
        self._saved_at = time.monotonic()
        self._saving: asyncio.Task[None] | None = None

    def __str__(self) -> str:
        position = self._base.journal.position if self._base else "?"
        return f"{self.binding.processor.name} {self.binding.source}[{self.partition}] at {position}"

    @property
    def position(self) -> int:
        """The offset of the next message to work in. Only for a partition that has been owned."""
        return self._state.journal.position

    @property
    def state(self) -> PartitionState:
        """For health endpoints."""
        if self._base is None:
            return PartitionState(False, 0, 0, 0)
        return PartitionState(self.owned, self._base.journal.epoch, self.position, self._saved_position)

    @property
    def _state(self) -> _Base:
        if self._base is None:
            raise JournalError(f"{self} was used before it was owned")
        return self._base

    # Ownership -------------------------------------------------------------------------------------------

    async def own(self, is_wanted: Callable[[], bool]) -> bool:
        """Takes the partition over: bars every earlier owner, makes the state, emits what was left.

        False where `is_wanted` said on the way that the partition has gone to another worker meanwhile. A state that
        this worker still has from before is used: what was journalled since is replayed on it.
        Raises: JournalError, RestoreError, LogUnavailable.
        """
        async with self._lock, LogReader(self._with.settings, self.partition) as reader:
            begun = time.monotonic()
            if self._base is None:
                self._base = await self._load(reader)
            position = self._base.journal.position
            batches = await self._open(reader, is_wanted)
            if batches is None:
                return False
            outputs = await self._replay(reader, position, batches, is_wanted)
            if outputs is None:
                self._base = None  # half restored: another time from the snapshot
                return False
            await self._settle(outputs)
            self._order.forget_gap()
            self.owned = True
            self.counters.restore_s = time.monotonic() - begun
            _logger.info(
                "own %s: epoch %d, replayed %d steps in %.2f s",
                self, self._base.journal.epoch, len(batches), self.counters.restore_s,
            )  # fmt: skip
            return True

    async def release(self) -> None:
        """Takes no more messages; returns when the step under way is finished."""
        self.owned = False
        async with self._lock:
            pass

    async def _load(self, reader: LogReader) -> _Base:
        """The newest snapshot, or the state before the first entry."""
        snapshot = await asyncio.to_thread(self._with.snapshots.load, self.binding.processor.name, self.partition)
        begin, end = await reader.bounds(self.binding.journal)
        if snapshot is None:
            return await self._load_fresh(reader, begin, end)
        if not begin <= snapshot.journal_offset <= end:
            raise RestoreError(
                f"{self}: the snapshot needs the journal from {snapshot.journal_offset}, found {begin} to {end}: "
                "the journal was kept for too short a time, or belongs to another cluster than the snapshots"
            )
        journal = Journal(epoch=snapshot.epoch, position=snapshot.position)
        processor = await self._run(self.binding.processor.open, self.partition, snapshot.state)
        self._saved_position = snapshot.position
        return _Base(journal, processor, snapshot.journal_offset)

    async def _load_fresh(self, reader: LogReader, journal_begin: int, journal_end: int) -> _Base:
        """Without a snapshot the journal must go back to its first record, and the source to the first entry."""
        if journal_begin > 0:
            raise RestoreError(f"{self}: there is no snapshot, and the journal begins at {journal_begin}, expected 0")
        processor = await self._run(self.binding.processor.open, self.partition, None)
        begin, _ = await reader.bounds(self.binding.source)
        if begin == 0 or journal_end > 0:
            return _Base(Journal(), processor, 0)
        # The journal's first step will begin here, not at 0: only a snapshot can say so to the next owner.
        first = Snapshot(begin, 0, 0, await self._run(processor.snapshot))
        await asyncio.to_thread(self._with.snapshots.save, self.binding.processor.name, self.partition, first)
        self._saved_position = begin
        return _Base(Journal(position=begin), processor, 0)

    async def _open(self, reader: LogReader, is_wanted: Callable[[], bool]) -> list[Batch] | None:
        """Reads the journal to its end and writes the barrier. Returns the steps that the state lacks, or None."""
        batches: list[Batch] = []
        for _ in range(_OPEN_TRIES):
            _, end = await reader.bounds(self.binding.journal)
            await self._read_journal(reader, end, batches)
            if not is_wanted():
                return None
            barrier = Open(self._state.journal.epoch + 1, self._with.writer)
            offset = await self._append(barrier)
            fault("after_open")
            await self._read_journal(reader, offset + 1, batches)
            if (self._state.journal.epoch, self._state.journal.writer) == (barrier.epoch, barrier.writer):
                return batches
        raise JournalError(f"{self}: {_OPEN_TRIES} times another worker opened the epoch first")

    async def _read_journal(self, reader: LogReader, end: int, batches: list[Batch]) -> None:
        """Folds the journal's records up to `end` in, and collects the steps that count."""
        base = self._state
        async for messages in reader.read(self.binding.journal, base.journal_next, end):
            for message in messages:
                record = decode_record(message.value)
                if base.journal.apply(record) is Verdict.APPLIED and isinstance(record, Batch):
                    batches.append(record)
                base.journal_next = message.offset + 1
        base.journal_next = max(base.journal_next, end)

    async def _replay(
        self, reader: LogReader, position: int, batches: Sequence[Batch], is_wanted: Callable[[], bool]
    ) -> list[Output] | None:
        """Works the journalled steps in, from `position`. Returns the outputs of those that are not done, or None."""
        if not batches:
            return []
        begin, end = await reader.bounds(self.binding.source)
        if begin > batches[0].start or end < batches[-1].end:
            raise RestoreError(
                f"{self}: the restore needs the source from {batches[0].start} to {batches[-1].end}, found {begin} to "
                f"{end}: it was kept for too short a time, or it is another cluster's"
            )
        pending = {batch.start for batch in self._state.journal.pending}
        outputs: list[Output] = []
        todo = iter(batches)
        batch = next(todo)
        entries: list[Entry] = []
        async for messages in reader.read(self.binding.source, position, batches[-1].end):
            for message in messages:
                entries.append(self._entry(message))
                if message.offset + 1 < batch.end:
                    continue
                if not is_wanted():
                    return None
                step = await self._replay_step(batch, entries)
                if batch.start in pending:
                    outputs += step.outputs
                entries = []
                batch = next(todo, batch)
        fault("after_restore")
        return outputs

    async def _replay_step(self, batch: Batch, entries: list[Entry]) -> Step:
        """Raises: RestoreError where it comes to something else than it did."""
        if entries[-1].end != batch.end:
            raise RestoreError(
                f"{self}: found an entry up to {entries[-1].end}, expected the step to end at {batch.end}"
            )
        step = await self._run(self._state.processor.process, entries)
        if step.summary != batch.summary:
            raise RestoreError(
                f"{self}: replaying [{batch.start}, {batch.end}) came to {step.summary}, expected {batch.summary}. "
                "The program or the source has changed since: restore with the version that wrote the journal, stop it "
                "cleanly (it leaves a snapshot), then change"
            )
        self.counters.replayed_steps += 1
        fault("in_restore")
        return step

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
            following, complete = await self._following(messages)
            for chunk in _chunks(following, self._with.limits):
                await self._step([self._entry(message) for message in chunk])
                await self._save_if_due()
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

    async def is_drained(self, end: int) -> bool:
        """Whether the log holds nothing more to work in before `end`: its last offsets may be a transaction's marks."""
        return await self._is_empty(self.position, end)

    async def _is_empty(self, start: int, end: int) -> bool:
        """Whether the log holds no record in `[start, end)`: transactions of a foreign producer leave such holes.

        Raises: RestoreError where the log has lost records there.
        """
        async with LogReader(self._with.settings, self.partition) as reader:
            begin, _ = await reader.bounds(self.binding.source)
            if begin > start:
                raise RestoreError(f"{self}: the source begins at {begin}, expected {start} or less: entries are lost")
            async for _ in reader.read(self.binding.source, start, end):
                return False
        return True

    async def _step(self, entries: Sequence[Entry]) -> None:
        base = self._state
        fault("after_read")

        # 2. process
        step = await self._run(base.processor.process, entries)
        fault("after_process")

        # 3. journal: durable before anything is emitted
        begun = time.monotonic()
        batch = Batch(base.journal.epoch, base.journal.position, entries[-1].end, step.summary)
        offset = await self._append(batch)
        fault("after_journal")

        # 4. fence: what another worker wrote before our record decides whether it counts
        await self._check_fence(offset)
        if base.journal.apply(batch) is not Verdict.APPLIED:
            raise JournalError(f"{self}: the journal does not take our own step {batch}")
        fault("after_fence")

        # 5. emit: only an owner comes here, and one that stood still meanwhile looks again
        if time.monotonic() - begun > self._with.settings.session_timeout_s / 2:
            await self._check_still_owner()
        emitted = await self._emit(step.outputs)
        fault("after_emit")

        # 6. done
        await self._finish(emitted)
        fault("after_done")
        self.counters.steps += 1
        self.counters.entries += len(entries)

    async def _check_fence(self, offset: int) -> None:
        """Our record stands at `offset`: looks at what others wrote since our last. Raises: Fenced."""
        base = self._state
        if offset < base.journal_next:
            raise JournalError(f"{self}: the journal took a record at {offset}, expected {base.journal_next} or more")
        if offset > base.journal_next:
            async with LogReader(self._with.settings, self.partition) as reader:
                await self._look_for_others(reader, offset)
        base.journal_next = offset + 1

    async def _check_still_owner(self) -> None:
        """This process stood still between the fence and here: looks again. Raises: Fenced."""
        async with LogReader(self._with.settings, self.partition) as reader:
            _, end = await reader.bounds(self.binding.journal)
            await self._look_for_others(reader, end)
        self._state.journal_next = end

    async def _look_for_others(self, reader: LogReader, end: int) -> None:
        """Raises: Fenced where a newer epoch has begun before `end`; a stopped owner's late records are passed over."""
        base = self._state
        async for messages in reader.read(self.binding.journal, base.journal_next, end):
            for message in messages:
                record = decode_record(message.value)
                if record.epoch > base.journal.epoch:
                    raise Fenced(
                        f"{self}: epoch {base.journal.epoch} of this worker ended at the journal's offset "
                        f"{message.offset}: {record}"
                    )

    async def _emit(self, outputs: Sequence[Output]) -> dict[str, int]:
        """Emits in order and waits for all. Returns, by topic, the offset after the last one in this partition."""
        messages = [Message(o.topic, route(o, self.partition), o.key, o.value) for o in outputs]
        offsets = await self._with.producer.produce_many(messages)
        return {
            message.topic: offset + 1
            for message, offset in zip(messages, offsets, strict=True)
            if message.partition == self.partition
        }

    async def _finish(self, emitted: dict[str, int]) -> None:
        done = Done(self._state.journal.epoch, self.position, emitted)
        offset = await self._append(done)
        await self._check_fence(offset)
        self._state.journal.apply(done)

    async def _append(self, record: Record) -> int:
        """Appends to the journal, waits until it is durable. Returns the record's offset. Raises: LogUnavailable."""
        key = b"%d" % self.partition
        return await self._with.producer.produce(self.binding.journal, self.partition, key, encode_record(record))

    def _entry(self, message: SourceMessage) -> Entry:
        return Entry(message.offset, message.offset + 1, self.binding.entry(message))

    async def _run(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._with.executor, function, *arguments)

    # Snapshots -------------------------------------------------------------------------------------------

    async def save(self) -> None:
        """Writes a snapshot if anything has changed since the last, and waits for it."""
        async with self._lock:
            if self._base is not None and self.position > self._saved_position:
                await self._begin_save()
        if self._saving is not None:
            await self._saving

    async def _save_if_due(self) -> None:
        """7. snapshot: taken between steps, written while the next ones run."""
        limits = self._with.limits
        due = (
            self.position - self._saved_position >= limits.snapshot_entries
            or time.monotonic() - self._saved_at >= limits.snapshot_s
        )
        if due and (self._saving is None or self._saving.done()):
            await self._begin_save()

    async def _begin_save(self) -> None:
        if self._saving is not None:
            await self._saving
        base = self._state
        position, journal_next, epoch = base.journal.position, base.journal_next, base.journal.epoch
        state = await self._run(base.processor.snapshot)
        self._saved_at = time.monotonic()
        self._saving = asyncio.create_task(self._write(Snapshot(position, journal_next, epoch, state)))

    async def _write(self, snapshot: Snapshot) -> None:
        """A snapshot that cannot be written costs a longer restore, nothing else: say so and go on."""
        try:
            await asyncio.to_thread(self._with.snapshots.save, self.binding.processor.name, self.partition, snapshot)
        except SnapshotError as error:
            self.counters.failed_snapshots += 1
            _logger.error("%s: the snapshot at %d was not written: %s", self, snapshot.position, error)
            return
        fault("after_snapshot")
        self._saved_position = snapshot.position
        self.counters.snapshots += 1


def _chunks(messages: Sequence[SourceMessage], limits: StepLimits) -> list[list[SourceMessage]]:
    """Cuts messages into steps by number and bytes; each holds at least one."""
    chunks: list[list[SourceMessage]] = []
    size = 0
    for message in messages:
        if not chunks or len(chunks[-1]) >= limits.entries or size + len(message.value) > limits.bytes:
            chunks.append([])
            size = 0
        chunks[-1].append(message)
        size += len(message.value)
    return chunks

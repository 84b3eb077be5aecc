"""Taking a partition over: the newest snapshot, the journal's tail, the barrier, and the replay of what is missing.

A take-over that is broken off on the way (the group has given the partition to another worker meanwhile) leaves
nothing behind: half a restored state must not be gone on with.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, TypeVar

from schemas.entry import Entry
from streams.faults_hook import fault
from streams.journal import (
    Batch,
    Journal,
    JournalError,
    Open,
    Place,
    Record,
    RecordDamaged,
    Verdict,
    decode_record,
    encode_record,
)
from streams.kafka.binding import Binding
from streams.kafka.producer import KafkaProducer
from streams.kafka.settings import KafkaSettings
from streams.kafka.source import LogReader, SourceMessage
from streams.pace import PAUSE_S, pause
from streams.processor import Fetch, Output, PartitionProcessor, Step
from streams.snapshots import Snapshot, SnapshotStore

_OPEN_TRIES: Final = 20

_T = TypeVar("_T")


class RestoreError(RuntimeError):
    """The state cannot be made again as it was; the message says what was found and what was expected."""


@dataclass(frozen=True)
class StepLimits:
    """How much is worked in at once, and how often the state is saved."""

    entries: int = 128
    """Messages in a step. So many are taken only where they wait already: then each changed line is written once for
    all of them."""
    bytes: int = 8 * 1024 * 1024
    """Bytes in a step (one message may be more)."""
    wait_s: float = 0.02
    """How long a step waits to be filled."""
    pause_s: float = PAUSE_S
    """The longest pause after a step: see `streams.pace`."""
    snapshot_s: float = 60.0
    snapshot_entries: int = 10_000
    """A snapshot is due when either has passed since the last, and something has changed."""

    def of(self, binding: Binding) -> "StepLimits":
        """Those of one binding's steps."""
        factor = binding.step_factor
        return replace(self, entries=self.entries * factor, snapshot_entries=self.snapshot_entries * factor)

    def pause(self, entries: int, took_s: float) -> float:
        """Seconds to wait after a step of so many messages, before the next one waits to be filled."""
        return max(pause(entries / self.entries, took_s, self.pause_s) - self.wait_s, 0.0)

    def part(self, parts: int) -> "StepLimits":
        """A part of a step, so that as many of them as `parts` are one at most (where a message is not too large)."""
        return replace(self, entries=max(self.entries // parts, 1), bytes=self.bytes // parts)

    def cut(self, messages: Iterable[SourceMessage]) -> list[list[SourceMessage]]:
        """Messages by number and bytes; each cut holds at least one."""
        cuts: list[list[SourceMessage]] = []
        count = size = 0
        for message in messages:
            length = len(message.value)
            if not cuts or count >= self.entries or size + length > self.bytes:
                cuts.append([])
                count = size = 0
            cuts[-1].append(message)
            count, size = count + 1, size + length
        return cuts


@dataclass(frozen=True)
class Surroundings:
    """What all partitions of a worker share."""

    settings: KafkaSettings
    producer: KafkaProducer
    """For outputs."""
    journal: KafkaProducer
    """For the journal, whose records come one by one and are waited for."""
    executor: Executor
    """Runs `process`, off the event loop: heartbeats go on meanwhile."""
    snapshots: SnapshotStore
    writer: str
    """The name of this worker in the journal: never used again by another."""
    limits: StepLimits
    open_log: Callable[[KafkaSettings, int], LogReader] = LogReader

    def reader(self, partition: int) -> LogReader:
        """Bounded reads of one partition number: an asynchronous context manager."""
        return self.open_log(self.settings, partition)

    async def run(self, function: Callable[..., _T], *arguments: object) -> _T:
        """The function's result, off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, function, *arguments)


@dataclass
class OwnedState:
    """A partition's state, whole: `processor` includes the source up to `journal.position`, exactly."""

    journal: Journal
    processor: PartitionProcessor
    journal_next: int
    """The offset of the first journal record that `journal` does not include."""
    saved_position: int
    """That of the newest snapshot (0 without one)."""


def entry_of(binding: Binding, message: SourceMessage) -> Entry:
    """A source message as the processor sees it."""
    return Entry(message.offset, message.offset + 1, binding.entry(message))


async def append_record(surroundings: Surroundings, binding: Binding, partition: int, record: Record) -> int:
    """Appends to the journal, waits until it is durable. Returns the record's offset. Raises: LogUnavailable."""
    key = b"%d" % partition
    return await surroundings.journal.produce(binding.journal, partition, key, encode_record(record))


def repair_command(surroundings: Surroundings, partition: int) -> str:
    """What a person runs, once the workers are stopped, when something of a partition is damaged."""
    settings = surroundings.settings
    return (
        f"taximeter repair --bootstrap {settings.bootstrap} --snapshots {surroundings.snapshots.url} "
        f"--partitions {settings.partitions} --partition {partition}"
        + (f" --prefix {settings.prefix}" if settings.prefix else "")
        + (" --format avro --schema-registry URL" if settings.avro else "")
    )


def record_of(surroundings: Surroundings, binding: Binding, partition: int, message: SourceMessage) -> Record:
    """The journal record that a message holds. Raises: RecordDamaged that says where and names the repair."""
    try:
        return decode_record(message.value, Place(binding.journal, partition, message.offset))
    except RecordDamaged as damage:
        raise RecordDamaged(f"{damage}. To repair it: `{repair_command(surroundings, partition)}`") from damage


class TakeOver:
    """One attempt to take one partition over."""

    def __init__(
        self,
        binding: Binding,
        partition: int,
        surroundings: Surroundings,
        reader: LogReader,
        is_wanted: Callable[[], bool],
    ) -> None:
        self._binding = binding
        self._partition = partition
        self._with = surroundings
        self._reader = reader
        self._is_wanted = is_wanted
        self.steps = 0
        """How many are replayed so far."""
        self.stage = "loading a snapshot"
        """What is being done; and how far, for who watches that it does not hang."""
        self._name = f"{binding.processor.name} {binding.source}[{partition}]"

    async def load(self) -> OwnedState:
        """The newest snapshot, or the state before the first entry. Raises: RestoreError, SnapshotError."""
        snapshot = await asyncio.to_thread(self._with.snapshots.load, self._binding.processor.name, self._partition)
        self.stage = "opening the state"
        begin, end = await self._reader.bounds(self._binding.journal)
        fetch = partial(self._with.snapshots.fetch, self._binding.processor.name, self._partition)
        if snapshot is None:
            return await self._load_fresh(begin, end, fetch)
        if not begin <= snapshot.journal_offset <= end:
            raise RestoreError(
                f"{self._name}: the snapshot needs the journal from {snapshot.journal_offset}, found {begin} to {end}: "
                "the journal was kept for too short a time, or belongs to another cluster than the snapshots. To make "
                f"the state again from the source: `{repair_command(self._with, self._partition)}`"
            )
        journal = Journal(epoch=snapshot.epoch, position=snapshot.position)
        processor = await self._with.run(self._binding.processor.open, self._partition, snapshot.state, fetch)
        return OwnedState(journal, processor, snapshot.journal_offset, snapshot.position)

    async def _load_fresh(self, journal_begin: int, journal_end: int, fetch: Fetch) -> OwnedState:
        """Without a snapshot the journal must go back to its first record, and the source to the first entry."""
        if journal_begin > 0:
            raise RestoreError(
                f"{self._name}: there is no snapshot that is whole, and the journal begins at {journal_begin}, "
                f"expected 0. To make the state again from the source: `{repair_command(self._with, self._partition)}`"
            )
        processor = await self._with.run(self._binding.processor.open, self._partition, None, fetch)
        begin, _ = await self._reader.bounds(self._binding.source)
        if begin == 0 or journal_end > 0:
            return OwnedState(Journal(), processor, 0, 0)
        # The journal's first step will begin here, not at 0: only a snapshot can say so to the next owner.
        first = Snapshot(begin, 0, 0, await self._with.run(processor.snapshot), processor.files())
        await asyncio.to_thread(self._with.snapshots.save, self._binding.processor.name, self._partition, first)
        return OwnedState(Journal(position=begin), processor, 0, begin)

    async def restore(self, state: OwnedState) -> list[Output] | None:
        """Bars every earlier owner and brings the state to the journal's end.

        Returns the outputs of the steps that are in the journal and not done: they are to be emitted again.
        None where it was broken off: then the state must be dropped.
        Raises: JournalError, RestoreError, LogUnavailable.
        """
        position = state.journal.position
        self.stage = "reading the journal"
        batches = await self._open(state)
        if batches is None:
            return None
        self.stage = f"replaying {len(batches)} steps"
        outputs = await self._replay(state, position, batches)
        fault("after_restore")
        return outputs

    async def _open(self, state: OwnedState) -> list[Batch] | None:
        """Reads the journal to its end and writes the barrier. Returns the steps that the state lacks, or None."""
        batches: list[Batch] = []
        journal = state.journal
        for _ in range(_OPEN_TRIES):
            _, end = await self._reader.bounds(self._binding.journal)
            await self._read_journal(state, end, batches)
            if not self._is_wanted():
                return None
            barrier = Open(journal.epoch + 1, self._with.writer)
            offset = await append_record(self._with, self._binding, self._partition, barrier)
            fault("after_open")
            await self._read_journal(state, offset + 1, batches)
            if (journal.epoch, journal.writer) == (barrier.epoch, barrier.writer):
                return batches
            # Another was first. If that is the rightful owner, the group will have told us so in a moment.
            await asyncio.sleep(self._with.settings.heartbeat_s)
        raise JournalError(f"{self._name}: {_OPEN_TRIES} times another worker opened the epoch first")

    async def _read_journal(self, state: OwnedState, end: int, batches: list[Batch]) -> None:
        """Folds the journal's records up to `end` in, and collects the steps that count."""
        async for messages in self._reader.read(self._binding.journal, state.journal_next, end):
            for message in messages:
                record = record_of(self._with, self._binding, self._partition, message)
                if state.journal.apply(record) is Verdict.APPLIED and isinstance(record, Batch):
                    batches.append(record)
                state.journal_next = message.offset + 1
            self.stage = f"reading the journal, at {state.journal_next} of {end}"
        state.journal_next = max(state.journal_next, end)

    async def _replay(self, state: OwnedState, position: int, batches: Sequence[Batch]) -> list[Output] | None:
        """Works the journalled steps in, from `position`. Returns the outputs of those that are not done, or None."""
        outputs: list[Output] = []
        if not batches:
            return outputs
        await self._check_source(batches[0].start, batches[-1].end)
        pending = {batch.start for batch in state.journal.pending}
        todo = list(reversed(batches))
        entries: list[Entry] = []
        async for messages in self._reader.read(self._binding.source, position, batches[-1].end):
            for message in messages:
                entries.append(entry_of(self._binding, message))
                if message.offset + 1 < todo[-1].end:
                    continue
                if not self._is_wanted():
                    return None
                step = await self._replay_step(state, todo[-1], entries)
                if todo.pop().start in pending:
                    outputs += step.outputs
                entries = []
        if todo:
            raise RestoreError(f"{self._name}: the source ended before the journalled step {todo[-1]}")
        return outputs

    async def _check_source(self, start: int, end: int) -> None:
        found = await self._reader.bounds(self._binding.source)
        if found[0] > start or found[1] < end:
            raise RestoreError(
                f"{self._name}: the restore needs the source from {start} to {end}, found {found[0]} to {found[1]}: "
                "it was kept for too short a time, or it is another cluster's"
            )

    async def _replay_step(self, state: OwnedState, batch: Batch, entries: list[Entry]) -> Step:
        """Raises: RestoreError where it comes to something else than it did."""
        if entries[-1].end != batch.end:
            raise RestoreError(
                f"{self._name}: found an entry up to {entries[-1].end}, expected the step to end at {batch.end}"
            )
        step = await self._with.run(state.processor.process, entries)
        if step.summary != batch.summary:
            raise RestoreError(
                f"{self._name}: replaying [{batch.start}, {batch.end}) came to {step.summary}, expected "
                f"{batch.summary}. The program or the source has changed since: restore with the version that wrote "
                "the journal, stop it cleanly (it leaves a snapshot), then change"
            )
        self.steps += 1
        fault("in_restore")
        return step

"""The embedded host: runs a processor over an embedded log, a thread for each partition.

The steps are those of `streams.journal`; its docstring has the rule. On this log, steps 3 to 6 are one transaction, so
a batch never stands in the journal without its outputs. The host still keeps the whole rule on restore (a batch that
is not `Done` is emitted again), so a journal that was brought here from elsewhere is taken up too.

Ownership: the folder's lock lets one process in; in it, an epoch is opened once at start, and a step of an earlier one
is refused by the log.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from schemas import topics
from schemas.entry import Entry, encode_tick
from streams.embedded.folder import LogError, repair_command
from streams.embedded.log import SqliteLog
from streams.embedded.work import ENDED, IDLE, Work
from streams.faults_hook import fault
from streams.journal import (
    Batch,
    Done,
    Journal,
    JournalError,
    Open,
    Place,
    Record,
    RecordDamaged,
    Verdict,
    decode_record,
)
from streams.log import LogUnavailable, TopicRecord
from streams.pace import PAUSE_S, pause
from streams.processor import PartitionProcessor, Processor, Step, StepObserver
from streams.redact import safe_message
from streams.snapshots import Snapshot, SnapshotError, SnapshotStore
from streams.watchdog import STALL_S, OnStall, Reading, Watchdog, stop_stalled

FAILED_STATUS: Final = 70
"""The process's exit status after a broken invariant (`EX_SOFTWARE`)."""

KNOWN_FAILURES: Final = (LogError, LogUnavailable, JournalError, SnapshotError)
"""Failures whose message says all: where, what was found and expected, and what to do."""

_RETRY_SECONDS: Final = 0.5

_logger = logging.getLogger(__name__)

OnFailure = Callable[[int, int, BaseException], object]
"""Called in the failed partition's thread with the partition, its position and the exception."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """How much a step takes at once, and when ticks and snapshots are made."""

    step_entries_max: int = 4096
    step_events_max: int = 100_000
    step_bytes_max: int = 32 * 1024 * 1024
    pause_seconds: float = PAUSE_S
    """The longest pause after a step: see `streams.pace`."""
    snapshot_seconds: float = 60.0
    """A snapshot is due this long after the last one, if anything has changed since."""
    snapshot_offsets: int = 2_000_000
    """A snapshot is also due after this many source offsets (events, on this log)."""
    tick_seconds: float | None = 10.0
    """How often the time is written to every partition's log; None: never (someone else does, or tests do)."""
    stall_s: float = STALL_S
    """What has work to do and does not move for so long is hung: the process ends (`streams.watchdog`)."""
    writer: str = ""
    """Names this host in the journal; by default `embedded-<process id>`."""


def stop_process(partition: int, position: int, error: BaseException) -> None:
    """What a failed host does by default: says what failed and where, and ends the process without ceremony."""
    said, unknown = safe_message(error), None if isinstance(error, KNOWN_FAILURES) else error
    _logger.critical("partition %d failed at position %d: %s", partition, position, said, exc_info=unknown)
    logging.shutdown()
    os._exit(FAILED_STATUS)


class _Stopped(Exception):
    """The host stops while a partition's state is not at rest: no snapshot of it may be written."""


@dataclass(frozen=True, slots=True)
class HostedPartition:
    """What a status shows of a partition."""

    position: int
    end: int
    epoch: int
    writer: str
    restored: bool
    caught_up: bool
    """Whether what the log held at the start is worked in."""
    doing: str
    """What its thread does: `restoring`, `processing`, `committing`, `saving a snapshot`, `waiting for the log`, …"""
    replayed_steps: int
    emitted_again: int
    steps: int
    line_items: int
    step_seconds: Mapping[float, int]
    """How many steps took at most so long; the greatest bound is infinite."""
    step_seconds_sum: float
    restore_s: float
    snapshot_position: int
    snapshot_age_s: float | None
    """None where this process has neither loaded nor written one."""
    snapshots: int
    failed_snapshots: int


class EmbeddedHost:
    """Runs one processor over all partitions of a log. The log stays the caller's, to close after `stop`."""

    def __init__(
        self,
        log: SqliteLog,
        processor: Processor,
        snapshots: SnapshotStore,
        settings: HostSettings | None = None,
        on_failure: OnFailure = stop_process,
        on_stall: OnStall = stop_stalled,
        observer: StepObserver | None = None,
    ) -> None:
        self.settings = settings or HostSettings()
        self.watchdog = Watchdog(self.settings.stall_s, on_stall)
        self.failures: dict[int, BaseException] = {}
        """By partition, what ended its thread."""
        self._log = log
        self._on_failure = on_failure
        self._moved = threading.Condition()
        self._stopping = threading.Event()
        of = (log, processor, snapshots, self.settings, self._announce, self._stopping, observer)
        self._partitions = [_Partition(number, *of) for number in range(log.partitions)]
        self._threads: list[threading.Thread] = []
        for partition in self._partitions:
            self.watchdog.watch(f"partition {partition.number}", partition.reading)

    def start(self) -> None:
        """Starts the threads; each restores its partition first. Returns at once: see `wait_until_ready`."""
        for partition in self._partitions:
            name = f"host-{partition.number}"
            self._threads.append(threading.Thread(target=self._run, args=(partition,), name=name, daemon=True))
        if self.settings.tick_seconds is not None:
            self._threads.append(threading.Thread(target=self._tick, name="host-tick", daemon=True))
        for thread in self._threads:
            thread.start()
        self.watchdog.start()

    def stop(self) -> None:
        """Finishes the steps at hand, writes snapshots, and waits for the threads."""
        self._stopping.set()
        for partition in self._partitions:
            partition.woken.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self.watchdog.stop()  # last: a thread that hangs now would never be joined

    def state(self) -> dict[int, HostedPartition]:
        """By partition, how it is doing."""
        return {partition.number: partition.state() for partition in self._partitions}

    def position(self) -> dict[int, int]:
        """By partition, the offset of the first source entry whose outputs are not durable yet."""
        return {partition.number: partition.position for partition in self._partitions}

    def needed_from(self) -> dict[int, int]:
        """By partition, the source offset from which a restart may read: what stands before it may be trimmed."""
        return {partition.number: partition.needed_from for partition in self._partitions}

    def wait_until(self, position: Mapping[int, int], timeout: float | None = None) -> bool:
        """Waits (seconds) until the host has reached the position; False if it did not in time or has failed."""

        def reached() -> bool:
            return all(self._partitions[number].position >= offset for number, offset in position.items())

        with self._moved:
            self._moved.wait_for(lambda: reached() or bool(self.failures) or self._stopping.is_set(), timeout)
            return reached()

    def wait_until_ready(self, timeout: float | None = None) -> bool:
        """Waits (seconds) until every partition is restored; False if not in time or one has failed."""
        with self._moved:
            self._moved.wait_for(lambda: self.ready or bool(self.failures) or self._stopping.is_set(), timeout)
            return self.ready and not self.failures

    @property
    def ready(self) -> bool:
        """Whether every partition is restored."""
        return all(partition.restored for partition in self._partitions)

    @property
    def caught_up(self) -> bool:
        """Whether every partition has worked in what the log held at the start."""
        return all(partition.caught_up for partition in self._partitions)

    def wait_until_caught_up(self, timeout: float | None = None) -> bool:
        """Waits (seconds) until then; False if not in time or one has failed."""
        with self._moved:
            self._moved.wait_for(lambda: self.caught_up or bool(self.failures) or self._stopping.is_set(), timeout)
            return self.caught_up and not self.failures

    def _announce(self) -> None:
        with self._moved:
            self._moved.notify_all()

    def _run(self, partition: "_Partition") -> None:
        try:
            with self._log.watching([(topics.EVENTS, partition.number)], partition.woken.set):
                partition.run()
        except _Stopped:
            _logger.warning(
                "partition %d stopped in the middle of a step; the next start does it again", partition.number
            )
        except BaseException as error:
            self.failures[partition.number] = error
            self._announce()
            self._on_failure(partition.number, partition.position, error)
        finally:
            partition.work.does(ENDED)

    def _tick(self) -> None:
        """Writes the time to every partition. A missed tick is no loss: the next one says the time as well."""
        seconds = self.settings.tick_seconds
        while not self._stopping.wait(seconds):
            value = encode_tick(time.time_ns() // 1000)
            try:
                self._log.append_everywhere_blocking(value)
            except LogUnavailable as error:
                _logger.warning("no tick was written: %s", error)


class _Partition:
    """One partition: its state, its journal, its loop. All of it runs in one thread."""

    def __init__(
        self,
        number: int,
        log: SqliteLog,
        processor: Processor,
        snapshots: SnapshotStore,
        settings: HostSettings,
        announce: Callable[[], None],
        stopping: threading.Event,
        observer: StepObserver | None = None,
    ) -> None:
        self.number = number
        self.position = 0
        self.needed_from = 0
        self.restored = False
        self.work = Work()
        self.woken = threading.Event()
        self._log = log
        self._processor = processor
        self._snapshots, self._settings = snapshots, settings
        self._announce = announce
        self._stopping, self._observer = stopping, observer
        self._journal = Journal()
        self._journal_offset = 0
        self._begun_end = log.end(topics.EVENTS, number)
        self._last: Snapshot | None = None  # the last one saved or loaded, without its state
        # The partitions' snapshots are spread over the interval, so that they do not all stop for one at once.
        self._snapshot_due = time.monotonic() + settings.snapshot_seconds * (1 - number / (2 * log.partitions))
        self._snapshot_due_at = settings.snapshot_offsets

    @property
    def caught_up(self) -> bool:
        """Whether what the log held at the start is worked in."""
        return self.restored and self.position >= self._begun_end

    def reading(self) -> Reading:
        """For the watchdog."""
        end, doing = self._log.end(topics.EVENTS, self.number), self.work.doing
        busy = doing != ENDED and (doing != IDLE or end > self.position)
        return Reading(self.work.moves, busy, f"{doing} at position {self.position} of {end}")

    def state(self) -> HostedPartition:
        """For a status."""
        work, last = self.work, self._last
        return HostedPartition(
            position=self.position,
            end=self._log.end(topics.EVENTS, self.number),
            epoch=self._journal.epoch,
            writer=self._journal.writer,
            restored=self.restored,
            caught_up=self.caught_up,
            doing=work.doing,
            replayed_steps=work.replayed_steps,
            emitted_again=work.emitted_again,
            steps=work.steps,
            line_items=work.line_items,
            step_seconds=work.step_seconds.counts,
            step_seconds_sum=work.step_seconds.sum,
            restore_s=work.restore_s,
            snapshot_position=0 if last is None else last.position,
            snapshot_age_s=None if last is None else time.monotonic() - work.saved_at,
            snapshots=work.snapshots,
            failed_snapshots=work.failed_snapshots,
        )

    def run(self) -> None:
        """Restores, then works until the host stops."""
        begun = time.monotonic()
        state = self._restore()
        self.work.restore_s = time.monotonic() - begun
        while not self._stopping.is_set():
            self.woken.clear()
            if self._log.failure is not None:
                raise LogUnavailable(self._log.failure)
            entries = self._read()
            if entries:
                begun = time.monotonic()
                self._step(state, entries)
                self._pause(begun)
            elif not self._stopping.is_set():
                self.work.does(IDLE)
                self.woken.wait(max(0.0, self._snapshot_due - time.monotonic()))
            if self._is_snapshot_due():
                self._snapshot(state)
        self._snapshot(state)

    # Restore ------------------------------------------------------------------------------------

    def _restore(self) -> PartitionProcessor:
        """The state after everything that the journal holds, under a new epoch. Raises: JournalError, LogError."""
        number = self.number
        self.work.does("loading a snapshot")
        snapshot = self._snapshots.load(self._processor.name, number)
        if snapshot is not None:
            self._remember(snapshot)
            self._journal = Journal(epoch=snapshot.epoch, position=snapshot.position)
            self._journal_offset = snapshot.journal_offset
        fetch = partial(self._snapshots.fetch, self._processor.name, number)
        self.work.does("restoring")
        state = self._processor.open(number, None if snapshot is None else snapshot.state, fetch)

        batches = self._read_journal()
        undone = {batch.end for batch in self._journal.pending}
        self._open_epoch()
        for batch in batches:
            if self._stopping.is_set():
                raise _Stopped
            fault("in_restore")
            step = self._replay(state, batch)
            self.work.does("restoring")
            self.work.replayed_steps += 1
            if batch.end in undone:
                self._commit(None, batch.end, step)
                self.work.emitted_again += len(step.outputs)
        fault("after_restore")
        self.position = self._journal.position
        self.restored = True
        _logger.info(
            "partition %d restored to position %d: epoch %d, snapshot at %d, %d steps replayed",
            number, self.position, self._journal.epoch, snapshot.position if snapshot else 0, len(batches),
        )  # fmt: skip
        self._announce()
        return state

    def _read_journal(self) -> list[Batch]:
        """Folds the journal to its end, and returns the batches that count and that the snapshot does not include."""
        begin, end = self._log.begin(topics.JOURNAL, self.number), self._log.end(topics.JOURNAL, self.number)
        if begin > self._journal_offset:
            raise JournalError(
                f"{topics.JOURNAL}/{self.number}: found its first record at {begin}, expected it at "
                f"{self._journal_offset} or before: the snapshots that went with it are missing or damaged. "
                f"To make the state again from the source: `{repair_command(self._log.folder)}`"
            )
        if end < self._journal_offset:
            raise JournalError(
                f"{topics.JOURNAL}/{self.number}: found its end at {end}, expected it at {self._journal_offset} or "
                f"behind, where the newest snapshot was taken: the log in {self._log.folder} has lost what it had "
                "answered for, or the snapshots are another log's. Bring the whole folder back from a backup"
            )
        batches = []
        while records := self._log.read_records(topics.JOURNAL, self.number, self._journal_offset):
            for stored in records:
                record = self._decoded(stored)
                if self._journal.apply(record) is Verdict.APPLIED and isinstance(record, Batch):
                    batches.append(record)
            self._journal_offset = records[-1].end
        return batches

    def _decoded(self, stored: TopicRecord) -> Record:
        """Raises: JournalError that names the repair."""
        try:
            return decode_record(stored.value, Place(stored.topic, stored.partition, stored.offset))
        except RecordDamaged as damage:
            raise JournalError(f"{damage}. To repair it: `{repair_command(self._log.folder)}`") from damage

    def _open_epoch(self) -> None:
        """Takes the partition. Nobody else can stand between the end of the journal and this record: see `folder`."""
        record = Open(self._journal.epoch + 1, self._settings.writer or f"embedded-{os.getpid()}")
        self._journal_offset = self._insist(lambda: self._log.open_epoch(self.number, record.epoch, record.writer))
        self._journal.apply(record)
        fault("after_open")

    def _replay(self, state: PartitionProcessor, batch: Batch) -> Step:
        """Processes a journalled cut again. Raises: JournalError if it comes to something else than it did."""
        step = state.process(self._log.read_cut(self.number, batch.start, batch.end))
        if step.summary != batch.summary:
            raise JournalError(
                f"{self._processor.name}/{self.number}: the replay of [{batch.start}, {batch.end}) came to "
                f"{step.summary}, expected {batch.summary} as the journal has it"
            )
        return step

    # The loop -----------------------------------------------------------------------------------

    def _read(self) -> list[Entry]:
        settings = self._settings
        return self._log.read_entries(
            self.number,
            self.position,
            entries_max=settings.step_entries_max,
            events_max=settings.step_events_max,
            bytes_max=settings.step_bytes_max,
        )

    def _pause(self, begun: float) -> None:
        """After a step that began then."""
        waiting, settings = self._log.end(topics.EVENTS, self.number) - self.position, self._settings
        seconds = pause(waiting / settings.step_events_max, time.monotonic() - begun, settings.pause_seconds)
        self.work.does(IDLE)
        self._stopping.wait(seconds)

    def _step(self, state: PartitionProcessor, entries: list[Entry]) -> None:
        """One commit, in the steps of `streams.journal`."""
        begun, begun_ns = time.monotonic(), time.time_ns()
        # 1. read
        fault("after_read")
        # 2. process
        self.work.does("processing")
        step = state.process(entries)
        self.work.does("committing")
        fault("after_process")
        # 3. journal, 4. fence, 5. emit, 6. done: one transaction
        batch = Batch(self._journal.epoch, entries[0].offset, entries[-1].end, step.summary)
        self._journal.apply(batch)
        self._commit(batch, batch.end, step)
        fault("after_done")
        # 7. snapshot: see `run`; 8. there is nobody to acknowledge to
        self.position = batch.end
        self.work.stepped(time.monotonic() - begun, step.summary.line_items)
        self._announce()
        if self._observer is not None:
            self._observer.stepped(self.number, entries, step, begun_ns)
        fault("after_step")

    def _commit(self, batch: Batch | None, end: int, step: Step) -> None:
        epoch = self._journal.epoch
        self._journal_offset = self._insist(lambda: self._log.commit_step(self.number, batch, epoch, end, step.outputs))
        self._journal.apply(Done(epoch, end))

    def _insist(self, write: Callable[[], int]) -> int:
        """Repeats a write while the log takes nothing (a full disk, say): the state is ahead and cannot go back.

        Raises: _Stopped when the host stops meanwhile; LogUnavailable when the log will never take anything again.
        """
        while True:
            try:
                return write()
            except LogUnavailable as error:
                if self._stopping.is_set():
                    raise _Stopped from error
                if self._log.closed:
                    raise
                _logger.error("partition %d waits for the log: %s", self.number, error)
                self.work.does("waiting for the log")  # each try is a move: a full disk is no hang
                self._stopping.wait(_RETRY_SECONDS)

    # Snapshots ----------------------------------------------------------------------------------

    def _is_snapshot_due(self) -> bool:
        return time.monotonic() >= self._snapshot_due or self.position >= self._snapshot_due_at

    def _snapshot(self, state: PartitionProcessor) -> None:
        """7. Writes a snapshot, unless nothing has changed. One that cannot be written is tried again later."""
        self._snapshot_due = time.monotonic() + self._settings.snapshot_seconds
        self._snapshot_due_at = self.position + self._settings.snapshot_offsets
        if self.position == (self._last.position if self._last else 0):
            return
        self.work.does("saving a snapshot")
        snapshot = Snapshot(self.position, self._journal_offset, self._journal.epoch, state.snapshot(), state.files())
        try:
            self._snapshots.save(self._processor.name, self.number, snapshot)
            fault("after_snapshot")
            self.work.snapshots += 1
            before = self._last
            self._remember(snapshot)
            if before is not None:
                # The store keeps two: a restart goes back to the one before at most.
                self.needed_from = before.position
                self._log.trim(topics.JOURNAL, self.number, before.journal_offset)
        except (SnapshotError, LogUnavailable) as error:
            self.work.failed_snapshots += 1
            _logger.error("partition %d goes on without a new snapshot: %s", self.number, error)

    def _remember(self, snapshot: Snapshot) -> None:
        self._snapshot_due_at = snapshot.position + self._settings.snapshot_offsets
        self._last = Snapshot(snapshot.position, snapshot.journal_offset, snapshot.epoch, b"")
        self.work.saved_at = time.monotonic()

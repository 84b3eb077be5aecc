"""The embedded log: all topics in one SQLite file, appended to by one thread, read by any number.

A table for each topic and partition; a row holds `[position, after)`. A row of `taximeter.events` is one entry, and
offsets number events: an entry of n events takes `[o, o + n)`, a tick or a catalogue entry takes one. A row of any
other topic packs many records, and offsets number records. How an append becomes durable: see `folder` and `writer`.
"""

import asyncio
import os
import sqlite3
import threading
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from schemas import topics
from schemas.entry import Entry
from streams.embedded.folder import (
    FolderLock,
    FolderRefused,
    LogError,
    RowDamaged,
    open_reader,
    open_writer,
    repair_command,
    unreadable,
)
from streams.embedded.rows import PackedRow, Record, pack, pack_row, row_checksum, unpack, unpack_spans
from streams.embedded.writer import Key, Transaction, Writer
from streams.faults_hook import fault
from streams.journal import Batch, Done, Open, encode_record
from streams.log import Part, Positions, RecordBlock, Records, TopicRecord, parts_since
from streams.processor import Block, Output, parts_of

VALUE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes of one entry, key or value."""
QUEUE_BYTES_MAX: Final = 64 * 1024 * 1024
"""Bytes that may wait for the disk before an append is refused."""
READ_RECORDS_MAX: Final = 10_000
READ_BYTES_MAX: Final = 8 * 1024 * 1024
BLOCK_RECORDS_MIN: Final = 16
"""A row of fewer records is read one by one: that costs less than a block."""
TRIM_ROWS: Final = 256
"""Rows that are trimmed in one transaction, so that appends wait for it briefly."""


class Fenced(LogError):
    """A later epoch owns the partition: the caller must stop at once."""


class SqliteLog:
    """A log in a folder that this process holds alone; a `streams.log.Sink` and a `streams.log.Source`.

    `partitions` is fixed when the folder is made. Raises: FolderRefused.
    """

    def __init__(
        self, folder: str | os.PathLike[str], partitions: int, *, queue_bytes_max: int = QUEUE_BYTES_MAX
    ) -> None:
        self.folder = Path(folder).absolute()
        self.partitions = partitions
        self._lock = FolderLock(self.folder)
        try:
            connection = open_writer(self.folder, partitions)
            self._writer = Writer(self.folder, connection, queue_bytes_max)
        except sqlite3.Error as error:
            self._lock.release()
            raise FolderRefused(str(unreadable(self.folder, error))) from error
        except BaseException:
            self._lock.release()
            raise
        self._idle_readers: list[sqlite3.Connection] = []
        self._readers_lock = threading.Lock()
        self._closed = threading.Event()

    def close(self) -> None:
        """Commits what is queued and lets the folder go. Iterations of `read` end."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._writer.close()
        with self._readers_lock:
            for reader in self._idle_readers:
                reader.close()
            self._idle_readers.clear()
        self._writer.connection.close()
        self._lock.release()

    @property
    def closed(self) -> bool:
        """Whether the log takes nothing any more: it was closed, or its writer failed."""
        return self._writer.closed

    @property
    def failure(self) -> str | None:
        """Why its writer failed, if it did."""
        return self._writer.failure

    # Appending ----------------------------------------------------------------------------------

    async def append(self, partition: int, value: bytes, events: int) -> int:
        """See `streams.log.Sink.append`. Raises: LogUnavailable."""
        key = self._key(topics.EVENTS, partition)
        return _integer(await self._writer.submit(_append(key, value, events), len(value), (key,)))

    def append_blocking(self, partition: int, value: bytes, events: int) -> int:
        """The same for a thread. Raises: LogUnavailable."""
        key = self._key(topics.EVENTS, partition)
        return _integer(self._writer.submit_blocking(_append(key, value, events), len(value), (key,)))

    async def append_everywhere(self, value: bytes) -> dict[int, int]:
        """Appends an entry without events (a tick, catalogue documents) to every partition, all or none.

        Returns by partition the position after it, when all is durable. Raises: LogUnavailable.
        """
        ends: dict[int, int] = await self._writer.submit(*self._to_all(value))
        return ends

    def append_everywhere_blocking(self, value: bytes) -> dict[int, int]:
        """The same for a thread. Raises: LogUnavailable."""
        ends: dict[int, int] = self._writer.submit_blocking(*self._to_all(value))
        return ends

    async def append_everywhere_with(self, value: bytes, topic: str, records: Iterable[Record]) -> dict[int, int]:
        """The same together with records of another topic (its partition 0), in one transaction: all or nothing.

        Raises: LogUnavailable.
        """
        append, size, keys = self._to_all(value)
        key, rows = self._packed(topic, 0, records)
        publish = _publish(key, rows)

        def write(transaction: Transaction) -> dict[int, int]:
            ends = append(transaction)
            publish(transaction)
            return ends

        found: dict[int, int] = await self._writer.submit(write, size + _size(rows), (*keys, key))
        return found

    async def publish(self, topic: str, partition: int, records: Iterable[Record]) -> int:
        """Appends records (key, value) to a topic other than `taximeter.events`, all or none; waits until they are
        durable, and returns the offset after them. Raises: LogUnavailable."""
        key, rows = self._packed(topic, partition, records)
        return _integer(await self._writer.submit(_publish(key, rows), _size(rows), (key,)))

    def publish_blocking(self, topic: str, partition: int, records: Iterable[Record]) -> int:
        """The same for a thread. Raises: LogUnavailable."""
        key, rows = self._packed(topic, partition, records)
        return _integer(self._writer.submit_blocking(_publish(key, rows), _size(rows), (key,)))

    # A host's steps -----------------------------------------------------------------------------

    def open_epoch(self, partition: int, epoch: int, writer: str) -> int:
        """Appends `Open` to the partition's journal; returns the journal's end. Raises: Fenced, LogUnavailable."""
        key = self._key(topics.JOURNAL, partition)
        (row,) = pack([(b"", encode_record(Open(epoch, writer)))])

        def write(transaction: Transaction) -> int:
            if epoch <= (current := transaction.epoch(partition)):
                raise Fenced(f"partition {partition}: found the epoch {current} open, expected one below {epoch}")
            transaction.epochs[partition] = epoch
            return transaction.add(*key, row.value, row.records, row.checksum)

        return _integer(self._writer.submit_blocking(write, len(row.value), (key,), always=True))

    def commit_step(self, partition: int, batch: Batch | None, epoch: int, end: int, outputs: Sequence[Output]) -> int:
        """Steps 3 to 6 of `streams.journal` in one transaction: `Batch`, the fence, the outputs, `Done`.

        They stand in that order, and a crash leaves all of them or none. `batch` is None where the journal holds the
        batch up to `end` already and only its outputs are missing. Returns the journal's end.
        Raises: Fenced; LogUnavailable, and then nothing was written, so the same call may be made again.
        """
        journal = self._key(topics.JOURNAL, partition)
        head = [] if batch is None else list(pack([(b"", encode_record(batch))]))
        packed = self._packed_outputs(partition, outputs)

        def write(transaction: Transaction) -> int:
            if epoch != (current := transaction.epoch(partition)):
                raise Fenced(f"partition {partition}: found the epoch {current} open, expected {epoch}")  # 4. fence
            for row in head:
                transaction.add(*journal, row.value, row.records, row.checksum)  # 3. batch
            transaction.flush()
            fault("after_journal")
            fault("after_fence")
            emitted = {key[0]: _publish(key, rows)(transaction) for key, rows in packed.items()}  # 5. outputs
            transaction.flush()
            fault("after_emit")
            (row,) = pack([(b"", encode_record(Done(epoch, end, emitted)))])
            return transaction.add(*journal, row.value, row.records, row.checksum)  # 6. done

        size = sum(map(_size, packed.values()))
        return _integer(self._writer.submit_blocking(write, size, (journal, *packed), always=True))

    # Reading ------------------------------------------------------------------------------------

    def begin(self, topic: str, partition: int) -> int:
        """The offset of the oldest record that the log still holds; where it holds none, its end."""
        key = self._key(topic, partition)
        row = self._one(key, "SELECT position FROM {table} ORDER BY position LIMIT 1")
        return self.end(topic, partition) if row is None else row

    def end(self, topic: str, partition: int) -> int:
        """The offset after the last durable record."""
        return self._writer.ends.get(self._key(topic, partition), 0)

    def offset_at(self, topic: str, partition: int, time: int) -> int:
        """The offset of the first row written at `time` (microseconds, this machine's clock) or later, else the end.

        For keeping a topic by time: `trim(topic, partition, offset_at(topic, partition, oldest_kept))`.
        """
        key = self._key(topic, partition)
        row = self._one(key, "SELECT position FROM {table} WHERE written >= ? ORDER BY position LIMIT 1", time)
        return self.end(topic, partition) if row is None else row

    def written_at(self, topic: str, partition: int, position: int) -> int | None:
        """When the row at `position`, or the next one, was written (microseconds); None where none is."""
        key = self._key(topic, partition)
        return self._one(key, "SELECT written FROM {table} WHERE position >= ? ORDER BY position LIMIT 1", position)

    def read_entries(
        self, partition: int, position: int, *, entries_max: int, events_max: int, bytes_max: int
    ) -> list[Entry]:
        """Source entries from `position` on, at least one if there is one, without waiting.

        Raises: LogError if no entry begins at `position` (it was trimmed, or was never one).
        """
        entries: list[Entry] = []
        size = 0
        key = self._key(topics.EVENTS, partition)
        for start, after, value in self._rows(key, position):
            if not entries and start != position:
                raise LogError(
                    f"{topics.EVENTS}/{partition}: found an entry at {start}, expected one at {position}: "
                    "the log was trimmed beyond what a restart needs, or the position is of another log"
                )
            size += len(value)
            too_much = size > bytes_max or after - position > events_max or len(entries) == entries_max
            if entries and too_much:
                break
            entries.append(Entry(start, after, value))
        return entries

    def read_cut(self, partition: int, start: int, end: int) -> list[Entry]:
        """The source entries of `[start, end)`, all of them. Raises: LogError if the log does not hold them."""
        rows = self._rows(self._key(topics.EVENTS, partition), start, end)
        entries = [Entry(*row) for row in rows]
        found = (entries[0].offset, entries[-1].end) if entries else None
        if found != (start, end):
            raise LogError(f"{topics.EVENTS}/{partition}: found the entries {found}, expected {(start, end)}")
        return entries

    def read_records(
        self,
        topic: str,
        partition: int,
        position: int,
        *,
        records_max: int = READ_RECORDS_MAX,
        bytes_max: int = READ_BYTES_MAX,
    ) -> list[TopicRecord]:
        """Records from `position` on, without waiting; at least one row of them if there is one.

        In `taximeter.events`, the first is the entry that holds `position`. Where `position` was trimmed, reading
        begins at the oldest record. Raises: LogError if `position` is beyond the end: it is of another log.
        """
        return list(Records(self._read_parts(topic, partition, position, records_max, bytes_max)))

    def _read_parts(
        self, topic: str, partition: int, position: int, records_max: int, bytes_max: int
    ) -> Sequence[Part]:
        """What `read_records` gives, in blocks. Raises as it does."""
        key = self._key(topic, partition)
        if position > (end := self.end(topic, partition)):
            raise LogError(
                f"{topic}/{partition}: found the end {end}, expected at least the reader's position {position}"
            )
        parts: list[Part] = []
        count = size = 0
        for start, after, value in self._rows(key, position):
            if topic == topics.EVENTS:
                parts.append(TopicRecord(topic, partition, start, after, b"", value))
                count += 1
            else:
                parts += parts_since(_parts_of_row(topic, partition, start, after, value), position)
                count += after - max(start, position)
            size += len(value)
            if size >= bytes_max or count >= records_max:
                break
        return parts

    async def read(self, read_topics: Sequence[str], positions: Positions) -> AsyncIterator[Sequence[TopicRecord]]:
        """See `streams.log.Source.read`. Ends when the log is closed. Raises: LogError (see `read_records`)."""
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        reached = {(topic, number): 0 for topic in read_topics for number in range(self.partitions)}
        reached.update({key: position for key, position in positions.items() if key in reached})
        with self.watching(reached, partial(loop.call_soon_threadsafe, woken.set)):
            while not self._writer.closed:
                woken.clear()
                behind = deque(key for key, position in reached.items() if self.end(*key) != position)
                if not behind:
                    await woken.wait()
                while behind:
                    if records := await asyncio.to_thread(self._read_behind, behind, reached):
                        yield records

    def _read_behind(self, behind: deque[Key], reached: dict[Key, int]) -> Records:
        """Takes from `behind` what is read in one go, and moves `reached` on."""
        parts: list[Part] = []
        size = 0
        while behind and size < READ_BYTES_MAX:
            key = behind.popleft()
            found = Records(self._read_parts(*key, reached[key], READ_RECORDS_MAX, READ_BYTES_MAX))
            if found:
                reached[key] = found.parts[-1].end
                parts += found.parts
                size += found.nbytes
        return Records(parts)

    def watching(self, keys: Iterable[Key], callback: Callable[[], object]) -> AbstractContextManager[None]:
        """Calls `callback` after each commit to one of the topics and partitions, and at `close`.

        It is called from the writer's thread and must not block: `threading.Event.set` is what it is for.
        """
        return self._writer.watching(keys, callback)

    # Trimming -----------------------------------------------------------------------------------

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Lets go of rows whose records all stand before the offset `before`. The last row stays: it holds the end.

        The file does not shrink; its free pages are used again. Raises: LogUnavailable.
        """
        key = self._key(topic, partition)
        kept = self._one(key, "SELECT max(position) FROM {table} WHERE position <= ?", before)
        while kept is not None:
            next_part = self._one(key, f"SELECT position FROM {{table}} ORDER BY position LIMIT 1 OFFSET {TRIM_ROWS}")
            cut = kept if next_part is None else min(kept, next_part)
            self._writer.submit_blocking(partial(_delete, self._writer.tables[key], cut), 0, (key,), always=True)
            if cut == kept:
                return

    # Inside -------------------------------------------------------------------------------------

    def _key(self, topic: str, partition: int) -> Key:
        if not 0 <= partition < self.partitions:
            raise ValueError(f"found the partition {partition}, expected 0 to {self.partitions - 1}")
        return topic, partition

    def _to_all(self, value: bytes) -> tuple[Callable[[Transaction], dict[int, int]], int, tuple[Key, ...]]:
        """The write, the bytes and the keys of an entry for every partition."""
        keys = tuple((topics.EVENTS, partition) for partition in range(self.partitions))
        writes = [_append(key, value, 0) for key in keys]
        return (
            lambda transaction: {partition: write(transaction) for partition, write in enumerate(writes)},
            len(value) * len(keys),
            keys,
        )

    def _packed(self, topic: str, partition: int, records: Iterable[Record | Block]) -> tuple[Key, list[PackedRow]]:
        if topic == topics.EVENTS:
            raise ValueError(f"{topic} holds entries: use append")
        return self._key(topic, partition), list(pack(records))

    def _packed_outputs(self, partition: int, outputs: Sequence[Output]) -> dict[Key, list[PackedRow]]:
        by_topic: dict[str, list[Record | Block]] = {}
        for part in parts_of(outputs):
            by_topic.setdefault(part.topic, []).append(part if isinstance(part, Block) else part[1:])
        return dict(self._packed(topic, partition, records) for topic, records in by_topic.items())

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """Lends a reading connection."""
        with self._readers_lock:
            if self._closed.is_set():
                raise LogError(f"the log in {self.folder} is closed")
            reader = self._idle_readers.pop() if self._idle_readers else open_reader(self.folder)
        try:
            yield reader
        except sqlite3.Error as error:
            raise unreadable(self.folder, error) from error
        finally:
            with self._readers_lock:
                if self._closed.is_set():
                    reader.close()
                else:
                    self._idle_readers.append(reader)

    def _one(self, key: Key, query: str, *values: int) -> int | None:
        """The first column of the first row; None where there is no row, no value or no table yet."""
        if (table := self._writer.tables.get(key)) is None:
            return None
        with self._reader() as reader:
            row = reader.execute(query.format(table=table), values).fetchone()
        return None if row is None else row[0]

    def _rows(self, key: Key, position: int, end: int | None = None) -> Iterator[tuple[int, int, bytes]]:
        """The rows (position, after, value) from the one that holds `position` on, up to `end`, as far as durable.

        Raises: RowDamaged.
        """
        for start, after, value, damage in self.scan(*key, position, end):
            if damage is not None:
                raise RowDamaged(
                    f"{key[0]}/{key[1]}, offset {start}: {damage}. To see what it means and to repair it: "
                    f"`{repair_command(self.folder)}`",
                    start,
                )
            yield start, after, value

    def scan(
        self, topic: str, partition: int, position: int = 0, end: int | None = None
    ) -> Iterator[tuple[int, int, bytes, str | None]]:
        """The rows (position, after, value, damage) from the one that holds `position` on, up to `end`, as far as
        durable. `damage` says what was found and expected of a row that is not what was written, else None."""
        key = self._key(topic, partition)
        if (table := self._writer.tables.get(key)) is None:
            return
        end = self._writer.ends[key] if end is None else end
        query = (
            f"SELECT position, after, value, checksum FROM {table} WHERE position < ?2 AND position >= "
            f"coalesce((SELECT max(position) FROM {table} WHERE position <= ?1), 0) AND after > ?1 ORDER BY position"
        )
        # Closing the cursor ends the read transaction: an open one would keep the WAL from being used again.
        with self._reader() as reader, closing(reader.execute(query, (position, end))) as cursor:
            for start, after, value, expected in cursor:
                damage = None
                if expected is not None and (found := row_checksum(start, after, zlib.crc32(value))) != expected:
                    damage = f"found a row with the checksum {found:08x}, expected {expected:08x}"
                yield start, after, value, damage

    def replace_row(self, topic: str, partition: int, position: int, records: Sequence[Record]) -> None:
        """For a repair: puts another row in the place of a damaged one, for as many records, so that no offset moves.

        Raises: LogError if the row that stands there holds another number of records; LogUnavailable.
        """
        key = self._key(topic, partition)
        row = pack_row(records)

        def write(transaction: Transaction) -> None:
            table = self._writer.tables[key]
            found = transaction.connection.execute(
                f"SELECT after FROM {table} WHERE position = ?", (position,)
            ).fetchone()
            if found is None or found[0] - position != row.records:
                raise LogError(f"{topic}/{partition}, offset {position}: found {found}, expected {row.records} records")
            checksum = row_checksum(position, found[0], row.checksum)
            transaction.connection.execute(
                f"UPDATE {table} SET value = ?, checksum = ? WHERE position = ?", (row.value, checksum, position)
            )

        self._writer.submit_blocking(write, len(row.value), (key,), always=True)


def _parts_of_row(topic: str, partition: int, start: int, after: int, value: bytes) -> Sequence[Part]:
    """The records of a packed row: a block, where that pays."""
    if after - start >= BLOCK_RECORDS_MIN:
        body, spans = unpack_spans(value, after - start)
        if len(spans) and (spans[:, 2] < spans[:, 3]).all():
            return [RecordBlock(topic, partition, start, start + len(spans), body, spans)]
    return [
        TopicRecord(topic, partition, offset, offset + 1, *record) for offset, record in enumerate(unpack(value), start)
    ]


def _append(key: Key, value: bytes, events: int) -> Callable[[Transaction], int]:
    if len(value) > VALUE_BYTES_MAX:
        raise ValueError(f"found an entry of {len(value)} bytes, expected at most {VALUE_BYTES_MAX}")
    checksum = zlib.crc32(value)
    return lambda transaction: transaction.add(*key, value, max(events, 1), checksum)


def _publish(key: Key, rows: Sequence[PackedRow]) -> Callable[[Transaction], int]:
    def write(transaction: Transaction) -> int:
        end = transaction.end(key)
        for row in rows:
            end = transaction.add(*key, row.value, row.records, row.checksum)
        return end

    return write


def _delete(table: str, before: int, transaction: Transaction) -> None:
    transaction.connection.execute(f"DELETE FROM {table} WHERE position < ?", (before,))


def _size(rows: Sequence[PackedRow]) -> int:
    return sum(len(row.value) for row in rows)


def _integer(value: object) -> int:
    assert isinstance(value, int)
    return value

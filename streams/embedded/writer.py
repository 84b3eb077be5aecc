"""The one thread that writes the log: what has queued up is committed together, then all of it is answered.

A sync of the disk costs the same for one entry as for a thousand, so callers share it (group commit): while one commit
waits for the disk, the next group gathers. A group is taken whole or not at all.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from streams.embedded.folder import LogError, identity_of
from streams.embedded.rows import row_checksum
from streams.faults_hook import fault
from streams.log import LogUnavailable

Key = tuple[str, int]
"""Topic and partition."""

GROUP_BYTES_MAX: Final = 16 * 1024 * 1024
GROUP_REQUESTS_MAX: Final = 4096
REQUEST_BYTES: Final = 256
"""What a request counts for in the queue besides its bytes, so that very many small ones are bounded too."""

_ROWS_AT_ONCE: Final = (128, 32, 8, 1)
_COLUMNS: Final = 5

_logger = logging.getLogger(__name__)


class Transaction:
    """What a group writes: rows gathered by table, the new ends, the new epochs. Seen by nobody before the commit."""

    def __init__(self, writer: "Writer") -> None:
        self._writer = writer
        self._rows: defaultdict[str, list[Any]] = defaultdict(list)
        self._written = time.time_ns() // 1000
        self.connection = writer.connection
        self.ends: dict[Key, int] = {}
        self.epochs: dict[int, int] = {}

    def add(self, topic: str, partition: int, value: bytes, count: int, checksum: int) -> int:
        """Adds a row that takes `count` offsets, and returns the offset after it. `checksum`: the value's CRC-32."""
        key = topic, partition
        position = self.end(key)
        self.ends[key] = after = position + count
        row = position, after, self._written, value, row_checksum(position, after, checksum)
        self._rows[self._writer.tables[key]] += row
        return after

    def end(self, key: Key) -> int:
        """The offset that the next row takes."""
        return self.ends[key] if key in self.ends else self._writer.ends[key]

    def epoch(self, partition: int) -> int:
        """The epoch that was opened last on this partition, by this process; nought if none was."""
        return self.epochs.get(partition, self._writer.epochs.get(partition, 0))

    def flush(self) -> None:
        """Hands the gathered rows to SQLite.

        Many rows a statement, in a few fixed shapes: each statement gives up Python's lock, and a busy process may
        take milliseconds to give it back.
        """
        for table, values in self._rows.items():
            done = 0
            for rows in _ROWS_AT_ONCE:
                marks, size = ",".join(["(?,?,?,?,?)"] * rows), _COLUMNS * rows
                while len(values) - done >= size:
                    self.connection.execute(f"INSERT INTO {table} VALUES {marks}", values[done : done + size])
                    done += size
        self._rows.clear()


Write = Callable[[Transaction], Any]
"""What a request does in the group's transaction. It may raise only before it has added anything."""


@dataclass(slots=True)
class _Request:
    write: Write
    bytes: int
    answer: "asyncio.Future[Any] | Future[Any]"
    loop: asyncio.AbstractEventLoop | None
    keys: tuple[Key, ...]
    result: Any = None
    error: Exception | None = field(default=None)

    def settle(self) -> None:
        """Answers the caller, unless it has gone."""
        if self.answer.done():
            return
        if self.error is None:
            self.answer.set_result(self.result)
        else:
            self.answer.set_exception(self.error)


class Writer:
    """The queue in front of the writing connection, and the thread behind it."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, queue_bytes_max: int) -> None:
        self._folder = folder
        self._queue_bytes_max = queue_bytes_max
        self._queue: deque[_Request] = deque()
        self._changed = threading.Condition(threading.Lock())
        self._closing = False
        self._watchers: defaultdict[Key, set[Callable[[], object]]] = defaultdict(set)
        self._watchers_lock = threading.Lock()
        self.connection = connection
        self.queued_bytes = 0
        self.tables: dict[Key, str] = {}
        self.ends: dict[Key, int] = {}
        """The offset after the last durable record. Written by the thread only, read by all."""
        self.epochs: dict[int, int] = {}
        self.failure: str | None = None
        """Why the thread has ended, if it was not asked to."""
        self._identity = identity_of(folder)
        self._read_ends()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    # What callers use ---------------------------------------------------------------------------

    async def submit(self, write: Write, size: int, keys: tuple[Key, ...]) -> Any:
        """Queues a write and waits until it is durable, without holding the event loop. Raises: LogUnavailable."""
        loop = asyncio.get_running_loop()
        request = _Request(write, size + REQUEST_BYTES, loop.create_future(), loop, keys)
        self._enqueue(request, always=False)
        return await request.answer  # type: ignore[misc]  # it is the loop's own

    def submit_blocking(self, write: Write, size: int, keys: tuple[Key, ...], *, always: bool = False) -> Any:
        """The same for a thread. `always`: even when the queue is full. Raises: LogUnavailable."""
        answer: Future[Any] = Future()
        self._enqueue(_Request(write, size + REQUEST_BYTES, answer, None, keys), always)
        return answer.result()

    @contextmanager
    def watching(self, keys: Iterable[Key], callback: Callable[[], object]) -> Iterator[None]:
        """Calls `callback` (from the writer's thread; it must not block) after each commit to one of the keys."""
        keys = tuple(keys)
        with self._watchers_lock:
            for key in keys:
                self._watchers[key].add(callback)
        try:
            yield
        finally:
            with self._watchers_lock:
                for key in keys:
                    self._watchers[key].discard(callback)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called, or the thread has failed."""
        return self._closing

    def close(self) -> None:
        """Commits what is queued, ends the thread, wakes those who watch."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._notify({key for key, callbacks in self._watchers.items() if callbacks})

    def _enqueue(self, request: _Request, always: bool) -> None:
        with self._changed:
            if self._closing:
                raise LogUnavailable(f"the log in {self._folder} is closed")
            if not always and self._queue and self.queued_bytes + request.bytes > self._queue_bytes_max:
                raise LogUnavailable(
                    f"the queue of the log in {self._folder} is full: {self.queued_bytes} of {self._queue_bytes_max} "
                    "bytes wait for the disk"
                )
            self._queue.append(request)
            self.queued_bytes += request.bytes
            self._changed.notify()

    # The thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        group: list[_Request] = []
        try:
            while group := self._take():
                self._commit(group)
                fault("after_commit")
                with self._changed:
                    self.queued_bytes -= sum(request.bytes for request in group)
                self._answer(group)
        except BaseException as error:  # a fault of ours: nobody may wait for ever
            self.failure = str(error) if isinstance(error, LogError) else f"{error!r}"
            unexpected = None if isinstance(error, LogError) else error
            _logger.critical("the writer of the log in %s failed: %s", self._folder, self.failure, exc_info=unexpected)
            with self._changed:
                self._closing = True
                left = [*group, *self._queue]
                self._queue.clear()
            for request in left:
                request.error = LogUnavailable(f"the writer of the log in {self._folder} failed: {self.failure}")
            self._answer(left)
            self._notify({key for key, callbacks in self._watchers.items() if callbacks})

    def _take(self) -> list[_Request]:
        """The next group; empty when the log is closed and all is written."""
        with self._changed:
            while not self._queue and not self._closing:
                self._changed.wait()
            group: list[_Request] = []
            size = 0
            while self._queue and len(group) < GROUP_REQUESTS_MAX and size < GROUP_BYTES_MAX:
                group.append(self._queue.popleft())
                size += group[-1].bytes
            return group

    def _commit(self, group: list[_Request]) -> None:
        """Writes a group in one transaction. After an error nothing of it is there, and each request says why."""
        connection = self.connection
        try:
            for request in group:
                for key in request.keys:
                    if key not in self.tables:
                        self._make_table(key)
            transaction = Transaction(self)
            connection.execute("BEGIN IMMEDIATE")
            for request in group:
                try:
                    request.result = request.write(transaction)
                except LogError as error:
                    request.error = error
            transaction.flush()
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(group, error)
            return
        self._check_in_place()
        self.ends.update(transaction.ends)
        self.epochs.update(transaction.epochs)
        self._notify(transaction.ends)

    def _check_in_place(self) -> None:
        """A file that was removed can still be written, and all of it would be gone with this process. Nothing is
        answered that was written so. Raises: LogError."""
        try:
            found = identity_of(self._folder)
        except OSError as error:
            raise LogError(f"the log's file has gone: {error}. Nothing more can be kept: stopping") from error
        if found != self._identity:
            raise LogError(
                f"another file has taken the place of {self._folder / 'log.sqlite'} under this process: stopping"
            )

    def _roll_back(self, group: list[_Request], error: sqlite3.Error) -> None:
        with suppress(sqlite3.Error):  # SQLite has rolled back by itself after some errors
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
        reason = f"the log in {self._folder} took nothing: {error} ({error.sqlite_errorname})"
        _logger.error("%s; %d requests refused", reason, len(group))
        for request in group:
            request.error = LogUnavailable(reason)

    def _answer(self, group: list[_Request]) -> None:
        """Answers every caller of a group; those of one event loop together, because waking it costs a system call."""
        by_loop: defaultdict[asyncio.AbstractEventLoop, list[_Request]] = defaultdict(list)
        for request in group:
            if request.loop is None:
                request.settle()
            else:
                by_loop[request.loop].append(request)
        for loop, requests in by_loop.items():
            with suppress(RuntimeError):  # the loop is closed, and its callers with it
                loop.call_soon_threadsafe(_settle_all, requests)

    def _notify(self, keys: Iterable[Key]) -> None:
        with self._watchers_lock:
            callbacks = {callback for key in keys for callback in self._watchers.get(key, ())}
        for callback in callbacks:
            with suppress(RuntimeError):  # an event loop that is closed
                callback()

    # Tables -------------------------------------------------------------------------------------

    def _read_ends(self) -> None:
        """Finds the tables of an existing log and where each ends. A table's last row is never trimmed."""
        topics = self.connection.execute("SELECT id, name FROM topics").fetchall()
        names = {row[0] for row in self.connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        partitions = self.connection.execute("SELECT partitions FROM log").fetchone()[0]
        for number, topic in topics:
            for partition in range(partitions):
                if (table := table_name(number, partition)) in names:
                    last = self.connection.execute(f"SELECT after FROM {table} ORDER BY position DESC LIMIT 1")
                    row = last.fetchone()
                    self.tables[topic, partition] = table
                    self.ends[topic, partition] = row[0] if row else 0

    def _make_table(self, key: Key) -> None:
        """Makes the table of a topic and partition, on its own: an empty table changes nothing for anyone."""
        topic, partition = key
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute("INSERT OR IGNORE INTO topics (name) VALUES (?)", (topic,))
        number = self.connection.execute("SELECT id FROM topics WHERE name = ?", (topic,)).fetchone()[0]
        table = table_name(number, partition)
        self.connection.execute(
            f"CREATE TABLE IF NOT EXISTS {table} (position INTEGER PRIMARY KEY, after INTEGER NOT NULL, "
            "written INTEGER NOT NULL, value BLOB NOT NULL, checksum INTEGER) STRICT"
        )
        self.connection.execute("COMMIT")
        self.ends[key], self.tables[key] = 0, table


def table_name(topic_number: int, partition: int) -> str:
    return f"topic_{topic_number}_{partition}"


def _settle_all(requests: list[_Request]) -> None:
    for request in requests:
        request.settle()

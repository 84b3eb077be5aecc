"""The archiver: follows the source log by position, and writes what stands in it to an archive, in cuts.

Exactly once by construction: where it goes on from is read from the names of the files, and a cut is a stretch of the
log that counts when its last file is there. A crash in between leaves files that nobody reads. What came to the log
while no archiver ran is caught up with, as far back as the log reaches.

A cut is made when a partition has gathered enough events or bytes, after some seconds, and at `close`.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from rating.archive.ranges import Cut
from rating.archive.store import Archive, ArchiveError
from schemas import topics
from schemas.entry import EVENTS, Entry
from streams.log import Source, TopicRecord

_RETRY_SECONDS: Final = 5.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """When a cut is made: after so many entries, bytes of the log, or seconds since its first entry."""

    entries_max: int = 20_000
    bytes_max: int = 64 * 1024 * 1024
    seconds_max: float = 60.0


@dataclass(slots=True)
class _Gathered:
    """What a partition's next cut will hold."""

    position: int
    entries: list[Entry] = field(default_factory=list)
    size: int = 0
    since: float = 0.0
    events: bool = False


class Archiver:
    """Keeps an archive up with a log. `run` is one task; `close` writes what is gathered."""

    def __init__(self, archive: Archive, source: Source, settings: ArchiveSettings | None = None) -> None:
        self.archive = archive
        self.settings = settings or ArchiveSettings()
        self._source = source
        self._gathered: dict[int, _Gathered] = {}
        self._writing = asyncio.Lock()
        self._moved = asyncio.Condition()
        self.written_bytes = 0

    @property
    def through(self) -> dict[int, int]:
        """Partition -> the offset after the last entry that is archived."""
        return {
            partition: gathered.entries[0].offset if gathered.entries else gathered.position
            for partition, gathered in self._gathered.items()
        }

    @property
    def gathered(self) -> dict[int, int]:
        """Partition -> the offset after the last entry that was read; `close` archives what is not yet."""
        return {partition: gathered.position for partition, gathered in self._gathered.items()}

    async def run(self) -> None:
        """Follows the log until the task is cancelled. Raises: what the source raises.

        An archive that cannot be written is tried again for ever, with a warning: the log holds what is missing.
        """
        await asyncio.to_thread(self._begin)
        positions = {
            (topics.EVENTS, partition): one.position for partition, one in self._gathered.items() if one.position
        }
        due = asyncio.create_task(self._cut_in_time())
        try:
            async for records in self._source.read([topics.EVENTS], positions):
                for record in records:
                    await self._take(record)
        finally:
            due.cancel()
            with suppress(asyncio.CancelledError):
                await due

    async def close(self) -> None:
        """Writes what is gathered, at a clean end. Raises: ArchiveError."""
        for partition in list(self._gathered):
            async with self._writing:
                await self._write(partition)

    async def wait_for(self, position: dict[int, int]) -> None:
        """Waits until the archive holds everything before a position (partition -> offset)."""
        async with self._moved:
            await self._moved.wait_for(lambda: all(self.through.get(p, 0) >= at for p, at in position.items()))

    def _begin(self) -> None:
        partitions = range(self._source.partitions)
        dropped = self.archive.drop_unfinished(partitions)
        if dropped:
            _logger.info("removed %d unfinished files from the archive", dropped)
        held = self.archive.coverage()
        for partition in partitions:
            self._gathered[partition] = _Gathered(held[partition].end if partition in held else 0)

    async def _take(self, record: TopicRecord) -> None:
        gathered = self._gathered[record.partition]
        if record.end <= gathered.position:
            return  # the log gave the entry that holds the position: it has been archived
        if record.offset != gathered.position:
            await self._cut(record.partition)  # the log has let go of what is missing: the gap shows in the names
            gathered.position = record.offset
        entry = Entry(record.offset, record.end, record.value)
        if not gathered.entries:
            gathered.since = time.monotonic()
        gathered.entries.append(entry)
        gathered.size += len(record.value)
        gathered.events |= entry.kind == EVENTS
        gathered.position = record.end
        if len(gathered.entries) >= self.settings.entries_max or gathered.size >= self.settings.bytes_max:
            await self._cut(record.partition)

    async def _cut_in_time(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self.settings.seconds_max / 4))
            now = time.monotonic()
            for partition, gathered in self._gathered.items():
                # Ticks alone can wait ten times as long: a file for each would hold next to nothing.
                waits = self.settings.seconds_max * (1 if gathered.events else 10)
                if gathered.entries and now - gathered.since >= waits:
                    await self._cut(partition)

    async def _cut(self, partition: int) -> None:
        """Writes what a partition has gathered, however often it takes."""
        async with self._writing:
            while True:
                try:
                    return await self._write(partition)
                except ArchiveError as error:
                    _logger.warning("%s; trying again in %g seconds", error, _RETRY_SECONDS)
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _write(self, partition: int) -> None:
        gathered = self._gathered[partition]
        entries = list(gathered.entries)
        if not entries:
            return
        cut = Cut(partition, entries[0].offset, entries[-1].end)
        self.written_bytes += await asyncio.to_thread(self.archive.write, cut, entries)
        del gathered.entries[: len(entries)]
        gathered.size = sum(len(entry.value) for entry in gathered.entries)
        gathered.since = time.monotonic()
        gathered.events = any(entry.kind == EVENTS for entry in gathered.entries)
        async with self._moved:
            self._moved.notify_all()

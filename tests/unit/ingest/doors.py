"""What tests of the door share: events, a log in a list, and doors on it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from ingest.door import Door, DoorSettings
from ingest.route import View
from schemas.entry import EVENTS, Entry
from schemas.rejection import Rejection
from schemas.times import parse_time
from streams.log import LogUnavailable

NOW = parse_time("2026-11-21T10:00:00Z")
JSON = [(b"content-type", b"application/json")]
LINES = [(b"content-type", b"application/x-ndjson")]
GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "e1",
    "source": "gateway",
    "type": "llm.request",
    "subject": "acme",
    "time": "2026-11-21T09:59:00Z",
    "data": {"tokens": 5, "model": "large"},
}


def event(**changes: Any) -> dict[str, Any]:
    """A good event with changes; `...` takes a name out."""
    return {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}


def text(value: Any) -> bytes:
    """JSON, as short as it gets."""
    return msgspec.json.encode(value)


class ListLog:
    """A log and a rejection sink in lists. `down`: takes nothing. `gate`: appends wait for it."""

    def __init__(self, partitions: int = 4) -> None:
        self.partitions = partitions
        self.entries: list[tuple[int, bytes, int]] = []
        self.rejections: list[Rejection] = []
        self.ends = dict.fromkeys(range(partitions), 0)
        self.down = False
        self.gate: asyncio.Event | None = None

    async def append(self, partition: int, value: bytes, events: int) -> int:
        """See `streams.log.Sink`; offsets number events."""
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise LogUnavailable("the disk is full")
        self.entries.append((partition, value, events))
        self.ends[partition] += max(events, 1)
        return self.ends[partition]

    async def publish(self, rejections: Sequence[Rejection]) -> None:
        """See `ingest.door.RejectionSink`."""
        if self.down:
            raise LogUnavailable("the disk is full")
        self.rejections.extend(rejections)

    def packs(self) -> list[tuple[int, pa.RecordBatch]]:
        """Each pack with its partition."""
        found = []
        for partition, value, events in self.entries:
            entry = Entry(0, events, value)
            if entry.kind == EVENTS:
                batch = read_pack(value)
                assert batch.num_rows == events
                found.append((partition, batch))
        return found

    def ids(self) -> list[str]:
        """The ids of all events, in order."""
        return [id for _, pack in self.packs() for id in pack.column("id").to_pylist()]


def read_pack(value: bytes) -> pa.RecordBatch:
    """The record batch of an entry's value."""
    reader = pa.ipc.open_stream(value[2:])
    batch = reader.read_next_batch()
    batch.validate(full=True)
    assert list(reader) == []
    return batch


def make_door(log: ListLog, view: View | None = None, **settings: Any) -> Door:
    """A door on a list, whose clock stands at NOW."""
    chosen = view or View({"team-a": "acme", "Team B!": "acme"}, ["$.tokens", "$.model"])
    return Door(log, log, lambda _: chosen, DoorSettings(**settings), clock=lambda: NOW)

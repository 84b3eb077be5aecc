"""The processor that the host's tests run: counts and sums by key, without duplicates. And its offline twin.

Its outputs say in which step they were made, so that a replay with other cuts than the journalled ones would write
another content under the same id and revision: the tests find that.
"""

import json
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from zlib import crc32

import msgspec

from schemas import topics
from schemas.entry import EVENTS, TICK, Entry, encode_entry
from streams.kafka.source import SourceMessage
from streams.processor import Fetch, Output, PartitionProcessor, Step, Summary, no_files

Event = tuple[str, str, int]
"""id, key, amount"""


class State(msgspec.Struct):
    """Everything that the counting knows."""

    seen: set[str] = set()
    totals: dict[str, tuple[int, int]] = {}
    """key -> number of events, sum"""
    steps: int = 0
    ticks: int = 0


class Line(msgspec.Struct):
    """What the counting says of a key."""

    id: str
    revision: int
    total: int
    step: int


class CountingPartition:
    """One partition's counting."""

    def __init__(self, partition: int, state: State, step_s: float, version: int) -> None:
        self._partition = partition
        self._state = state
        self._step_s = step_s
        self._version = version

    def process(self, entries: Sequence[Entry]) -> Step:
        """Counts the entries' events; a line for each key that changed."""
        time.sleep(self._step_s)
        state = self._state
        state.steps += 1
        events = [event for entry in entries for event in decode(entry)]
        state.ticks += sum(entry.kind == TICK for entry in entries)
        changed: dict[str, None] = {}
        accepted = 0
        for id_, key, amount in events:
            if id_ in state.seen:
                continue
            state.seen.add(id_)
            accepted += 1
            count, total = state.totals.get(key, (0, 0))
            state.totals[key] = (count + 1, total + amount * self._version)
            changed[key] = None
        outputs = [self._line(key) for key in changed]
        summary = Summary(
            entries=len(entries),
            events=len(events),
            accepted=accepted,
            duplicates=len(events) - accepted,
            line_items=len(outputs),
            amount=str(sum(total for _, total in state.totals.values())),
        )
        return Step(outputs, summary)

    def _line(self, key: str) -> Output:
        count, total = self._state.totals[key]
        line = Line(f"{self._partition}:{key}", count, total, self._state.steps)
        return Output(topics.LINE_ITEMS, line.id.encode(), msgspec.json.encode(line))

    def snapshot(self) -> bytes:
        """The state as MessagePack."""
        return msgspec.msgpack.encode(self._state)

    def files(self) -> Mapping[str, Path]:
        return {}


class CountingProcessor:
    """`step_s`: how long a step takes at least. `version`: another one counts otherwise, as a changed program would."""

    name = "counting"

    def __init__(self, step_s: float = 0.0, version: int = 1) -> None:
        self._step_s = step_s
        self._version = version

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch = no_files) -> PartitionProcessor:
        """See `streams.processor.Processor`."""
        state = State() if snapshot is None else msgspec.msgpack.decode(snapshot, type=State)
        return CountingPartition(partition, state, self._step_s, self._version)


class ForwardingPartition:
    """Turns single events (`id key amount`) into entries of the partition that their key belongs to."""

    def __init__(self, partitions: int, count: int) -> None:
        self._partitions = partitions
        self._count = count

    def process(self, entries: Sequence[Entry]) -> Step:
        """An entry for each partition that has events in this step."""
        self._count += len(entries)
        packs: dict[int, list[Event]] = {}
        for entry in entries:
            _, id_, key, amount = entry.value.decode().split()
            packs.setdefault(crc32(key.encode()) % self._partitions, []).append((id_, key, int(amount)))
        outputs = [Output(topics.EVENTS, b"%d" % target, encode(events)) for target, events in packs.items()]
        return Step(outputs, Summary(entries=len(entries), events=self._count))

    def snapshot(self) -> bytes:
        """How many there were."""
        return b"%d" % self._count

    def files(self) -> Mapping[str, Path]:
        return {}


class ForwardingProcessor:
    """See `ForwardingPartition`."""

    name = "forwarding"

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch = no_files) -> PartitionProcessor:
        """See `streams.processor.Processor`."""
        return ForwardingPartition(self._partitions, int(snapshot or 0))


def stamped(message: SourceMessage) -> bytes:
    """An entry's value that says when the message came."""
    return b"%d " % message.timestamp_ms + message.value


def decode(entry: Entry) -> list[Event]:
    """The events of an entry; none for a tick."""
    return msgspec.json.decode(entry.payload, type=list[Event]) if entry.kind == EVENTS else []


def encode(events: Sequence[Event]) -> bytes:
    """An entry's value."""
    return encode_entry(EVENTS, json.dumps(events).encode())


def some_entries(seed: int, count: int, events: int = 5) -> list[bytes]:
    """Entries with about a tenth of their events sent again later."""
    choice = random.Random(seed)
    sent: list[Event] = []
    entries = []
    for number in range(count):
        pack: list[Event] = []
        for index in range(events):
            if sent and choice.random() < 0.1:
                pack.append(choice.choice(sent))
            else:
                pack.append((f"{seed}-{number}-{index}", f"key-{choice.randrange(12)}", choice.randrange(1000)))
        sent += pack
        entries.append(encode(pack))
    return entries


def offline(values: Iterable[bytes]) -> dict[str, tuple[int, int]]:
    """What one pass over a partition's entries comes to: key -> number of events, sum."""
    seen: set[str] = set()
    totals: dict[str, tuple[int, int]] = {}
    for value in values:
        for id_, key, amount in decode(Entry(0, 1, value)):
            if id_ not in seen:
                seen.add(id_)
                count, total = totals.get(key, (0, 0))
                totals[key] = (count + 1, total + amount)
    return totals

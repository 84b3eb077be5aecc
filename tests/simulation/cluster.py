"""The simulated log: topics in memory, a producer and a reader with the interfaces of `streams.kafka`.

The producer does what an idempotent one with `acks=all` may do. Records of one producer and partition stand in the
order in which they were given, each at most once. One that is not acknowledged in time has failed for the caller, and
may have been written all the same, or be written later. What a killed process had handed to the network may still
arrive; what a standing one still holds waits, and expires.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from schemas import topics
from streams.journal import Batch, Done, Open, decode_record
from streams.kafka.producer import Message
from streams.kafka.settings import KafkaSettings
from streams.kafka.source import SourceMessage
from streams.kafka.wire import Messages, ends_of, singles
from streams.log import LogUnavailable
from tests.simulation.loop import PROCESS, Process
from tests.simulation.world import World

Key = tuple[str, int]


class Stored(NamedTuple):
    """A record in the log, and which process wrote it."""

    key: bytes
    value: bytes
    writer: str


class Cluster:
    """All topics. It is never wrong and never forgets: faults are on the way to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.logs: defaultdict[Key, list[Stored]] = defaultdict(list)
        self.owners: dict[int, tuple[int, str]] = {}
        """By partition, the newest epoch in the journal, and which process wrote it."""
        self.fenced: set[tuple[str, int]] = set()
        """Which process has written into which partition's journal after its epoch was over."""
        self.problems: list[str] = []
        """What was seen to be sent in the wrong order."""
        self.on_entry: list[Callable[[], object]] = []
        """Called when something was written to the source."""

    def append(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]], writer: str) -> int:
        """Returns the offset of the first."""
        log = self.logs[topic, partition]
        first = len(log)
        log.extend(Stored(key, value, writer) for key, value in records)
        if topic == topics.JOURNAL:
            self._journalled(partition, first, records, writer)
        elif topic == topics.EVENTS:
            self.world.say(f"{writer} has written entry {first} of partition {partition}")
            for callback in self.on_entry:
                callback()
        else:
            self.world.say(f"{writer} has written {len(records)} to {topic.partition('.')[2]}/{partition}")
            owner = self.owners.get(partition)
            if owner is not None and owner[1] != writer and topic in (topics.LINE_ITEMS, topics.INVOICES):
                self.world.happened["outputs of a zombie"] += 1
        return first

    def _journalled(self, partition: int, first: int, records: Sequence[tuple[bytes, bytes]], writer: str) -> None:
        for offset, (_, value) in enumerate(records, first):
            record = decode_record(value)
            epoch, _ = self.owners.get(partition, (0, ""))
            said = {Open: "Open", Batch: "Batch", Done: "Done"}[type(record)]
            if isinstance(record, Batch):
                said += f" [{record.start}, {record.end})"
            late = ""
            if isinstance(record, Open) and record.epoch > epoch:
                self.owners[partition] = record.epoch, writer
            elif record.epoch < epoch:
                late = ", too late"
                self.world.happened["records of a zombie"] += 1
                self.fenced.add((writer, partition))
            self.world.say(f"{writer} has written journal/{partition} {offset}: {said}, epoch {record.epoch}{late}")


@dataclass
class _Lane:
    """What one producer has on the way to one partition, in order."""

    free_at: float = 0.0
    closed: bool = False
    """Something was not written: nothing after it is."""
    late: bool = False
    """Something comes late: nothing that was given after it is written."""


@dataclass
class _Call:
    """What one call of `produce_many` waits for."""

    future: Any
    offsets: list[int]
    missing: int
    error: str = ""
    places: dict[Key, list[int]] = field(default_factory=dict)

    def settle(self) -> None:
        self.missing -= 1
        if self.missing == 0 and not self.future.done():
            if self.error:
                self.future.set_exception(LogUnavailable(self.error))
            else:
                self.future.set_result(self.offsets)


class SimulatedProducer:
    """`streams.kafka.producer.KafkaProducer` of one process. `whose` says it to the faults: worker or door."""

    def __init__(self, cluster: Cluster, process: Process, timeout_s: float, whose: str = "worker") -> None:
        self._cluster, self._world, self._process = cluster, cluster.world, process
        self._timeout_s, self._whose = timeout_s, whose
        self._lanes: defaultdict[Key, _Lane] = defaultdict(_Lane)
        self._dice = random.Random(f"{self._world.story.seed} {process.name} producer")
        self._journalled: dict[int, str] = {}
        """By partition, the record of the journal that was acknowledged last: `Open`, `Batch` or `Done`."""

    async def produce(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        """See `KafkaProducer.produce`."""
        return (await self.produce_many([Message(topic, partition, key, value)]))[0]

    async def produce_many(self, given: Messages) -> list[int]:
        """See `KafkaProducer.produce_many`."""
        await self._process.awake()
        if not given:
            return []
        messages = singles(given)
        self._watch(messages)
        call = _Call(self._process.loop.create_future(), [-1] * len(messages), 0)
        for at, message in enumerate(messages):
            call.places.setdefault((message.topic, message.partition), []).append(at)
        parts = [(lane, part) for lane, places in call.places.items() for part in self._cut(places)]
        call.missing = len(parts)
        for lane, part in parts:
            self._send(call, lane, part, [(messages[at].key or b"", messages[at].value) for at in part])
        offsets = list(await call.future)
        for message in messages:
            if message.topic == topics.JOURNAL:
                self._journalled[message.partition] = type(decode_record(message.value)).__name__
        return [offsets[end - 1] for end in ends_of(given)]

    def _watch(self, messages: Sequence[Message]) -> None:
        """What is sent here was journalled before, by an owner, and is not yet said to be done.

        Replays say the same again, so that most of what is sent too early or too late does no harm to a bill; it must
        not be sent all the same."""
        if self._whose == "door":
            return
        for topic, partition in dict.fromkeys((message.topic, message.partition) for message in messages):
            if topic == topics.JOURNAL:
                continue
            last = self._journalled.get(partition, "nothing")
            if (self._process.name, partition) in self._cluster.fenced:
                last = "a record of an epoch that was over"
            if last not in ("Open", "Batch"):
                text = f"{self._process.name} sends outputs to {topic}/{partition} after it has journalled {last}"
                self._world.say(text)
                self._cluster.problems.append(f"{text}, expected Batch or Open")

    def _cut(self, places: list[int]) -> list[list[int]]:
        """Records of one partition may travel in two requests."""
        if len(places) < 2 or self._dice.random() < 0.7:
            return [places]
        half = self._dice.randrange(1, len(places))
        return [places[:half], places[half:]]

    def _send(self, call: _Call, lane: Key, places: list[int], records: list[tuple[bytes, bytes]]) -> None:
        world, process, loop = self._world, self._process, self._process.loop
        what = "door" if self._whose == "door" else "journal" if lane[0] == topics.JOURNAL else "outputs"
        fault = next((f for kind in _SEND_FAULTS if (f := world.due(kind, what))), None)
        kind = fault.kind if fault else ""
        if fault:
            world.say(f"{process.name}: {kind.replace('_', ' ')} of {len(records)} to {lane[0]}/{lane[1]}")
        now = loop.time()
        deadline = now + self._timeout_s
        state = self._lanes[lane]
        takes = self._dice.uniform(0.001, 0.005)
        if fault and kind == "slow_send":
            takes += min(fault.seconds, self._timeout_s * 0.9)
        arrives = max(state.free_at, now + takes)
        if fault and kind == "late_write":
            arrives = deadline + fault.seconds
        else:
            state.free_at = arrives
        sent = kind == "late_write" or self._dice.random() < 0.5
        """Whether it is on the network already, whatever becomes of the process."""

        behind_late = state.late
        state.late = state.late or kind == "late_write"

        failed: list[str] = []

        def fail(reason: str) -> None:
            if failed:
                return
            failed.append(reason)
            if self._lanes[lane] is state:
                del self._lanes[lane]  # the producer is renewed
            call.error = f"{lane[0]} partition {lane[1]}: {reason}"
            call.settle()

        def fail_at(when: float, reason: str) -> None:
            loop.call_at(when, fail, reason, context=process.context)

        def arrive() -> None:
            if state.closed or behind_late or kind == "failed_send" or (process.dead and not sent):
                state.closed = True
                fail_at(deadline, "timed out")
            elif process.still_until > loop.time() and not sent:
                if process.still_until < deadline:
                    state.free_at = max(state.free_at, process.still_until)
                    loop.call_in_world(process.still_until, arrive)
                else:
                    state.closed = True
                    fail_at(process.still_until, "expired")
            else:
                first = self._cluster.append(*lane, records, process.name)
                for index, at in enumerate(places):
                    call.offsets[at] = first + index
                if not kind or kind == "slow_send":
                    back = loop.time() + self._dice.uniform(0.001, 0.005)
                    loop.call_at(back, call.settle, context=process.context)

        loop.call_in_world(arrives, arrive)
        if kind in ("lost_ack", "late_write"):
            fail_at(deadline, "timed out")

    async def close(self) -> None:
        """See `KafkaProducer.close`."""
        await self._process.awake()


_SEND_FAULTS = ("lost_ack", "failed_send", "late_write", "slow_send")


class SimulatedReader:
    """`streams.kafka.source.LogReader` over the simulated log."""

    def __init__(self, cluster: Cluster, partition: int) -> None:
        self._cluster, self._world, self._partition = cluster, cluster.world, partition
        self._process = PROCESS.get()

    async def _travel(self) -> None:
        process = PROCESS.get()
        assert process is not None
        await process.awake()
        await asyncio.sleep(self._world.dice.uniform(0.001, 0.01))

    async def __aenter__(self) -> "SimulatedReader":
        await self._travel()
        if self._world.due("failed_read"):
            self._world.say("the log cannot be reached for reading")
            raise LogUnavailable("no broker can be reached")
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def bounds(self, topic: str) -> tuple[int, int]:
        """See `LogReader.bounds`."""
        await self._travel()
        return 0, len(self._cluster.logs[topic, self._partition])

    async def read(self, topic: str, start: int, end: int) -> AsyncIterator[list[SourceMessage]]:
        """See `LogReader.read`."""
        log = self._cluster.logs[topic, self._partition]
        while start < end:
            await self._travel()
            if self._world.due("failed_read"):
                self._world.say("the log cannot be read")
                raise LogUnavailable("the connection was lost")
            until = min(end, start + self._world.dice.choice((1, 2, 3, 8)), len(log))
            if until > start:
                yield [SourceMessage(offset, 0, log[offset].key, log[offset].value) for offset in range(start, until)]
                start = until


class SimulatedSink:
    """`streams.kafka.sink.KafkaSink`: the source's open end, as the door sees it."""

    def __init__(self, producer: SimulatedProducer, settings: KafkaSettings) -> None:
        self.partitions = settings.partitions
        self._producer = producer

    async def append(self, partition: int, value: bytes, events: int) -> int:
        """See `streams.log.Sink.append`."""
        return await self._producer.produce(topics.EVENTS, partition, None, value) + 1

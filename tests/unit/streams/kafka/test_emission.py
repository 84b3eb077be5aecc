"""Emitting what takes long: a worker that has lost its partition on the way finds it out before it goes on.

The log is a list of records here, and the clock moves on only where a test says so.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas import topics
from streams.journal import Open, decode_record, encode_record
from streams.kafka import partition as module
from streams.kafka.binding import Binding
from streams.kafka.ownership import StepLimits, Surroundings
from streams.kafka.partition import Fenced, Partition
from streams.kafka.settings import KafkaSettings
from streams.kafka.source import SourceMessage
from streams.kafka.wire import Messages, ends_of, singles
from streams.processor import Outputs, Step, Summary
from streams.snapshots import SnapshotStore
from tests.unit.streams.blocks import block

SETTINGS = KafkaSettings("nowhere:9092", session_timeout_s=6.0, message_bytes_max=64 * 1024)
LINES = 400
LINE_BYTES = 500


class Log:
    """Every topic's partition 0, its producer and its reader. `on_lines` is called when line items were handed over."""

    def __init__(self) -> None:
        self.records: defaultdict[str, list[bytes]] = defaultdict(list)
        self.on_lines: Any = lambda: None

    async def produce(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        self.records[topic].append(value)
        return len(self.records[topic]) - 1

    async def produce_many(self, messages: Messages) -> list[int]:
        lines = self.records[topics.LINE_ITEMS]
        begin = len(lines)
        lines += [record.value for record in singles(messages)]
        self.on_lines()
        return [begin + end - 1 for end in ends_of(messages)]

    async def __aenter__(self) -> "Log":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def bounds(self, topic: str) -> tuple[int, int]:
        return 0, len(self.records[topic])

    async def read(self, topic: str, start: int, end: int) -> AsyncIterator[list[SourceMessage]]:
        if start < end:
            yield [SourceMessage(offset, 0, b"", self.records[topic][offset]) for offset in range(start, end)]


class Processor:
    """Writes many lines in each step, whatever comes."""

    name = "lines"

    def open(self, *_: object) -> "Processor":
        return self

    def process(self, entries: Sequence[object]) -> Step:
        lines = [(b"key", b"%d" % number * (LINE_BYTES // 3)) for number in range(100, 100 + LINES)]
        return Step(Outputs([block(topics.LINE_ITEMS, lines)]), Summary(entries=len(entries)))

    def files(self) -> dict[str, Any]:
        return {}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0, time_ns=lambda: 0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def owner(log: Log, tmp_path: Path, clock: SimpleNamespace) -> AsyncIterator[Partition]:
    with ThreadPoolExecutor(1) as executor:
        shared: Any = (
            SETTINGS,
            log,
            log,
            executor,
            SnapshotStore(tmp_path / "snapshots"),
            "first",
            StepLimits(),
            lambda *_: log,
        )
        partition = Partition(Binding(Processor()), 0, Surroundings(*shared))  # type: ignore[arg-type]
        assert await partition.own(lambda: True)
        yield partition


MESSAGE = SourceMessage(0, 0, b"", b"anything")


async def test_a_step_is_emitted_whole_and_in_order(log: Log, owner: Partition) -> None:
    assert await owner.work([MESSAGE])
    assert log.records[topics.LINE_ITEMS] == [output.value for output in Processor().process([]).outputs]
    done = decode_record(log.records[topics.JOURNAL][-1])
    assert done.emitted == {topics.LINE_ITEMS: LINES}  # type: ignore[union-attr]


async def test_an_owner_that_is_replaced_while_it_emits_slowly_stops(
    log: Log, owner: Partition, clock: SimpleNamespace
) -> None:

    def slowly() -> None:
        if not any(b"second" in record for record in log.records[topics.JOURNAL]):
            log.records[topics.JOURNAL].append(encode_record(Open(2, "second")))
        clock.now += SETTINGS.session_timeout_s / 5

    log.on_lines = slowly
    with pytest.raises(Fenced, match="epoch 1 of this worker ended"):
        await owner.work([MESSAGE])
    took = clock.now - 1000.0
    assert took < SETTINGS.session_timeout_s
    assert 0 < len(log.records[topics.LINE_ITEMS]) < LINES


async def test_an_owner_that_emits_slowly_and_is_not_replaced_goes_on(
    log: Log, owner: Partition, clock: SimpleNamespace
) -> None:

    def slowly() -> None:
        clock.now += SETTINGS.session_timeout_s

    log.on_lines = slowly
    assert await owner.work([MESSAGE])
    assert len(log.records[topics.LINE_ITEMS]) == LINES

"""A damaged record of the journal on Kafka, where it cannot be written again: named, mended, never read again."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import msgspec
import pytest

from schemas import topics
from streams.journal import Open, RecordDamaged, encode_record
from streams.kafka.binding import Binding
from streams.kafka.mender import repair_partition
from streams.kafka.ownership import StepLimits, Surroundings
from streams.kafka.partition import Partition
from streams.kafka.producer import KafkaProducer, Message
from streams.kafka.source import LogReader, SourceMessage
from streams.repairing import Repair
from streams.snapshots import SnapshotStore
from tests.face.running import taximeter
from tests.kafka.counting import CountingProcessor, Line, offline, some_entries
from tests.kafka.deployment import Deployment

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


class Spoiling(KafkaProducer):
    """Writes some records of the journal with a bit changed. `spoiled`: their numbers."""

    spoiled: frozenset[int] = frozenset()
    written = 0

    async def produce(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        if topic == topics.JOURNAL:
            if self.written in self.spoiled:
                value = value[:-1] + bytes((value[-1] ^ 4,))
            self.written += 1
        return await super().produce(topic, partition, key, value)


@asynccontextmanager
async def surroundings(deployment: Deployment, spoiled: frozenset[int]) -> AsyncIterator[Surroundings]:
    producer = Spoiling(deployment.settings)
    producer.spoiled = spoiled
    with ThreadPoolExecutor(1) as executor:
        store = SnapshotStore(deployment.folder / "snapshots")
        yield Surroundings(deployment.settings, producer, producer, executor, store, "", StepLimits(entries=3))
    await producer.close()


def worker(shared: Surroundings, name: str) -> Partition:
    names = ("settings", "producer", "journal", "executor", "snapshots", "limits")
    parts = {field: getattr(shared, field) for field in names}
    return Partition(Binding(CountingProcessor()), 0, Surroundings(writer=name, **parts))


async def messages(deployment: Deployment, start: int, end: int) -> list[SourceMessage]:
    async with LogReader(deployment.settings, 0) as reader:
        return [m async for found in reader.read(topics.EVENTS, start, end) for m in found]


async def repaired(deployment: Deployment, shared: Surroundings, dry_run: bool = False) -> Repair:
    repair = Repair(dry_run)
    producer = KafkaProducer(deployment.settings)
    await repair_partition(
        deployment.settings, producer, Binding(CountingProcessor()), shared.snapshots, 0, lambda *_: [], repair
    )
    await producer.close()
    return repair


# The first worker writes: 0 Open, then 1 Batch, 2 Done, 3 Batch, 4 Done, … for ten messages in steps of three. It reads
# its own Open back, and would stop at a damaged one by itself.
@pytest.mark.parametrize("lost", [{3}, {4}, {3, 4}, {4, 5}, {1, 6}])
async def test_what_is_lost_is_made_again_by_the_same_steps(deployment: Deployment, lost: set[int]) -> None:
    async with surroundings(deployment, frozenset(lost)) as shared:
        values = some_entries(1, 30)
        await shared.producer.produce_many([Message(topics.EVENTS, 0, None, value) for value in values])
        first = worker(shared, "first")
        assert await first.own(lambda: True)
        assert await first.work(await messages(deployment, 0, 10))
        with pytest.raises(
            RecordDamaged, match=rf"taximeter\.journal/0, offset {min(lost)}: found the checksum"
        ) as why:
            await worker(shared, "second").own(lambda: True)
        assert f"`taximeter repair --bootstrap {deployment.settings.bootstrap} --snapshots" in str(why.value)
        assert (await repaired(deployment, shared, dry_run=True)).whole
        with pytest.raises(RecordDamaged):
            await worker(shared, "third").own(lambda: True)
        assert [finding.mended for finding in (await repaired(deployment, shared)).findings] == [True]
        assert all(finding.mended is None for finding in (await repaired(deployment, shared)).findings)
        fourth = worker(shared, "fourth")
        assert await fourth.own(lambda: True)
        assert fourth.position == 10
        assert await fourth.work(await messages(deployment, 10, 30))
        assert fourth._state.processor._state.totals == offline(values)  # type: ignore[attr-defined]
    one_content_each(deployment)


async def test_a_lost_end_is_worked_in_again_under_an_epoch_of_its_own(deployment: Deployment) -> None:
    """The batch that the lost record spoke of was emitted: its source is worked in again. (What this processor says of
    it names the step, so only the totals are compared; for the rating engine see tests/repair.)"""
    async with surroundings(deployment, frozenset({7, 8})) as shared:
        values = some_entries(2, 12)
        await shared.producer.produce_many([Message(topics.EVENTS, 0, None, value) for value in values])
        first = worker(shared, "first")
        assert await first.own(lambda: True)
        assert await first.work(await messages(deployment, 0, 10))
        repair = await repaired(deployment, shared)
        assert "lost end" in repair.findings[0].done
        second = worker(shared, "second")
        assert await second.own(lambda: True)
        assert second.position == 9
        assert second.state.epoch > 3
        assert await second.work(await messages(deployment, 9, 12))
        assert second._state.processor._state.totals == offline(values)  # type: ignore[attr-defined]


def one_content_each(deployment: Deployment) -> None:
    seen: dict[tuple[str, int], bytes] = {}
    for value in deployment.read(topics.LINE_ITEMS)[0]:
        line = msgspec.json.decode(value, type=Line)
        assert seen.setdefault((line.id, line.revision), value) == value


def test_the_command_looks_at_every_journal(deployment: Deployment) -> None:
    """A record of the feed's journal is damaged as well as one of the engine's: both are at their journal's end."""
    asyncio.run(_spoil(deployment))
    words = ["--bootstrap", deployment.settings.bootstrap, "--prefix", deployment.settings.prefix, "--partitions", "2"]
    command = ["repair", *words, "--snapshots", deployment.folder / "snapshots"]
    found = taximeter(*command)
    assert found.returncode == 0, found.stdout + found.stderr
    for journal in (topics.JOURNAL, topics.JOURNAL_JSON):
        assert f"{journal}/1, offset 1: found the checksum" in found.stdout
    assert "All that was damaged is mended" in found.stdout
    again = taximeter(*command)
    assert again.returncode == 0
    assert "not mended" not in again.stdout


async def _spoil(deployment: Deployment) -> None:
    producer = KafkaProducer(deployment.settings)
    for journal in (topics.JOURNAL, topics.JOURNAL_JSON):
        await producer.produce(journal, 1, b"1", encode_record(Open(1, "a")))
        value = encode_record(Open(2, "b"))
        await producer.produce(journal, 1, b"1", value[:-1] + bytes((value[-1] ^ 1,)))
    await producer.close()

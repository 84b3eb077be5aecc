"""One partition between two workers, in one process: take-overs that are broken off at every point."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from itertools import count

import pytest

from schemas import topics
from streams.kafka.binding import Binding
from streams.kafka.ownership import StepLimits, Surroundings
from streams.kafka.partition import Fenced, Partition
from streams.kafka.producer import KafkaProducer, Message
from streams.kafka.source import LogReader, SourceMessage
from streams.snapshots import SnapshotStore
from tests.kafka.counting import CountingProcessor, offline, some_entries
from tests.kafka.deployment import Deployment

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]


@asynccontextmanager
async def surroundings(deployment: Deployment) -> AsyncIterator[Surroundings]:
    producer = KafkaProducer(deployment.settings)
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


async def fill(shared: Surroundings) -> list[bytes]:
    values = some_entries(1, 30)
    await shared.producer.produce_many([Message(topics.EVENTS, 0, None, value) for value in values])
    return values


def totals(partition: Partition) -> dict[str, tuple[int, int]]:
    return partition._state.processor._state.totals  # type: ignore[attr-defined,no-any-return]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("asked", [0, 1, 2, 4, 6])
async def test_a_take_over_that_is_broken_off_leaves_nothing_behind(
    deployment: Deployment, asked: int, kept: bool
) -> None:
    """The first worker has a state from before (`kept`) or none; it is told at the `asked`th time that it lost."""
    async with surroundings(deployment) as shared:
        values = await fill(shared)
        first, second = worker(shared, "first"), worker(shared, "second")
        if kept:
            assert await first.own(lambda: True)
            assert await first.work(await messages(deployment, 0, 10))
            await first.release()
        assert await second.own(lambda: True)
        assert await second.work(await messages(deployment, second.position, 20))

        times = count()
        owned = await first.own(lambda: next(times) < asked)
        assert first.owned == owned
        assert await first.own(lambda: True)
        assert first.position == 20
        assert await first.work(await messages(deployment, 20, 30))
        assert totals(first) == offline(values)


async def test_an_owner_that_lost_its_epoch_is_fenced_before_it_emits(deployment: Deployment) -> None:
    async with surroundings(deployment) as shared:
        await fill(shared)
        first, second = worker(shared, "first"), worker(shared, "second")
        assert await first.own(lambda: True)
        assert await second.own(lambda: True)
        with pytest.raises(Fenced, match="epoch 1 of this worker ended"):
            await first.work(await messages(deployment, 0, 5))
        assert deployment.ends(topics.LINE_ITEMS)[0] == 0
        assert await second.work(await messages(deployment, 0, 5))
        assert deployment.ends(topics.LINE_ITEMS)[0] > 0


async def test_a_late_record_of_a_stopped_owner_does_not_stop_the_rightful_one(deployment: Deployment) -> None:
    async with surroundings(deployment) as shared:
        values = await fill(shared)
        first, second = worker(shared, "first"), worker(shared, "second")
        assert await first.own(lambda: True)
        assert await second.own(lambda: True)
        assert await second.work(await messages(deployment, 0, 5))
        with pytest.raises(Fenced):
            await first.work(await messages(deployment, 0, 5))
        assert await second.work(await messages(deployment, 5, 30))
        assert totals(second) == offline(values)
        third = worker(shared, "third")
        assert await third.own(lambda: True)
        assert totals(third) == offline(values)


async def test_a_worker_that_is_not_wanted_does_not_disturb_the_owner(deployment: Deployment) -> None:
    async with surroundings(deployment) as shared:
        await fill(shared)
        first, second = worker(shared, "first"), worker(shared, "second")
        assert await first.own(lambda: True)
        assert not await second.own(lambda: False)
        assert await first.work(await messages(deployment, 0, 5))

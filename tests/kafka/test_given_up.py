"""What a worker gives up to others it does not hold in memory."""

import asyncio
import gc
import weakref
from pathlib import Path

import pytest

from streams.kafka.binding import Binding
from streams.kafka.host import Worker
from streams.processor import Fetch, PartitionProcessor, no_files
from streams.snapshots import SnapshotStore
from tests.kafka.counting import CountingPartition, CountingProcessor
from tests.kafka.deployment import Deployment

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(120)]


class Holding(CountingPartition):
    """Holds itself, as a large state does somewhere: only the collector finds it."""

    itself: "Holding"


class HoldingProcessor(CountingProcessor):
    """Knows which of its partitions are in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: weakref.WeakSet[Holding] = weakref.WeakSet()

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch = no_files) -> PartitionProcessor:
        opened = super().open(partition, snapshot, fetch)
        assert isinstance(opened, CountingPartition)
        opened.__class__ = Holding
        assert isinstance(opened, Holding)
        opened.itself = opened
        self.alive.add(opened)
        return opened


async def test_a_partition_that_went_to_another_worker_leaves_memory(deployment: Deployment, tmp_path: Path) -> None:
    await asyncio.to_thread(deployment.append, 20)
    processor = HoldingProcessor()
    worker = Worker(deployment.settings, [Binding(processor)], SnapshotStore(tmp_path / "snapshots"))
    running = asyncio.create_task(worker.run())
    gc.disable()
    try:
        while sum(one.owned for one in worker.state.partitions.values()) < 2:
            await asyncio.sleep(0.05)
        assert len(processor.alive) == 2
        deployment.start()
        while len(worker.state.partitions) > 1:
            await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            while len(processor.alive) > 1:
                await asyncio.sleep(0.05)
    finally:
        gc.enable()
        worker.stop()
        await running

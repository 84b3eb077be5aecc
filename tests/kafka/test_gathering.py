"""Where much comes, the broker is asked to gather it; where little comes, it is fetched at once."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from streams.kafka.binding import Binding
from streams.kafka.consumer import OwnedConsumer
from streams.kafka.host import HostSettings, Worker
from streams.kafka.ownership import StepLimits
from streams.kafka.sink import KafkaSink
from streams.snapshots import SnapshotStore
from tests.kafka.counting import CountingProcessor, some_entries
from tests.kafka.deployment import Deployment

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


@pytest.mark.parametrize("pause_s", [0.025, 0.0])
async def test_fetches_wait_for_more_only_while_much_comes(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pause_s: float
) -> None:
    asked: list[tuple[bool, int, int]] = []
    let_gather = OwnedConsumer._let_gather

    def spy(self: OwnedConsumer, found_bytes: int) -> None:
        let_gather(self, found_bytes)
        fetcher: Any = self._thread._consumer._fetcher  # what aiokafka itself reads when it asks
        asked.append((found_bytes >= 16 * 1024, fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms))

    monkeypatch.setattr(OwnedConsumer, "_let_gather", spy)
    await asyncio.to_thread(deployment.append, 1500)
    host = HostSettings(limits=StepLimits(entries=4000, pause_s=pause_s))
    worker = Worker(deployment.settings, [Binding(CountingProcessor())], SnapshotStore(tmp_path / "snapshots"), host)
    running = asyncio.create_task(worker.run())
    try:
        while not asked or not all(state.position == 1500 for state in worker.state.partitions.values()):
            await asyncio.sleep(0.02)
        sink = KafkaSink(deployment.settings)
        await sink.append(0, some_entries(99, 1)[0], 5)
        await sink.close()
        while max(state.position for state in worker.state.partitions.values()) == 1500:
            await asyncio.sleep(0.02)
    finally:
        worker.stop()
        await running
    much, little = (1, 1500) if not pause_s else (256 * 1024, 25), (1, 1500)
    assert [tuple(asks) for was_much, *asks in asked] == [much if was_much else little for was_much, *_ in asked]
    assert {was_much for was_much, *_ in asked} == {True, False}
    await asyncio.to_thread(deployment.check_exact)
    assert deployment.ends(topics.EVENTS) == [1501, 1500]

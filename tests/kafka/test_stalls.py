"""Real stalls of a worker on Kafka: what hangs ends the process and shows where; what takes long does not."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streams.kafka.host import EXIT_FAILED
from tests.kafka.deployment import Deployment

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

STALL_S = 6.0
"""Longer than it takes to get into a group again after a kill -9 (a session of 2 s), on a machine with other work."""


@pytest.mark.parametrize(
    ("hang", "said", "stack"),
    [
        ("process", "working, counting taximeter.events[", "in process"),
        ("open", "taking over, counting taximeter.events[", "in open"),
        ("snapshot", "the snapshot of ", "in save"),
    ],
)
def test_what_hangs_ends_the_worker_and_the_next_one_goes_on(
    deployment: Deployment, hang: str, said: str, stack: str
) -> None:
    deployment.append(30)
    worker = deployment.start(hang=hang, stall_s=STALL_S, snapshot_entries=5)
    assert worker.wait_exit() == EXIT_FAILED
    assert "stopping: " in worker.log and said in worker.log, worker.log[-3000:]
    assert "Thread 0x" in worker.log and stack in worker.log
    deployment.start(snapshot_entries=5)
    deployment.wait_done()
    deployment.check_exact()


def test_a_take_over_that_takes_longer_than_a_stall_but_moves_is_not_shot(deployment: Deployment) -> None:
    deployment.append(60)
    options = {"step_entries": 4, "snapshot_entries": 1000, "step_s": 0.5}
    first = deployment.start(**options)
    deployment.wait_done()
    first.process.kill()
    first.process.wait()
    again = deployment.start(stall_s=STALL_S, **options)
    deployment.wait(lambda: again.owns() == 2 or again.process.poll() is not None, "ownership")
    restored = max(item["restore_s"] for item in again.said[-1]["counters"].values())
    assert restored > STALL_S and again.process.poll() is None
    deployment.check_exact()


@pytest.mark.timeout(120)
def test_a_broker_that_stands_still_ends_an_idle_worker(new_broker: Callable[..., Any], tmp_path: Path) -> None:
    """It has no work, so nothing of it fails: it would believe for ever that it owns its partitions."""
    broker = new_broker()
    deployment = Deployment(broker.bootstrap, tmp_path)
    try:
        deployment.append(10)
        worker = deployment.start(stall_s=STALL_S)
        deployment.wait_done()
        broker._signal(signal.SIGSTOP)
        began = time.monotonic()
        try:
            assert worker.wait_exit(60) == EXIT_FAILED
        finally:
            broker._signal(signal.SIGCONT)
        assert "the consumer group has stood still" in worker.log, worker.log[-3000:]
        print(f"ended {time.monotonic() - began:.1f} s after the broker had stopped")
        deployment.start()
        deployment.append(10)
        deployment.wait_done(60)
        deployment.check_exact()
    finally:
        deployment.close()

"""What joins, leaves, falls asleep or dies stops nobody who is healthy, and work resumes within a bound.

The bounds are laws of liveness, not of speed: several times what was measured (streams/kafka/README.md).
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from schemas import topics
from streams.kafka.host import EXIT_FAILED
from tests.kafka.deployment import Deployment, WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

RESUMES_S = 30.0


@contextmanager
def load(deployment: Deployment, every_s: float = 0.2) -> Iterator[None]:
    """Events keep coming to every partition while the block runs."""
    done = threading.Event()

    def send() -> None:
        while not done.wait(every_s):
            deployment.append(3)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def resumes(deployment: Deployment, what: str) -> float:
    """Waits until every partition's journal moves on. Returns after how long."""
    began, before = time.monotonic(), deployment.ends(topics.JOURNAL)

    def moved() -> bool:
        return all(now > then for now, then in zip(deployment.ends(topics.JOURNAL), before, strict=True))

    deployment.wait(moved, f"every partition goes on after {what}", RESUMES_S)
    took = time.monotonic() - began
    print(f"{what}: every partition went on after {took:.1f} s")
    return took


def alive(*workers: WorkerProcess) -> bool:
    return all(worker.process.poll() is None for worker in workers)


def test_workers_that_join_and_leave_under_load_stop_no_other(kafka_bootstrap: str, tmp_path: Path) -> None:
    deployment = Deployment(kafka_bootstrap, tmp_path, partitions=3)
    try:
        first = deployment.start(step_s=0.01)
        deployment.wait(lambda: first.owns() == 3, "ownership")
        with load(deployment):
            others = [deployment.start(step_s=0.01), deployment.start(step_s=0.01)]
            deployment.wait(lambda: all(w.owns() == 1 for w in (first, *others)), "a partition for each", RESUMES_S)
            resumes(deployment, "two workers joined")
            others[0].process.send_signal(signal.SIGTERM)
            assert others[0].wait_exit() == 0
            resumes(deployment, "a worker left")
            others[1].process.kill()
            others[1].process.wait()
            deployment.wait(lambda: first.owns() == 3, "all partitions again", RESUMES_S)
            resumes(deployment, "a worker was killed")
        assert alive(first)
        deployment.wait_done()
        deployment.check_exact()
        counters = first.said[-1]["counters"].values()
        # Had anything been fetched of a partition before it was owned, it would have been dropped, and missed here.
        assert sum(item["gaps"] for item in counters) == 0
    finally:
        deployment.close()


def test_a_worker_that_wakes_up_after_a_take_over_stops_nobody_else(deployment: Deployment) -> None:
    sleeper = deployment.start(step_s=0.01)
    deployment.wait(lambda: sleeper.owns() == 2, "ownership")
    with load(deployment):
        resumes(deployment, "a worker started")
        sleeper.process.send_signal(signal.SIGSTOP)
        heir = deployment.start(step_s=0.01)
        deployment.wait(lambda: heir.owns() == 2, "take-over", RESUMES_S)
        resumes(deployment, "a take-over")
        sleeper.process.send_signal(signal.SIGCONT)
        resumes(deployment, "the sleeper woke up")
        assert alive(heir)
    status = sleeper.process.poll()
    assert status in (None, EXIT_FAILED), "it has stopped itself, or gone back into the group as one of two"
    deployment.wait_done()
    deployment.check_exact()
    assert alive(heir)


def test_nothing_is_fetched_of_a_partition_before_it_is_owned(deployment: Deployment) -> None:
    """Opening the state takes longer than a fetch: what was fetched meanwhile would be dropped, and missed."""
    deployment.append(60)
    worker = deployment.start(open_s=1.5, step_entries=4)
    deployment.wait(lambda: worker.owns() == 2, "ownership")
    deployment.wait_done()
    other = deployment.start(open_s=1.5, step_entries=4)
    deployment.append(40)
    deployment.wait(lambda: worker.owns() == other.owns() == 1, "a partition for each", RESUMES_S)
    deployment.append(20)
    deployment.wait_done()
    deployment.check_exact()
    assert "seeking back" not in worker.log + other.log


@pytest.mark.timeout(150)
def test_after_a_brokers_restart_work_resumes(new_broker: Callable[..., Any], tmp_path: Path) -> None:
    broker = new_broker()
    deployment = Deployment(broker.bootstrap, tmp_path)
    try:
        workers = [deployment.start(step_s=0.01), deployment.start(step_s=0.01)]
        deployment.wait(lambda: all(worker.owns() == 1 for worker in workers), "a partition for each")
        deployment.append(20)
        deployment.wait_done()
        broker.kill()
        time.sleep(0.5)
        broker.restart()
        began = time.monotonic()
        # An idle worker lives through it; one that was at work may have stopped itself, and is started again.
        workers = [worker if worker.process.poll() is None else deployment.start() for worker in workers]
        deployment.append(20)
        deployment.wait_done(2 * RESUMES_S)
        print(f"everything was worked in {time.monotonic() - began:.1f} s after the broker was back")
        deployment.check_exact()
    finally:
        deployment.close()


def test_a_killed_worker_with_a_name_of_its_own_is_back_before_its_session_is_over(deployment: Deployment) -> None:
    session_s = 10.0
    took = {}
    for name in (None, "worker-a"):
        options = {"session_s": session_s} | ({} if name is None else {"instance_id": name})
        deployment.append(20)
        first = deployment.start(**options)
        deployment.wait(lambda first=first: first.owns() == 2, "ownership", 3 * session_s)
        deployment.wait_done()
        first.process.kill()
        first.process.wait()
        began = time.monotonic()
        again = deployment.start(**options)
        deployment.wait(lambda again=again: again.owns() == 2, "ownership again", 3 * session_s)
        took[name] = time.monotonic() - began
        deployment.append(10)
        deployment.wait_done()
        deployment.check_exact()
        again.process.kill()
        again.process.wait()
        time.sleep(session_s + 1 if name is None else 0)
    print(f"back after a kill -9: {took[None]:.1f} s without a name, {took['worker-a']:.1f} s with one")
    assert took["worker-a"] < 0.6 * session_s < took[None]


def test_two_workers_of_one_name_do_not_both_count(deployment: Deployment) -> None:
    deployment.append(20)
    first = deployment.start(instance_id="same", step_s=0.01)
    deployment.wait(lambda: first.owns() == 2, "ownership")
    second = deployment.start(instance_id="same", step_s=0.01)
    deployment.wait(lambda: second.owns() == 2 or not alive(second), "the second takes the name over", RESUMES_S)
    deployment.append(30)
    deployment.wait_done()
    deployment.check_exact()
    # As a rule the later one stays. On a busy machine the earlier one may come back first and shut the later one out.
    left, gone = (second, first) if alive(second) else (first, second)
    assert gone.wait_exit() == EXIT_FAILED and alive(left)

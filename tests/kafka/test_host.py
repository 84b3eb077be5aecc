"""The Faust host on a real broker: kills, pauses and take-overs change no outcome."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import topics
from schemas.entry import Entry
from streams.faults_hook import EXIT_STATUS
from streams.journal import Batch, Open, decode_record
from streams.kafka.host import EXIT_FAILED
from tests.kafka.counting import decode, encode
from tests.kafka.deployment import Deployment, WorkerProcess

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(120)]

IN_A_STEP = [
    "after_open:1",
    "after_read:4",
    "after_process:4",
    "after_journal:4",
    "after_fence:4",
    "after_emit:4",
    "after_done:4",
    "in_snapshot:1",
    "after_snapshot:1",
    "after_step:3",
]


def test_a_plain_run_equals_the_offline_fold(deployment: Deployment) -> None:
    deployment.append(100)
    worker = deployment.start()
    deployment.wait_done()
    deployment.check_exact()
    worker.process.terminate()
    assert worker.wait_exit() == 0


def test_kills_at_random_times_under_load_change_nothing(deployment: Deployment) -> None:
    choice = random.Random(7)
    for _ in range(4):
        worker = deployment.start(step_s=0.02, step_entries=4)
        deployment.append(30)
        deployment.wait(lambda worker=worker: worker.owns() == 2, "ownership")
        time.sleep(choice.uniform(0.0, 0.5))
        worker.process.kill()
        worker.process.wait()
    deployment.start()
    deployment.wait_done()
    deployment.check_exact()
    assert all(journal.epoch >= 5 for journal in deployment.journals())


@pytest.mark.parametrize("fault", IN_A_STEP)
def test_a_crash_at_each_step_changes_nothing(deployment: Deployment, fault: str) -> None:
    deployment.append(60)
    options = {"step_entries": 6, "snapshot_entries": 20}
    assert deployment.start(fault, **options).wait_exit() == EXIT_STATUS
    deployment.start(**options)
    deployment.wait_done()
    deployment.check_exact()


@pytest.mark.parametrize("fault", ["in_restore:2", "after_restore:1"])
def test_a_crash_while_restoring_changes_nothing(deployment: Deployment, fault: str) -> None:
    deployment.append(60)
    options = {"step_entries": 6, "snapshot_entries": 1000}
    for ordered in ("after_journal:6", fault):
        assert deployment.start(ordered, **options).wait_exit() == EXIT_STATUS
    worker = deployment.start(**options)
    deployment.wait_done()
    deployment.check_exact()
    counters = worker.said[-1]["counters"].values()
    assert sum(item["replayed_steps"] for item in counters) > 0
    assert sum(item["emitted_again"] for item in counters) > 0


def test_another_worker_takes_over_when_one_is_killed(deployment: Deployment) -> None:
    deployment.append(40)
    first, second = deployment.start(step_s=0.02), deployment.start(step_s=0.02)
    deployment.wait(lambda: first.owns() == second.owns() == 1, "a partition for each worker")
    deployment.append(40)
    first.process.kill()
    deployment.wait(lambda: second.owns() == 2, "take-over")
    deployment.append(20)
    deployment.wait_done()
    deployment.check_exact()


def test_a_worker_that_joins_gets_its_share_and_nobody_stops(deployment: Deployment) -> None:
    deployment.append(60)
    first = deployment.start(step_s=0.02)
    deployment.wait(lambda: first.owns() == 2, "ownership")
    second = deployment.start(step_s=0.02)
    deployment.wait(lambda: first.owns() == second.owns() == 1, "a partition for each worker")
    second.process.terminate()
    assert second.wait_exit() == 0
    deployment.wait(lambda: first.owns() == 2, "both partitions again")
    deployment.append(20)
    deployment.wait_done()
    deployment.check_exact()
    assert first.process.poll() is None


@pytest.mark.parametrize("place", ["after_process", "after_journal", "after_fence"])
def test_a_worker_that_stood_still_stops_itself_before_it_emits(deployment: Deployment, place: str) -> None:
    deployment.append(60)
    zombie = deployment.start(f"{place}:5:stop", step_entries=4)
    deployment.wait(zombie.is_standing_still, "the worker to stand still")
    deployment.start(step_entries=4)
    deployment.wait_done()
    deployment.check_exact()
    emitted = deployment.ends(topics.LINE_ITEMS)

    zombie.process.send_signal(signal.SIGCONT)
    assert zombie.wait_exit() == EXIT_FAILED, zombie.log[-2000:]
    assert deployment.ends(topics.LINE_ITEMS) == emitted
    deployment.append(10)
    deployment.wait_done()
    deployment.check_exact()


def test_after_a_clean_stop_nothing_is_replayed(deployment: Deployment) -> None:
    deployment.append(50)
    worker = deployment.start()
    deployment.wait_done()
    worker.process.terminate()
    assert worker.wait_exit() == 0
    assert deployment.committed() == [50, 50]

    again = deployment.start()
    deployment.append(10)
    deployment.wait_done()
    assert [item["replayed_steps"] for item in again.said[-1]["counters"].values()] == [0, 0]
    assert [item["position"] for item in again.said[-1]["partitions"].values()] == [50, 50]
    deployment.check_exact()


def test_another_result_on_replay_stops_with_both(deployment: Deployment) -> None:
    deployment.append(30)
    crashed = deployment.start("after_done:6", step_entries=4, snapshot_entries=1000)
    assert crashed.wait_exit() == EXIT_STATUS
    changed = deployment.start(version=2)
    assert changed.wait_exit() == EXIT_FAILED
    assert "came to Summary(" in changed.log and "expected Summary(" in changed.log


def test_a_changed_program_goes_on_after_a_clean_stop(deployment: Deployment) -> None:
    deployment.append(20)
    worker = deployment.start()
    deployment.wait_done()
    worker.process.terminate()
    assert worker.wait_exit() == 0
    deployment.start(version=2)
    deployment.append(10)
    deployment.wait_done()


def test_the_owner_writes_ticks_into_its_partitions(deployment: Deployment) -> None:
    deployment.append(5)
    deployment.start(tick_s=0.2)
    deployment.wait(lambda: all(len(deployment.ticks(partition)) >= 2 for partition in (0, 1)), "ticks")
    deployment.check_exact()


def test_a_lost_message_is_fetched_again(deployment: Deployment) -> None:
    worker = deployment.start(lose=13, step_entries=4)
    deployment.append(60)
    deployment.wait_done()
    deployment.check_exact()
    assert worker.log.count("expected 13: seeking back") == 2


@pytest.mark.parametrize("fault", ["after_emit:4", "after_journal:5", "after_fence:6"])
def test_two_bindings_of_which_one_feeds_the_other(deployment: Deployment, fault: str) -> None:
    deployment.append_json(30)
    deployment.append(10)
    assert deployment.start(fault, forward=True, step_entries=4).wait_exit() == EXIT_STATUS
    deployment.start(forward=True, step_entries=4)
    deployment.wait_done()
    deployment.check_exact()
    values = [value for values in deployment.read(topics.EVENTS) for value in values]
    forwarded = {id_ for value in values for id_, _, _ in decode_value(value) if id_.startswith("j-")}
    assert len(forwarded) == 60


@pytest.mark.timeout(120)
def test_a_killed_broker_costs_time_and_nothing_else(new_broker: Callable[..., Any], tmp_path: Path) -> None:
    broker = new_broker()
    deployment = Deployment(broker.bootstrap, tmp_path)
    try:
        deployment.append(60)
        worker = deployment.start(step_s=0.02, step_entries=4)
        for _ in range(2):
            deployment.wait(lambda: sum(deployment.ends(topics.LINE_ITEMS)) > 0, "outputs")
            broker.kill()
            time.sleep(0.5)
            broker.restart()
            if worker.process.poll() is not None:  # it may stop itself: then its supervisor starts it
                worker = deployment.start(step_s=0.02, step_entries=4)
        deployment.append(20)
        deployment.wait_done(60)
        deployment.check_exact()
    finally:
        deployment.close()


def test_offsets_that_a_transaction_uses_up_are_no_gap(deployment: Deployment) -> None:
    producer = Producer(deployment.settings.confluent() | {"transactional.id": deployment.settings.prefix})
    producer.init_transactions()
    for number in range(3):
        producer.begin_transaction()
        for partition in (0, 1):
            value = encode([(f"{number}-{partition}", "key", 5)])
            producer.produce(deployment.settings.topic(topics.EVENTS), value, partition=partition)
        producer.commit_transaction()
    crashed = deployment.start("after_done:2", step_entries=1)
    assert crashed.wait_exit() == EXIT_STATUS
    deployment.start(step_entries=1)
    deployment.append(5)
    deployment.wait_done()
    deployment.check_exact()


def test_a_source_that_was_kept_for_too_short_a_time_is_said(deployment: Deployment) -> None:
    deployment.append(30)
    crashed = deployment.start("after_done:6", step_entries=4, snapshot_entries=1000)
    assert crashed.wait_exit() == EXIT_STATUS
    name = deployment.settings.topic(topics.EVENTS)
    admin = AdminClient(deployment.settings.confluent())
    for future in admin.delete_records([TopicPartition(name, partition, 3) for partition in (0, 1)]).values():
        future.result()
    worker = deployment.start()
    assert worker.wait_exit() == EXIT_FAILED
    assert "the restore needs the source from 0 to" in worker.log and "found 3 to 30" in worker.log


def test_a_first_start_on_a_source_that_has_lost_its_beginning(deployment: Deployment) -> None:
    deployment.append(20)
    name = deployment.settings.topic(topics.EVENTS)
    admin = AdminClient(deployment.settings.confluent())
    for future in admin.delete_records([TopicPartition(name, partition, 8) for partition in (0, 1)]).values():
        future.result()
    assert deployment.start("after_done:1", step_entries=4).wait_exit() == EXIT_STATUS
    deployment.start()
    deployment.wait(lambda: deployment.ends(topics.LINE_ITEMS) != [0, 0], "outputs")
    deployment.wait(lambda: _positions(deployment) == [20, 20], "everything worked in")
    deployment.check_exact()


def decode_value(value: bytes) -> list[tuple[str, str, int]]:
    """The events of an entry's value."""
    return decode(Entry(0, 1, value))


def _positions(deployment: Deployment) -> list[int]:
    """The end of each journal's last batch, without the rule, which would want a snapshot's position to begin from."""
    return [
        max((record.end for record in map(decode_record, values) if isinstance(record, Batch)), default=0)
        for values in deployment.read(topics.JOURNAL)
    ]


def test_the_journal_has_a_writer_for_each_epoch(deployment: Deployment) -> None:
    deployment.append(5)
    for _ in range(2):
        worker: WorkerProcess = deployment.start()
        deployment.wait(lambda worker=worker: worker.owns() == 2, "ownership")
        worker.process.terminate()
        assert worker.wait_exit() == 0
    for values in deployment.read(topics.JOURNAL):
        opens = [record for record in map(decode_record, values) if isinstance(record, Open)]
        assert [record.epoch for record in opens] == [1, 2]
        assert len({record.writer for record in opens}) == 2


def test_the_host_runs_without_a_source_tree_of_tests() -> None:
    """Importing the host brings no test code, and the processors' protocol brings no Kafka."""
    script = "import streams.processor, streams.journal, sys; print('faust' in sys.modules, 'aiokafka' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False"]

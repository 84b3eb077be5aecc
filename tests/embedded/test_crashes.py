"""Whatever kills the process, nothing acknowledged is missing and the outputs are those of a run without a crash."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from itertools import chain
from pathlib import Path

import pytest

from schemas.topics import EVENTS, JOURNAL, LINE_ITEMS
from streams.embedded.log import SqliteLog
from streams.faults_hook import EXIT_STATUS, PLACES
from streams.journal import Journal, decode_record
from tests.embedded.adder import entry_of, expected, latest
from tests.embedded.worker import PARTITIONS, plan

ROOT = Path(__file__).parents[2]
Acknowledged = set[tuple[int, int, int]]


def run(folder: Path, fault: str = "", kill_after: float | None = None) -> tuple[int, Acknowledged]:
    """Runs the worker until it ends or is killed; its status, and (partition, number, end) of what it acknowledged."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TAXIMETER_FAULT": fault}
    command = [sys.executable, "-m", "tests.embedded.worker", str(folder)]
    acknowledged: Acknowledged = set()
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            word, *numbers = line.split()
            if word == "acknowledged":
                partition, number, end = map(int, numbers)
                acknowledged.add((partition, number, end))
                if kill_after is not None:
                    threading.Timer(kill_after, worker.kill).start()
                    kill_after = None
        status = worker.wait(timeout=60)
    return status, acknowledged


def read_all(log: SqliteLog, topic: str, partition: int, position: int = 0) -> list[tuple[int, bytes, bytes]]:
    """(end, key, value) of every record that the log holds."""
    found: list[tuple[int, bytes, bytes]] = []
    while records := log.read_records(topic, partition, position):
        found += ((record.end, record.key, record.value) for record in records)
        position = records[-1].end
    return found


def check(folder: Path, acknowledged: Acknowledged) -> None:
    """The laws, on what a finished run left."""
    log = SqliteLog(folder, PARTITIONS)
    try:
        for partition in range(PARTITIONS):
            entries = {end: value for end, _, value in read_all(log, EVENTS, partition)}
            planned = plan(partition)
            for of, number, end in acknowledged:
                if of == partition:
                    assert entries[end] == entry_of(planned[number]), f"acknowledged and not there: {of} {number} {end}"
            outputs = [(key, value) for _, key, value in read_all(log, LINE_ITEMS, partition)]
            assert latest(outputs) == expected(chain.from_iterable(planned))
            check_journal(log, partition)
    finally:
        log.close()


def check_journal(log: SqliteLog, partition: int) -> None:
    """What is left of the journal folds without a gap, ends where the source ends, and leaves nothing undone."""
    records = [decode_record(value) for _, _, value in read_all(log, JOURNAL, partition)]
    start = next(record.start for record in records if record.__class__.__name__ == "Batch")  # type: ignore[union-attr]
    journal = Journal(epoch=records[0].epoch, position=start)
    for record in records:
        journal.apply(record)
    assert journal.position == log.end(EVENTS, partition)
    assert journal.pending == []


@pytest.mark.parametrize("seed", range(5))
def test_a_kill_at_any_time_loses_nothing_and_changes_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed + time.time_ns())
    acknowledged: Acknowledged = set()
    statuses = []
    for _ in range(2):
        status, answered = run(tmp_path, kill_after=chance.uniform(0.0, 0.1))
        acknowledged |= answered
        statuses.append(status)
    assert -signal.SIGKILL in statuses, "it was quicker than the kill: give it more entries"
    status, answered = run(tmp_path)
    assert status == 0
    check(tmp_path, acknowledged | answered)


@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_crash_between_any_two_steps_loses_nothing_and_changes_nothing(tmp_path: Path, place: str) -> None:
    acknowledged: Acknowledged = set()
    crashes = 0
    for fault in chance_of(place):
        status, answered = run(tmp_path, fault)
        acknowledged |= answered
        crashes += status == EXIT_STATUS
    assert crashes, f"{place} was never passed"
    status, answered = run(tmp_path)
    assert status == 0
    check(tmp_path, acknowledged | answered)


def chance_of(place: str) -> list[str]:
    """The orders of a crash at a place: a run before it where it needs something to restore, and a second crash."""
    if place == "in_restore":
        return ["after_done:3", "in_restore:1", "after_done:4", "in_restore:2"]
    if place == "after_open":
        return ["after_open:1", "after_open:2"]
    return [f"{place}:1", f"{place}:4"]

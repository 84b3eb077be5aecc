"""Whatever kills the engine while identities and rows go to disk and into snapshots, each event counts once."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import pytest

from schemas.topics import JOURNAL, LINE_ITEMS
from streams.embedded.log import SqliteLog
from streams.faults_hook import EXIT_STATUS
from streams.journal import Batch, decode_record
from streams.snapshots import SnapshotStore
from tests.embedded.rating_worker import expected, ids

ROOT = Path(__file__).parents[2]


def run(folder: Path, fault: str = "", kill_after: float | None = None) -> int:
    """Runs the worker until it ends or is killed, that long after it has started; its status."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TAXIMETER_FAULT": fault}
    command = [sys.executable, "-m", "tests.embedded.rating_worker", str(folder)]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line == "started\n" and kill_after is not None:
                threading.Timer(kill_after, worker.kill).start()
        return worker.wait(timeout=120)


def check(folder: Path) -> None:
    """The line item of the whole log counts each different id once; the journal's last words add up to that."""
    assert run(folder) == 0
    log = SqliteLog(folder, 1)
    try:
        items = {}
        for topic in (LINE_ITEMS, JOURNAL):
            position = log.begin(topic, 0)
            while records := log.read_records(topic, 0, position):
                for record in records:
                    if topic == LINE_ITEMS:
                        item = json.loads(record.value)
                        known = items.setdefault(item["revision"], item)
                        assert known == item, "one revision with two contents"
                    elif isinstance(batch := decode_record(record.value), Batch):
                        assert batch.summary.conflicts == 0
                position = records[-1].end
    finally:
        log.close()
    last = items[max(items)]
    count, total = expected()
    assert (last["events"], last["quantity"]) == (count, str(total))
    assert sum(map(len, ids())) > 1.3 * count
    runs = list((folder / "identities" / "00000").glob("*.run"))
    assert len(runs) >= 4, "one for each week that is over at least"
    assert not list((folder / "identities").rglob("*.tmp"))
    snapshots = folder / "snapshots" / "rating" / "00000"
    stored = {path.name for path in (snapshots / "files").iterdir()}
    last = SnapshotStore(folder / "snapshots").load("rating", 0)
    assert last is not None
    # What the background has ended after the last snapshot stands in that one as it was in memory.
    named = {name for names in msgspec.msgpack.decode(last.state)["identities"]["runs"].values() for name in names}
    assert len(named) >= 3
    assert named <= stored
    assert named <= {path.name for path in runs}
    sheets = msgspec.msgpack.decode(last.state)["sheets"][1]
    assert len(sheets) >= 3
    assert set(sheets) <= stored & {path.name for path in (folder / "identities" / "00000").glob("*.rows")}


@pytest.mark.parametrize("place", ["in_files", "in_snapshot", "after_snapshot", "after_process", "in_restore"])
def test_a_crash_around_a_snapshot_counts_nothing_twice(tmp_path: Path, place: str) -> None:
    before = ["after_done:20"] if place == "in_restore" else []
    statuses = [run(tmp_path, fault) for fault in [*before, f"{place}:1", f"{place}:3"]]
    assert EXIT_STATUS in statuses[len(before) :], f"{place} was never passed"
    check(tmp_path)


@pytest.mark.parametrize("seed", range(2))
def test_kills_at_any_time_count_nothing_twice(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed + time.time_ns())
    statuses = [run(tmp_path, kill_after=chance.uniform(0.0, 0.35)) for _ in range(4)]
    assert statuses.count(-signal.SIGKILL) >= 2, "it was quicker than the kills: give it more packs"
    check(tmp_path)


def test_another_machine_takes_up_what_the_snapshots_hold(tmp_path: Path) -> None:
    for number in range(2):
        assert run(tmp_path, f"after_snapshot:{3 + number}") == EXIT_STATUS
        assert list((tmp_path / "identities" / "00000").glob("*.run"))
        shutil.rmtree(tmp_path / "identities")
    check(tmp_path)

"""Real stalls of the embedded host: what hangs ends the process, what takes long or waits for a disk does not."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.entry import Entry
from streams.embedded.host import EmbeddedHost, HostSettings
from streams.embedded.log import SqliteLog
from streams.processor import Fetch, Step, no_files
from streams.snapshots import Snapshot, SnapshotStore
from streams.watchdog import EXIT_STALLED, Stall
from tests.embedded.adder import Adder, AdderState, entry_of

ROOT = Path(__file__).parents[2]
SETTINGS = HostSettings(tick_seconds=None, snapshot_seconds=3600, stall_s=0.4)


class Hanging(Adder):
    """Hangs where it is told to, until it is let go."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.go = where, threading.Event()

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch = no_files) -> AdderState:
        if self.where == "open":
            self.go.wait(20)
        return _HangingState(self, partition, snapshot)


class _HangingState(AdderState):
    def __init__(self, owner: Hanging, partition: int, snapshot: bytes | None) -> None:
        super().__init__(partition, snapshot, 0)
        self._owner = owner

    def process(self, entries: Sequence[Entry]) -> Step:
        if self._owner.where == "process":
            self._owner.go.wait(20)
        if self._owner.where == "slow":
            time.sleep(0.25)
        return super().process(entries)


class HangingStore(SnapshotStore):
    """A store whose disk does not answer."""

    go = threading.Event()

    def save(self, processor: str, partition: int, snapshot: Snapshot) -> None:
        self.go.wait(20)
        super().save(processor, partition, snapshot)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "data", 1)
    yield log
    log.close()


def stalls_of(host: EmbeddedHost, stalls: list[Stall], seconds: float = 10.0) -> list[Stall]:
    host.start()
    deadline = time.monotonic() + seconds
    while not stalls and time.monotonic() < deadline:
        time.sleep(0.02)
    return stalls


@pytest.mark.parametrize(("where", "doing"), [("open", "restoring"), ("process", "processing")])
def test_a_processor_that_hangs_is_found(log: SqliteLog, tmp_path: Path, where: str, doing: str) -> None:
    stalls: list[Stall] = []
    processor = Hanging(where)
    log.append_blocking(0, entry_of([("a", "key", 1)]), 1)
    host = EmbeddedHost(log, processor, SnapshotStore(tmp_path / "s"), SETTINGS, on_stall=stalls.append)
    [stall, *_] = stalls_of(host, stalls)
    assert stall.name == "partition 0" and stall.text == f"{doing} at position 0 of 1"
    assert host.watchdog.near() and not host.caught_up
    processor.go.set()
    assert host.wait_until_caught_up(10)
    host.stop()


def test_a_snapshot_that_is_never_written_is_found(log: SqliteLog, tmp_path: Path) -> None:
    stalls: list[Stall] = []
    store = HangingStore(tmp_path / "s")
    host = EmbeddedHost(log, Adder(), store, replace(SETTINGS, snapshot_offsets=1), on_stall=stalls.append)
    log.append_blocking(0, entry_of([("a", "key", 1)]), 1)
    [stall, *_] = stalls_of(host, stalls)
    assert stall.text == "saving a snapshot at position 1 of 1"
    store.go.set()
    host.stop()


def test_a_long_restore_that_moves_is_not_shot(log: SqliteLog, tmp_path: Path) -> None:
    settings = replace(SETTINGS, step_entries_max=1)
    for number in range(6):
        log.append_blocking(0, entry_of([(f"{number}", "key", 1)]), 1)
    first = EmbeddedHost(log, Adder(), SnapshotStore(tmp_path / "s"), settings)
    first.start()
    assert first.wait_until_caught_up(10)
    first.stop()
    for path in (tmp_path / "s").rglob("*.snapshot"):
        path.unlink()
    stalls: list[Stall] = []
    again = EmbeddedHost(log, Hanging("slow"), SnapshotStore(tmp_path / "s"), settings, on_stall=stalls.append)
    began = time.monotonic()
    again.start()
    assert again.wait_until_caught_up(20)
    assert time.monotonic() - began > 3 * SETTINGS.stall_s and not stalls
    assert again.state()[0].replayed_steps == 6
    again.stop()


def test_a_host_without_work_is_not_shot(log: SqliteLog, tmp_path: Path) -> None:
    stalls: list[Stall] = []
    host = EmbeddedHost(log, Adder(), SnapshotStore(tmp_path / "s"), SETTINGS, on_stall=stalls.append)
    assert not stalls_of(host, stalls, 1.5)
    host.stop()


def test_by_default_a_stall_ends_the_process_and_shows_where(tmp_path: Path) -> None:
    program = f"""
import time
from pathlib import Path
from streams.embedded.host import EmbeddedHost
from streams.embedded.log import SqliteLog
from streams.snapshots import SnapshotStore
from tests.embedded.adder import entry_of
from tests.embedded.test_stalls import SETTINGS, Hanging
log = SqliteLog({str(tmp_path / "data")!r}, 1)
log.append_blocking(0, entry_of([("a", "key", 1)]), 1)
EmbeddedHost(log, Hanging("process"), SnapshotStore({str(tmp_path / "s")!r}), SETTINGS).start()
time.sleep(20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == EXIT_STALLED
    assert "stopping: partition 0 has stood still for" in done.stderr
    assert "processing at position 0 of 1" in done.stderr
    assert "in process" in done.stderr  # the stack of the thread that hangs

"""Laws of the embedded host: cuts do not matter, a restart goes on, a contradiction stops it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import pytest

from schemas.entry import TICK, Entry
from schemas.topics import EVENTS, JOURNAL, LINE_ITEMS
from streams.embedded.host import FAILED_STATUS, EmbeddedHost, HostSettings
from streams.embedded.log import SqliteLog
from streams.journal import Batch, Done, JournalError, Open, Record, decode_record, encode_record
from streams.processor import Fetch, Step, no_files
from streams.snapshots import SnapshotStore
from tests.embedded.adder import Adder, AdderState, Event, entry_of, expected, latest

ROOT = Path(__file__).parents[2]
SETTINGS = HostSettings(tick_seconds=None, snapshot_seconds=3600)
Failures = list[tuple[int, int, BaseException]]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    log = SqliteLog(tmp_path / "data", 2)
    yield log
    log.close()


@pytest.fixture
def snapshots(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots")


@contextmanager
def running(
    log: SqliteLog, snapshots: SnapshotStore, settings: HostSettings = SETTINGS, processor: Adder | None = None
) -> Iterator[EmbeddedHost]:
    """A host that is restored; stopped at the end, and then without a failure."""
    host = EmbeddedHost(log, processor or Adder(), snapshots, settings, on_failure=lambda *failure: None)
    host.start()
    try:
        assert host.wait_until_ready(10), host.failures
        yield host
    finally:
        host.stop()
    assert not host.failures


def failure_of(
    log: SqliteLog, snapshots: SnapshotStore, processor: Adder | None = None
) -> tuple[int, int, BaseException]:
    """Starts a host that must fail; what it said."""
    failures: Failures = []
    host = EmbeddedHost(
        log, processor or Adder(), snapshots, SETTINGS, on_failure=lambda *failure: failures.append(failure)
    )
    host.start()
    until(lambda: bool(failures))
    host.stop()
    return failures[0]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def send(log: SqliteLog, partition: int, *batches: list[Event]) -> int:
    """Appends entries; the position after them."""
    return [log.append_blocking(partition, entry_of(events), len(events)) for events in batches][-1]


def outputs(log: SqliteLog, partition: int) -> list[tuple[bytes, bytes]]:
    return [(record.key, record.value) for record in log.read_records(LINE_ITEMS, partition, 0)]


def journal(log: SqliteLog, partition: int) -> list[object]:
    return [decode_record(record.value) for record in log.read_records(JOURNAL, partition, 0)]


ENTRIES: list[list[Event]] = [[(f"id-{n}", f"key-{n % 3}", n), (f"id-{n // 2}", "again", 1)] for n in range(40)]


@pytest.mark.parametrize("entries_max", [1, 7, 4096])
def test_the_totals_do_not_depend_on_the_cuts(log: SqliteLog, snapshots: SnapshotStore, entries_max: int) -> None:
    end = send(log, 1, *ENTRIES)
    with running(log, snapshots, replace(SETTINGS, step_entries_max=entries_max)) as host:
        assert host.wait_until({0: 0, 1: end}, 10)
        assert host.position() == {0: 0, 1: end}
    assert latest(outputs(log, 1)) == expected(chain.from_iterable(ENTRIES))
    batches = [record for record in journal(log, 1) if isinstance(record, Batch)]
    assert len(batches) == -(-len(ENTRIES) // entries_max)


def test_what_arrives_is_worked_in_without_waiting(log: SqliteLog, snapshots: SnapshotStore) -> None:
    with running(log, snapshots) as host:
        for number in range(20):
            end = send(log, 0, [(f"{number}", "key", 1)])
            began = time.monotonic()
            assert host.wait_until({0: end}, 10)
            assert time.monotonic() - began < 1
    assert latest(outputs(log, 0)) == {"key": 20}


class SlowAdder(Adder):
    """Takes a tenth of a second for each step, and notes when they began."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[float] = []

    def open(self, partition: int, snapshot: bytes | None, fetch: Fetch = no_files) -> AdderState:
        begun = self.begun

        class SlowState(AdderState):
            def process(self, entries: Sequence[Entry]) -> Step:
                begun.append(time.monotonic())
                time.sleep(0.1)
                return super().process(entries)

        return SlowState(partition, snapshot, self.bias)


@pytest.mark.parametrize(("pause", "events_max", "pauses"), [(5.0, 100_000, True), (5.0, 1, False), (0.0, 9, False)])
def test_a_slow_step_is_followed_by_a_pause_unless_much_waits(
    log: SqliteLog, snapshots: SnapshotStore, pause: float, events_max: int, pauses: bool
) -> None:
    slow = SlowAdder()
    settings = replace(SETTINGS, pause_seconds=pause, step_events_max=events_max)
    with running(log, snapshots, settings, slow) as host:
        for number in range(20):
            end = send(log, 0, [(f"{number}", "key", 1)])
            time.sleep(0.02)
        assert host.wait_until({0: end}, 20)
    least = min(later - one for one, later in pairwise(slow.begun))
    assert (least >= 0.2) == pauses, least
    assert latest(outputs(log, 0)) == {"key": 20}


def test_waiting_for_what_does_not_come_ends(log: SqliteLog, snapshots: SnapshotStore) -> None:
    with running(log, snapshots) as host:
        assert not host.wait_until({0: 1}, 0.05)


@pytest.mark.parametrize("with_snapshots", [True, False])
def test_a_restart_goes_on_under_a_new_epoch(log: SqliteLog, snapshots: SnapshotStore, with_snapshots: bool) -> None:
    for start in range(0, 40, 10):
        with running(log, snapshots) as host:
            host.wait_until({0: send(log, 0, *ENTRIES[start : start + 10])}, 10)
        if not with_snapshots:
            for path in Path(snapshots.url).rglob("*.snapshot"):
                path.unlink()
            break
    with running(log, snapshots) as host:
        end = send(log, 0, *ENTRIES)
        assert host.wait_until({0: end}, 10)
    assert latest(outputs(log, 0)) == expected(chain.from_iterable(ENTRIES))
    opened = [record.epoch for record in journal(log, 0) if isinstance(record, Open)]
    assert opened == sorted(set(opened))


def test_a_damaged_snapshot_costs_time_and_nothing_else(log: SqliteLog, snapshots: SnapshotStore) -> None:
    for start in range(0, 40, 10):
        with running(log, snapshots) as host:
            host.wait_until({0: send(log, 0, *ENTRIES[start : start + 10])}, 10)
    newest = max(Path(snapshots.url).rglob("*.snapshot"))
    newest.write_bytes(newest.read_bytes()[:-1])
    with running(log, snapshots) as host:
        assert host.position()[0] == log.end(EVENTS, 0)
        host.wait_until({0: send(log, 0, [("new", "key-0", 1000)])}, 10)
    assert latest(outputs(log, 0)) == expected([*chain.from_iterable(ENTRIES), ("new", "key-0", 1000)])


def test_snapshots_let_the_journal_and_the_source_be_trimmed(log: SqliteLog, snapshots: SnapshotStore) -> None:
    settings = replace(SETTINGS, step_entries_max=1, snapshot_offsets=10)
    with running(log, snapshots, settings) as host:
        assert host.wait_until({0: send(log, 0, *ENTRIES)}, 10)
        until(lambda: host.needed_from()[0] >= 60)
        assert log.begin(JOURNAL, 0) > 50
        log.trim(EVENTS, 0, host.needed_from()[0])
    assert log.begin(EVENTS, 0) >= 60
    with running(log, snapshots) as host:
        assert host.position()[0] == 80
        host.wait_until({0: send(log, 0, [("new", "key-0", 1000)])}, 10)
    assert latest(outputs(log, 0)) == expected([*chain.from_iterable(ENTRIES), ("new", "key-0", 1000)])


def test_without_its_snapshots_a_trimmed_journal_is_refused(log: SqliteLog, snapshots: SnapshotStore) -> None:
    with running(log, snapshots, replace(SETTINGS, step_entries_max=1, snapshot_offsets=10)) as host:
        host.wait_until({0: send(log, 0, *ENTRIES)}, 10)
    for path in Path(snapshots.url).rglob("*.snapshot"):
        path.unlink()
    partition, _, error = failure_of(log, snapshots)
    assert partition == 0
    assert isinstance(error, JournalError)
    assert "snapshots" in str(error)


def test_nothing_new_means_no_new_snapshot(log: SqliteLog, snapshots: SnapshotStore) -> None:
    with running(log, snapshots) as host:
        host.wait_until({0: send(log, 0, *ENTRIES)}, 10)
    before = {path: path.stat().st_mtime_ns for path in Path(snapshots.url).rglob("*.snapshot")}
    with running(log, snapshots):
        pass
    assert {path: path.stat().st_mtime_ns for path in Path(snapshots.url).rglob("*.snapshot")} == before
    assert len(before) == 1


def test_a_replay_that_comes_to_something_else_stops_the_host(log: SqliteLog, snapshots: SnapshotStore) -> None:
    with running(log, snapshots) as host:
        host.wait_until({0: send(log, 0, *ENTRIES)}, 10)
    for path in Path(snapshots.url).rglob("*.snapshot"):
        path.unlink()
    _, _, error = failure_of(log, snapshots, Adder(bias=1))
    assert isinstance(error, JournalError)
    assert "[0, " in str(error) and "amount='" in str(error)


def test_outputs_that_were_not_done_are_emitted_again(log: SqliteLog, snapshots: SnapshotStore) -> None:
    send(log, 0, *ENTRIES)
    first, second = (log.read_cut(0, start, start + 40) for start in (0, 40))
    state = Adder().open(0, None)
    batches = [Batch(1, cut[0].offset, cut[-1].end, state.process(cut).summary) for cut in (first, second)]
    records: list[Record] = [Open(1, "kafka"), batches[0], Done(1, 40), batches[1]]
    log.publish_blocking(JOURNAL, 0, [(b"", encode_record(record)) for record in records])
    with running(log, snapshots) as host:
        assert host.position()[0] == 80
    assert journal(log, 0)[4:] == [Open(2, f"embedded-{os.getpid()}"), Done(2, 80, {LINE_ITEMS: 3})]
    assert latest(outputs(log, 0)) == expected(chain.from_iterable(ENTRIES))


def test_a_failing_processor_is_reported_with_its_position(log: SqliteLog, snapshots: SnapshotStore) -> None:
    with running(log, snapshots) as host:
        host.wait_until({1: send(log, 1, *ENTRIES)}, 10)
    log.append_blocking(1, b"no entry", 1)
    partition, position, error = failure_of(log, snapshots)
    assert (partition, position) == (1, 80)
    assert "expected version 1" in str(error)


def test_a_second_host_fences_the_first(log: SqliteLog, snapshots: SnapshotStore) -> None:
    failed = threading.Event()
    first = EmbeddedHost(log, Adder(), snapshots, SETTINGS, on_failure=lambda *failure: failed.set())
    first.start()
    assert first.wait_until_ready(10)
    with running(log, snapshots) as second:
        assert second.wait_until({0: send(log, 0, *ENTRIES)}, 10) or failed.is_set()
        until(lambda: second.position()[0] == 80 and failed.is_set())
    first.stop()
    assert "Fenced" in repr(first.failures[0])
    assert latest(outputs(log, 0)) == expected(chain.from_iterable(ENTRIES))


def test_ticks_come_to_every_partition(log: SqliteLog, snapshots: SnapshotStore) -> None:
    with running(log, snapshots, replace(SETTINGS, tick_seconds=0.02)) as host:
        assert host.wait_until({0: 3, 1: 3}, 10)
    for partition in range(2):
        kinds = [
            Entry(record.offset, record.end, record.value).kind for record in log.read_records(EVENTS, partition, 0)
        ]
        assert set(kinds) == {TICK}


def test_by_default_a_failure_ends_the_process_and_says_where(tmp_path: Path) -> None:
    program = f"""
import logging, time
from streams.embedded.host import EmbeddedHost
from streams.embedded.log import SqliteLog
from streams.processor import Fetch, Step, no_files
from streams.snapshots import SnapshotStore
from tests.embedded.adder import Adder
logging.basicConfig()
log = SqliteLog({str(tmp_path)!r}, 1)
EmbeddedHost(log, Adder(), SnapshotStore({str(tmp_path / "snapshots")!r})).start()
log.append_blocking(0, b"no entry", 1)
time.sleep(20)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == FAILED_STATUS
    assert "partition 0 failed at position 0" in done.stderr
    assert "EntryError" in done.stderr

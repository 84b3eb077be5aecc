"""A full disk: what is refused is not there, what was answered is, and all goes on when there is space again."""

import resource
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from schemas.topics import EVENTS, LINE_ITEMS
from streams.embedded.host import EmbeddedHost, HostSettings
from streams.embedded.log import SqliteLog
from streams.log import LogUnavailable
from streams.snapshots import Snapshot, SnapshotError, SnapshotStore
from tests.embedded.adder import Adder, entry_of, latest

SETTINGS = HostSettings(tick_seconds=None, snapshot_seconds=3600)
SPACE = 3 * 1024 * 1024


@dataclass
class Disk:
    """A folder whose space ends at `fill` and is back after `free`."""

    folder: Path
    fill: Callable[[], None]
    free: Callable[[], None]


@pytest.fixture(params=["file size limit", "small file system"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "file size limit":
        yield from limited(tmp_path)
    else:
        yield from mounted(tmp_path)


def limited(folder: Path) -> Iterator[Disk]:
    """Needs no rights: no file may grow beyond a size (the error is another than that of a full disk)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def free() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    yield Disk(folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (SPACE // 8, hard)), free)
    free()


def mounted(folder: Path) -> Iterator[Disk]:
    """A real full disk: a file system in memory, which only root may mount."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SPACE}", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system needs root")
    filler = folder / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass

    try:
        yield Disk(folder, fill, filler.unlink)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_refuses_with_its_reason_and_takes_again_when_there_is_space(disk: Disk) -> None:
    log = SqliteLog(disk.folder / "data", 1)
    answered = {log.append_blocking(0, b"before", 1): b"before"}
    disk.fill()
    refused = ""
    for number in count():
        value = b"%d" % number * 2000
        try:
            answered[log.append_blocking(0, value, 3)] = value
        except LogUnavailable as error:
            refused = str(error)
            break
    with pytest.raises(LogUnavailable):
        log.append_blocking(0, bytes(500_000), 1)
    assert "full" in refused or "I/O" in refused
    assert str(disk.folder) in refused
    disk.free()
    answered[log.append_blocking(0, b"after", 1)] = b"after"
    assert {record.end: record.value for record in log.read_records(EVENTS, 0, 0)} == answered
    log.close()
    log = SqliteLog(disk.folder / "data", 1)
    assert {record.end: record.value for record in log.read_records(EVENTS, 0, 0)} == answered
    log.close()


def start_on_a_full_disk(disk: Disk, log: SqliteLog) -> EmbeddedHost:
    """A host that has read an entry and cannot commit the step, because its outputs find no space."""
    host = EmbeddedHost(log, Adder(), SnapshotStore(disk.folder / "snapshots"), SETTINGS, on_failure=lambda *_: None)
    host.start()
    assert host.wait_until_ready(10)
    keys = [(f"{number}", f"{number}-" + "key" * 30, number) for number in range(3000)]
    entry = entry_of(keys)
    refused = threading.Event()
    commit_step = log.commit_step

    def watched(*step: object) -> int:
        try:
            return commit_step(*step)  # type: ignore[arg-type]
        except LogUnavailable:
            refused.set()
            raise

    log.commit_step = watched  # type: ignore[method-assign, assignment]
    full = threading.Event()
    process = host._partitions[0]._step

    def after_the_read(*arguments: object) -> None:
        disk.fill()
        full.set()
        process(*arguments)  # type: ignore[arg-type]

    host._partitions[0]._step = after_the_read  # type: ignore[method-assign, assignment]
    log.append_blocking(0, entry, len(keys))
    assert refused.wait(10)
    return host


def test_a_host_waits_for_space_and_goes_on(disk: Disk) -> None:
    log = SqliteLog(disk.folder / "data", 1)
    host = start_on_a_full_disk(disk, log)
    assert not host.wait_until({0: 1}, 0.1)
    assert not host.failures
    disk.free()
    assert host.wait_until({0: 3000}, 10)
    host.stop()
    assert len(latest((record.key, record.value) for record in log.read_records(LINE_ITEMS, 0, 0))) == 3000
    log.close()


def test_a_host_that_is_stopped_on_a_full_disk_does_the_step_after_the_next_start(disk: Disk) -> None:
    log = SqliteLog(disk.folder / "data", 1)
    host = start_on_a_full_disk(disk, log)
    host.stop()
    assert not host.failures
    assert not list((disk.folder / "snapshots").rglob("*.snapshot"))
    disk.free()
    host = EmbeddedHost(log, Adder(), SnapshotStore(disk.folder / "snapshots"), SETTINGS, on_failure=lambda *_: None)
    host.start()
    assert host.wait_until({0: 3000}, 10)
    host.stop()
    assert len(latest((record.key, record.value) for record in log.read_records(LINE_ITEMS, 0, 0))) == 3000
    log.close()


def test_a_snapshot_without_space_leaves_the_earlier_one(disk: Disk) -> None:
    store = SnapshotStore(disk.folder / "snapshots")
    store.save("adder", 0, Snapshot(1, 1, 1, b"small"))
    disk.fill()
    with pytest.raises(SnapshotError, match="cannot write"):
        store.save("adder", 0, Snapshot(2, 2, 1, bytes(SPACE)))
    disk.free()
    assert store.load("adder", 0) == Snapshot(1, 1, 1, b"small")
    assert not list(disk.folder.rglob("*.tmp"))

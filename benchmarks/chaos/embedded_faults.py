"""Faults of `taximeter serve`: kills, crashes at every step, torn files, full disks, wrong folders."""

import random
import resource
import sqlite3
import struct
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from subprocess import CalledProcessError, run
from typing import Final

from benchmarks.chaos.deployment import RECOVERY_MAX_S
from benchmarks.chaos.embedded import Embedded
from benchmarks.chaos.row import Row
from benchmarks.chaos.worker_faults import SELDOM
from streams.faults_hook import EXIT_STATUS, PLACES

_DISK_BYTES: Final = 48 * 1024 * 1024


def kill_serve(embedded: Embedded, row: Row, times: int) -> None:
    """kill -9 in a loop, at random moments, while events come."""
    chance = random.Random()
    while row.kills < times and not row.is_late():
        embedded.wait_ack(row, time.monotonic(), count=False)
        time.sleep(chance.uniform(0.0, 0.6))
        at = embedded.kill(row)
        while chance.random() < 1 / 3 and row.kills < times:
            time.sleep(chance.uniform(0.5, 3.0))  # it starts and restores meanwhile
            at = embedded.kill(row)
        embedded.wait_ack(row, at)


def crash_serve_at_places(embedded: Embedded, row: Row, rounds: int) -> None:
    """The process ends at each numbered step as by a power cut, and is started again."""
    for _ in row.rounds(rounds):
        for place in sorted(PLACES):
            embedded.wait_ack(row, time.monotonic(), count=False)
            before = len(embedded.serve.exits)
            embedded.serve.fault = f"{place}:{1 if place in SELDOM else 4}"
            embedded.serve.kill()  # the next start has the fault
            row.kills += 1
            embedded.fleet.wait_ended(embedded.serve, before + 2, RECOVERY_MAX_S)
            at = time.monotonic()
            row.in_flight += embedded.load.unanswered
            row.injected += 1
            if embedded.serve.exits[before + 1] != EXIT_STATUS:
                row.broken.append(f"{place} ended with status {embedded.serve.exits[before + 1]}, not {EXIT_STATUS}")
            embedded.serve.stopped_itself = [s for s in embedded.serve.stopped_itself if s != EXIT_STATUS]
            embedded.wait_ack(row, at)


def tear_snapshots(embedded: Embedded, row: Row, times: int) -> None:
    """Killed, and the newest snapshot of each partition cut short, garbled or emptied before the next start."""
    chance = random.Random()
    for number in row.rounds(times):
        embedded.wait_ack(row, time.monotonic(), count=False)
        embedded.fleet.until(lambda: len(_snapshots(embedded)) >= 2, "there are snapshots", RECOVERY_MAX_S)
        time.sleep(chance.uniform(0.5, 2.5))
        embedded.serve.keep = False
        at = embedded.kill(row)
        newest = {path.parent: path for path in sorted(_snapshots(embedded))}
        for path in newest.values():
            _tear(path, number % 3, chance)
        before = embedded.serve.log().count("skipped the damaged snapshot")
        embedded.serve.keep = True
        embedded.wait_ack(row, at)
        if embedded.serve.log().count("skipped the damaged snapshot") <= before:
            row.broken.append("a torn snapshot was not named in the log")


def _snapshots(embedded: Embedded) -> list[Path]:
    return list((embedded.data / "snapshots").rglob("*.snapshot"))


def _tear(path: Path, how: int, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if how == 0:
        del data[chance.randrange(len(data)) :]
    elif how == 1:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    else:
        data.clear()
    path.write_bytes(data)


def start_second(embedded: Embedded, row: Row, times: int) -> None:
    """A second process on the same folder is refused: a status that is not nought, and the holder's number."""
    for number in row.rounds(times):
        second = embedded.second(f"second-{number}")
        second.order_end()
        status = second.wait(RECOVERY_MAX_S)
        row.injected += 1
        if status in (0, None) or f"in use by the process {embedded.serve.pid}" not in second.log():
            row.broken.append(f"a second process on the folder: status {status}\n{second.tail()}")
        embedded.fleet.remove(second)


def start_on_newer_folder(embedded: Embedded, row: Row, times: int) -> None:
    """A log, then a snapshot, of a newer format version: refused by name, nothing of it touched; then put back."""
    for number in row.rounds(times):
        embedded.wait_ack(row, time.monotonic(), count=False)
        embedded.fleet.until(lambda: bool(_snapshots(embedded)), "there is a snapshot", RECOVERY_MAX_S)
        embedded.stop(row)
        _refused(embedded, row, f"newer-log-{number}", "format version 99", _NewerLog(embedded.data))
        newest = sorted(_snapshots(embedded))[-1]
        _refused(embedded, row, f"newer-snapshot-{number}", "format version 99", _NewerSnapshot(newest))
        embedded.restart()


def _refused(embedded: Embedded, row: Row, name: str, words: str, newer: "_NewerLog | _NewerSnapshot") -> None:
    newer.make()
    started = embedded.second(name)
    started.order_end()
    status = started.wait(RECOVERY_MAX_S)
    row.injected += 1
    if status in (0, None) or words not in started.log():
        row.broken.append(f"{name}: status {status}, expected to be refused by name\n{started.tail()}")
    embedded.fleet.remove(started)
    newer.put_back()


class _NewerLog:
    """A data folder as a later version would leave it."""

    def __init__(self, data: Path) -> None:
        self._file = data / "log.sqlite"
        self._version = 0

    def make(self) -> None:
        """Writes the version 99."""
        with closing(sqlite3.connect(self._file)) as connection:
            self._version = connection.execute("PRAGMA user_version").fetchone()[0]
            connection.execute("PRAGMA user_version = 99")

    def put_back(self) -> None:
        """Writes what was there."""
        with closing(sqlite3.connect(self._file)) as connection:
            connection.execute(f"PRAGMA user_version = {self._version}")


class _NewerSnapshot:
    """A whole snapshot of version 99, with its checksum."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._bytes = path.read_bytes()

    def make(self) -> None:
        """Writes it over the newest."""
        body = bytearray(self._bytes[:-32])
        body[8:10] = struct.pack(">H", 99)
        self._path.write_bytes(bytes(body) + blake2b(body, digest_size=32).digest())

    def put_back(self) -> None:
        """Writes what was there."""
        self._path.write_bytes(self._bytes)


@contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A file system in memory on `folder`; where that may not be mounted it says False, and there is none."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
        run(mount, check=True, capture_output=True)
    except (OSError, CalledProcessError):
        yield False
        return
    try:
        yield True
    finally:
        run(["umount", "-l", str(folder)], check=True)


def fill_disk(embedded: Embedded, row: Row, times: int, mounted: bool) -> None:
    """No space for log, snapshots and spend store, for seconds; every other time the process is killed meanwhile.

    `mounted`: the data folder is a small disk. Else no file may grow, which is another error with the same end.
    """
    filler = embedded.data / "filler"
    for number in row.rounds(times):
        embedded.wait_ack(row, time.monotonic(), count=False)
        row.in_flight += embedded.load.unanswered
        row.injected += 1
        if mounted:
            _fill(filler)
        else:
            embedded.serve.limit(resource.RLIMIT_FSIZE, 4096)
        time.sleep(3.0)
        if number % 2:
            embedded.kill(row)
            row.injected -= 1
            time.sleep(2.0)
        filler.unlink(missing_ok=True)
        embedded.serve.limit(resource.RLIMIT_FSIZE, None)
        at = time.monotonic()  # from the moment that there is space again
        embedded.wait_ack(row, at)
    row.notes.append("a full file system" if mounted else "a limit on the size of files (mounting needs root)")


def _fill(filler: Path) -> None:
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def fill_snapshot_disk(embedded: Embedded, row: Row, times: int) -> None:
    """A folder in the way of the snapshots' own: none can be written. Killed meanwhile: the journal has it all."""
    for _ in row.rounds(times):
        embedded.wait_ack(row, time.monotonic(), count=False)
        before = embedded.serve.log().count("goes on without a new snapshot")
        _fill(embedded.data / "snapshots" / "filler")
        embedded.fleet.wait_logged(embedded.serve, "goes on without a new snapshot", before, RECOVERY_MAX_S)
        embedded.wait_ack(row, time.monotonic(), count=False)
        embedded.wait_ack(row, embedded.kill(row))
        (embedded.data / "snapshots" / "filler").unlink()


def limit_serve_memory(embedded: Embedded, row: Row, times: int) -> None:
    """It gets no more memory than it has, and dies of it or is killed; the next start has too little, the one after

    that as much as it likes."""
    chance = random.Random()
    for _ in row.rounds(times):
        embedded.wait_ack(row, time.monotonic(), count=False)
        row.in_flight += embedded.load.unanswered
        row.injected += 1
        embedded.serve.order_end()
        size, before = embedded.serve.address_space(), len(embedded.serve.exits)
        embedded.serve.memory = int(size * chance.uniform(0.2, 0.6))
        embedded.serve.limit(resource.RLIMIT_AS, size // 2)
        if embedded.serve.wait(6.0) is None:
            row.kills += embedded.serve.kill()
        at = time.monotonic()
        embedded.wait_ack(row, at)
        row.notes.append(f"statuses {embedded.serve.exits[before:]}")


def step_serve_clock(embedded: Embedded, row: Row, times: int, clock: Path) -> None:
    """The wall clock jumps by up to days, forwards and back; every other time the process is killed after it."""
    chance = random.Random()
    for number in row.rounds(times):
        embedded.wait_ack(row, time.monotonic(), count=False)
        clock.write_text(str(chance.choice((-1, 1)) * chance.choice((2.0, 90.0, 3700.0, 86_400.0 * 3, 86_400.0 * 20))))
        row.in_flight += embedded.load.unanswered
        row.injected += 1
        time.sleep(1.5)
        if number % 2:
            at = embedded.kill(row)
            row.injected -= 1
            embedded.wait_ack(row, at)

"""`taximeter serve` on a folder that is killed, full, held, foreign, read-only or gone: nothing acknowledged is lost,
and what cannot go on says so in a line."""

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from schemas import topics
from tests.face.running import Server, event
from tests.repair.conftest import Folder
from tests.repair.damage import bills, serve_refused, snapshots_of

ROUNDS = 10


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def numbered(number: int, subject: str = "team-a") -> str:
    return event(f"n{number}", "2026-11-05T00:00:00Z", f'{{"tokens": {number}, "model": "m"}}', subject=subject)


def counted(server: Server, position: str = "", customer: str = "acme") -> tuple[str, int]:
    """What the charge `tokens` of a customer comes to: amount and events."""
    spend = server.get(f"/v1/customers/{customer}/spend", position)
    charges = {charge["charge"]: charge for currency in spend["currencies"] for charge in currency["by_charge"]}
    return (charges["tokens"]["amount"], charges["tokens"]["events"]) if "tokens" in charges else ("0", 0)


# Killed --------------------------------------------------------------------------------------------------------------


class Sender(threading.Thread):
    """Posts numbered events, some at once, and notes which were acknowledged. Ends with the server."""

    def __init__(self, server: Server, first: int) -> None:
        super().__init__(daemon=True)
        self.server, self.next = server, first
        self.acknowledged: set[int] = set()

    def run(self) -> None:
        with httpx.Client(base_url=self.server.url, timeout=10) as client:
            while True:
                numbers = range(self.next, self.next + 5)
                body = "\n".join(map(numbered, numbers))
                try:
                    answer = client.post("/v1/events", content=body, headers={"content-type": "application/x-ndjson"})
                except httpx.TransportError:
                    return
                if answer.status_code == 200:
                    assert answer.json()["rejected"] == 0
                    self.acknowledged.update(numbers)
                    self.next += 5


def test_kills_in_a_loop_lose_nothing_that_was_acknowledged_and_double_nothing(tmp_path: Path) -> None:
    chance = random.Random(time.time_ns())
    acknowledged: set[int] = set()
    sent = 0
    for number in range(ROUNDS):
        with Server(tmp_path / "data") as server:
            senders = [Sender(server, 1_000_000 * who + sent) for who in range(3)]
            for sender in senders:
                sender.start()
            until(lambda senders=senders: any(sender.acknowledged for sender in senders))  # type: ignore[misc]
            time.sleep(chance.uniform(0, 0.3))
            server.kill()
            for sender in senders:
                sender.join(20)
                acknowledged |= sender.acknowledged
            # What had no answer is sent again, by the next round's first posts: it counts once.
            sent = max(sender.next - 1_000_000 * who for who, sender in enumerate(senders)) - 5 * (number % 2)
    with Server(tmp_path / "data") as server:
        answer = server.send(map(numbered, sorted(acknowledged)))  # all are duplicates now
        _, before = counted(server, answer)
        assert server.stop()[0] == 0
    found = accepted_events(tmp_path / "data")
    assert acknowledged <= set(found), sorted(acknowledged - set(found))[:10]
    assert len(found) == len(set(found)) == before
    with Server(tmp_path / "data") as server:
        assert counted(server) == (f"{sum(found) / 100:.2f}".rstrip("0").rstrip("."), len(found))


def accepted_events(folder: Path) -> list[int]:
    """The numbers of all events in the log, by another road than the engine's: each identity once."""
    import pyarrow as pa

    from streams.embedded.log import SqliteLog

    found: dict[str, int] = {}
    log = SqliteLog(folder, 1)
    position = 0
    while records := log.read_records(topics.EVENTS, 0, position):
        position = records[-1].end
        for record in records:
            if record.value[1:2] == b"E":
                for batch in pa.ipc.open_stream(record.value[2:]):
                    found.update((id, int(id[1:])) for id in batch.column("id").to_pylist())
    log.close()
    return list(found.values())


def test_what_a_kill_leaves_of_the_lock_and_of_temporary_files_is_no_hindrance(killed: Folder, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(killed.data, data)
    (data / "lock").write_text("1\n")  # a process that runs, and does not hold it
    (snapshots_of(data)[0].parent / f"{'0' * 20}-{'0' * 10}.snapshot.77.tmp").write_bytes(b"half")
    assert bills(data) == killed.bills


def test_a_write_ahead_log_that_was_cut_off_is_refused_or_ends_earlier(killed: Folder, tmp_path: Path) -> None:
    """The frames that are whole still stand; a snapshot or a spend store that knows more says so."""
    size = (killed.data / "log.sqlite-wal").stat().st_size
    for share in (0.95, 0.6, 0.2):
        data = tmp_path / f"data-{share}"
        shutil.copytree(killed.data, data)
        with (data / "log.sqlite-wal").open("r+b") as wal:
            wal.truncate(int(size * share))
        status, said = serve_refused(data)
        assert status in (1, 70), said
        assert "Traceback" not in said
        assert "has lost" in said or "expected at least the reader's position" in said, said


# Held, foreign, read-only, gone --------------------------------------------------------------------------------------


def test_a_second_process_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        status, said = serve_refused(server.data)
        assert (status, said.count("\n")) == (1, 1)
        assert f"is in use by the process {server.process.pid}: stop it first" in said
        assert counted(server, server.send([numbered(7)])) == ("0.07", 1)
        assert server.stop()[0] == 0


def test_a_folder_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        server.stop()
    with closing(sqlite3.connect(tmp_path / "data" / "log.sqlite")) as connection:
        connection.execute("PRAGMA user_version = 9")
    status, said = serve_refused(tmp_path / "data")
    assert (status, said.count("\n")) == (1, 1)
    assert "has the format version 9, this program knows up to 2: run the version of Taximeter that wrote it" in said


def test_a_snapshot_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    from hashlib import blake2b

    with Server(tmp_path / "data") as server:
        server.send([numbered(1)])
        server.get("/v1/invoices", server.tick("2026-11-06T00:00:00Z"))
        server.stop()
    (path,) = snapshots_of(tmp_path / "data")
    raw = bytearray(path.read_bytes())[:-32]
    raw[8:10] = (99).to_bytes(2, "big")
    path.write_bytes(bytes(raw) + blake2b(raw, digest_size=32).digest())
    status, said = serve_refused(tmp_path / "data")
    assert (status, "Traceback" in said) == (70, False)
    assert "has the format version 99, this program reads up to" in said


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Root writes where others may not: for it the file system itself is read-only."""
    if os.geteuid() == 0:
        subprocess.run(["mount", "--bind", folder, folder], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    else:
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            yield
        finally:
            for path in [folder, *folder.rglob("*")]:
                path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.parametrize("made", [False, True])
def test_a_read_only_folder_is_refused(tmp_path: Path, made: bool) -> None:
    data = tmp_path / "data"
    if made:
        with Server(data) as server:
            server.stop()
    else:
        data.mkdir()
    with read_only(data):
        status, said = serve_refused(data)
    assert (status, said.count("\n")) == (1, 1), said
    assert f"cannot use the API keys in {data}" in said  # the first file that it opens there


@pytest.mark.parametrize("what", ["folder", "log"])
def test_a_folder_that_vanishes_stops_the_server_and_nothing_is_acknowledged_into_the_void(
    tmp_path: Path, what: str
) -> None:
    data = tmp_path / "data"
    with Server(data) as server:
        assert counted(server, server.send([numbered(7)])) == ("0.07", 1)
        if what == "folder":
            shutil.rmtree(data)
        else:
            (data / "log.sqlite").rename(data / "elsewhere")
        with suppress(httpx.TransportError):  # it may be quicker to end
            assert server.post(numbered(8)).status_code == 503
        assert server.process.wait(20) == 70
        said = server.complaints()
    assert "Traceback" not in said, said
    assert "the log's file has gone" in said, said


# Full ----------------------------------------------------------------------------------------------------------------


def limit(server: Server, size: int) -> None:
    """No file of the server may grow beyond a size: what a quota or a full disk comes to."""
    _, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (hard if size < 0 else size, hard))


def test_a_full_log_refuses_and_takes_again_when_there_is_room(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        server.send(map(numbered, range(100)))
        limit(server, (tmp_path / "data" / "log.sqlite-wal").stat().st_size)
        refused = [server.post(numbered(number)) for number in range(1000, 1003)]
        assert [answer.status_code for answer in refused] == [503] * 3
        limit(server, -1)
        position = server.send(map(numbered, [*range(100, 200), 1001]))
        assert counted(server, position) == (f"{(sum(range(200)) + 1001) / 100:.2f}", 201)
        assert server.stop()[0] == 0
        assert "took nothing" in server.complaints()


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[], Path]]:
    """A real file system of that size, which only root may mount; gives what fills it."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)

    def fill() -> Path:
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        return filler

    try:
        yield fill
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("full", ["everything", "snapshots"])
def test_a_disk_that_is_full_for_a_while(tmp_path: Path, full: str) -> None:
    with small_disk(tmp_path / "disk", "24M") as fill:
        data = tmp_path / "disk" / "data" if full == "everything" else tmp_path / "data"
        with Server(data, "--snapshots", tmp_path / "disk" / "snapshots") as server:
            server.send(map(numbered, range(500)))
            filler = fill()
            accepted = set(range(500))
            for start in range(500, 3000, 100):
                answer = server.post("\n".join(map(numbered, range(start, start + 100))))
                assert answer.status_code in (200, 503)
                if answer.status_code == 200:
                    accepted.update(range(start, start + 100))
            assert server.process.poll() is None
            if full == "everything":
                assert len(accepted) < 3000, "the disk was never full"
            else:
                assert server.stop()[0] == 0
                assert "goes on without a new snapshot" in server.complaints()
            filler.unlink()
            if full == "everything":
                accepted.update(range(5000, 5100))
                position = server.send(map(numbered, range(5000, 5100)))
                amount = f"{sum(accepted) / 100:.2f}".rstrip("0").rstrip(".")
                assert counted(server, position) == (amount, len(accepted))
                assert server.stop()[0] == 0
            assert "Traceback" not in server.complaints()
        with Server(data, "--snapshots", tmp_path / "disk" / "snapshots") as server:
            position = server.send([numbered(9999)])
            amount = f"{(sum(accepted) + 9999) / 100:.2f}".rstrip("0").rstrip(".")
            assert counted(server, position) == (amount, len(accepted) + 1)
            assert server.stop()[0] == 0

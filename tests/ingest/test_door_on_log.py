"""The door on a real log, over real HTTP: what is answered is on disk, whatever happens next."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from schemas import topics
from schemas.entry import EVENTS, TICK, Entry
from schemas.identity import partition_of
from streams.embedded.log import SqliteLog
from streams.log import decode_position
from tests.unit.ingest.doors import event, read_pack

PARTITIONS = 3
ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A door in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "tests.ingest.server", str(folder), str(PARTITIONS)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{self.process.stdout.readline().strip()}"

    def kill(self) -> None:
        """Ends it as a crash does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "data")
    yield made
    made.kill()


def entries(log: SqliteLog, partition: int) -> list[Entry]:
    end = log.end(topics.EVENTS, partition)
    return log.read_cut(partition, 0, end) if end else []


def ids(folder: Path) -> dict[str, int]:
    """The ids of all events in the log, and how often each is there; checks each event's partition."""
    log, found = SqliteLog(folder, PARTITIONS), dict[str, int]()
    try:
        for partition in range(PARTITIONS):
            for entry in entries(log, partition):
                assert entry.kind == EVENTS
                pack = read_pack(entry.value)
                assert entry.end - entry.offset == pack.num_rows
                for id, customer in zip(
                    pack.column("id").to_pylist(), pack.column("customer").to_pylist(), strict=True
                ):
                    assert partition_of("default", customer, PARTITIONS) == partition
                    found[id] = found.get(id, 0) + 1
    finally:
        log.close()
    return found


async def test_what_was_answered_is_in_the_log_at_its_position(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        body = [event(id=f"e{i}", subject=f"customer-{i % 7}") for i in range(100)]
        answer = await client.post("/v1/events", json=[*body, {"id": "wrong"}])
        assert answer.status_code == 200 and answer.json()["rejected"] == 1
        tick = await client.post("/v1/ticks", json={"time": "2026-12-01T00:00:00Z"})
    server.kill()
    log = SqliteLog(server.folder, PARTITIONS)
    try:
        ends = {p: log.end(topics.EVENTS, p) for p in range(PARTITIONS)}
        assert decode_position(tick.json()["position"]) == ends
        assert decode_position(answer.json()["position"]) == {p: end - 1 for p, end in ends.items()}
        assert [entries(log, p)[-1].kind for p in range(PARTITIONS)] == [TICK] * PARTITIONS
        (rejection,) = log.read_records(topics.REJECTIONS, 0, 0)
        found = msgspec.json.decode(rejection.value)
        assert (rejection.key, found["event"], found["code"]) == (b"default", {"id": "wrong"}, "invalid_event")
    finally:
        log.close()


async def test_nothing_that_was_accepted_is_lost_by_a_kill(server: Server) -> None:
    """Clients post without a pause; the server is killed among them; what they were told is there, is there."""
    accepted: set[str] = set()
    sent = 0

    async def post(client: httpx.AsyncClient, caller: int) -> None:
        nonlocal sent
        for number in range(100_000):
            names = [f"{caller}-{number}-{i}" for i in range(1 + number % 3)]
            body: list[dict[str, Any]] = [event(id=name, subject=f"customer-{number % 11}") for name in names]
            try:
                answer = await client.post("/v1/events", json=body)
            except httpx.TransportError:
                return
            assert answer.status_code == 200 and answer.json()["accepted"] == len(names)
            accepted.update(names)
            sent += 1

    async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
        callers = [asyncio.create_task(post(client, caller)) for caller in range(20)]
        while sent < 200:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(server.kill)
        await asyncio.gather(*callers)
    found = ids(server.folder)
    assert accepted <= found.keys()
    assert max(found.values()) == 1


async def test_many_single_posts_share_commits(server: Server) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
        posts = [client.post("/v1/events", json=event(id=f"e{i}", subject="team-a")) for i in range(300)]
        answers = await asyncio.gather(*posts)
    assert all(answer.json()["accepted"] == 1 for answer in answers)
    server.kill()
    assert set(ids(server.folder)) == {f"e{i}" for i in range(300)}
    log = SqliteLog(server.folder, PARTITIONS)
    try:
        found = entries(log, partition_of("default", "acme", PARTITIONS))
        assert len(found) < 250, "each post had an entry of its own"
    finally:
        log.close()

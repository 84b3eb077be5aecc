"""The clients against a real door: what was recorded counts once, whatever happens to the door and to the program."""

import asyncio
import http.server
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from taximeter.client import AsyncClient, BufferFull, Client, Refused, Unsent
from tests.face.running import ROOT, Server, environment

WHEN = datetime(2026, 11, 5, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:9"
QUICK: dict[str, Any] = {"linger_s": 0.02, "backoff_first_s": 0.01, "backoff_max_s": 0.05, "flush_s": 0.2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("client") / "data") as running:
        yield running


def record(client: Client | AsyncClient, customer: str, count: int, tokens: object = 1) -> None:
    for _ in range(count):
        client.record("llm.request", subject=customer, data={"tokens": tokens, "model": "large"}, time=WHEN)


def total(answer: dict[str, Any]) -> str:
    """A token costs 0.01, and every ten calls 1."""
    return str(answer["currencies"][0]["total"])


def test_what_is_recorded_is_in_the_next_query(server: Server) -> None:
    with Client(server.url, **QUICK, batch_events=7) as client:
        record(client, "sync", 100, Decimal("0.1"))
        client.flush(30)
        assert total(client.spend("sync")) == "10.1"
        assert (client.totals.recorded, client.totals.accepted, client.totals.retries) == (100, 100, 0)


async def test_the_same_on_an_event_loop(server: Server) -> None:
    async with AsyncClient(server.url, **QUICK, batch_events=7) as client:
        record(client, "async", 100, Decimal("0.1"))
        await client.flush(30)
        assert total(await client.spend("async")) == "10.1"
    with pytest.raises(RuntimeError, match="not open"):
        client.record("llm.request", subject="async")


def test_a_customer_whose_id_means_something_in_a_url_is_asked_for(server: Server) -> None:
    with Client(server.url, **QUICK) as client:
        for customer in ("team/a", "team/spend", "b:c@d/usage"):
            record(client, customer, 10)
            client.flush(30)
            assert (client.spend(customer)["customer"], total(client.spend(customer))) == (customer, "1.1")


def test_a_buffer_that_cannot_be_read_is_said_and_its_events_stay(server: Server, tmp_path: Path) -> None:
    with Client(NOWHERE, **QUICK, buffer=tmp_path) as client:
        record(client, "unreadable", 3)
    (kept,) = tmp_path.glob("*.ndjson")
    kept.rename(tmp_path / "aside")
    kept.mkdir()
    with pytest.raises(IsADirectoryError):
        Client(server.url, buffer=tmp_path)
    kept.rmdir()
    (tmp_path / "aside").rename(kept)
    with Client(server.url, **{**QUICK, "flush_s": 30}, buffer=tmp_path) as client:
        client.flush(30)
        assert client.totals.accepted == 3


async def test_a_buffer_that_becomes_unreadable_does_not_end_the_client(server: Server, tmp_path: Path) -> None:
    with Client(NOWHERE, **QUICK, buffer=tmp_path) as down:
        record(down, "mended", 3)
    (kept,) = tmp_path.glob("*.ndjson")
    client = AsyncClient(server.url, **QUICK, buffer=tmp_path)
    kept.rename(tmp_path / "aside")  # after the client has seen it, before it reads it
    async with client:
        with pytest.raises(Unsent, match=r"3 events are unsent after 0.3 s: the buffer cannot be read"):
            await client.flush(0.3)
        (tmp_path / "aside").rename(kept)
        await client.flush(30)
        assert client.totals.accepted == 3


def test_many_threads_share_a_client(server: Server) -> None:
    with Client(server.url, **{**QUICK, "flush_s": 30}, batch_events=50) as client:
        threads = [threading.Thread(target=record, args=(client, "threads", 200)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (client.totals.recorded, client.totals.accepted) == (1000, 1000)


def test_an_event_that_lingers_goes_by_itself(server: Server) -> None:
    with Client(server.url, linger_s=0.05) as client:
        record(client, "lingering", 1)
        deadline = time.monotonic() + 20
        while not client.totals.accepted and time.monotonic() < deadline:
            time.sleep(0.02)
        assert client.totals.accepted == 1


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_refused_event_is_told_and_its_neighbours_go_through(server: Server, asynchronous: bool) -> None:
    refused: list[Refused] = []

    def fill(client: Client | AsyncClient) -> None:
        client.record("llm.request", subject="mixed", id="good-1", time=WHEN)
        client.record("llm.request", subject="mixed", id="x" * 5000, time=WHEN)
        client.record("llm.request", subject="mixed", id="good-2", time=WHEN, traceparent="00-ab-cd-01")

    async def on_a_loop() -> None:
        async with AsyncClient(server.url, **QUICK, on_refused=refused.append, source="loop") as client:
            fill(client)
            await client.flush(30)

    if asynchronous:
        asyncio.run(on_a_loop())
    else:
        with Client(server.url, **QUICK, on_refused=refused.append, source="threads") as client:
            fill(client)
            client.flush(30)
    assert [(r.code, r.path, json.loads(r.event)["id"]) for r in refused] == [("too_large", "id", "x" * 5000)]


@contextmanager
def answering(*answers: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives these answers in turn, the last one for ever; its URL, and the bodies that it was sent."""
    bodies: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            status, headers, body = answers[min(len(bodies), len(answers)) - 1]
            self.send_response(status)
            for name, value in ({"content-length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()


def taken(events: int) -> tuple[int, dict[str, str], bytes]:
    answer = {"accepted": events, "duplicates": 0, "rejected": 0, "position": "0:1", "events": []}
    return 200, {}, json.dumps(answer).encode()


@pytest.mark.parametrize(
    "first",
    [
        (503, {}, b""),
        (429, {"retry-after": "0"}, b'{"detail": "slower"}'),
        (401, {}, b""),
        (200, {}, b"<html>a proxy's page"),
    ],
)
def test_what_was_not_taken_is_sent_again_under_the_same_ids(first: tuple[int, dict[str, str], bytes]) -> None:
    with answering(first, first, taken(3)) as (url, bodies), Client(url, **QUICK) as client:
        record(client, "again", 3)
        client.flush(20)
        assert len(bodies) == 3 and len(set(bodies)) == 1
        assert (client.totals.retries, client.totals.accepted) == (2, 3)


def test_the_door_says_how_long_to_wait() -> None:
    with answering((503, {"retry-after": "1"}, b""), taken(1)) as (url, _), Client(url, **QUICK) as client:
        began = time.monotonic()
        record(client, "later", 1)
        client.flush(20)
        assert time.monotonic() - began >= 1


@pytest.mark.parametrize("buffered", [False, True])
def test_a_batch_that_is_too_large_is_halved(tmp_path: Path, buffered: bool) -> None:
    too_large = (413, {"content-type": "application/problem+json"}, b'{"detail": "too large"}')
    down = (503, {}, b"")
    with answering(down, too_large, too_large, taken(1), taken(1), taken(2)) as (url, bodies):
        with Client(url, **QUICK, buffer=tmp_path / "buffer" if buffered else None) as client:
            record(client, "halves", 4)
            client.flush(20)
            assert [body.count(b"\n") + 1 for body in bodies] == [4, 4, 2, 1, 1, 2]
            assert client.totals.accepted == 4
        assert not list(tmp_path.glob("buffer/*.ndjson"))


def test_a_single_event_that_is_too_large_is_refused() -> None:
    refused: list[Refused] = []
    answer = (413, {"content-type": "application/problem+json"}, b'{"detail": "too large"}')
    with answering(answer) as (url, _), Client(url, **QUICK, on_refused=refused.append) as client:
        record(client, "large", 1)
        client.flush(20)
        assert [(r.code, r.message) for r in refused] == [("413", "413: too large")]


def test_a_door_that_is_down_fills_the_buffer_and_the_next_start_sends_it(tmp_path: Path) -> None:
    program = f"""
import time
from taximeter import Client
client = Client({NOWHERE!r}, buffer={str(tmp_path / "buffer")!r}, linger_s=0.02, flush_s=0.1)
for n in range(500):
    data = {{"tokens": 1, "model": "large"}}
    client.record("llm.request", subject="buffered", data=data, time="2026-11-05T00:00:00Z")
    if n == 250:
        time.sleep(0.3)
"""
    env = environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "the door took nothing" in done.stderr
    with Server(tmp_path / "data") as server, Client(server.url, **QUICK, buffer=tmp_path / "buffer") as client:
        client.flush(30)
        assert client.totals.accepted == 500
        assert total(client.spend("buffered")) == "55"
    assert not list((tmp_path / "buffer").glob("*.ndjson"))


def test_a_door_that_is_killed_and_comes_back_loses_nothing_and_counts_nothing_twice(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Server(data, "--port", "0") as first:
        port = httpx.URL(first.url).port
        client = Client(first.url, **{**QUICK, "flush_s": 5}, batch_events=20, buffer=tmp_path / "buffer")
        for round_ in range(30):
            record(client, "revenant", 20)
            if round_ == 15:
                first.kill()
    with Server(data, "--port", str(port)):
        client.flush(30)
        assert total(client.spend("revenant")) == "66"
        assert client.totals.retries > 0
        client.close()


def test_what_cannot_be_kept_is_said(tmp_path: Path) -> None:
    with Client(NOWHERE, **QUICK, memory_bytes=500) as client:
        with pytest.raises(BufferFull):
            record(client, "too much", 10)
        with pytest.raises(Unsent, match=r"\d events are unsent after 0.1 s: .*refused"):
            client.flush(0.1)
        with pytest.raises(ValueError, match="without a time zone"):
            client.record("llm.request", subject="s", time=datetime(2026, 11, 5))
        with pytest.raises(TypeError):
            client.record("llm.request", subject="s", data={"f": object()})
    with pytest.raises(RuntimeError, match="closed"):
        client.record("llm.request", subject="s")

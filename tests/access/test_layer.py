"""The layer and the connection in front of an application, by a real server and clients that do what clients do not."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import uvloop
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.app import routes as door_routes
from schemas.access import access_of
from schemas.limits import ADDRESS_BYTES_MAX, BODY_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX
from taximeter.access.bodies import Bodies
from taximeter.access.gate import Gate
from taximeter.access.keys import encode_record, make_key, revoke
from taximeter.access.layer import Layer
from taximeter.access.rates import Rates, RateSettings
from taximeter.access.ring import KeyRing
from taximeter.http import make_app, running
from taximeter.tls import Tls, TlsSettings
from tests.access.certificates import Authority
from tests.unit.ingest.doors import ListLog, event, make_door

Answer = Callable[[Scope, Receive, Send], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(
    app: ASGIApp, *, rates: Rates | None = None, bodies: Bodies | None = None, slow_s: float = 20
) -> AsyncIterator[httpx.AsyncClient]:
    """The application behind an open layer."""
    layer = Layer(app, Gate(KeyRing()), bodies or Bodies(2**30, slow_s), rates or Rates(RateSettings()))
    async with (
        running(Starlette(), "127.0.0.1", 0, lambda _: layer, None, slow_s) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        yield client


def answering(status: int, *headers: tuple[bytes, bytes], body: bytes = b"") -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        assert message["type"] == "http.request" and not message["more_body"], "bodies come in one piece"
        content = body or b"%d" % len(message["body"])
        length = (b"content-length", b"%d" % len(content))
        await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
        await send({"type": "http.response.body", "body": content})

    return answer


class Raw:
    """A connection by hand."""

    def __init__(self, url: httpx.URL) -> None:
        self.socket = socket.create_connection((url.host, url.port or 80))
        self.socket.settimeout(10)

    async def send(self, data: bytes) -> None:
        await asyncio.to_thread(self.socket.sendall, data)

    async def read(self) -> bytes:
        """Everything until the server closes."""

        def read() -> bytes:
            parts = []
            with contextlib.suppress(ConnectionResetError):
                while part := self.socket.recv(65536):
                    parts.append(part)
            return b"".join(parts)

        return await asyncio.to_thread(read)

    def close(self) -> None:
        self.socket.close()


# Bodies -----------------------------------------------------------------------------------------------------------


async def test_a_body_reaches_its_route_whole_however_it_comes() -> None:
    async with server(answering(200)) as client:

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"x" * 1000

        assert (await client.post("/", content=b"x" * 200_000)).text == "200000"
        assert (await client.post("/", content=pieces())).text == "100000"
        assert (await client.post("/", content=b"")).text == "0"
        assert (await client.get("/")).text == "0"


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_at_its_bound_and_one_byte_above(declared: bool) -> None:
    bodies = Bodies(2**30, 20)
    async with server(answering(200), bodies=bodies) as client:

        async def send(size: int) -> httpx.Response:
            async def pieces() -> AsyncIterator[bytes]:
                for start in range(0, size, 1_000_000):
                    yield b"x" * min(1_000_000, size - start)

            return await client.post("/", content=b"x" * size if declared else pieces(), timeout=60)

        assert (await send(BODY_BYTES_MAX)).text == str(BODY_BYTES_MAX)
        refused = await send(BODY_BYTES_MAX + 1)
        assert refused.status_code == 413 and refused.json()["code"] == "too_large"
        assert "retry-after" not in refused.headers
    assert bodies.held == 0


async def test_bodies_at_once_are_bounded_together_before_they_are_sent() -> None:
    bodies = Bodies(BODY_BYTES_MAX, 20)
    async with server(answering(200), bodies=bodies) as client:
        slow = [Raw(client.base_url) for _ in range(4)]
        quarter = BODY_BYTES_MAX // 4
        for one in slow:
            await one.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % quarter)
        while bodies.held < BODY_BYTES_MAX:
            await asyncio.sleep(0.01)
        refused = await client.post("/lago/api/v1/events", content=b"x")
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert refused.json()["code"] == "busy"
        assert (await client.get("/")).status_code == 200, "what brings no body is answered"
        slow[0].close()  # its client went away
        while bodies.held > BODY_BYTES_MAX - quarter:
            await asyncio.sleep(0.01)
        assert (await client.post("/", content=b"x" * quarter)).text == str(quarter)
        for one in slow[1:]:
            await one.send(b"x" * quarter)
        while bodies.held:
            await asyncio.sleep(0.01)
        for one in slow[1:]:
            one.close()


async def test_bodies_of_unknown_length_are_counted_as_they_come() -> None:
    bodies = Bodies(BODY_BYTES_MAX, 20)
    async with server(answering(200), bodies=bodies) as client:
        first = Raw(client.base_url)
        await first.send(b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n")
        size = BODY_BYTES_MAX - 10
        await first.send(b"%x\r\n" % size + b"x" * size + b"\r\n")
        while bodies.held < size:
            await asyncio.sleep(0.01)

        async def pieces() -> AsyncIterator[bytes]:
            yield b"x" * 11

        assert (await client.post("/", content=pieces())).status_code == 503
        assert (await client.post("/", content=b"x" * 10)).status_code == 200
        first.close()
        while bodies.held:
            await asyncio.sleep(0.01)


# Slow clients -----------------------------------------------------------------------------------------------------


async def trickle(client: httpx.AsyncClient, head: bytes, every_s: float = 0.1) -> tuple[bytes, float]:
    """Sends a byte now and then until the server has enough of it; (what it said, after how long)."""
    raw, began = Raw(client.base_url), time.monotonic()
    await raw.send(head)
    reading = asyncio.create_task(raw.read())
    while not reading.done() and time.monotonic() - began < 15:
        with contextlib.suppress(OSError):
            await raw.send(b"a")
        await asyncio.sleep(every_s)
    said = await reading
    raw.close()
    return said, time.monotonic() - began


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nfffff\r\n",
        b"POST / HTTP/1.1\r\nhost: localhost\r\nlong: ",
        b"POST /",
    ],
    ids=["body", "chunk", "header", "address"],
)
async def test_a_client_that_trickles_is_cut_off(head: bytes) -> None:
    bodies = Bodies(2**30, 1)
    async with server(answering(200), bodies=bodies, slow_s=1) as client:
        said, took = await trickle(client, head)
        assert said.startswith(b"HTTP/1.1 408 ") and b'"code":"too_slow"' in said and 0.9 < took < 8
        assert b"connection: close" in said.lower() and b"retry-after" not in said.lower()
    assert bodies.held == 0


@pytest.mark.parametrize("after", [b"", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"])
async def test_a_connection_that_says_nothing_is_closed(after: bytes) -> None:
    async with server(answering(200), slow_s=1) as client:
        raw, began = Raw(client.base_url), time.monotonic()
        await raw.send(after)
        said = await raw.read()
        assert said.count(b"HTTP/1.1 200") == bool(after) and time.monotonic() - began < 9
        raw.close()


async def test_empty_lines_between_requests_do_not_keep_a_connection() -> None:
    async with server(answering(200), slow_s=1) as client:
        raw, began = Raw(client.base_url), time.monotonic()
        await raw.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        reading = asyncio.create_task(raw.read())
        while not reading.done() and time.monotonic() - began < 15:
            with contextlib.suppress(OSError):
                await raw.send(b"\r\n")
            await asyncio.sleep(0.2)
        assert time.monotonic() - began < 9
        raw.close()


async def test_a_slow_line_that_moves_is_put_up_with() -> None:
    async with server(answering(200), slow_s=1) as client:

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(12):
                yield b"x" * 8192
                await asyncio.sleep(0.25)  # 32 KiB a second for three seconds

        assert (await client.post("/", content=pieces())).text == str(12 * 8192)


# Headers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("above", [0, 1])
async def test_headers_at_their_bounds_and_one_above(above: int) -> None:
    many = b"".join(b"n%d: v\r\n" % n for n in range(HEADERS_MAX - 1 + above))
    size = HEADER_BYTES_MAX - len("/connectionclosea") + above
    address = b"/" + b"x" * (ADDRESS_BYTES_MAX - 1 + above)
    tries = {
        b"GET / HTTP/1.1\r\nconnection: close\r\n%b\r\n" % many: b"431",
        b"GET / HTTP/1.1\r\nconnection: close\r\na: %b\r\n\r\n" % (b"x" * size): b"431",
        b"GET %b HTTP/1.1\r\nconnection: close\r\n\r\n" % address: b"414",
    }
    async with server(answering(200)) as client:
        for request, status in tries.items():
            raw = Raw(client.base_url)
            await raw.send(request)
            said = await raw.read()
            assert said.startswith(b"HTTP/1.1 %b " % (status if above else b"200")), (request[:60], said[:200])
            assert (b'"code":"too_large"' in said) == bool(above)
            raw.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\na: ",
        b"GET /",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\ntrailer: ",
    ],
    ids=["header", "address", "trailer"],
)
async def test_headers_without_an_end_are_cut_off_before_memory_grows(head: bytes) -> None:
    async with server(answering(200)) as client:
        raw = Raw(client.base_url)
        await raw.send(head)
        reading = asyncio.create_task(raw.read())
        sent = 0
        with contextlib.suppress(OSError):
            while not reading.done() and sent < 64 * 1024 * 1024:
                await raw.send(b"x" * 65536)
                sent += 65536
        assert sent < 16 * 1024 * 1024, "sockets' buffers aside"
        await reading
        raw.close()


async def test_what_is_no_http_is_told_so_as_a_problem() -> None:
    async with server(answering(200)) as client:
        raw = Raw(client.base_url)
        await raw.send(b"\x16\x03\x01\x02\x00\x01\x00")  # TLS where there is none
        said = await raw.read()
        assert said.startswith(b"HTTP/1.1 400 ") and b"application/problem+json" in said
        raw.close()


# Waits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 503])
async def test_what_is_to_be_sent_again_says_when_to_every_client(status: int) -> None:
    async with server(answering(status)) as client:
        for path in (
            "/v1/events",
            "/openmeter/api/v1/events",
            "/lago/api/v1/events",
            "/stripe/v1/billing/meter_events",
        ):
            found = (await client.post(path, content=b"x")).headers
            assert (found["retry-after"], found["x-ratelimit-reset"]) == ("1", "1")
            assert ("stripe-should-retry" in found) == path.startswith("/stripe/")
        assert "retry-after" not in (await client.get("/health/ready")).headers
    async with server(answering(status, (b"Retry-After", b"7"))) as client:
        found = (await client.post("/v1/events", content=b"x")).headers
        assert (found.get_list("retry-after"), found["x-ratelimit-reset"]) == (["7"], "7")


@pytest.mark.parametrize("status", [200, 400, 401, 404, 409, 413, 422, 500])
async def test_nothing_permanent_says_when_to_come_again(status: int) -> None:
    async with server(answering(status, (b"retry-after", b"7"), (b"x-own", b"1"))) as client:
        found = (await client.post("/v1/events", content=b"x")).headers
        assert found["x-own"] == "1" and ("retry-after" in found) == (status not in range(400, 500))


# Rates ------------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.ns = 10**12

    def __call__(self) -> int:
        return self.ns


@contextlib.asynccontextmanager
async def limited(settings: RateSettings, clock: Clock) -> AsyncIterator[tuple[httpx.AsyncClient, ListLog]]:
    rates, log = Rates(settings, clock), ListLog(partitions=1)
    door = make_door(log, admit=rates.take)
    async with server(make_app(door_routes(door), lambda: {}), rates=rates) as client:
        yield client, log


async def post(client: httpx.AsyncClient, count: int, name: str, tenant: str = "default") -> httpx.Response:
    events = [event(id=f"{name}-{n}") for n in range(count)]
    return await client.post("/v1/events", json=events, headers={"taximeter-tenant": tenant})


async def test_a_tenant_over_its_rate_waits_and_nobody_else_does() -> None:
    clock = Clock()
    async with limited(RateSettings(10, {"large": 1000}, burst_s=2), clock) as (client, log):
        assert (await post(client, 15, "a")).status_code == 200
        assert (await post(client, 25, "b")).status_code == 200, "whole, though it is more than there was: it is owed"
        for _ in range(3):
            refused = await post(client, 1, "c")
            assert refused.status_code == 429 and refused.json()["code"] == "over_rate"
            assert {name: refused.headers[name] for name in _WAITS} == {
                "retry-after": "3", "x-ratelimit-limit": "20", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "3",
            }  # fmt: skip
        assert (await post(client, 500, "d", "large")).status_code == 200
        assert (await post(client, 20, "e", "other")).status_code == 200
        clock.ns += 2_100_000_000 - 1
        assert (await post(client, 1, "f")).status_code == 429
        clock.ns += 1
        assert (await post(client, 1, "g")).status_code == 200
        assert sorted({id[0] for id in log.ids()}) == ["a", "b", "d", "e", "g"], "nothing refused was taken"
        assert len(log.ids()) == 15 + 25 + 500 + 20 + 1


_WAITS = ("retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")


async def test_over_any_long_time_a_tenants_rate_is_what_was_set() -> None:
    clock = Clock()
    async with limited(RateSettings(100, burst_s=1), clock) as (client, log):
        for second in range(30):
            for n in range(4):
                await post(client, 37, f"{second}-{n}")
                clock.ns += 250_000_000
        assert 30 * 100 <= len(log.ids()) <= 31 * 100 + 37


async def test_queries_and_refused_bodies_use_nothing_up() -> None:
    clock = Clock()
    async with limited(RateSettings(1, burst_s=1), clock) as (client, _):
        for _ in range(5):
            assert (await client.post("/v1/events", content=b"{", headers=_JSON)).status_code == 400
            assert (await client.get("/health/live")).status_code == 200
        assert (await post(client, 1, "a")).status_code == 200
        assert (await client.post("/v1/events", content=b"{", headers=_JSON)).status_code == 429, "before it is read"


_JSON = {"content-type": "application/json"}


async def test_many_requests_at_once_do_not_share_what_there_is_for_one() -> None:
    clock = Clock()
    async with limited(RateSettings(10, burst_s=1), clock) as (client, log):
        answers = await asyncio.gather(*(post(client, 10, f"r{n}") for n in range(20)))
        codes = sorted(answer.status_code for answer in answers)
        assert codes == [200] + [429] * 19 and len(log.ids()) == 10
        assert msgspec.json.decode(answers[0].content)


async def test_the_layer_says_who_asks() -> None:
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(access_of(scope))
        await answering(200)(scope, receive, send)

    async with server(app) as client:
        await client.get("/", headers={"taximeter-tenant": "acme"})
    assert seen[0].tenant == "acme" and seen[0].key is None


async def test_a_stream_ends_with_its_key() -> None:
    sent = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"part\n"
            await asyncio.sleep(0.01)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await StreamingResponse(parts())(scope, receive, send)

    text, records = make_key("acme", "k", ["query"], 1)
    ring = KeyRing()
    ring.add(map(encode_record, records))
    layer = Layer(app, Gate(ring), Bodies(2**30, 20), Rates(RateSettings()))
    async with (
        running(Starlette(), "127.0.0.1", 0, lambda _: layer) as url,
        httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {text}"}) as client,
        client.stream("GET", "/v1/live") as stream,
    ):
        lines = stream.aiter_lines()
        assert await anext(lines) == "part"
        key = ring.key(text.split("_")[1])
        assert key is not None
        ring.add(map(encode_record, revoke(key, 2)))
        assert len([line async for line in lines]) < 50, "it came to an end, whole"
        before = sent
        await asyncio.sleep(0.1)
        assert sent == before, "and nobody makes any more of it"


def test_who_reads_slowly_under_tls_gets_all_of_the_answer_at_the_end(tmp_path: Path) -> None:
    authority, size = Authority(tmp_path), 8 * 1024 * 1024
    pair = authority.issue("slow")
    client = ssl.create_default_context(cafile=authority.pair.cert)

    def read(secure: ssl.SSLSocket, told: threading.Event) -> int:
        secure.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert secure.recv(1)
        told.set()
        time.sleep(1)
        found = 1
        while part := secure.recv(65536):
            found += len(part)
        return found

    async def story() -> tuple[int, float]:
        tls, told = Tls(TlsSettings(pair.cert, pair.key)).context, threading.Event()
        async with running(Starlette(), "127.0.0.1", 0, lambda _: answering(200, body=bytes(size)), tls) as url:
            port = httpx.URL(url).port or 0
            plain = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", port), 10)
            secure = await asyncio.to_thread(client.wrap_socket, plain, server_hostname="localhost")
            found = asyncio.create_task(asyncio.to_thread(read, secure, told))
            await asyncio.to_thread(told.wait, 10)
            began = time.monotonic()
        ended = time.monotonic() - began
        with secure:
            return await found, ended

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        found, ended = runner.run(story())
    assert found > size, "the head and all of the body"
    assert ended > 0.5, "the server has waited for it"

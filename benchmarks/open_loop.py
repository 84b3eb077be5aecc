"""An HTTP client for measuring: keep-alive connections, requests at set times whether or not earlier ones are answered.

The latency of a request counts from the moment it was due, not from when a connection was free to send it: a server
that stands still for a second is charged for every request of that second.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

IDLE_S_MAX = 2.0
"""The server closes a connection that is idle for five seconds."""


class Answer(NamedTuple):
    """Status and body."""

    status: int
    body: bytes


class Connections:
    """Some keep-alive connections to one server; a request takes the first that is free. `close` them at the end."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._free: list[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def get(self, path: str) -> Answer:
        """GET."""
        return await self._ask(f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())

    async def post(self, path: str, content_type: str, body: bytes) -> Answer:
        """POST."""
        lines = (
            f"POST {path} HTTP/1.1",
            "host: localhost",
            f"content-type: {content_type}",
            f"content-length: {len(body)}",
        )
        return await self._ask("\r\n".join((*lines, "", "")).encode() + body)

    async def _ask(self, request: bytes) -> Answer:
        while True:
            reader, writer = await self._connection()
            try:
                return await self._answer(reader, writer, request)
            except (ConnectionError, asyncio.IncompleteReadError):
                writer.close()  # the server had given an idle connection up: another one, in the same time

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        self._free.append((time.monotonic(), reader, writer))
        return Answer(int(head.split(b" ", 2)[1]), body)

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The one that was used last; those that the server may have closed by now are let go."""
        self._free = [one for one in self._free if one[0] > time.monotonic() - IDLE_S_MAX or one[2].close()]
        if self._free:
            return self._free.pop()[1:]
        return await asyncio.open_connection(self._host, self._port)

    def close(self) -> None:
        """Closes those that are free."""
        for _, _, writer in self._free:
            writer.close()


async def open_loop(rate: float, seconds: float, one: Callable[[], Awaitable[None]]) -> list[float]:
    """Begins `one` `rate` times a second. Returns the latencies in seconds, as they came."""
    latencies: list[float] = []
    tasks: set[asyncio.Task[None]] = set()

    async def timed(due: float) -> None:
        await one()
        latencies.append(time.perf_counter() - due)

    begun = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = begun + number / rate
        if (ahead := due - time.perf_counter()) > 0:
            await asyncio.sleep(ahead)
        task = asyncio.create_task(timed(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return latencies


def quantiles(latencies: list[float]) -> str:
    """In milliseconds, as text."""
    if not latencies:
        return "none"
    rising = sorted(latencies)

    def at(share: float) -> float:
        return rising[min(int(share * len(rising)), len(rising) - 1)] * 1000

    return f"p50 {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms, p99.9 {at(0.999):.2f} ms, worst {rising[-1] * 1000:.1f} ms"

"""What the layer in front of every route costs a request: `python -m benchmarks.access [--requests N] [--keys N]`.

One core, no network: the same empty application with and without the layer, in turns; the best of the rounds counts,
by processor time. The request has a key and a body of 200 bytes that is there already.
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taximeter.access.bodies import Bodies
from taximeter.access.gate import Gate
from taximeter.access.keys import encode_record, make_key
from taximeter.access.layer import Layer
from taximeter.access.rates import Rates, RateSettings
from taximeter.access.ring import KeyRing

ROUNDS = 15
_BODY: Message = {"type": "http.request", "body": b"x" * 200, "more_body": False}
_START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
_END: Message = {"type": "http.response.body", "body": b""}


async def _empty(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send(dict(_START))
    await send(_END)


async def _receive() -> Message:
    return _BODY


async def _send(_: Message) -> None:
    return None


def _scope(key: str) -> dict[str, Any]:
    headers = [
        (b"host", b"127.0.0.1:8080"),
        (b"user-agent", b"python-httpx/0.28.1"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"connection", b"keep-alive"),
        (b"content-type", b"application/cloudevents+json"),
        (b"authorization", b"Bearer " + key.encode()),
        (b"content-length", b"200"),
    ]
    return {"type": "http", "method": "POST", "path": "/v1/events", "query_string": b"", "headers": headers}


async def _measure(call: Callable[[], Awaitable[None]], requests: int) -> float:
    begin = time.process_time()
    for _ in range(requests):
        await call()
    return (time.process_time() - begin) / requests


async def measure(app: ASGIApp, key: str, requests: int) -> float:
    """Seconds of processor time for one request."""
    scope = _scope(key)
    return await _measure(lambda: app(dict(scope), _receive, _send), requests)


def main() -> None:
    """Prints nanoseconds a request."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=20_000, help="of each round")
    parser.add_argument("--keys", type=int, default=1000, help="keys that there are")
    given = parser.parse_args()
    ring, key = KeyRing(), ""
    for n in range(given.keys):
        key, records = make_key(f"tenant-{n % 100}", "k", ["ingest"], time.time_ns() // 1000)
        ring.add(map(encode_record, records))
    apps = {
        "without the layer": _empty,
        "with it, no key asked": Layer(_empty, Gate(KeyRing()), Bodies(2**30, 20), Rates(RateSettings())),
        "with a key": Layer(_empty, Gate(ring), Bodies(2**30, 20), Rates(RateSettings())),
        "with a key and a rate": Layer(_empty, Gate(ring), Bodies(2**30, 20), Rates(RateSettings(10**9))),
    }
    best = dict.fromkeys(apps, 1e9)

    async def run() -> None:
        for _ in range(ROUNDS):
            for name, app in apps.items():
                best[name] = min(best[name], await measure(app, key, given.requests))

    asyncio.run(run())
    for name, seconds in best.items():
        print(
            f"{name:<24} {seconds * 1e9:>8,.0f} ns a request, {(seconds - best['without the layer']) * 1e9:>7,.0f} more"
        )


if __name__ == "__main__":
    main()

"""A server's connections without sockets: a client writes into one by hand and sees every byte that comes back."""

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from ingest.app import routes
from ingest.singles import Singles
from schemas.times import SECOND
from taximeter.access.bodies import Bodies
from taximeter.access.fast import FastConnection
from taximeter.access.gate import Gate
from taximeter.access.keys import KeyRecord, SecretRecord, encode_record, make_key, revoke
from taximeter.access.lane import Lane
from taximeter.access.layer import Layer
from taximeter.access.rates import Rates, RateSettings
from taximeter.access.ring import KeyRing
from taximeter.http import make_app
from taximeter.request_counts import RequestCounts
from tests.unit.ingest.doors import NOW, ListLog, make_door

DATE = b"date: Sat, 21 Nov 2026 10:00:00 GMT\r\n"


class Wire(asyncio.Transport):
    """The server's end of a connection: what it writes is in `sent`. What it does not read waits in `unread`."""

    def __init__(self, connection: FastConnection) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False
        self.unread: list[bytes] = []
        self.writes = 0
        self._reading = True
        self._connection = connection
        connection.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The client's address, as uvicorn asks for it."""
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def is_closing(self) -> bool:
        """Whether either side has closed."""
        return self.closed

    def close(self) -> None:
        """As transports do: the connection hears of it in the next round."""
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    def write(self, data: Any) -> None:
        """Collects."""
        assert not self.closed, "written after its end"
        self.sent += data
        self.writes += 1

    def pause_reading(self) -> None:
        """What comes now waits."""
        self._reading = False

    def resume_reading(self) -> None:
        """What has waited is read in the next round."""
        self._reading = True
        asyncio.get_running_loop().call_soon(self._pass_on)

    def feed(self, data: bytes) -> None:
        """The client sends."""
        self.unread.append(data)
        self._pass_on()

    def _pass_on(self) -> None:
        while self._reading and self.unread and not self.closed:
            self._connection.data_received(self.unread.pop(0))


class Server:
    """A door with everything in front of it, with or without the fast lane. Its clocks stand still unless moved."""

    def __init__(self, *, fast: bool, keys: bool = True, rates: RateSettings | None = None, slow_s: float = 20) -> None:
        self.log = ListLog(partitions=2)
        self.ns = 0
        self.rates = Rates(rates or RateSettings(), lambda: self.ns)
        self.door = make_door(self.log, admit=self.rates.take)
        self.ring = KeyRing()
        if keys:
            self.ring.add([value for records in KEYS.values() for value in map(encode_record, records)])
        self.now = NOW
        gate = Gate(self.ring, clock=lambda: self.now)
        self.bodies, self.counts = Bodies(2**20, slow_s), RequestCounts()
        lane = Lane(Singles(self.door), gate, self.bodies, self.rates, self.counts) if fast else None
        app = make_app(routes(self.door), lambda: {}, counts=self.counts)
        self._make = self._maker(Layer(app, gate, self.bodies, self.rates), lane, slow_s)
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"Sat, 21 Nov 2026 10:00:00 GMT")]

    def _maker(self, app: ASGIApp, lane: Lane | None, slow_s: float) -> Callable[[], FastConnection]:
        kind = type("Connection", (FastConnection,), {"lane": lane, "slow_s": slow_s})
        config = uvicorn.Config(app, log_config=None, access_log=False, ws="none", lifespan="off", proxy_headers=False)
        config.load()
        return lambda: kind(config, self.state, {})

    def connect(self) -> tuple[Wire, FastConnection]:
        """A new connection."""
        connection = self._make()
        return Wire(connection), connection

    def revoke(self, name: str) -> None:
        """Ends a key."""
        key = self.ring.key(TEXTS[name].split("_")[1])
        assert key is not None
        self.ring.add(map(encode_record, revoke(key, self.now)))

    def answered(self) -> dict[tuple[str, str, int], int]:
        """How many requests were counted."""
        return {what: found.counts[float("inf")] for what, found in self.counts.seconds.items()}


def _make(*made: tuple[str, str, list[str], int | None]) -> tuple[dict[str, str], dict[str, Any]]:
    texts: dict[str, str] = {}
    records: dict[str, list[KeyRecord | SecretRecord]] = {}
    for name, tenant, scopes, until in made:
        texts[name], records[name] = make_key(tenant, name, scopes, 1, until)  # type: ignore[assignment]
    return texts, records


TEXTS, KEYS = _make(
    ("good", "default", ["ingest"], None),
    ("other", "acme", ["ingest"], None),
    ("asks", "default", ["query"], None),
    ("ends", "default", ["ingest"], NOW + SECOND),
    ("ended", "default", ["ingest"], NOW - SECOND),
    ("revoked", "default", ["ingest"], None),
)


async def settle(rounds: int = 60) -> None:
    """Lets everything happen that waits for nothing."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def until(true: Callable[[], bool], seconds: float = 5) -> None:
    """Waits. Raises: TimeoutError."""

    async def wait() -> None:
        while not true():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), seconds)

"""Live: a customer's spend and alerts as server-sent events, as they change.

The id of an event says what the stream includes: a position of the spend and, behind `/`, one of the alerts' topic. Who
comes back with it (`Last-Event-ID`) gets every alert since then, and the spend where it is another one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec
from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from rating.spend.parameters import Parameters, Problem, invalid
from rating.spend.spending import CURRENT, spend
from rating.spend.store import SpendStore
from rating.spend.view import SpendView
from schemas import topics
from schemas.identity import partition_of
from schemas.limits import LIVE_STREAMS_MAX
from streams.log import decode_position, encode_position

INTERVAL_MS_DEFAULT: Final = 250
INTERVAL_MS_MAX: Final = 60_000
_BEAT_S: Final = 15.0
"""A comment is sent after so long without an event, so that proxies keep the connection and a dead one is noticed."""
_GLANCE_S: Final = 1.0
"""How long a stream waits at most before it looks whether the server stops."""
_ALERTS_MAX: Final = 1000
_HEADERS: Final = {"cache-control": "no-store", "x-accel-buffering": "no"}


class Place(NamedTuple):
    """What a stream includes: partition -> offset, of the spend and of the alerts' topic."""

    spend: Mapping[int, int]
    alerts: Mapping[int, int]

    def token(self) -> str:
        """The id of an event."""
        return f"{encode_position(self.spend)}/{encode_position(self.alerts)}"


class _Standing(NamedTuple):
    partition: int
    offset: int
    body: bytes


class LiveStreams:
    """The routes. Streams end of themselves where the application's state says that it is `stopping`."""

    def __init__(self, view: SpendView) -> None:
        self._view = view
        self._open = 0

    def routes(self) -> list[Route]:
        """`/v1/customers/{customer}/live` has spend and alerts, `/v1/live` the alerts of all customers."""
        return [
            Route("/v1/customers/{customer:path}/live", self._answer, methods=["GET"]),
            Route("/v1/live", self._answer, methods=["GET"]),
        ]

    async def _answer(self, request: Request) -> Response:
        try:
            parameters = Parameters(request)
            tenant = parameters.tenant
            interval_ms = parameters.whole("interval_ms", INTERVAL_MS_DEFAULT, 10, INTERVAL_MS_MAX)
            last = parameters.text("last_event_id") or request.headers.get("last-event-id")
            parameters.finish()
            place = None if last is None else read_place(last, self._view.partitions)
            if self._open >= LIVE_STREAMS_MAX:
                detail = f"found {self._open} live streams open, expected fewer than {LIVE_STREAMS_MAX}"
                raise Problem(503, "Too many streams", "too_many_streams", detail)
        except Problem as problem:
            headers = {"retry-after": "5"} if problem.status == 503 else None
            body = msgspec.json.encode(problem.body)
            return Response(body, problem.status, headers, "application/problem+json")
        state = request.app.state
        going = self._events(tenant, request.path_params.get("customer"), place, interval_ms / 1000, state)
        return StreamingResponse(going, media_type="text/event-stream", headers=_HEADERS)

    async def _events(
        self, tenant: str, customer: str | None, place: Place | None, interval_s: float, state: State
    ) -> AsyncIterator[bytes]:
        view = self._view
        self._open += 1
        try:
            yield b"retry: 1000\n\n"
            known: bytes | None = None
            includes = place or Place({}, self._positions())
            spoke = time.monotonic()
            while not getattr(state, "stopping", False):
                applied = view.applied
                now = Place(view.through("now"), self._positions())
                for standing in await view.ask(partial(self._alerts, tenant, customer, includes.alerts, now.alerts)):
                    includes = includes._replace(alerts={**includes.alerts, standing.partition: standing.offset + 1})
                    yield _event(includes, "alert", standing.body)
                    spoke = time.monotonic()
                includes = includes._replace(alerts=now.alerts)
                if customer is not None and now.spend != includes.spend:
                    answer = await view.ask(partial(_spend, tenant, customer))
                    includes = includes._replace(spend=now.spend)
                    if answer != known:
                        yield _event(includes, "spend", answer)
                        known, spoke = answer, time.monotonic()
                if time.monotonic() - spoke > _BEAT_S:
                    yield b": still here\n\n"
                    spoke = time.monotonic()
                await asyncio.sleep(interval_s)
                await view.wait_moved(applied, _GLANCE_S)
        finally:
            self._open -= 1

    def _positions(self) -> dict[int, int]:
        positions = self._view.store.positions()
        return {p: positions.get((topics.ALERTS, p), 0) for p in range(self._view.partitions)}

    def _alerts(
        self, tenant: str, customer: str | None, start: Mapping[int, int], end: Mapping[int, int], store: SpendStore
    ) -> list[_Standing]:
        """The alerts between two places, each partition's in order."""
        partitions = self._view.partitions
        own = range(partitions) if customer is None else [partition_of(tenant, customer, partitions)]
        fresh = [p for p in own if start.get(p, 0) < end.get(p, 0)]
        found: dict[bytes, _Standing] = {}
        lowest = min((start.get(p, 0) for p in fresh), default=None)
        while lowest is not None:
            rows = store.alerts_from(tenant, customer, lowest, _ALERTS_MAX)
            for row in rows:
                p = partition_of(tenant, row.customer, partitions)
                if start.get(p, 0) <= row.offset < end.get(p, 0):
                    found[row.body] = _Standing(p, row.offset, row.body)
            lowest = max(rows[-1].offset, lowest + 1) if len(rows) == _ALERTS_MAX else None
        return list(found.values())


def read_place(token: str, partitions: int) -> Place:
    """What an event's id says. Raises: Problem."""
    spend_token, slash, alerts_token = token.partition("/")
    try:
        place = Place(decode_position(spend_token), decode_position(alerts_token))
    except ValueError:
        slash = ""
    if not slash or any(not 0 <= p < partitions for p in (*place.spend, *place.alerts)):
        raise invalid("Last-Event-ID", f"found {token[:60]!r}, expected the id of an event of this stream")
    return place


def _spend(tenant: str, customer: str, store: SpendStore) -> bytes:
    return msgspec.json.encode(spend(store, tenant, customer, CURRENT))


def _event(place: Place, name: str, data: bytes) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (place.token().encode(), name.encode(), data)

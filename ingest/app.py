"""The door over HTTP: `POST /v1/events`, `POST /v1/ticks`, and the health routes.

`/v1/events` is a plain ASGI callable, because it is the hot one; the rest are Starlette routes. A bigger application
mounts `routes(door)` among its own; `application(door)` is the door alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.content import BodyRefused, header, too_large
from ingest.door import Door, OverRate
from schemas.access import tenant_of
from schemas.limits import BODY_BYTES_MAX
from schemas.times import TimeError, format_time, parse_time
from streams.log import LogUnavailable

EVENTS_PATH: Final = "/v1/events"
TICKS_PATH: Final = "/v1/ticks"
PROBLEM: Final = b"application/problem+json"
_TICK_BYTES_MAX: Final = 4096
_TITLES: Final = {
    400: "Bad Request",
    405: "Method Not Allowed",
    413: "Content Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    503: "Service Unavailable",
}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer that says why nothing was taken (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str


class TickAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the answer to a tick: its time, and the position after it in every partition."""

    time: str
    position: str


class Disconnected(Exception):
    """The client went away before its request was whole."""


def routes(door: Door) -> list[BaseRoute]:
    """The door's routes, for an application's router."""
    return [
        Route(EVENTS_PATH, EventsEndpoint(door)),
        Route(TICKS_PATH, TicksEndpoint(door)),
    ]


def health_routes(ready: Callable[[], bool]) -> list[BaseRoute]:
    """`/health/live` answers while the process can answer at all, `/health/ready` while `ready()` is true."""

    async def live(request: Request) -> Response:
        return Response(b'{"live":true}', media_type="application/json")

    async def is_ready(request: Request) -> Response:
        if ready():
            return Response(b'{"ready":true}', media_type="application/json")
        return problem_response(503, "not_ready", "the server is starting or stopping", {"retry-after": "1"})

    return [Route("/health/live", live, methods=["GET"]), Route("/health/ready", is_ready, methods=["GET"])]


def application(door: Door, others: Sequence[BaseRoute] = (), prefix: str = "") -> ASGIApp:
    """An ASGI application: the hot route first and without a router, then all others."""
    events = EventsEndpoint(door)
    router = Router([*routes(door), *others])
    hot = prefix + EVENTS_PATH

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == hot:
            await events(scope, receive, send)
        else:
            await router(scope, receive, send)

    return call


class EventsEndpoint:
    """`POST /v1/events`, as an ASGI callable. Raises nothing that a client can bring about."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the body up to its bound, lets the door take it, answers. HEAD: whether the door is there."""
        if scope["method"] == "HEAD":  # the health check of shippers that begin with one
            await _send(send, 200, b"application/json", b"")
            return
        if scope["method"] != "POST":
            await _send_not_allowed(send)
            return
        try:
            body = await read_body(scope, receive, BODY_BYTES_MAX)
            receipt = await self._door.take(body, scope["headers"], tenant_of(scope))
        except Disconnected:
            return
        except BodyRefused as refused:
            await _send_problem(send, refused.status, refused.code, refused.detail)
            return
        except OverRate as error:
            await _send_problem(send, 429, "over_rate", str(error), (b"retry-after", b"%d" % error.seconds))
            return
        except LogUnavailable as error:
            await _send_unavailable(send, self._door, error)
            return
        answer = receipt.answer(every=b"verdicts=all" in scope.get("query_string", b"").split(b"&"))
        await _send(send, receipt.status, b"application/json", msgspec.json.encode(answer))


class TicksEndpoint:
    """`POST /v1/ticks` with `{"time": …}`, as an ASGI callable; without a time it is the server's clock."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Writes the tick to every partition, answers with the position after it."""
        if scope["method"] != "POST":
            await _send_not_allowed(send)
            return
        try:
            at = _read_tick(await read_body(scope, receive, _TICK_BYTES_MAX), self._door.clock)
            answer = TickAnswer(time=format_time(at), position=await self._door.tick(at))
        except Disconnected:
            return
        except BodyRefused as refused:
            await _send_problem(send, refused.status, refused.code, refused.detail)
            return
        except LogUnavailable as error:
            await _send_unavailable(send, self._door, error)
            return
        await _send(send, 200, b"application/json", msgspec.json.encode(answer))


def _read_tick(body: bytes, clock: Callable[[], int]) -> int:
    """The tick's time in microseconds. Raises: BodyRefused."""
    try:
        value = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise BodyRefused(400, "invalid_json", 'found no JSON object, expected {"time": …}') from None
    if (unknown := value.keys() - {"time"}) or not isinstance(value.get("time"), str | None):
        found = f"the name {min(unknown)[:60]!r}" if unknown else f"{str(value['time'])[:60]} as time"
        raise BodyRefused(400, "invalid_time", f'found {found}, expected {{"time": …}} with an RFC 3339 time')
    try:
        return clock() if value.get("time") is None else parse_time(value["time"])
    except TimeError as error:
        raise BodyRefused(400, "invalid_time", str(error)) from None


async def read_body(scope: Scope, receive: Receive, bytes_max: int) -> bytes:
    """The whole body. Raises: BodyRefused (413) as soon as it is too long, Disconnected."""
    declared = header(scope["headers"], b"content-length")
    if declared is not None and declared.isdigit() and int(declared[:20]) > bytes_max:
        raise too_large(bytes_max)
    parts: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part = message.get("body", b"")
        size += len(part)
        if size > bytes_max:
            raise too_large(bytes_max)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts) if len(parts) > 1 else bytes(parts[0])


def problem_response(status: int, code: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    """A problem as a Starlette response."""
    return Response(_problem(status, code, detail), status, headers, "application/problem+json")


def _problem(status: int, code: str, detail: str) -> bytes:
    return msgspec.json.encode(Problem(title=_TITLES.get(status, ""), status=status, detail=detail, code=code))


async def _send_problem(send: Send, status: int, code: str, detail: str, *headers: tuple[bytes, bytes]) -> None:
    await _send(send, status, PROBLEM, _problem(status, code, detail), *headers)


async def _send_not_allowed(send: Send) -> None:
    await _send_problem(send, 405, "method_not_allowed", "expected POST", (b"allow", b"POST"))


def unavailable(door: Door, error: LogUnavailable) -> tuple[bytes, tuple[bytes, bytes]]:
    """The body (a problem, 503) and the header that say that the log takes nothing."""
    detail = f"nothing of this request was promised, send it again: {error}"
    return _problem(503, "unavailable", detail), (b"retry-after", b"%d" % door.settings.retry_after_seconds)


async def _send_unavailable(send: Send, door: Door, error: LogUnavailable) -> None:
    body, wait = unavailable(door, error)
    await _send(send, 503, PROBLEM, body, wait)


async def _send(send: Send, status: int, media_type: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", b"%d" % len(body))
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", media_type), length, *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})

"""The ASGI layer in front of every route: who asks, how much at once, and errors in the dialect of who asks.

The steps of a request, in order:

1. the key, from the headers alone: whoever may not ask is answered before a byte of the body is read;
2. the tenant's rate, where the request brings events;
3. the body, whole and within bounds: a route gets it in one piece;
4. the route. What it answers with 429 or 503 gets the headers that each system's clients wait by, and a stream ends
   with its key: that is looked at again with each part.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ingest.compat.errors import Failure, refuse
from ingest.door import OverRate
from schemas.access import SCOPE_NAME, Access
from taximeter.access.bodies import Bodies, Gone, Held
from taximeter.access.gate import Gate, Refused
from taximeter.access.rates import Rates, Standing
from taximeter.access.routes import need_of

_AGAIN: Final = frozenset({429, 503})
_RETRY_S: Final = 1


class Layer:
    """Stands in front of an application."""

    def __init__(self, app: ASGIApp, gate: Gate, bodies: Bodies, rates: Rates) -> None:
        self._app = app
        self._gate = gate
        self._bodies = bodies
        self._rates = rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Raises what the application does."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":  # and nothing else: what is not looked at is not let in
                await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        held = Held()
        answer = _Answer(send, path, self._rates)
        try:
            admit = partial(self._gate.admit, scope["method"], path, scope["headers"], scope["query_string"])
            scope[SCOPE_NAME] = answer.access = access = admit()
            answer.admit = admit
            if self._rates.bounded and need_of(scope["method"], path) == "ingest":
                self._rates.check(access.tenant)
            declared, has_body = _body_of(scope["headers"])
            if has_body:
                body = await self._bodies.read(receive, declared, held)
                receive = _Whole(body, receive)
            await self._app(scope, receive, answer)
        except Refused as refused:
            await answer.refuse(refused.failure, refused.headers, refused.close)
        except OverRate as error:
            await answer.refuse(Failure(429, "over_rate", str(error)), ((b"retry-after", b"%d" % error.seconds),))
        except Gone:
            return
        finally:
            if held.bytes:
                self._bodies.release(held)


class _Whole:
    """A body that has been read, as an application receives it; then what the client does further."""

    __slots__ = ("_body", "_rest")

    def __init__(self, body: bytes, rest: Receive) -> None:
        self._body: bytes | None = body
        self._rest = rest

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        return await self._rest() if body is None else {"type": "http.request", "body": body, "more_body": False}


class _Answer:
    """The way back: adds to 429 and 503 what clients wait by, and takes it from what would never be taken."""

    __slots__ = ("_path", "_rates", "_send", "access", "admit")

    def __init__(self, send: Send, path: str, rates: Rates) -> None:
        self._send = send
        self._path = path
        self._rates = rates
        self.access: Access | None = None
        self.admit: Callable[[], Access] | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            status = message["status"]
            if status in _AGAIN and not self._path.startswith("/health/"):
                standing = None if self.access is None else self._rates.standing(self.access.tenant)
                message["headers"] = with_waits(message.get("headers", ()), self._path, standing)
            elif 400 <= status < 500 and status not in _AGAIN:
                message["headers"] = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"retry-after"]
        elif message.get("more_body", False) and self.admit is not None:
            await self._go_on(self.admit)
        await self._send(message)

    async def _go_on(self, admit: Callable[[], Access]) -> None:
        """A stream ends with its key. Raises: Gone."""
        try:
            admit()
        except Refused:
            await self._send({"type": "http.response.body", "body": b""})
            raise Gone from None

    async def refuse(self, failure: Failure, headers: Iterable[tuple[bytes, bytes]], close: bool = False) -> None:
        """Answers in the form that the clients of this path read."""
        media_type, content = refuse(self._path)(failure)
        found = [(b"content-type", media_type), (b"content-length", b"%d" % len(content)), *headers]
        if close:
            found.append((b"connection", b"close"))
        await self({"type": "http.response.start", "status": failure.status, "headers": found})
        await self._send({"type": "http.response.body", "body": content})


def with_waits(headers: Iterable[tuple[Any, Any]], path: str, standing: Standing | None) -> list[tuple[bytes, bytes]]:
    """The headers of a 429 or 503, and what clients wait by: `Retry-After` for ours and OpenMeter's, `x-ratelimit-…`
    for Lago's, Stripe's own for Stripe's."""
    found = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    given = dict(found)
    seconds = given.get(b"retry-after") or b"%d" % max(_RETRY_S, 0 if standing is None else standing.reset_s)
    limit, remaining = (0, 0) if standing is None else (standing.limit, standing.remaining)
    waits = [(b"retry-after", seconds), (b"x-ratelimit-reset", seconds)]
    waits += [(b"x-ratelimit-limit", b"%d" % limit), (b"x-ratelimit-remaining", b"%d" % remaining)]
    if path.startswith("/stripe/"):
        waits.append((b"stripe-should-retry", b"true"))
    return found + [pair for pair in waits if pair[0] not in given]


def _body_of(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int | None, bool]:
    """The body's length where it is said, and whether there is a body at all."""
    for name, value in headers:
        if name == b"content-length":
            return (int(value[:20]), value != b"0") if value.isdigit() else (None, True)
        if name == b"transfer-encoding":
            return None, True
    return None, False

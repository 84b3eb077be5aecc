"""HTTP: one application out of the parts' routes, and the server that runs it inside the process's event loop."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from streams.watchdog import Stall
from taximeter.access.fast import FastConnection
from taximeter.access.lane import Lane
from taximeter.openapi.http import openapi_routes
from taximeter.request_counts import CountedApp, RequestCounts
from taximeter.tracing.setup import Tracing

Ready = Callable[[], dict[str, bool]]
"""What must be true before the process is ready, by name."""

_BACKLOG = 2048
_GRACE_S = 10


class Unready(RuntimeError):
    """The server could not start; the message says why (an address in use, for example)."""


def live_answer(stalls: Sequence[Stall]) -> tuple[int, dict[str, object]]:
    """Live while the process can answer, and no watchdog is about to end it."""
    if not stalls:
        return 200, {"status": "live"}
    return 503, {"status": "standing still", "stalls": [str(stall) for stall in stalls]}


def ready_answer(conditions: Mapping[str, bool], waiting: Mapping[str, str]) -> tuple[int, dict[str, object]]:
    """Ready when every condition holds; if not, what each partition that is not waits for."""
    good = all(conditions.values())
    answer: dict[str, object] = {"status": "ready" if good else "starting", "conditions": dict(conditions)}
    return 200 if good else 503, answer if good or not waiting else answer | {"waiting": dict(waiting)}


def make_app(
    parts: Sequence[BaseRoute],
    ready: Ready,
    stalls: Callable[[], Sequence[Stall]] = tuple,
    waiting: Callable[[], Mapping[str, str]] = dict,
    counts: RequestCounts | None = None,
    traces: Tracing | None = None,
) -> Starlette:
    """The application: the parts' routes, and the two health endpoints. `waiting`: partition -> why it is not ready.

    `counts`, `traces`: of all requests, whatever stands in front of the routes.
    """

    async def live(_: Request) -> Response:
        return _json(*live_answer(stalls()))

    async def readiness(_: Request) -> Response:
        return _json(*ready_answer(ready(), waiting()))

    health = [Route("/health/live", live), Route("/health/ready", readiness)]
    served = [*parts, *health, *openapi_routes(lambda: served)]
    return Starlette(
        routes=served,
        exception_handlers={404: _not_found, 405: _not_allowed},
        middleware=list(_watching(counts, traces)),
    )


def _watching(counts: RequestCounts | None, traces: Tracing | None) -> Iterator[Middleware]:
    if counts is not None:
        yield Middleware(CountedApp, counts=counts)
    if traces is not None:
        from taximeter.tracing.requests import TracedApp

        yield Middleware(TracedApp, tracer=traces.tracer)


async def _not_found(request: Request, _: Exception) -> Response:
    return _problem(404, "Not Found", "not_found", f"no such resource: {request.url.path}")


async def _not_allowed(request: Request, error: Exception) -> Response:
    allowed = getattr(error, "headers", None) or {}
    detail = f"{request.method} is not allowed here, expected {allowed.get('Allow', 'another method')}"
    return _problem(405, "Method Not Allowed", "method_not_allowed", detail, dict(allowed))


def _problem(status: int, title: str, code: str, detail: str, headers: dict[str, str] | None = None) -> Response:
    body = orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code})
    return Response(body, status, headers, media_type="application/problem+json")


def _json(status: int, body: object) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


class _ClientsGone(logging.Filter):
    """Keeps out of the log that a client went away before its answer: uvloop says so by an error, as others do not."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        return not (isinstance(error, RuntimeError) and "the handler is closed" in str(error))


logging.getLogger("uvicorn.error").addFilter(_ClientsGone())


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals stay the process's own."""
        yield


@contextlib.asynccontextmanager
async def running(
    app: Starlette,
    host: str,
    port: int,
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    tls: ssl.SSLContext | None = None,
    slow_s: float = 20.0,
    lane: Lane | None = None,
) -> AsyncIterator[str]:
    """Serves the application while the block runs; yields its URL. Requests at hand are answered at the end.

    `around`: puts what stands in front of the application around it. `slow_s`: how long a request's headers may take,
    and the next request of a connection. `lane`: what takes plain requests with events past the application.

    Raises: Unready where the address cannot be had.
    """
    try:
        sock = socket.create_server((host, port), backlog=_BACKLOG, family=_family(host))
    except OSError as error:
        raise Unready(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    config = uvicorn.Config(
        around(app),
        http=type("Connection", (FastConnection,), {"slow_s": slow_s, "lane": lane}),
        ssl_context_factory=None if tls is None else lambda _config, _make: tls,
        loop="none",
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=max(int(slow_s), 1),
        timeout_graceful_shutdown=_GRACE_S,
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started and not task.done():
        await asyncio.sleep(0.005)
    name = f"[{host}]" if ":" in host else host
    try:
        yield f"{'http' if tls is None else 'https'}://{name}:{sock.getsockname()[1]}"
    finally:
        app.state.stopping = True  # live streams end of themselves
        server.should_exit = True
        await task


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET

"""How many requests were answered, by route and status, and how long until their answers began.

A route is the path as the program writes it (`/v1/customers/{customer}/spend`), never as a client did: metrics hold no
ids, and there are no more of them than routes.
"""

import time
from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streams.durations import Durations

SILENT: Final = frozenset({"/health/live", "/health/ready", "/metrics"})
"""What machines ask every few seconds: neither counted nor traced."""
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_CONVERTERS: Final = (":path", ":int", ":str")
_GONE: Final = 499
"""No answer was begun: the client went away, by the usual word of proxies."""


def route_of(scope: Scope) -> str:
    """The path of the route that took the request, as the program writes it; `other` where none did."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is None:
        return "other"
    path = scope.get("root_path", "") + path  # of what is mounted below a path
    for converter in _CONVERTERS:
        path = path.replace(converter, "")
    return path


def method_of(scope: Scope) -> str:
    """The method, one of those that there are."""
    method: str = scope["method"]
    return method if method in _METHODS else "other"


class RequestCounts:
    """Written by one event loop, read by any thread."""

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, int], Durations] = {}

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        """One more request is answered."""
        found = self._seconds.get((method, route, status))
        if found is None:
            found = self._seconds[method, route, status] = Durations()
        found.note(seconds)

    @property
    def seconds(self) -> Mapping[tuple[str, str, int], Durations]:
        """(method, route, status) -> how long until its answers began."""
        return dict(self._seconds)


class CountedApp:
    """An ASGI application whose requests are counted."""

    def __init__(self, app: ASGIApp, counts: RequestCounts) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the application does."""
        if scope["type"] != "http" or scope["path"] in SILENT:
            await self._app(scope, receive, send)
            return
        begun, answered = time.perf_counter(), False

        def note(status: int) -> None:
            self._counts.note(method_of(scope), route_of(scope), status, time.perf_counter() - begun)

        async def noting(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True  # a live stream goes on for hours: its beginning is what counts
                note(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception:
            if not answered:
                answered = True
                note(500)
            raise
        finally:
            if not answered:
                note(_GONE)

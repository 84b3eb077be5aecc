"""Spans of requests: one for each, by route; inside it the door's steps. No span holds a path, an id or a message: they
name customers.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import Getter
from opentelemetry.trace import Link, SpanKind, Status, StatusCode, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.trace import event_traces
from taximeter.request_counts import SILENT, method_of, route_of
from taximeter.tracing.contexts import harmless, inside, text_of

_ERROR: Final = 500
_EVENTS: Final = "taximeter.events"


class _HeaderGetter(Getter[Sequence[tuple[bytes, bytes]]]):
    def get(self, carrier: Sequence[tuple[bytes, bytes]], key: str) -> list[str] | None:
        """The values of a header; ASGI has names in small letters."""
        name = key.lower().encode()
        return [value.decode("latin-1") for found, value in carrier if found == name] or None

    def keys(self, carrier: Sequence[tuple[bytes, bytes]]) -> list[str]:
        """All names."""
        return [name.decode("latin-1") for name, _ in carrier]


_HEADERS: Final = _HeaderGetter()
_W3C: Final = TraceContextTextMapPropagator()


class TracedApp:
    """An ASGI application whose requests are spans. A request's `traceparent` header says which trace it belongs to."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the application does."""
        if scope["type"] != "http" or scope["path"] in SILENT:
            await self._app(scope, receive, send)
            return
        method, status = method_of(scope), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        parent = _W3C.extract(scope["headers"], Context(), _HEADERS)
        with self._tracer.start_as_current_span(
            method, parent, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                await self._app(scope, receive, noting)
            finally:
                route = route_of(scope)
                span.update_name(f"{method} {route}")
                span.set_attributes({"http.request.method": method, "http.route": route})
                if status:
                    span.set_attribute("http.response.status_code", status)
                if not status or status >= _ERROR:
                    span.set_status(Status(StatusCode.ERROR))


class DoorTracer:
    """See `ingest.door.RequestTracer`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def step(self, name: str) -> AbstractContextManager[str | None]:
        """A span inside that of the request."""
        return self._step(name)

    @contextmanager
    def _step(self, name: str) -> Iterator[str | None]:
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as span:
            try:
                yield text_of(span)
            except BaseException as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise

    @harmless
    def brought(self, extensions: Sequence[str | None]) -> None:
        """A span in the trace of each event that brings one, and a link from it to the request that brought it."""
        request = Link(get_current_span().get_span_context())
        for one in event_traces(extensions):
            span = self._tracer.start_span("accept", inside(one.context), SpanKind.SERVER, links=[request])
            span.set_attribute(_EVENTS, one.end - one.start)
            span.end()

"""Where spans go: by OTLP over HTTP, in batches, from a thread of its own; its bounded queue drops what it cannot hold.

Off unless `--otlp` or the standard environment says where to: then nothing of OpenTelemetry is even imported.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from ingest.door import RequestTracer
from rating.spend.view import ApplyObserver
from streams.processor import StepObserver

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

STOP_S: Final = 3.0
"""How long the end of a process waits for the last spans to go out."""
_PATH: Final = "/v1/traces"
_PLACES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")


class TracingRefused(ValueError):
    """A setting of tracing is wrong; the message names it, what was found and what was expected."""


class Tracing:
    """Traces of this process. The observers are given to the parts that are observed."""

    def __init__(self, provider: "TracerProvider") -> None:
        from taximeter.tracing.applied import ApplyTracer
        from taximeter.tracing.requests import DoorTracer
        from taximeter.tracing.steps import StepTracer

        self._provider = provider
        self.tracer: Tracer = provider.get_tracer("taximeter")
        self.door: RequestTracer = DoorTracer(self.tracer)
        self.steps: StepObserver = StepTracer(self.tracer)
        self.store: ApplyObserver = ApplyTracer(self.tracer)

    def stop(self) -> None:
        """Sends what waits, for STOP_S at most: a collector that does not answer holds no process up."""
        last = threading.Thread(target=self._provider.shutdown, name="traces-end", daemon=True)
        last.start()
        last.join(STOP_S)


@contextmanager
def tracing(otlp: str | None, service: str) -> Iterator[Tracing | None]:
    """Traces while the block runs, as `serve`, `ingest`, …; None where nobody said where to.

    `otlp`: the collector's base URL, as of OTEL_EXPORTER_OTLP_ENDPOINT. Raises: TracingRefused.
    """
    if not wanted(otlp, os.environ):
        yield None
        return
    found = Tracing(_provider(otlp, service))
    try:
        yield found
    finally:
        found.stop()


@asynccontextmanager
async def traced(otlp: str | None, service: str) -> AsyncIterator[Tracing | None]:
    """The same on an event loop, which goes on while the last spans go out."""
    found = Tracing(_provider(otlp, service)) if wanted(otlp, os.environ) else None
    try:
        yield found
    finally:
        if found is not None:
            await asyncio.to_thread(found.stop)


def wanted(otlp: str | None, environment: Mapping[str, str]) -> bool:
    """Whether anybody asks for traces. Raises: TracingRefused."""
    if otlp is not None:
        endpoint(otlp)
    elif not any(environment.get(name) for name in _PLACES):
        return False
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if otlp is None and environment.get("OTEL_TRACES_EXPORTER", "otlp").strip() not in ("otlp", ""):
        return False
    for name in _PROTOCOLS:
        if environment.get(name, "http/protobuf") != "http/protobuf":
            raise TracingRefused(f"{name}: found {environment[name]!r}, expected http/protobuf")
    return True


def endpoint(otlp: str) -> str:
    """Where spans are posted to. Raises: TracingRefused."""
    url = urlsplit(otlp)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise TracingRefused(f"--otlp: found {otlp!r}, expected a URL such as http://127.0.0.1:4318")
    return otlp if url.path.endswith(_PATH) else otlp.rstrip("/") + _PATH


def _provider(otlp: str | None, service: str) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if named else {"service.name": f"taximeter-{service}"})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=None if otlp is None else endpoint(otlp))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider

"""An OTLP collector: takes spans over HTTP as the specification says, and keeps them."""

import gzip
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

WAIT_S = 30.0


class Seen(NamedTuple):
    """One span; ids are hexadecimal."""

    service: str
    name: str
    trace: str
    span: str
    parent: str
    links: list[str]
    """The traces that it links to."""
    attributes: dict[str, Any]
    begun_ns: int
    ended_ns: int


class Collector:
    """Listens while the block runs."""

    def __init__(self) -> None:
        self.spans: list[Seen] = []
        self.bodies: list[bytes] = []

    def __enter__(self) -> "Collector":
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """For `--otlp`."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, body: bytes) -> None:
        """One request's spans. Raises: DecodeError where it is none of the protocol's."""
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            service = next(one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
            for scope in resource.scope_spans:
                self.spans += [_seen(service, span) for span in scope.spans]

    def of(self, trace: str) -> list[Seen]:
        """The spans of one trace."""
        return [span for span in list(self.spans) if span.trace == trace]

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Waits until the condition holds. Raises: AssertionError, with what has come."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            come = sorted({(span.service, span.name, span.trace[:6]) for span in self.spans})
            assert time.monotonic() < deadline, f"not within {WAIT_S:.0f} s: {what}; {come}"
            time.sleep(0.05)


def _seen(service: str, span: Any) -> Seen:
    values = {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}
    return Seen(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        [link.trace_id.hex() for link in span.links],
        values,
        span.start_time_unix_nano,
        span.end_time_unix_nano,
    )

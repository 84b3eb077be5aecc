"""The health port of a rating worker: whether it lives, whether it is ready, its metrics and its status.

A thread of its own answers, so that a worker whose event loop stands still can say so.
"""

import sys
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import msgspec

from ingest.compat.errors import problem
from schemas import topics
from taximeter.access.front import HealthFront
from taximeter.access.gate import Refused
from taximeter.http import live_answer, ready_answer
from taximeter.metrics import CONTENT_TYPE, Measured, render
from taximeter.observe import EngineTotals
from taximeter.process import say
from taximeter.status import make_status
from taximeter.status_http import METRICS_PATH, STATUS_PATH
from taximeter.status_worker import worker_status

if TYPE_CHECKING:  # whoever runs no worker does not load Faust
    from streams.kafka.host import Worker, WorkerState

_JSON = "application/json"
_SLOW_S = 20.0
_Answer = tuple[int, str, bytes]


class WorkerHealth:
    """Says when the worker owns its partitions: on standard output, and over HTTP where a port is given."""

    def __init__(self, totals: EngineTotals, host: str, port: int | None, front: HealthFront | None = None) -> None:
        """`front`: who may ask, and TLS; None: everybody, without."""
        self._totals = totals
        self._worker: Worker | None = None
        self.front = front
        self._server: ThreadingHTTPServer | None = None
        if port is not None:
            self._server = _Server((host, port), _handler(self))
            threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    @property
    def port(self) -> int | None:
        """Where it answers."""
        return None if self._server is None else self._server.server_address[1]

    def watch(self, worker: "Worker") -> None:
        """Answers for this worker from now on."""
        self._worker = worker

    def tell(self, state: "WorkerState") -> None:
        """Takes the state after ownership has changed."""
        if state.ready:
            owned = sorted(partition for topic, partition in state.partitions if topic == topics.EVENTS)
            say(f"taximeter rate: ready, owns partitions {owned}")

    def stop(self) -> None:
        """Closes the port."""
        if self._server is not None:
            self._server.shutdown()

    def answer(self, path: str, headers: Iterable[tuple[str, str]] = ()) -> _Answer:
        """Status, media type and body. Raises: Refused."""
        if self.front is not None:
            pairs = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            self.front.gate.admit("GET", path.partition("?")[0], pairs)
        found = _ANSWERS.get(path)
        return found(self) if found is not None else (404, _JSON, b'{"status":"not found"}')

    def _live(self) -> _Answer:
        return _json(*live_answer([] if self._worker is None else self._worker.watchdog.near()))

    def _ready(self) -> _Answer:
        if self._worker is None:
            return _json(*ready_answer({"started": False}, {}))
        state = self._worker.state
        conditions = {"group": state.joined, "partitions": state.ready, "caught_up": state.caught_up}
        waiting = {
            f"{source}[{partition}]": f"{one.doing} at position {one.position}"
            for (source, partition), one in state.partitions.items()
            if not one.caught_up
        }
        return _json(*ready_answer(conditions, waiting))

    def _metrics(self) -> _Answer:
        return 200, CONTENT_TYPE, render(self._measure())

    def _status(self) -> _Answer:
        return 200, _JSON, msgspec.json.encode(self._measure().status)

    def _measure(self) -> Measured:
        if self._worker is None:
            return Measured(make_status("kafka worker", [], ready=False))
        counters = self._worker.state.counters
        steps = {
            partition: (one.step_seconds, one.step_seconds_sum)
            for (source, partition), one in counters.items()
            if source == topics.EVENTS
        }
        return Measured(worker_status(self._worker, self._totals), steps)


_ANSWERS: dict[str, Callable[[WorkerHealth], _Answer]] = {
    "/health/live": WorkerHealth._live,
    "/health/ready": WorkerHealth._ready,
    METRICS_PATH: WorkerHealth._metrics,
    STATUS_PATH: WorkerHealth._status,
}


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """A client that went away, or does not speak TLS: nothing to be said of it."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(*_)


def _json(status: int, body: dict[str, object]) -> _Answer:
    return status, _JSON, msgspec.json.encode(body)


def _handler(health: WorkerHealth) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SLOW_S

        def setup(self) -> None:
            if health.front is not None and health.front.tls is not None:
                tls = health.front.tls
                tls.reload()  # a connection of a probe is rare
                self.request.settimeout(_SLOW_S)
                self.request = tls.context.wrap_socket(self.request, server_side=True)
            super().setup()

        def finish(self) -> None:
            super().finish()
            self.request.close()  # the server closes the plain socket, which is empty under TLS

        def do_GET(self) -> None:
            headers: Iterable[tuple[bytes, bytes]] = ()
            try:
                status, media_type, body = health.answer(self.path, self.headers.items())
            except Refused as refused:
                said, headers = problem(refused.failure), refused.headers
                status, media_type, body = refused.failure.status, said.media_type.decode(), said.content
            self.send_response(status)
            for name, value in headers:
                self.send_header(name.decode(), value.decode())
            self.send_header("Content-Type", media_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: a probe every second is no news."""

    return Handler

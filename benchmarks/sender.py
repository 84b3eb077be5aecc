"""The load: a process of its own that posts prepared requests over keep-alive connections, one thread for each.

As fast as it is let: no more than `outstanding` events may be accepted and not yet rated (who watches the journal says
how many are: `Shared.rated`). With a `rate`, at set times whether or not earlier requests are answered: what could not
be sent in time is sent late, and the door's latency counts from when it was due.
"""

import multiprocessing
import queue
import socket
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from typing import Any, Final
from urllib.parse import urlsplit

from benchmarks.bodies import BODY_EVENTS, Usage, make_templates, probe
from taximeter.process import spare_the_collector

_CONTEXT: Final = multiprocessing.get_context("spawn")
_PROBERS: Final = 8
"""Connections that probes are sent by."""
_PAUSE_S: Final = 0.002
_BUSY_PAUSE_S: Final = 0.05
_READY_S: Final = 120.0
_IDLE_S_MAX: Final = 2.0
"""The door closes a connection that is idle for five seconds."""
_NOT_TAKEN: Final = (429, 503)


@dataclass(frozen=True)
class Load:
    """What is sent."""

    url: str
    seconds: float
    rate: float | None = None
    """Events a second; None: as fast as it is let."""
    connections: int = 8
    templates: int = 200
    customers: int = 20_000
    outstanding: int = 400_000
    probes: float = 50.0
    """A second: requests with the first event of a new customer, to see when its line items come."""
    warm_up: float = 0.0
    """Seconds before `seconds`: what is sent in them is not timed. Java compiles its hot code meanwhile."""


@dataclass
class Sent:
    """What was answered for."""

    events: int = 0
    usage: Usage = field(default_factory=Usage.none)
    began: float = 0.0
    ended: float = 0.0
    """Seconds since the epoch: before the first request, and when the last was answered."""
    latencies: list[float] = field(default_factory=list)
    """Of requests of 1,000 events after the warm-up, in seconds; with a rate, from when each was due."""
    probed: dict[int, float] = field(default_factory=dict)
    """Number of a probe after the warm-up -> when it was answered, in seconds since the epoch."""
    refused: int = 0
    """429 and 503: sent again with the same ids."""
    faults: list[str] = field(default_factory=list)


class Shared:
    """Two counts that the processes share: events that the door accepted, events that are rated."""

    def __init__(self) -> None:
        self.accepted: Any = _CONTEXT.Value("q", 0)
        self.rated: Any = _CONTEXT.Value("q", 0, lock=False)


class Sender:
    """The process. `start` when it has made its requests, `result` waits for its end."""

    def __init__(self, load: Load) -> None:
        self.shared = Shared()
        self._go, self._ready = _CONTEXT.Event(), _CONTEXT.Event()
        self._results: Any = _CONTEXT.Queue()
        arguments = (load, self.shared, self._ready, self._go, self._results)
        self._process: SpawnProcess = _CONTEXT.Process(target=_run, args=arguments, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return int(self._process.pid or 0)

    def start(self) -> None:
        """Waits until the requests are made, and begins. Raises: RuntimeError."""
        if not self._ready.wait(_READY_S):
            raise RuntimeError("the load generator did not get ready")
        self._go.set()

    def result(self, seconds: float) -> Sent | None:
        """What was sent; None while it goes on. Raises: RuntimeError where the process has failed."""
        try:
            return self._results.get(timeout=seconds)  # type: ignore[no-any-return]
        except queue.Empty:
            if not self._process.is_alive():
                raise RuntimeError(f"the load generator ended with {self._process.exitcode}") from None
            return None


def _run(load: Load, shared: Shared, ready: Any, go: Any, results: Any) -> None:
    spare_the_collector()
    sending = _Sending(load, shared)
    ready.set()
    go.wait()
    results.put(sending.run())


class _Sending:
    def __init__(self, load: Load, shared: Shared) -> None:
        self._load, self._shared = load, shared
        parts = urlsplit(load.url)
        self._address = (str(parts.hostname), int(parts.port or 80))
        self._host = f"{parts.hostname}:{parts.port}"
        self._templates = make_templates(load.templates, load.customers, self._host)
        self._times = [0] * load.templates
        self._sent = Sent()
        self._probes: list[Usage] = []
        self._lock = threading.Lock()
        self._number = 0

    def run(self) -> Sent:
        load, sent = self._load, self._sent
        sent.began = time.time()
        self._begin = time.perf_counter()
        self._timed = self._begin + load.warm_up
        self._end = self._timed + load.seconds
        threads = [threading.Thread(target=self._guarded, args=(self._flood, i)) for i in range(load.connections)]
        if load.probes:
            threads += [threading.Thread(target=self._guarded, args=(self._probe, i)) for i in range(_PROBERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sent.ended = time.time()
        for template, times in zip(self._templates, self._times, strict=True):
            if times:  # a customer of whom nothing was sent owes nothing
                sent.usage.add(template.usage, times)
        for usage in self._probes:
            sent.usage.add(usage)
        return sent

    def _guarded(self, work: Any, number: int) -> None:
        try:
            work(number)
        except Exception as error:
            self._sent.faults.append(repr(error))
            self._end = 0.0

    def _next(self) -> int:
        with self._lock:
            self._number += 1
            return self._number - 1

    def _flood(self, first: int) -> None:
        """One connection; it alone uses every `connections`-th template."""
        load, at, latencies = self._load, first, []
        with _Connection(self._address) as connection:
            while time.perf_counter() < self._end:
                if load.rate is None and self._is_ahead():
                    time.sleep(_PAUSE_S)
                    continue
                number = self._next()
                due = self._wait_until_due(number)
                if due >= self._end:
                    break
                template = self._templates[at]
                self._post(connection, template.take(number), template.events)
                if due >= self._timed:
                    latencies.append(time.perf_counter() - due)
                self._times[at] += 1
                at = (at + load.connections) % load.templates if at + load.connections < load.templates else first
        self._sent.latencies += latencies

    def _is_ahead(self) -> bool:
        return bool(self._shared.accepted.value - self._shared.rated.value > self._load.outstanding)

    def _wait_until_due(self, number: int) -> float:
        if self._load.rate is None:
            return time.perf_counter()
        due = self._begin + number * BODY_EVENTS / self._load.rate
        if (ahead := due - time.perf_counter()) > 0:
            time.sleep(ahead)
        return due

    def _probe(self, first: int) -> None:
        """Every `_PROBERS`-th probe: one that is due while its connection waits for an answer is left out."""
        number, every = first, 1 / self._load.probes
        with _Connection(self._address) as connection:
            while (due := self._begin + number * every) < self._end:
                if (ahead := due - time.perf_counter()) > -every:
                    time.sleep(max(ahead, 0.0))
                    template = probe(number, self._host)
                    self._post(connection, template.take(number), 1)
                    if due >= self._timed:
                        self._sent.probed[number] = time.time()
                    self._probes.append(template.usage)
                number += _PROBERS

    def _post(self, connection: "_Connection", request: memoryview, events: int) -> None:
        """Until the door has answered for it."""
        while (answer := connection.ask(request))[0] in _NOT_TAKEN:
            self._sent.refused += 1
            time.sleep(_BUSY_PAUSE_S)
        status, body = answer
        if status != 200 or b'"accepted":%d,"duplicates":0,"rejected":0' % events not in body:
            raise RuntimeError(f"found {status} {body[:300]!r}, expected {events} accepted")
        with self._shared.accepted.get_lock():
            self._shared.accepted.value += events
            self._sent.events += events


class _Connection:
    """One keep-alive connection. A context manager."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._open()

    def _open(self) -> None:
        self._socket = socket.create_connection(self._address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._used = time.monotonic()

    def __enter__(self) -> "_Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(self, request: memoryview) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if time.monotonic() - self._used > _IDLE_S_MAX:
            self._socket.close()
            self._open()
        self._socket.sendall(request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._receive()
        head, _, body = answer.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        while len(body) < length:
            body += self._receive()
        self._used = time.monotonic()
        return int(head.split(b" ", 2)[1]), body

    def _receive(self) -> bytes:
        part = self._socket.recv(65536)
        if not part:
            raise RuntimeError("the door closed the connection")
        return part

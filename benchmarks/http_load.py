"""Load on a door over HTTP, from a process of its own: raw sockets, requests made beforehand but for their ids.

*Closed*: every connection has `pipeline` requests on the way, and sends the next ones when all are answered. *Open*:
requests are due at set times whether or not earlier ones are answered, and what a request took counts from when it was
due: a server that stands still for a second is charged for every request of that second.
"""

import multiprocessing
import os
import random
import re
import select
import socket
import time
from collections import Counter, deque
from multiprocessing.connection import Connection
from typing import NamedTuple

import msgspec

_LENGTH = re.compile(rb"content-length: (\d+)", re.I)
_SUBJECTS = 200
_BODIES = 20


class Load(NamedTuple):
    """What is sent, and how. `events` of one: an event by itself; of more: an array. `rate`: requests a second, open
    loop; nought: closed loop."""

    port: int
    key: str = ""
    seconds: float = 5
    connections: int = 128
    pipeline: int = 1
    events: int = 1
    rate: float = 0
    warm_s: float = 1


class Sent(NamedTuple):
    """What became of it after the warming up: answers by status, how long each took (seconds), the load's own CPU.
    `before`: how many were answered while it warmed up."""

    statuses: Counter[int]
    took: list[float]
    seconds: float
    cpu_s: float
    before: int


class _Requests:
    """Requests one after the other, no id twice."""

    def __init__(self, load: Load) -> None:
        chance = random.Random(1)
        self._marks = [b"@%015d" % n for n in range(load.events)]
        kind = b"application/cloudevents-batch+json" if load.events > 1 else b"application/cloudevents+json"
        self._parts: list[list[bytes]] = []
        for _ in range(_BODIES if load.events > 1 else _SUBJECTS):
            events = [_event(chance, mark.decode()) for mark in self._marks]
            body = msgspec.json.encode(events if load.events > 1 else events[0])
            key = b"authorization: Bearer %b\r\n" % load.key.encode() if load.key else b""
            head = b"POST /v1/events HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: %b\r\n%b" % (kind, key)
            whole = b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
            self._parts.append(re.split(rb"@\d{15}", whole))
        self._prefix = os.getpid() % 4096 << 48
        self._number = 0

    def next(self) -> bytes:
        """One more."""
        parts = self._parts[self._number % len(self._parts)]
        pieces = [parts[0]]
        for part in parts[1:]:
            pieces += b"%016x" % (self._prefix + self._number), part
            self._number += 1
        return b"".join(pieces)


def _event(chance: random.Random, id: str) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": id,
        "source": "api-gateway",
        "type": "llm.request",
        "subject": f"customer-{chance.randrange(_SUBJECTS)}",
        "data": {"tokens": chance.randrange(10_000), "model": chance.choice(["large", "small"])},
    }


class _Line:
    """One connection."""

    def __init__(self, load: Load) -> None:
        self.socket = socket.create_connection(("127.0.0.1", load.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.since: deque[float] = deque()
        self._buffer = b""

    def read(self, sent: Sent) -> None:
        """Takes the answers that are there."""
        part = self.socket.recv(262144)
        if not part:
            raise ConnectionError("the server has closed a connection")
        self._buffer += part
        now, at = time.perf_counter(), 0
        while (end := self._buffer.find(b"\r\n\r\n", at)) >= 0:
            found = _LENGTH.search(self._buffer, at, end)
            whole = end + 4 + (int(found[1]) if found else 0)
            if whole > len(self._buffer):
                break
            sent.statuses[int(self._buffer[at + 9 : at + 12])] += 1
            sent.took.append(now - self.since.popleft())
            at = whole
        self._buffer = self._buffer[at:]


def _run(load: Load, pipe: Connection) -> None:
    requests, lines = _Requests(load), [_Line(load) for _ in range(load.connections)]
    poll, by_number = select.epoll(), {}
    for line in lines:
        poll.register(line.socket, select.EPOLLIN)
        by_number[line.socket.fileno()] = line
    sent, cold, cpu = Sent(Counter(), [], 0, 0, 0), True, 0.0
    began = time.perf_counter()
    warm, end = began + load.warm_s, began + load.warm_s + load.seconds
    free, due, number = list(lines), deque[float](), 0
    while (now := time.perf_counter()) < end:
        if cold and now > warm:
            cold, sent, cpu = False, Sent(Counter(), [], 0, 0, len(sent.took)), time.process_time()
            pipe.send("begun")
        if load.rate:
            while (at := began + number / load.rate) <= now:
                due.append(at)
                number += 1
            while due and free:
                line = free.pop()
                line.since.append(due.popleft())
                line.socket.sendall(requests.next())
            wait = 0.0005
        else:
            for line in free:
                line.since.extend([time.perf_counter()] * load.pipeline)
                line.socket.sendall(b"".join(requests.next() for _ in range(load.pipeline)))
            free.clear()
            wait = 0.1
        for handle, _ in poll.poll(wait):
            line = by_number[handle]
            line.read(sent)
            if not line.since:
                free.append(line)
    pipe.send(sent._replace(cpu_s=time.process_time() - cpu, seconds=load.seconds))


class Running:
    """A load that runs and has warmed up."""

    def __init__(self, load: Load) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(target=_run, args=(load, theirs))
        self._process.start()
        self._pipe.recv()

    def result(self) -> Sent:
        """Waits for its end."""
        found: Sent = self._pipe.recv()
        self._process.join()
        return found

"""How many small requests a second a real server takes: `python -m benchmarks.small_requests [--seconds S] [...]`.

Starts `taximeter serve` with an API key, and sends it single events over raw sockets from processes of their own, on
connections that stay open, each with `--pipeline` requests on the way at once; beside them `--batches` requests a
second with 1,000 events each. Nothing is answered before it is on disk. Says the rate, every answer that was not 200,
how long answers took, and how much of a core the server and the load had: on a small machine they share it, so a rate
is that of server and load together. `--url` measures a server that runs already (give it `--key`).

Times are from the moment when a request is written to when its answer has been read: with a pipeline, those behind wait
for those before them.
"""

import argparse
import contextlib
import multiprocessing
import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

BATCH_EVENTS = 1000
WARM_S = 1.0
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_LENGTH = re.compile(rb"content-length: (\d+)", re.I)


class Load(NamedTuple):
    """What one process sends: `host`, `port`, the header that says the key; for how long, and how much at once."""

    host: str
    port: int
    key: str
    seconds: float
    connections: int
    pipeline: int
    batches: float = 0


class Sent(NamedTuple):
    """What became of it: how many answers of each status, and how long each took (seconds)."""

    statuses: Counter[int]
    took: list[float]
    cpu_s: float


def _event(id: str) -> str:
    head = f'{{"specversion":"1.0","id":"{id}","source":"api-gateway","type":"llm.request"'
    return f'{head},"subject":"customer-{hash(id) % 200}","data":{{"tokens":1200,"model":"large"}}}}'


def _request(load: Load, body: str, kind: str) -> bytes:
    authorization = f"authorization: Bearer {load.key}\r\n" if load.key else ""
    head = f"POST /v1/events HTTP/1.1\r\nhost: {load.host}\r\ncontent-type: {kind}\r\n{authorization}"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


class _Line:
    """One connection: what is on the way, and what has come of the answers."""

    def __init__(self, load: Load, name: str) -> None:
        self.socket = socket.create_connection((load.host, load.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._load, self._name, self._number = load, name, 0
        self._buffer = b""
        self.waiting = 0
        self._began = 0.0

    def send(self) -> None:
        """As many requests as may be on the way, in one write."""
        self.waiting = self._load.pipeline
        ids = (f"{self._name}-{self._number + n}" for n in range(self.waiting))
        self._number += self.waiting
        parts = b"".join(_request(self._load, _event(id), "application/json") for id in ids)
        self._began = time.perf_counter()
        self.socket.sendall(parts)

    def read(self, sent: Sent) -> None:
        """Takes the answers that are there."""
        part = self.socket.recv(262144)
        if not part:
            raise ConnectionError("the server has closed a connection")
        self._buffer += part
        took = time.perf_counter() - self._began
        at = 0
        while (end := self._buffer.find(b"\r\n\r\n", at)) >= 0:
            found = _LENGTH.search(self._buffer, at, end)
            whole = end + 4 + (int(found[1]) if found else 0)
            if whole > len(self._buffer):
                break
            sent.statuses[int(self._buffer[at + 9 : at + 12])] += 1
            sent.took.append(took)
            self.waiting -= 1
            at = whole
        self._buffer = self._buffer[at:]


def _singles(load: Load, name: str, pipe: Connection) -> None:
    """Single events, as fast as they are answered."""
    sent = Sent(Counter(), [], 0)
    lines = [_Line(load, f"{name}-{n}") for n in range(load.connections)]
    with selectors.DefaultSelector() as selector:
        for line in lines:
            line.socket.setblocking(True)
            selector.register(line.socket, selectors.EVENT_READ, line)
            line.send()
        warm = time.perf_counter() + WARM_S
        end, cold = warm + load.seconds, True
        while (now := time.perf_counter()) < end:
            if cold and now > warm:
                cold, sent = False, Sent(Counter(), [], time.process_time())
            for key, _ in selector.select(0.1):
                key.data.read(sent)
                if not key.data.waiting:
                    key.data.send()
    pipe.send(sent._replace(cpu_s=time.process_time() - sent.cpu_s))


def _batches(load: Load, name: str, pipe: Connection) -> None:
    """Requests with many events, at a steady rate; late ones count from when they were due."""
    sent = Sent(Counter(), [], 0)
    line = _Line(load, name)
    began, number = time.perf_counter() + WARM_S, 0
    while number < load.seconds * load.batches:
        due = began + number / load.batches
        time.sleep(max(due - time.perf_counter(), 0))
        body = "\n".join(_event(f"{name}-{number}-{n}") for n in range(BATCH_EVENTS))
        line.waiting, line._began = 1, due
        line.socket.sendall(_request(load, body, "application/x-ndjson"))
        while line.waiting:
            line.read(sent)
        number += 1
    pipe.send(sent._replace(cpu_s=time.process_time()))


def _run(load: Load, clients: int) -> tuple[list[Sent], list[Sent]]:
    """What the processes with single events and the one with batches have seen."""
    jobs = [(_singles, f"s{n}") for n in range(clients)] + ([(_batches, "b")] if load.batches else [])
    started = []
    for target, name in jobs:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=target, args=(load, f"{os.getpid()}-{name}", theirs))
        process.start()
        started.append((target, process, ours))
    found = [(target, ours.recv()) for target, _, ours in started]
    for _, process, _ in started:
        process.join()
    return [sent for target, sent in found if target is _singles], [s for target, s in found if target is _batches]


@contextlib.contextmanager
def _serving(keys: bool) -> Iterator[tuple[str, str, int]]:
    """A server on a folder of its own: its URL, a key and its process id."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "taximeter"]
        book = Path(folder) / "book.yaml"
        book.write_text(_BOOK)
        create = [*command, "keys", "create", "--data", f"{folder}/data", "--name", "load", "--scope", "ingest"]
        key = subprocess.run(create, check=True, capture_output=True, text=True).stdout.strip() if keys else ""
        serve = [*command, "serve", "--data", f"{folder}/data", "--catalogue", str(book), "--port", "0"]
        process = subprocess.Popen(serve, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        url = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
        try:
            yield url, key, process.pid
        finally:
            process.terminate()
            process.wait()


_BOOK = """
meters: {tokens: {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model}}}
price_books: {b: {currency: USD, charges: {tokens: {meter: tokens, group_by: [model], price: {model: unit, unit_amount: "0.00001"}}}}}
default_subscription: {price_book: b, period: month}
"""  # noqa: E501


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def _said(name: str, sent: list[Sent], seconds: float) -> str:
    took = sorted(one for part in sent for one in part.took)
    statuses = sum((part.statuses for part in sent), Counter[int]())
    errors = {status: count for status, count in statuses.items() if status != 200}
    good = statuses[200] / seconds
    at = {share: took[min(int(len(took) * share), len(took) - 1)] * 1000 if took else 0 for share in (0.5, 0.99)}
    return f"{name}: {good:,.0f} a second, errors {errors or 'none'}, p50 {at[0.5]:.1f} ms, p99 {at[0.99]:.1f} ms"


def measure(given: argparse.Namespace, url: str, key: str, pid: int | None) -> None:
    """Prints what one run has come to."""
    place = urlsplit(url)
    load = Load(
        place.hostname or "", place.port or 80, key, given.seconds, given.connections, given.pipeline, given.batches
    )
    before = 0.0 if pid is None else _cpu_s(pid)
    began = time.perf_counter()
    singles, batches = _run(load, given.clients)
    took = time.perf_counter() - began
    print(_said("single events", singles, given.seconds))
    if batches:
        print(_said(f"batches of {BATCH_EVENTS:,}", batches, given.seconds))
    share = sum(part.cpu_s for part in singles + batches) / given.seconds
    server = "" if pid is None else f", the server's {(_cpu_s(pid) - before) / took:.2f}"
    machine = f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"the load's share of a core {share:.2f}{server}; {machine}")


def main() -> None:
    """Prints the rate, the errors and the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--clients", type=int, default=2, help="processes that send single events")
    parser.add_argument("--connections", type=int, default=32, help="of each of them")
    parser.add_argument("--pipeline", type=int, default=1, help="requests on the way on each connection")
    parser.add_argument("--batches", type=float, default=5, help="requests with 1,000 events a second beside them")
    parser.add_argument("--no-key", action="store_true", help="a server that asks for none")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--key", default="", help="of --url")
    given = parser.parse_args()
    if given.url:
        measure(given, given.url, given.key, None)
        return
    with _serving(not given.no_key) as (url, key, pid):
        measure(given, url, key, pid)


if __name__ == "__main__":
    main()

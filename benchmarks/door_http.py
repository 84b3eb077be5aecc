"""The door over HTTP: a server process with keys in front and a durable log behind, and the load in another process.

Nothing is answered before it is on disk. A rate by the clock is that of server, load and whatever else the machine
does; what the server's CPU took for a request is its own, and says what one core can do. Each run is checked: what was
answered with 200 is in the log, and the log holds nothing that was not sent.
"""

import contextlib
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.http_load import Load, Running, Sent
from benchmarks.result import CPU_MICROS, Figure, figure, latencies
from schemas.entry import EVENTS

SINGLES: Final = Load(0, connections=256)
BATCHES: Final = Load(0, connections=4, events=1000)
KINDS: Final = ("door", "ordinary", "serve")
_BOOK: Final = """
meters: {tokens: {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model}}}
price_books:
  b:
    currency: USD
    charges: {tokens: {meter: tokens, group_by: [model], price: {model: unit, unit_amount: "0.00001"}}}
default_subscription: {price_book: b, period: month}
"""


class Run(NamedTuple):
    """What one run has come to. `cpu_s`: the server's while the load was measured."""

    load: Load
    sent: Sent
    cpu_s: float
    took_s: float

    @property
    def rate(self) -> float:
        """Requests a second, by the clock."""
        return self.sent.statuses[200] / self.sent.seconds

    @property
    def cpu_us(self) -> float:
        """What the server's CPU took for a request, in microseconds."""
        share = self.sent.seconds / self.took_s
        return 1e6 * self.cpu_s * share / max(self.sent.statuses.total(), 1)

    def quantile(self, share: float) -> float:
        """How long an answer took, in milliseconds."""
        rising = sorted(self.sent.took)
        return 1000 * rising[min(int(len(rising) * share), len(rising) - 1)] if rising else 0.0

    def __str__(self) -> str:
        errors = {status: count for status, count in self.sent.statuses.items() if status != 200}
        events = f", {self.rate * self.load.events:,.0f} events/s" if self.load.events > 1 else ""
        core = 1e6 / self.cpu_us * self.load.events
        return (
            f"{self.rate:,.0f} requests/s{events}, errors {errors or 'none'}; p50 {self.quantile(0.5):.1f} ms, "
            f"p99 {self.quantile(0.99):.1f} ms; {self.cpu_us:.1f} µs of the server's CPU each: {core:,.0f} events/s "
            f"of one core; cores taken: server {self.cpu_s / self.took_s:.2f}, "
            f"load {self.sent.cpu_s / self.sent.seconds:.2f}"
        )


class Server(NamedTuple):
    """A server that runs: its port, an API key, its process, its folder."""

    port: int
    key: str
    pid: int
    folder: Path


@contextlib.contextmanager
def serving(kind: str, folder: Path) -> Iterator[Server]:
    """`door`: a door alone; `ordinary`: the same without the fast lane; `serve`: all that `taximeter serve` is."""
    command, data = [sys.executable, "-m"], folder / "data"
    create = [*command, "taximeter", "keys", "create", "--data", str(data), "--name", "load", "--scope", "ingest"]
    key = subprocess.run(create, check=True, capture_output=True, text=True).stdout.strip()
    if kind == "serve":
        (folder / "book.yaml").write_text(_BOOK)
        options = ["serve", "--data", str(data), "--catalogue", str(folder / "book.yaml"), "--port", "0"]
        command += ["taximeter", *options]
    else:
        command += ["benchmarks.door_server", str(data), *(["--ordinary"] if kind == "ordinary" else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
        yield Server(int(url.rsplit(":", 1)[1]), key, process.pid, data)
    finally:
        process.terminate()
        process.wait()


def run(kind: str, load: Load, *, where: Path | None = None) -> Run:
    """One load on a new server. `where`: the disk. Exits where something was answered that is not in the log."""
    with tempfile.TemporaryDirectory(prefix="door-", dir=where) as name:
        with serving(kind, Path(name)) as server:
            running = Running(load._replace(port=server.port, key=server.key))
            cpu, began = _cpu_s(server.pid), time.perf_counter()
            sent = running.result()
            found = Run(load, sent, _cpu_s(server.pid) - cpu, time.perf_counter() - began)
        _check(load, sent, server.folder)
    return found


def _check(load: Load, sent: Sent, folder: Path) -> None:
    """Every event of an answer with 200 is in the log, once; what is there beyond was on the way at the end. Counted in
    the packs themselves, as any reader of Arrow reads them."""
    answered = (sent.before + sent.statuses[200]) * load.events
    packs: list[pa.ChunkedArray] = []
    with contextlib.closing(sqlite3.connect(folder / "log.sqlite")) as log:
        (number,) = log.execute("SELECT id FROM topics WHERE name = 'taximeter.events'").fetchone()
        for (value,) in log.execute(f"SELECT value FROM topic_{number}_0"):
            if value[1] == EVENTS:
                packs.append(pa.ipc.open_stream(memoryview(value)[2:]).read_all()["id"])
    held = sum(map(len, packs))
    different = pc.count_distinct(pa.chunked_array([chunk for ids in packs for chunk in ids.chunks])).as_py()
    on_the_way = load.connections * load.pipeline * load.events
    if sent.statuses.keys() - {200} or not answered <= held <= answered + on_the_way or different != held:
        found = f"{held} in the log, {different} of them different, {dict(sent.statuses)}"
        sys.exit(f"a wrong result is no result: {answered} events answered, {found}")


def _cpu_s(pid: int) -> float:
    """What all threads of a process have had of the CPU: its own clock (Linux: clock_getcpuclockid)."""
    return time.clock_gettime(~pid << 3 | 2)


class Case(NamedTuple):
    """A load, and what it is called; `half`: it is half of what one core must take, and its answers' times count."""

    workload: str
    load: Load
    half: bool = False


def measure_http(kinds: Sequence[str], seconds: float, repeat: int, rate: float, where: Path | None) -> list[Figure]:
    """Runs each case in turns, prints a line for each run. Returns the figures."""
    cases = (
        Case("batches of 1,000", BATCHES),
        Case("single events", SINGLES),
        Case("single events, 8 on the way", SINGLES._replace(connections=64, pipeline=8)),
        Case("single events", SINGLES._replace(rate=rate), half=True),
    )
    found: dict[tuple[str, Case], list[Run]] = {(kind, case): [] for case in cases for kind in kinds}
    for _ in range(repeat):
        for (kind, case), runs in found.items():
            runs.append(run(kind, case.load._replace(seconds=seconds), where=where))
            at = f" at {case.load.rate:,.0f}/s" if case.half else ""
            print(f"{kind:<8} {case.workload}{at}: {runs[-1]}", flush=True)
    return [one for (kind, case), runs in found.items() for one in _figures(kind, case, runs)]


def _figures(kind: str, case: Case, runs: Sequence[Run]) -> list[Figure]:
    """What some runs of one case say."""
    workload = case.workload if kind == "door" else f"{case.workload}, {kind}"
    load = case.load
    say = partial(
        figure,
        "door",
        workload,
        checked="the log's packs: each event answered for is there, once",
        settings={"seconds": runs[0].load.seconds, "connections": load.connections, "on the way": load.pipeline},
    )
    if case.half:
        told = partial(figure, "door", workload, checked="the log's packs: each event answered for is there, once")
        return latencies(told, "answer", 50, [took for one in runs for took in one.sent.took])
    return [
        say("durable", "events/s of one core", [1e6 * load.events / one.cpu_us for one in runs]),
        say("of the server", CPU_MICROS, [one.cpu_us / load.events for one in runs]),
        say("by the clock", "events/s", [one.rate * load.events for one in runs]),
        say("p99, as many as it takes", "ms", [one.quantile(0.99) for one in runs]),
    ]

"""The door over HTTP: a server process with keys in front and a durable log behind, and the load in another process.

Nothing is answered before it is on disk. A rate by the clock is that of server, load and whatever else the machine
does; what the server's CPU took for a request is its own, and says what one core can do. Each run is checked: what was
answered with 200 is in the log, and the log holds nothing that was not sent.
"""

import contextlib
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.http_load import Load, Running, Sent

SINGLES: Final = Load(0, connections=256)
BATCHES: Final = Load(0, connections=4, events=1000)
KINDS: Final = ("door", "ordinary", "serve")
_TICKS_MAX: Final = 100
"""Entries without events that `serve` writes meanwhile."""
_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")
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
    """Every event of an answer with 200 is in the log; what is there beyond was on the way at the end."""
    answered = (sent.before + sent.statuses[200]) * load.events
    with contextlib.closing(sqlite3.connect(folder / "log.sqlite")) as log:
        (number,) = log.execute("SELECT id FROM topics WHERE name = 'taximeter.events'").fetchone()
        (held,) = log.execute(f"SELECT after FROM topic_{number}_0 ORDER BY position DESC LIMIT 1").fetchone()
    on_the_way = load.connections * load.pipeline * load.events
    if sent.statuses.keys() - {200} or not answered <= held <= answered + on_the_way + _TICKS_MAX:
        sys.exit(f"a wrong result is no result: {answered} events answered, {held} in the log, {dict(sent.statuses)}")


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def measure_http(kinds: Sequence[str], seconds: float, repeat: int, rate: float, where: Path | None) -> None:
    """Runs each case in turns, prints a line for each run, then each case's medians."""
    cases = {
        "single events": SINGLES,
        "single events, 8 on the way": SINGLES._replace(connections=64, pipeline=8),
        f"single events at {rate:,.0f}/s": SINGLES._replace(rate=rate),
        "batches of 1,000": BATCHES,
    }
    found: dict[tuple[str, str], list[Run]] = {(kind, name): [] for name in cases for kind in kinds}
    for _ in range(repeat):
        for (kind, name), runs in found.items():
            runs.append(run(kind, cases[name]._replace(seconds=seconds), where=where))
            print(f"{kind:<8} {name}: {runs[-1]}", flush=True)
    print("\nmedians: events/s by the clock, µs of CPU an event, events/s of one core, p99 in ms")
    for (kind, name), runs in found.items():
        events = runs[0].load.events
        rate = statistics.median([one.rate for one in runs]) * events
        cost = statistics.median([one.cpu_us for one in runs]) / events
        p99 = statistics.median([one.quantile(0.99) for one in runs])
        print(f"{kind:<8} {name:<32} {rate:>10,.0f} {cost:>8.2f} {1e6 / cost:>10,.0f} {p99:>8.1f}")

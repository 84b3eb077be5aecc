"""How fast spend is answered over HTTP while events flow in: `python -m benchmarks.query [--lines N] [--customers N]`.

Starts `taximeter serve` on one core, posts events until it holds a million line items of 20,000 customers, then:

1. full load: posts as much as is taken, until it is all in the spend answers; events a second from first to last;
2. queries: 500 a second for random customers at set times (`open_loop`), while events flow in at some shares of full
   load; beside them, from the door's answer to an answer that includes what was posted;
3. cents: what 200 customers are said to have spent is what the client has added up for them. Else there is no result;
4. restart: how long until it is ready again;
5. raw events: the same question worked out from the events at the moment of asking (`raw_events`).

The client runs in this process, on the other cores. Prints a line for each measure, and the machine's load.
"""

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple
from urllib.parse import urlsplit

import msgspec

from benchmarks.book import Wrong
from benchmarks.open_loop import Connections, open_loop, quantiles
from benchmarks.raw_events import MODELS, measure
from benchmarks.result import Figure, append, figure, latencies, print_table

CATALOGUE = """
meters:
  tokens:   {event: llm.request, aggregate: sum, value: $.tokens, dimensions: {model: $.model}}
  requests: {event: llm.request, aggregate: count, dimensions: {model: $.model}}
price_books:
  default:
    currency: USD
    charges:
      tokens:   {meter: tokens, group_by: [model], price: {model: unit, unit_amount: "0.000003"}}
      requests: {meter: requests, group_by: [model], price: {model: unit, unit_amount: "0.0001"}}
    thresholds: [{spend: "1"}]
default_subscription: {price_book: default}
"""
NDJSON = "application/x-ndjson"
FILL_EVENTS = 2000
FLOW_EVENTS = 200
CHECKED = 200
_FLOOD_CALLERS = 8
_TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """`taximeter serve` on its own core, and connections to it."""

    def __init__(self, folder: Path, core: int | None) -> None:
        self._folder = folder
        self._core = core
        self._process: subprocess.Popen[str] | None = None
        (folder / "book.yaml").write_text(CATALOGUE)

    def start(self) -> float:
        """Returns the seconds until it is ready."""
        began = time.perf_counter()
        command = [sys.executable, "-m", "taximeter", "serve", "--port", "0", "--data", str(self._folder / "data")]
        command += ["--catalogue", str(self._folder / "book.yaml"), "--archive", "none"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        if self._core is not None:
            os.sched_setaffinity(self._process.pid, {self._core})
        url = urlsplit(_line(self._process.stdout).split(" at ")[1].split()[0])
        self.connections = Connections(str(url.hostname), int(url.port or 0))
        return time.perf_counter() - began

    @property
    def cpu_s(self) -> float:
        """CPU seconds that it has taken."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def mebibytes(self) -> int:
        """Resident memory."""
        return int(Path(f"/proc/{self._pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20

    def stop(self) -> None:
        """Stops it and waits."""
        self.connections.close()
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(120)

    @property
    def _pid(self) -> int:
        assert self._process is not None
        return self._process.pid


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    for line in stream:
        if " ready at " in line:
            return line
    raise RuntimeError("taximeter serve did not become ready")


class Body(NamedTuple):
    """Events of one request, and what they cost: (customer, millionths of a dollar) of each."""

    text: bytes
    costs: list[tuple[int, int]]


class Traffic:
    """Events and questions, seeded."""

    def __init__(self, server: Server, customers: int) -> None:
        self._server = server
        self._customers = customers
        self._dice = random.Random(5)
        self._weights = [1 / rank for rank in range(1, customers + 1)]
        self._number = 0
        self._spent: defaultdict[int, int] = defaultdict(int)
        """By customer, in millionths of a dollar."""
        self.visible: list[float] = []
        """From the door's answer to an answer that includes what it took, in seconds."""

    def customer(self) -> str:
        """Any, with equal chances."""
        return f"customer-{self._dice.randrange(self._customers):06d}"

    def _body(self, owners: Iterable[int], models: Iterable[int]) -> Body:
        lines, costs = [], []
        for owner, model in zip(owners, models, strict=True):
            self._number += 1
            tokens = self._number % 4999 + 1
            costs.append((owner, 3 * tokens + 100))
            lines.append(
                f'{{"specversion":"1.0","id":"{self._number}","source":"/bench","type":"llm.request",'
                f'"subject":"customer-{owner:06d}","time":"2026-11-{1 + self._number % 20:02d}T12:00:00Z",'
                f'"data":{{"tokens":{tokens},"model":"model-{model:02d}"}}}}\n'
            )
        return Body("".join(lines).encode(), costs)

    def first_events(self, start: int, count: int) -> Body:
        """Each makes two new line items."""
        numbers = range(start, start + count)
        return self._body((n % self._customers for n in numbers), (n // self._customers for n in numbers))

    def more_events(self, count: int) -> Body:
        """Of customers by a power law, for line items that are there."""
        owners = self._dice.choices(range(self._customers), self._weights, k=count)
        return self._body(owners, (self._dice.randrange(MODELS) for _ in range(count)))

    async def post(self, body: Body) -> str:
        """Posts events. Returns the position token; 429 and 503 are waited out."""
        while True:
            answer = await self._server.connections.post("/v1/events", NDJSON, body.text)
            if answer.status in (200, 202):
                for owner, cost in body.costs:
                    self._spent[owner] += cost
                return str(msgspec.json.decode(answer.body)["position"])
            if answer.status not in (429, 503):
                raise RuntimeError(f"{answer.status}: {answer.body[:500]!r}")
            await asyncio.sleep(0.05)

    async def included(self, position: str) -> None:
        """Waits until an answer includes the position."""
        path = f"/v1/customers/{self.customer()}/spend?position={position}&wait_ms=30000"
        while (answer := await self._server.connections.get(path)).status == 504:
            pass
        assert answer.status == 200, answer

    async def ask(self) -> None:
        """One question."""
        answer = await self._server.connections.get(f"/v1/customers/{self.customer()}/spend")
        assert answer.status == 200 and b'"currencies":[{' in answer.body, answer

    async def check(self) -> None:
        """Holds what some customers have spent against what was sent for them, once all of it is in the answers.

        Raises: Wrong."""
        for owner in self._dice.sample(sorted(self._spent), min(CHECKED, len(self._spent))):
            answer = await self._server.connections.get(f"/v1/customers/customer-{owner:06d}/spend")
            found = Decimal(msgspec.json.decode(answer.body)["currencies"][0]["total"])
            if found * 1_000_000 != self._spent[owner]:
                raise Wrong(f"customer-{owner:06d}: found {found}, expected {self._spent[owner]} millionths")

    async def post_and_see(self) -> None:
        """Posts some events, and takes the time until they are seen."""
        position = await self.post(self.more_events(FLOW_EVENTS))
        began = time.perf_counter()
        await self.included(position)
        self.visible.append(time.perf_counter() - began)


async def fill(server: Server, traffic: Traffic, events: int) -> None:
    """All line items there are."""
    began, cpu = time.perf_counter(), server.cpu_s
    position = ""
    for at in range(0, events, FILL_EVENTS):
        position = await traffic.post(traffic.first_events(at, min(FILL_EVENTS, events - at)))
        if at // FILL_EVENTS % 10 == 9:
            await traffic.included(position)
    await traffic.included(position)
    took = time.perf_counter() - began
    print(f"fill            {2 * events:>9,} line items in {took:.0f} s ({server.cpu_s - cpu:.0f} s of CPU); "
          f"the server takes {server.mebibytes:,} MiB")  # fmt: skip


async def full_load(server: Server, traffic: Traffic, seconds: float) -> float:
    """Events a second, from the first post to the last in an answer."""
    began, cpu, sent = time.perf_counter(), server.cpu_s, 0
    bodies = [traffic.more_events(FILL_EVENTS) for _ in range(int(seconds * 20))]
    began = time.perf_counter()

    async def caller() -> None:
        nonlocal sent
        while bodies and time.perf_counter() - began < seconds:
            body = bodies.pop()
            await traffic.included(await traffic.post(body))
            sent += FILL_EVENTS

    await asyncio.gather(*(caller() for _ in range(_FLOOD_CALLERS)))
    rate = sent / (time.perf_counter() - began)
    print(f"full load       {rate:>9,.0f} events/s to visible ({(server.cpu_s - cpu) / sent * 1e6:.0f} us of CPU each)")
    return rate


async def queries(
    server: Server, traffic: Traffic, rate: float, flow: float, seconds: float
) -> tuple[list[float], list[float]]:
    """Questions at a rate while events flow in at another. Returns the seconds of each: questions, door to visible."""
    traffic.visible.clear()
    began, cpu = time.perf_counter(), server.cpu_s
    asking = open_loop(rate, seconds, traffic.ask)
    asked, posted = await asyncio.gather(asking, open_loop(flow / FLOW_EVENTS, seconds, traffic.post_and_see))
    took = time.perf_counter() - began
    share = 100 * (server.cpu_s - cpu) / took
    flowed = len(posted) * FLOW_EVENTS / took
    print(f"{rate:,.0f} queries/s beside {flowed:,.0f} events/s: the server takes {share:.0f} % of a core")
    print(f"    spend query          {quantiles(asked)}")
    print(f"    door to visible      {quantiles(traffic.visible)}")
    return asked, list(traffic.visible)


async def run(options: argparse.Namespace, folder: Path) -> list[Figure]:
    """All of it. Raises: Wrong."""
    add = partial(figure, "query", f"{options.lines:,} lines", checked=f"the spend of {CHECKED} customers: plain sums")
    figures = []
    server = Server(folder, options.core)
    server.start()
    traffic = Traffic(server, options.customers)
    try:
        await fill(server, traffic, options.lines // 2)
        await asyncio.sleep(2)
        full = await full_load(server, traffic, options.seconds)
        figures.append(add("full load to visible", "events/s", [full]))
        for load in options.loads:
            asked, seen = await queries(server, traffic, options.rate, full * load / 100, options.seconds)
            for what, taken in (("spend query", asked), ("door to visible", seen)):
                figures += latencies(add, what, load, taken)
        await traffic.check()
    finally:
        server.stop()
    restart = server.start()
    figures.append(add("restart", "s", [restart]))
    print(f"restart         {restart:.1f} s until ready, {server.mebibytes:,} MiB")
    try:
        await queries(server, traffic, options.rate, FLOW_EVENTS, options.seconds)
        await traffic.check()
    finally:
        server.stop()
    return figures


def main() -> None:
    """Reads the options and runs. Status 1: it was wrong."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("--lines", type=int, default=1_000_000, help="line items")
    reader.add_argument("--customers", type=int, default=20_000)
    reader.add_argument("--rate", type=float, default=500, help="queries a second")
    reader.add_argument("--loads", type=float, nargs="+", default=[10, 50], help="percents of full load")
    reader.add_argument("--seconds", type=float, default=20, help="of each phase")
    reader.add_argument("--core", type=int, default=0 if (os.cpu_count() or 1) > 1 else None, help="the server's")
    reader.add_argument("--raw", type=int, default=1_000_000, help="raw events of the comparison; 0: none")
    reader.add_argument("--json", type=Path, help="append the figures to this file")
    options = reader.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {options.core})
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        try:
            figures = asyncio.run(run(options, Path(folder)))
        except Wrong as wrong:
            sys.exit(f"a wrong result is no result: {wrong}")
    if options.raw:
        for engine, taken in measure(options.raw, options.customers).items():
            print(f"raw events, {options.raw:,} in {engine}: {quantiles(taken)}")
    print(f"load average {os.getloadavg()[0]:.1f}\n")
    print_table(figures)
    if options.json:
        append(options.json, figures)


if __name__ == "__main__":
    main()

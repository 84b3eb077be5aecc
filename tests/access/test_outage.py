"""A real broker that is killed and comes back while a real door is under load.

Every acknowledged event is counted once; what the door could not take is told to come again, before memory grows; and
nothing of a request that was refused for good is ever counted.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.processes import READY_S, Process, Processes
from tests.face.running import BOOK, event

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(400)]

CLIENTS, BATCH = 110, 1000
"""Together more than the door lets wait for its log (100,000 events), so that it has to refuse at once."""
AWAY_S = 14.0
"""Longer than the door waits for Kafka (10 s)."""
_LINES = {"content-type": "application/x-ndjson"}


@dataclass(slots=True)
class Seen:
    """What the clients have seen."""

    acknowledged: set[str] = field(default_factory=set)
    statuses: Counter[int] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)
    quickest_503_s: float = 1e9
    refused: int = 0
    lost: int = 0


async def send(client: httpx.AsyncClient, name: str, seen: Seen, stop: asyncio.Event) -> None:
    """Batch after batch, each until it is acknowledged."""
    number = 0
    while not stop.is_set():
        ids = [f"{name}-{number}-{n}" for n in range(BATCH)]
        body, number = "\n".join(map(event, ids)), number + 1
        while True:
            began = time.monotonic()
            try:
                answer = await client.post("/v1/events", content=body, headers=_LINES)
            except httpx.TransportError:  # a connection that was idle and ended as this came: nobody knows, so again
                seen.lost += 1
                continue
            seen.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                assert answer.json()["rejected"] == 0
                seen.acknowledged.update(ids)
                break
            assert answer.status_code == 503, answer.text
            assert "nothing of this request was promised" in answer.json()["detail"]
            seen.waits[answer.headers["retry-after"]] += 1
            seen.quickest_503_s = min(seen.quickest_503_s, time.monotonic() - began)
            await asyncio.sleep(float(answer.headers["retry-after"]))
        await asyncio.sleep(0.2)


async def send_wrong(client: httpx.AsyncClient, seen: Seen, stop: asyncio.Event) -> None:
    """Requests that are refused for good, with good events in them."""
    good = ",".join(event(f"never-{n}") for n in range(20))
    while not stop.is_set():
        for content, kind in ((f"[{good},", "application/json"), (f"[{good}]", "text/plain")):
            answer = await client.post("/v1/events", content=content, headers={"content-type": kind})
            seen.statuses[answer.status_code] += 1
            assert answer.status_code in (400, 415, 503), answer.text
            seen.refused += answer.status_code != 503
        await asyncio.sleep(0.2)


def peak_mib(process: Process) -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{process._process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024


async def drive(url: str, broker: Any, door: Process) -> tuple[Seen, int]:
    """The load, and the broker's death in the middle of it. Returns also how much memory it cost."""
    seen, stop = Seen(), asyncio.Event()
    limits = httpx.Limits(max_connections=CLIENTS + 2)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        tasks = [asyncio.create_task(send(client, f"c{n}", seen, stop)) for n in range(CLIENTS)]
        tasks.append(asyncio.create_task(send_wrong(client, seen, stop)))
        while len(seen.acknowledged) < CLIENTS * BATCH:
            await asyncio.sleep(0.1)
        before = peak_mib(door)
        await asyncio.to_thread(broker.kill)
        began = len(seen.acknowledged)
        await asyncio.sleep(AWAY_S)
        held_up = len(seen.acknowledged) - began
        await asyncio.to_thread(broker.restart)
        after = len(seen.acknowledged)
        while len(seen.acknowledged) < after + CLIENTS * BATCH:
            await asyncio.sleep(0.1)
        stop.set()
        await asyncio.gather(*tasks)
    # What had reached the broker before its death may have been answered after it.
    assert held_up < 2 * CLIENTS * BATCH, "nothing is acknowledged that no broker has"
    return seen, peak_mib(door) - before


def test_a_broker_that_dies_under_load_and_comes_back(new_broker: Callable[..., Any], tmp_path: Path) -> None:
    broker = new_broker()
    book = tmp_path / "book.yaml"
    book.write_text(BOOK)
    kafka = ("--bootstrap", broker.bootstrap, "--partitions", 2)
    with Processes(tmp_path) as processes:
        door = processes.start("ingest", "ingest", "--port", 0, "--catalogue", book, "--max-ahead", 0, *kafka)
        url = processes.ready(door)
        try:
            seen, grown = asyncio.run(drive(url, broker, door))
        except httpx.TransportError as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{processes.tails()}") from None
        print(
            f"{len(seen.acknowledged)} events acknowledged, {dict(seen.statuses)}, quickest 503 after "
            f"{seen.quickest_503_s * 1000:.0f} ms, {grown} MiB more memory"
        )
        assert seen.statuses[503] > 10 and set(seen.waits) == {"1"} and seen.refused > 10
        assert seen.quickest_503_s < 5, "without waiting for the broker, because enough waits already"
        assert grown < 500 and seen.lost < CLIENTS / 4
        rate = processes.start("rate", "rate", "--snapshots", "snapshots", "--tick", 0, "--lateness", 0, *kafka)
        spend = processes.start("spend", "spend", "--port", 0, "--data", "spend", *kafka)
        queries = processes.ready(spend)
        processes.until(lambda: rate.partitions() == [0, 1] or not rate.running, "ownership", READY_S)
        last = httpx.post(f"{url}/v1/events", content=event("last"), headers=_LINES, timeout=60)
        expected = len(seen.acknowledged) + 1
        counted = _count(queries, last.json()["position"], expected)
        assert counted == expected, f"counted {counted} events, acknowledged {expected}"


def _count(url: str, position: str, expected: int) -> int:
    """What the engine has billed for: each event is one call and one token of 0.01."""
    deadline = time.monotonic() + 120
    while True:
        parameters = {"position": position, "wait_ms": 30_000, "customer": "acme", "charge": "tokens"}
        answer = httpx.get(f"{url}/v1/line-items", params=parameters, timeout=60)
        if answer.status_code == 200:
            items = answer.json()["line_items"]
            found = sum(item["events"] for item in items)
            assert sum(float(item["quantity"]) for item in items) == found
            if found >= expected or time.monotonic() > deadline:
                return found
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)

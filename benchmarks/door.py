"""How much the door takes: `python -m benchmarks.door`, over HTTP and onto a disk: see `door_http`.

`python -m benchmarks.door --inside [--seconds S] [--partitions N] [--profile]` measures what of that is the door's own:
one core, one process, no network and no disk: the log is a list that takes everything at once. So that is parsing,
validating, identities, columns and packing, and nothing of a real log or HTTP server. On a machine that does other
work, too, only the best tenth of a second says what one core can do. Events are of about 220 bytes; their ids are new
in every body, so that the memory of identities works as in service.
"""

import argparse
import asyncio
import cProfile
import pstats
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from benchmarks.door_http import KINDS, measure_http
from benchmarks.result import append, print_table
from ingest.door import Door, DoorSettings
from ingest.route import View
from schemas.limits import BODY_BYTES_MAX
from schemas.rejection import Rejection

PATHS = ("$.tokens", "$.model", "$.kind")
BODIES = 40
BODY_EVENTS = 1000
CALLERS = 256


class Case(NamedTuple):
    """One kind of body: its headers, and how many requests run at once."""

    name: str
    headers: list[tuple[bytes, bytes]]
    encode: Callable[[list[dict[str, object]]], bytes]
    events: int
    callers: int


class ListSink:
    """A log that takes everything at once and keeps nothing but a count."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.events = 0
        self.bytes = 0
        self.packs = 0

    async def append(self, partition: int, value: bytes, events: int) -> int:
        """Counts."""
        self.events += events
        self.bytes += len(value)
        self.packs += 1
        await asyncio.sleep(0)
        return self.packs

    async def publish(self, rejections: Sequence[Rejection]) -> None:
        """Nothing is refused here."""
        raise AssertionError(f"found {rejections[0]}")


def make_events(chance: random.Random, count: int) -> list[dict[str, object]]:
    """Events of about 220 bytes: 200 customers, two models, times within a month."""
    return [
        {
            "specversion": "1.0",
            "id": f"{chance.getrandbits(64):016x}",
            "source": "api-gateway",
            "type": "llm.request",
            "subject": f"customer-{chance.randrange(200)}",
            "time": f"2026-11-{chance.randrange(1, 29):02d}T12:{chance.randrange(60):02d}:00.125Z",
            "data": {
                "tokens": chance.randrange(10_000),
                "model": chance.choice(["large", "small"]),
                "kind": chance.choice(["input", "output"]),
                "ratio": chance.random(),
            },
        }
        for _ in range(count)
    ]


def _headers(content_type: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", content_type)]


def _lines(events: list[dict[str, object]]) -> bytes:
    return b"\n".join(map(msgspec.json.encode, events))


def _spaced(events: list[dict[str, object]]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(events), indent=0)


def _extended(events: list[dict[str, object]]) -> bytes:
    return msgspec.json.encode([{**event, "region": "eu-1"} for event in events])


_BATCH = _headers(b"application/cloudevents-batch+json")
CASES = (
    Case("1000 in an array", _BATCH, msgspec.json.encode, BODY_EVENTS, 1),
    Case("1000 in an array, spaces", _BATCH, _spaced, BODY_EVENTS, 1),
    Case("1000 lines", _headers(b"application/x-ndjson"), _lines, BODY_EVENTS, 1),
    Case("1000 with an extension", _BATCH, _extended, BODY_EVENTS, 1),
    Case("1 event", _headers(b"application/cloudevents+json"), lambda e: msgspec.json.encode(e[0]), 1, CALLERS),
)


async def measure(case: Case, seconds: float, partitions: int) -> tuple[float, float, float]:
    """Events per second of processor time, the same in the best tenth of a second, and bytes of pack per event."""
    sink = ListSink(partitions)
    view = View({}, PATHS)
    door = Door(sink, sink, lambda _: view, DoorSettings(max_ahead=None))
    chance = random.Random(1)
    count = BODIES if case.events > 1 else 4000
    bodies = [case.encode(make_events(chance, case.events)) for _ in range(count)]
    assert max(map(len, bodies)) < BODY_BYTES_MAX
    stop = time.perf_counter() + seconds

    rates: list[float] = []
    marks = [(time.process_time(), 0)]

    def note() -> None:
        """Notes the rate of each tenth of a second."""
        spent = time.process_time() - marks[-1][0]
        if spent > 0.1:
            rates.append((sink.events - marks[-1][1]) / spent)
            marks.append((time.process_time(), sink.events))

    async def call(first: int) -> None:
        at = first
        while time.perf_counter() < stop:
            if first == 0:
                note()
            receipt = await door.take(bodies[at % count], case.headers, "default")
            assert receipt.status == 200
            at += case.callers
            if at % count == first % count:
                door._memory = type(door._memory)(400_000)  # the bodies come again: as if they were new

    begin = time.process_time()
    await asyncio.gather(*(call(i) for i in range(case.callers)))
    took = time.process_time() - begin
    return sink.events / took, max(rates), sink.bytes / sink.events


def main() -> None:
    """Prints one line for each case and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--server", nargs="+", choices=KINDS, default=["door"], help="what is asked over HTTP")
    parser.add_argument("--repeat", type=int, default=3, help="of each case over HTTP")
    parser.add_argument("--rate", type=float, default=7500, help="single events a second whose times are of interest")
    parser.add_argument("--folder", type=Path, help="the disk; by default that of temporary files")
    parser.add_argument("--json", type=Path, help="append the figures over HTTP to this file")
    parser.add_argument("--inside", action="store_true", help="without HTTP and disk, in this process")
    parser.add_argument("--partitions", type=int, default=4, help="of --inside")
    parser.add_argument("--case", default="", help="of --inside: only cases whose name holds this")
    parser.add_argument("--profile", action="store_true", help="of --inside: print where the time goes")
    given = parser.parse_args()
    if not given.inside:
        figures = measure_http(given.server, given.seconds, given.repeat, given.rate, given.folder)
        print()
        print_table(figures)
        if given.json:
            append(given.json, figures)
        return
    size = len(msgspec.json.encode(make_events(random.Random(1), BODY_EVENTS))) / BODY_EVENTS
    print(f"{size:.0f} bytes an event, {given.partitions} partitions, events per second of one core:")
    for case in CASES:
        if given.case not in case.name:
            continue
        profile = cProfile.Profile() if given.profile else None
        if profile is not None:
            profile.enable()
        rate, best, packed = asyncio.run(measure(case, given.seconds, given.partitions))
        print(
            f"{case.name:<26} {rate:>9,.0f} events/s, at best {best:>9,.0f}  "
            f"{1e6 / best:>7.2f} µs/event  {packed:>6.0f} bytes packed"
        )
        if profile is not None:
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)


if __name__ == "__main__":
    main()

"""The system under test on Kafka: a real broker, doors, rating workers, their supervisor, and the clients."""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from confluent_kafka import Producer

from benchmarks.chaos import book
from benchmarks.chaos.compare import Found, compare
from benchmarks.chaos.expected import Expected, rate
from benchmarks.chaos.journal_watch import JournalWatch
from benchmarks.chaos.load import Load, Mirror
from benchmarks.chaos.processes import Fleet, HarnessError, Member, free_port
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.row import Row
from benchmarks.chaos.topics_read import read_topic
from infra.kafka.broker import SETTINGS, Broker
from schemas import topics

PARTITIONS: Final = 4
SESSION_S: Final = 3
"""Short, so that many kills fit into a run; a setting of the program (`rate --session-timeout`)."""
SNAPSHOT_EVERY_S: Final = 4
TICK_S: Final = 2
RECOVERY_MAX_S: Final = 90.0
"""What has not gone on by then has not recovered."""
DRAIN_S: Final = 120.0
_READS_MAX: Final = 5


class Site:
    """One broker with two listeners: a direct one for this program, and one behind a proxy for the system."""

    def __init__(self, folder: Path) -> None:
        port, behind, controller = free_port(), free_port(), free_port()
        proxied = free_port()
        host = "127.0.0.1"
        self.broker = Broker(
            folder,
            port=port,
            settings={
                "listeners": f"BROKER://{host}:{port},PROXIED://{host}:{behind},CONTROLLER://{host}:{controller}",
                "advertised.listeners": f"BROKER://{host}:{port},PROXIED://{host}:{proxied}",
                "listener.security.protocol.map": SETTINGS["listener.security.protocol.map"] + ",PROXIED:PLAINTEXT",
                "controller.quorum.voters": f"1@{host}:{controller}",
            },
        )
        self.broker.start()
        self.proxy = Proxy(proxied, behind)
        self.direct, self.proxied = self.broker.bootstrap, f"{host}:{proxied}"

    def close(self) -> None:
        """Ends proxy and broker."""
        self.proxy.close()
        self.broker.stop()


class Deployment:
    """Doors and workers under a prefix of their own, and everything that happens to them. A context manager."""

    def __init__(
        self,
        site: Site,
        folder: Path,
        *,
        workers: int = 2,
        doors: int = 2,
        proxied: bool = False,
        rate: float = 400.0,
        broken: str = "",
    ) -> None:
        """`broken`: run workers that are broken in this way (see `broken_build`)."""
        self.site, self.folder = site, folder
        self.prefix = f"chaos-{uuid.uuid4().hex[:6]}."
        self.fleet = Fleet(folder)
        self._bootstrap = site.proxied if proxied else site.direct
        self._kafka = ("--bootstrap", self._bootstrap, "--prefix", self.prefix, "--partitions", PARTITIONS)
        self._counts = workers, doors
        self._rate, self._broken = rate, broken
        self._number = 0
        self.workers: list[Member] = []
        self.doors: list[Member] = []
        self.mirror: Mirror | None = None

    def __enter__(self) -> "Deployment":
        self.fleet.__enter__()
        try:
            self._start()
        except BaseException:
            self.fleet.__exit__()
            raise
        return self

    def _start(self) -> None:
        workers, doors = self._counts
        (self.folder / "book.yaml").write_text(book.BOOK)
        ports = [free_port() for _ in range(doors)]
        self.doors = [self._add_door(number, port) for number, port in enumerate(ports)]
        self.workers = [self.add_worker() for _ in range(workers)]
        for member in [*self.doors, *self.workers]:
            self.fleet.wait_ready(member)
        self.watch = JournalWatch(self.site.direct, self.prefix, PARTITIONS)
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        json_topic = self._bootstrap, self.prefix + topics.EVENTS_JSON
        self.load = Load(self.urls, rate=self._rate, json_topic=json_topic, seed=hash(self.prefix) & 0xFFFF)

    def __exit__(self, *_: object) -> None:
        self.load.stop()
        self.watch.stop()
        self.fleet.__exit__()

    def _add_door(self, number: int, port: int) -> Member:
        catalogue = ("--catalogue", self.folder / "book.yaml", "--max-ahead", 0)
        return self.fleet.add(f"door-{number}", "ingest", "--port", port, *catalogue, *self._kafka)

    def worker_arguments(self) -> tuple[object, ...]:
        """What every worker is started with."""
        every = ("--tick", f"{TICK_S}s", "--snapshot-every", f"{SNAPSHOT_EVERY_S}s")
        session = ("--session-timeout", f"{SESSION_S}s", "--max-ahead", 0)
        return ("rate", *self._kafka, "--snapshots", self.folder / "snapshots", *every, *session)

    def add_worker(self, fault: str = "", keep: bool = True, module: str = "taximeter", *before: object) -> Member:
        """Starts one more worker; with `fault` it ends (or stands still) where that says, and is not started again."""
        if self._broken and not before:
            module, before = "benchmarks.chaos.broken_build", (self._broken,)
        name = f"worker-{self._number}"
        self._number += 1
        return self.fleet.add(name, *before, *self.worker_arguments(), module=module, keep=keep, fault=fault)

    # Faults ------------------------------------------------------------------------------------------------

    def in_flight(self) -> int:
        """Events sent that no step holds yet."""
        return max(self.load.sent - self.watch.events, 0)

    def wait_flowing(self, seconds: float = RECOVERY_MAX_S) -> None:
        """Until every partition makes steps now. Raises: HarnessError."""
        since = _now_ms()
        self.fleet.until(
            lambda: self.watch.progress_since(self.watch.epochs(), since, False) is not None,
            "every partition makes steps",
            seconds,
        )

    def recovery(self, row: Row, concerned: dict[int, int], at_ms: int, newer_epoch: bool = True) -> None:
        """Waits until these partitions make steps again, and writes down how long that took since `at_ms`."""
        if not concerned:
            return
        deadline = time.monotonic() + RECOVERY_MAX_S
        while (seconds := self.watch.progress_since(concerned, at_ms, newer_epoch)) is None:
            if time.monotonic() > deadline:
                row.broken.append(f"partitions {sorted(concerned)} did not go on within {RECOVERY_MAX_S:.0f} s")
                row.recoveries.append(RECOVERY_MAX_S)
                return
            time.sleep(0.05)
        row.recoveries.append(seconds)

    # The comparison ----------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Until everything that the log has is worked in and emitted. Raises: HarnessError."""
        self.fleet.until(lambda: not self.watch.left(), lambda: f"nothing is left: {self.watch.left()}", DRAIN_S)

    def check(self, row: Row, *, close: bool = True, change: Callable[[Found], None] | None = None) -> None:
        """Stops the clients and the doors, lets the workers drain, closes the month, and compares.

        Without `close` the doors go on and the month stays open, so the load may be started again. `change` spoils
        what was found, to see that the comparison notices.
        """
        self.load.stop(finish=not close)
        if close:
            self._stop_doors(row)
            self.drain()
            self._close_month()
        expected, found = self._read_all()
        if change is not None:
            change(found)
        row.findings = compare(list(self.load.acknowledged), expected, found)
        row.events = len(self.load.acknowledged)
        row.fenced = self.watch.fenced
        row.broken += self.load.refused[:3]
        row.notes.append(
            f"{row.events} acknowledged, {expected.duplicates} duplicates ({expected.conflicts} in conflict), "
            f"{expected.voided} voids, {len(expected.invoices)} invoices, {len(expected.alerts)} alerts, "
            f"{len(found.line_items)} line items written"
        )
        for member in self.fleet.members:
            row.stopped_itself += member.stopped_itself
            member.stopped_itself = []

    def _stop_doors(self, row: Row) -> None:
        """With what they have taken in the log: a request that was given up may still be on its way there."""
        for door in self.doors:
            self.fleet.wait_ready(door, RECOVERY_MAX_S)
            status = door.stop()
            if status != 0:
                row.broken.append(f"{door.name} stopped with status {status}, expected 0")

    def _read_all(self) -> tuple[Expected, Found]:
        """What the log and the topics hold, at one moment: nothing but ticks came between."""
        for _ in range(_READS_MAX):
            self.drain()
            entries = self._entries()
            found = Found(*(self._read(name) for name in (topics.LINE_ITEMS, topics.INVOICES, topics.ALERTS)))
            if _packs(entries) == _packs(self._entries()):
                return rate(entries), found
        raise HarnessError(f"events came in after {_READS_MAX} reads, and nobody sends any")

    def _entries(self) -> list[list[bytes]]:
        return read_topic(self.site.direct, self.prefix + topics.EVENTS, PARTITIONS)

    def _read(self, topic: str) -> list[bytes]:
        return [value for values in read_topic(self.site.direct, self.prefix + topic, PARTITIONS) for value in values]

    def _close_month(self) -> None:
        tick = b"\x01T" + json.dumps({"time": book.CLOSING_TICK}).encode()
        producer = Producer({"bootstrap.servers": self.site.direct, "enable.idempotence": True})
        failed: list[Any] = []
        for number in range(PARTITIONS):
            producer.produce(
                self.prefix + topics.EVENTS,
                tick,
                partition=number,
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
        if producer.flush(30.0) or failed:
            raise HarnessError(f"the closing tick was not written: {failed}")


def _packs(entries: list[list[bytes]]) -> int:
    """How many of the entries hold events."""
    return sum(value[1:2] == b"E" for values in entries for value in values)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

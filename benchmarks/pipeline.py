"""The whole pipeline on one machine: `python -m benchmarks.pipeline [--seconds S] [--rate N] [--workers N] …`.

Starts a Kafka broker, `taximeter ingest`, two `taximeter rate` and a load generator, all as a user would, lets events
in for some seconds, waits until the last one is rated and its line items are durable, and then reads the topic of line
items and holds the newest revision of every line against what the generator has worked out by itself. A wrong cent is
no result: exit status 1.

Without `--rate` as fast as it goes, with a bounded number of events accepted and not yet rated; with it, at that
many events a second. The latency is that of probes (the first event of a new customer): from the door's answer to the
time at which the broker appended its last line item. What reads the journal to see how far the workers are is counted with
everything else.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from benchmarks.bodies import BOOK, LineKey, amounts, differences, probe_customer
from benchmarks.chaos.journal_watch import JournalWatch
from benchmarks.chaos.processes import Fleet, free_port
from benchmarks.metered import Taken, per_event, taken
from benchmarks.sender import Load, Sender, Sent
from infra.kafka.broker import Broker
from schemas import topics
from schemas.numbers import parse_scaled
from schemas.output import LineItem

PREFIX: Final = "bench."
_POLL_S: Final = 0.05
_DRAIN_S: Final = 120.0
_DIFFERENCES_SHOWN: Final = 10
_MIB: Final = 2**20


@dataclass
class Lines:
    """What stands on the topic of line items."""

    written: int = 0
    bytes: int = 0
    newest: dict[bytes, bytes] = field(default_factory=dict)
    """Key -> the last value: one owner wrote each partition, so it has the highest revision."""
    probed: dict[str, int] = field(default_factory=dict)
    """Customer of a probe -> when the last of its first line items was appended, in milliseconds since the epoch."""

    def amounts(self) -> dict[LineKey, int]:
        """By line, in units of 10^-12."""
        found: dict[LineKey, int] = {}
        for value in self.newest.values():
            item = msgspec.json.decode(value, type=LineItem)
            group = "".join(filter(None, item.dimensions.values()))
            found[item.customer, item.charge, group] = parse_scaled(item.amount)
        return found


def main() -> int:
    """Runs it once. Returns the exit status."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="taximeter-pipeline-", dir=options.folder) as folder:
        # A stamp of the broker's on each line item says when it was there, and costs the run nothing.
        flags = ("-XX:TieredStopAtLevel=4",) if options.hot_broker else ()
        with Broker(Path(folder) / "kafka", port=0, heap_mib=options.broker_heap, jvm_flags=flags) as broker:
            return _measure(options, Path(folder), broker)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, help="events a second; without it as fast as it goes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--outstanding", type=int, default=400_000, help="events accepted and not yet rated, at most")
    parser.add_argument("--probes", type=float, default=50, help="a second")
    parser.add_argument("--hot-broker", action="store_true", help="let Java compile the broker's hot code for good")
    parser.add_argument("--broker-heap", type=int, default=512, help="MiB")
    parser.add_argument("--folder", type=Path, help="where logs, topics and snapshots go (default: the system's)")
    parser.add_argument("--json", type=Path, help="append the result to this file, as one line")
    return parser.parse_args()


def _measure(options: argparse.Namespace, folder: Path, broker: Broker) -> int:
    kafka = ("--bootstrap", broker.bootstrap, "--prefix", PREFIX, "--partitions", options.partitions)
    (folder / "book.yaml").write_text(BOOK)
    with Fleet(folder) as fleet:
        port = free_port()
        door = fleet.add("door", "ingest", "--port", port, "--catalogue", folder / "book.yaml", *kafka, keep=False)
        fleet.wait_ready(door)
        _stamp_line_items(broker.bootstrap)
        workers = [
            fleet.add(f"worker-{number}", "rate", *kafka, "--snapshots", folder / "snapshots", keep=False)
            for number in range(options.workers)
        ]
        watch = JournalWatch(broker.bootstrap, PREFIX, options.partitions)
        for worker in workers:
            fleet.wait_ready(worker)
        sender = Sender(
            Load(
                f"http://127.0.0.1:{port}",
                options.seconds,
                options.rate,
                options.connections,
                customers=options.customers,
                outstanding=options.outstanding,
                probes=options.probes,
            )
        )
        processes = {
            "door": door.pid,
            **{worker.name: worker.pid for worker in workers},
            "broker": broker.pid,
            "generator": sender.pid,
            "watch": os.getpid(),
        }
        run = Run(fleet, watch, sender, processes)
        sent = run.run(options.seconds)
        watch.stop()
        statuses = {member.name: member.stop() for member in (door, *workers)}
        lines = _read(broker.bootstrap, options.partitions)
    result = run.result(sent, lines) | {"options": _plain(options)}
    wrong = [*sent.faults, *(f"{name} ended with status {status}" for name, status in statuses.items() if status != 0)]
    wrong += differences(amounts(sent.usage), lines.amounts())
    return _tell(options, result, wrong)


def _stamp_line_items(bootstrap: str) -> None:
    """The broker's time on every line item."""
    entry = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, PREFIX + topics.LINE_ITEMS, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


class Run:
    """One run: who sends, who works, and what each has taken."""

    def __init__(self, fleet: Fleet, watch: JournalWatch, sender: Sender, processes: dict[str, int]) -> None:
        self._fleet, self._watch, self._sender, self._processes = fleet, watch, sender, processes
        self._samples: list[dict[str, Taken]] = []
        self.left = 0
        """Events accepted and not rated when the sending ended."""
        self.drained = 0.0

    def run(self, seconds: float) -> Sent:
        """Until everything that was sent is rated and emitted. Raises: HarnessError, RuntimeError."""
        self._sender.start()
        self._samples.append(taken(self._processes))
        middle, sent = time.monotonic() + seconds / 2, None
        while sent is None:
            self._sender.shared.rated.value = self._watch.events
            sent = self._sender.result(_POLL_S)
            if len(self._samples) == 1 and time.monotonic() > middle:
                self._samples.append(taken(self._processes))
        self._samples.append(self._samples[-1] | taken(self._living()))
        self.left = sent.events - self._watch.events
        expected = sent.events
        self._fleet.until(
            lambda: self._watch.events >= expected and not self._watch.left(),
            lambda: f"{expected} events are rated and emitted: {self._watch.events}, {self._watch.left()}",
            _DRAIN_S,
        )
        self.drained = time.time()
        self._samples.append(self._samples[-1] | taken(self._living()))
        return sent

    def _living(self) -> dict[str, int]:
        return {name: pid for name, pid in self._processes.items() if name != "generator"}

    def result(self, sent: Sent, lines: Lines) -> dict[str, Any]:
        """The figures."""
        latencies = [lines.probed[probe_customer(number)] / 1000 - at for number, at in sent.probed.items()]
        begin, middle, _, end = self._samples
        cpu = per_event(begin, end, sent.events)
        return {
            "events": sent.events,
            "seconds": self.drained - sent.began,
            "accepted_per_s": sent.events / (sent.ended - sent.began),
            "rated_per_s": sent.events / (self.drained - sent.began),
            "left_at_end": self.left,
            "drain_s": self.drained - sent.ended,
            "line_items": lines.written,
            "line_items_per_event": lines.written / sent.events,
            "line_item_bytes": lines.bytes / max(lines.written, 1),
            "steps": sum(len(followed.steps) for followed in self._watch._followed.values()),
            "refused_requests": sent.refused,
            "door_ms": quantiles(sent.latencies),
            "line_item_ms": quantiles(latencies),
            "cpu_us_per_event": cpu | {"all": sum(cpu.values())},
            "rss_mib": {
                name: [round(sample[name].resident / _MIB) for sample in (begin, middle, end)] for name in begin
            },
        }


def quantiles(latencies: list[float]) -> dict[str, float]:
    """In milliseconds."""
    if not latencies:
        return {}
    rising = sorted(latencies)
    at = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(rising[min(int(q * len(rising)), len(rising) - 1)] * 1000, 2) for name, q in at.items()}


def _read(bootstrap: str, partitions: int) -> Lines:
    """The whole topic of line items, after the run."""
    lines = Lines()
    for message in _messages(bootstrap, PREFIX + topics.LINE_ITEMS, partitions):
        value = message.value()
        lines.written += 1
        lines.bytes += len(value)
        lines.newest[message.key()] = value
        if b'"customer":"probe-' in value:
            customer = msgspec.json.decode(value, type=LineItem).customer
            lines.probed[customer] = max(lines.probed.get(customer, 0), message.timestamp()[1])
    return lines


def _messages(bootstrap: str, topic: str, partitions: int) -> Iterator[Any]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "bench", "enable.auto.commit": False})
    try:
        for number in range(partitions):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10.0)
            consumer.assign([TopicPartition(topic, number, 0)])
            position = 0
            while position < end:
                for message in consumer.consume(10_000, 1.0):
                    if message.error() is not None:
                        raise RuntimeError(f"{topic}[{number}]: {message.error()}")
                    position = (message.offset() or 0) + 1
                    yield message
    finally:
        consumer.close()


def _plain(options: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if name not in ("json", "folder")}


def _tell(options: argparse.Namespace, result: dict[str, Any], wrong: list[str]) -> int:
    for name, value in result.items():
        print(f"{name:<22}{_said(value)}")
    if options.json is not None and not wrong:
        with options.json.open("a") as file:
            file.write(json.dumps(result) + "\n")
    if not wrong:
        print("every line item's amount is what the generator worked out")
        return 0
    print(f"NO RESULT: {len(wrong)} faults", *wrong[:_DIFFERENCES_SHOWN], sep="\n  ", file=sys.stderr)
    return 1


def _said(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items())
    return f"{value:,.3f}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())

"""The whole pipeline on one machine: `python -m benchmarks.pipeline [--seconds S] [--rate N] [--workers N] …`.

Starts a Kafka broker, `taximeter ingest`, two `taximeter rate` and a load generator, all as a user would, lets events
in for some seconds, waits until the last one is rated and its line items are durable, and then reads the topic of line
items and holds the newest revision of every line against what the generator has worked out by itself. A wrong cent is
no result: exit status 1.

Without `--rate` as fast as it goes, with a bounded number of events accepted and not yet rated; with it, at that
many events a second. The latency is that of probes (the first event of a new customer): from the door's answer to the
time at which the broker appended its last line item. What reads the journal to see how far the workers are is counted
with everything else.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from benchmarks.bodies import BOOK
from benchmarks.chaos.journal_watch import JournalWatch
from benchmarks.chaos.processes import Fleet, free_port
from benchmarks.lines import Lines, tell
from benchmarks.metered import Taken, memory_of, per_event, taken
from benchmarks.sender import Load, Sender, Sent
from infra.kafka.broker import Broker
from schemas import topics
from streams.pace import PAUSE_S

PREFIX: Final = "bench."
_POLL_S: Final = 0.05
_DRAIN_S: Final = 120.0


def main() -> int:
    """Runs it once. Returns the exit status."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="taximeter-pipeline-", dir=options.folder) as folder:
        flags = ("-XX:TieredStopAtLevel=4",) if options.hot_broker else ()
        with Broker(Path(folder) / "kafka", port=0, heap_mib=options.broker_heap, jvm_flags=flags) as broker:
            return _measure(options, Path(folder), broker)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--warm-up", type=float, default=0, help="seconds before: sent and checked, but not measured")
    parser.add_argument("--rate", type=float, help="events a second; without it as fast as it goes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--pause-ms", type=int, default=round(PAUSE_S * 1000), help="of the workers")
    parser.add_argument("--customers", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--outstanding", type=int, default=400_000, help="events accepted and not yet rated, at most")
    parser.add_argument("--probes", type=float, default=50, help="a second")
    parser.add_argument("--behind", action="store_true", help="start the workers when everything is sent")
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
        watch = JournalWatch(broker.bootstrap, PREFIX, options.partitions)
        sender = Sender(
            Load(
                f"http://127.0.0.1:{port}",
                options.seconds,
                options.rate,
                options.connections,
                customers=options.customers,
                outstanding=sys.maxsize if options.behind else options.outstanding,
                probes=options.probes,
                warm_up=options.warm_up,
            )
        )
        run = Run(fleet, watch, sender, {"door": door.pid, "broker": broker.pid, "watch": os.getpid()})

        def add_workers() -> None:
            for number in range(options.workers):
                more = ("--snapshots", folder / "snapshots", "--pause-ms", options.pause_ms)
                worker = fleet.add(f"worker-{number}", "rate", *kafka, *more, keep=False)
                run.processes[worker.name] = worker.pid
            for worker in fleet.members[1:]:
                fleet.wait_ready(worker)

        sent = run.run(options.warm_up, options.seconds, add_workers, options.behind)
        watch.stop()
        statuses = {member.name: member.stop() for member in fleet.members}
        lines = _read(broker.bootstrap, options.partitions)
    wrong = [f"{name} ended with status {status}" for name, status in statuses.items() if status != 0]
    return tell(options, run.figures(sent) | lines.figures(sent), wrong + lines.faults(sent))


def _stamp_line_items(bootstrap: str) -> None:
    """The broker's time on every line item: it says when each was there, and costs the run nothing."""
    entry = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, PREFIX + topics.LINE_ITEMS, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


class _Counted(NamedTuple):
    """When the measured part began, in seconds since the epoch, and the events that had been accepted and rated."""

    at: float
    accepted: int
    rated: int


class Run:
    """One run: who sends, who works, and what each has taken."""

    def __init__(self, fleet: Fleet, watch: JournalWatch, sender: Sender, processes: dict[str, int]) -> None:
        self._fleet, self._watch, self._sender = fleet, watch, sender
        self.processes = processes
        """Name -> process id, of those that live as long as the run."""
        self._generator = {"generator": sender.pid}
        self._samples: list[dict[str, Taken]] = []
        self.left = 0
        """Events accepted and not rated when the sending ended."""
        self._began = _Counted(0.0, 0, 0)
        self._working = self._drained = 0.0
        """When the measured work began and when all was done, in seconds since the epoch."""

    def run(self, warm_up: float, seconds: float, add_workers: Callable[[], None], behind: bool) -> Sent:
        """Until everything that was sent is rated and emitted. Raises: HarnessError, RuntimeError."""
        if not behind:
            add_workers()
        self._sender.start()
        begin = time.monotonic() + warm_up
        due, sent = [begin, begin + seconds / 2], None
        while sent is None:
            if due and time.monotonic() >= due[0]:
                self._sample(begins=due.pop(0) == begin)
            self._sender.shared.rated.value = self._watch.events
            sent = self._sender.result(_POLL_S)
        self.left = sent.events - self._watch.events
        if behind:
            add_workers()
            self._working = time.time()
            self._samples[0] = taken(self.processes) | self._samples[0]
        expected = sent.events
        self._fleet.until(
            lambda: self._watch.events >= expected and not self._watch.left(),
            lambda: f"{expected} events are rated and emitted: {self._watch.events}, {self._watch.left()}",
            _DRAIN_S,
        )
        self._drained = time.time()
        self._samples.append(self._samples[-1] | taken(self.processes))
        return sent

    def _sample(self, begins: bool) -> None:
        self._samples.append(taken(self.processes | self._generator))
        if begins:
            self._working = time.time()
            self._began = _Counted(self._working, self._sender.shared.accepted.value, self._watch.events)

    def figures(self, sent: Sent) -> dict[str, Any]:
        """How fast it was, and what it took."""
        begin, middle, end = self._samples[0], self._samples[-2], self._samples[-1]
        began = self._began
        cpu = per_event(begin, end, sent.events - began.accepted)
        return {
            "events": sent.events,
            "seconds": self._drained - sent.began,
            "accepted_per_s": (sent.events - began.accepted) / (sent.ended - began.at),
            "rated_per_s": (sent.events - began.rated) / (self._drained - self._working),
            "left_at_end": self.left,
            "drain_s": self._drained - sent.ended,
            "steps": self._watch.steps,
            "cpu_us_per_event": cpu | {"all": sum(cpu.values())},
            **memory_of((begin, middle, end)),
        }


def _read(bootstrap: str, partitions: int) -> Lines:
    """The whole topic of line items, after the run."""
    lines = Lines()
    for message in _messages(bootstrap, PREFIX + topics.LINE_ITEMS, partitions):
        lines.add(message.key(), message.value(), message.timestamp()[1] / 1000)
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


if __name__ == "__main__":
    sys.exit(main())

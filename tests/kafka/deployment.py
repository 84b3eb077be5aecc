"""One deployment on the tests' broker: topics of its own, worker processes, and what they wrote."""

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition

from schemas import topics
from schemas.entry import decode_tick
from streams.journal import Journal, decode_record
from streams.kafka.admin import ensure_topics
from streams.kafka.producer import KafkaProducer, Message
from streams.kafka.settings import KafkaSettings
from streams.kafka.sink import KafkaSink
from tests.kafka.counting import Line, offline, some_entries

ROOT = Path(__file__).resolve().parents[2]
NEEDED = [
    t
    for t in topics.REGISTRY
    if t.name in (topics.EVENTS, topics.LINE_ITEMS, topics.JOURNAL, topics.EVENTS_JSON, topics.JOURNAL_JSON)
]


class WorkerProcess:
    """A worker in a process of its own; `said` is what it printed, `log` what it logged."""

    def __init__(self, command: Sequence[str], log: Path, fault: str | None) -> None:
        self._said = log.with_suffix(".out")
        self._log = log
        environment = {key: value for key, value in os.environ.items() if key != "TAXIMETER_FAULT"}
        if fault is not None:
            environment["TAXIMETER_FAULT"] = fault
        with log.open("wb") as log_file, self._said.open("wb") as said_file:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said_file, stderr=log_file)

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._said.read_text().splitlines() if line.endswith("}")]

    def owns(self) -> int:
        """How many partitions it owned when it last said so."""
        return sum(item["owned"] for item in self.said[-1]["partitions"].values()) if self.said else 0

    def wait_exit(self, timeout_s: float = 30.0) -> int:
        """The exit status."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the worker did not end; its log ends:\n{self.log[-3000:]}") from None

    def is_standing_still(self) -> bool:
        """Whether it was stopped by a signal."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"


class Deployment:
    """Topics under a prefix of their own, and everything that happens on them."""

    def __init__(self, bootstrap: str, folder: Path, partitions: int = 2) -> None:
        self.settings = KafkaSettings(bootstrap, prefix=f"t{uuid.uuid4().hex[:8]}.", partitions=partitions)
        self.folder = folder
        self.workers: list[WorkerProcess] = []
        self._seed = 0
        ensure_topics(self.settings, NEEDED)

    def start(self, fault: str | None = None, **options: object) -> WorkerProcess:
        """Starts a worker; options as `tests.kafka.worker` has them."""
        command = [sys.executable, "-m", "tests.kafka.worker"]
        options = {
            "bootstrap": self.settings.bootstrap,
            "prefix": self.settings.prefix,
            "snapshots": self.folder / "snapshots",
            "partitions": self.settings.partitions,
        } | options
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
        worker = WorkerProcess(command, self.folder / f"worker-{len(self.workers)}.log", fault)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        """Ends what still runs."""
        for worker in self.workers:
            if worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()

    def append(self, count: int) -> None:
        """Appends entries to each partition and waits until they are durable."""
        asyncio.run(self._append(count))

    def append_json(self, count: int) -> None:
        """Appends single events to each partition of the topic for other producers."""
        asyncio.run(self._append_json(count))

    async def _append_json(self, count: int) -> None:
        self._seed += 1
        producer = KafkaProducer(self.settings)
        await producer.produce_many(
            [
                Message(
                    topics.EVENTS_JSON,
                    n % self.settings.partitions,
                    None,
                    b"j-%d-%d key-%d %d" % (self._seed, n, n % 9, n),
                )
                for n in range(count * self.settings.partitions)
            ]
        )
        await producer.close()

    async def _append(self, count: int) -> None:
        sink = KafkaSink(self.settings)
        for partition in range(self.settings.partitions):
            self._seed += 1
            await asyncio.gather(*(sink.append(partition, value, 5) for value in some_entries(self._seed, count)))
        await sink.close()

    def read(self, topic: str) -> list[list[bytes]]:
        """All values of a topic, by partition."""
        client = Consumer(
            self.settings.confluent() | {"group.id": "tests", "enable.auto.commit": False, "fetch.wait.max.ms": 10}
        )
        name = self.settings.topic(topic)
        values: list[list[bytes]] = []
        for partition in range(self.settings.partitions):
            begin, end = client.get_watermark_offsets(TopicPartition(name, partition), timeout=10)
            client.assign([TopicPartition(name, partition, begin)])
            found: list[bytes] = []
            while client.position([TopicPartition(name, partition)])[0].offset < end and begin < end:
                message = client.poll(1.0)
                if message is not None and message.error() is None:
                    found.append(message.value())
            values.append(found)
        client.close()
        return values

    def ends(self, topic: str) -> list[int]:
        """The offset after each partition's last record."""
        client = Consumer(self.settings.confluent() | {"group.id": "tests"})
        name = self.settings.topic(topic)
        every = range(self.settings.partitions)
        ends = [client.get_watermark_offsets(TopicPartition(name, p), timeout=10)[1] for p in every]
        client.close()
        return ends

    def committed(self) -> list[int]:
        """The group's committed offsets in `taximeter.events`."""
        client = Consumer(self.settings.confluent() | {"group.id": self.settings.prefix + "taximeter"})
        name = self.settings.topic(topics.EVENTS)
        found = client.committed([TopicPartition(name, p) for p in range(self.settings.partitions)], timeout=10)
        client.close()
        return [partition.offset for partition in found]

    def journals(self, topic: str = topics.JOURNAL) -> list[Journal]:
        """Each partition's journal, folded by the rule."""
        journals = []
        for values in self.read(topic):
            journal = Journal()
            for value in values:
                journal.apply(decode_record(value))
            journals.append(journal)
        return journals

    def is_done(self) -> bool:
        """Whether everything that was appended is worked in and emitted."""
        return all(
            journal.position >= end and not journal.pending
            for source, name in ((topics.EVENTS_JSON, topics.JOURNAL_JSON), (topics.EVENTS, topics.JOURNAL))
            for journal, end in zip(self.journals(name), self.ends(source), strict=True)
        )

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        """Until the condition holds. Fails with the ends of the logs."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                logs = "\n---\n".join(worker.log[-2500:] for worker in self.workers)
                raise AssertionError(f"not within {timeout_s} s: {what}\n{logs}")
            time.sleep(0.05)

    def wait_done(self, timeout_s: float = 30.0) -> None:
        """Until everything is worked in."""
        self.wait(self.is_done, "everything worked in and emitted", timeout_s)

    def check_exact(self) -> None:
        """The highest revision of each line is what one pass over the source comes to, and no line has two contents."""
        for partition, (sources, outputs) in enumerate(
            zip(self.read(topics.EVENTS), self.read(topics.LINE_ITEMS), strict=True)
        ):
            contents: dict[tuple[str, int], bytes] = {}
            latest: dict[str, Line] = {}
            for value in outputs:
                line = msgspec.json.decode(value, type=Line)
                assert contents.setdefault((line.id, line.revision), value) == value, "two contents for one revision"
                if line.id not in latest or latest[line.id].revision < line.revision:
                    latest[line.id] = line
            found = {line.id.split(":")[1]: (line.revision, line.total) for line in latest.values()}
            assert found == offline(sources), f"partition {partition}"

    def ticks(self, partition: int) -> list[int]:
        """The times of all ticks in a partition."""
        return [decode_tick(value[2:]) for value in self.read(topics.EVENTS)[partition] if value[1:2] == b"T"]

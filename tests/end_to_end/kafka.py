"""One deployment on the tests' broker: `ingest`, two `rate` workers and `spend`, on topics of their own."""

import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas import topics
from schemas.identity import partition_of
from tests.end_to_end.processes import READY_S, Process, Processes

PARTITIONS = 4
_TIMEOUT_S = 20.0


class Deployment:
    """The four processes; `door` and `spend` are the URLs. Workers have no clock and allow no lateness."""

    def __init__(self, bootstrap: str, processes: Processes, book: Path) -> None:
        self.processes = processes
        self._bootstrap = bootstrap
        self._prefix = f"e2e-{uuid.uuid4().hex[:8]}."
        self._kafka = ("--bootstrap", bootstrap, "--prefix", self._prefix, "--partitions", PARTITIONS)
        ingest = processes.start("ingest", "ingest", "--port", 0, "--catalogue", book, "--max-ahead", 0, *self._kafka)
        self.workers = [self.start_worker(), self.start_worker()]
        spend = processes.start("spend", "spend", "--port", 0, "--data", "spend", *self._kafka)
        self.door, self.spend = processes.ready(ingest), processes.ready(spend)
        self.wait_owned()

    def start_worker(self) -> Process:
        """A rating worker, not yet ready."""
        periods = ("--snapshots", "snapshots", "--tick", 0, "--lateness", 0)
        return self.processes.start("rate", "rate", *periods, *self._kafka)

    def wait_owned(self) -> None:
        """Waits until every partition has one owner and every worker some partition, by what they say."""

        def owned() -> bool:
            shares = [worker.partitions() or [] for worker in self.workers]
            return all(shares) and sorted(part for share in shares for part in share) == [*range(PARTITIONS)]

        self.processes.until(owned, "each partition is owned by one worker", READY_S)

    def produce(self, events: Iterable[str]) -> None:
        """Writes events to `taximeter.events.json` as another program would, one customer's always in order."""
        producer = Producer({"bootstrap.servers": self._bootstrap, "linger.ms": 5, "enable.idempotence": True})
        failed: list[Any] = []
        for event in events:
            producer.produce(
                self._prefix + topics.EVENTS_JSON,
                event.encode(),
                partition=partition_of("default", msgspec.json.decode(event)["subject"], PARTITIONS),
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            producer.poll(0)
        assert producer.flush(_TIMEOUT_S) == 0 and not failed, f"not delivered: {failed[:3]}"

    def consume(self, topic: str) -> list[bytes]:
        """All values of a topic, by a plain consumer."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._bootstrap,
                "group.id": "e2e",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 10,
            }
        )
        values: list[bytes] = []
        for number in range(PARTITIONS):
            partition = TopicPartition(self._prefix + topic, number)
            begin, end = consumer.get_watermark_offsets(partition, timeout=_TIMEOUT_S)
            consumer.assign([TopicPartition(partition.topic, number, begin)])
            position = begin
            while position < end:
                messages = consumer.consume(min(10_000, end - position), _TIMEOUT_S)
                assert messages, f"{partition.topic}[{number}] ends at {end}, and nothing comes after {position}"
                assert not any(message.error() for message in messages)
                values += [message.value() for message in messages]
                position = messages[-1].offset() + 1
        consumer.close()
        return values


def highest_revisions(values: Iterable[bytes]) -> dict[str, bytes]:
    """Id -> the content of the highest revision. Raises: AssertionError where a revision has two contents."""
    contents: dict[tuple[str, int], bytes] = {}
    highest: dict[str, int] = {}
    for value in values:
        record = msgspec.json.decode(value)
        key = record["id"], record["revision"]
        assert contents.setdefault(key, value) == value, f"two contents of {key}:\n{contents[key]!r}\n{value!r}"
        highest[key[0]] = max(highest.get(key[0], 0), key[1])
    return {id: contents[id, revision] for id, revision in highest.items()}

"""Topics of a test's own, with records as a test wants them."""

import json
import uuid
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic


class OwnTopics:
    """Topics under a prefix of their own, one partition each."""

    def __init__(self, bootstrap: str, *names: str) -> None:
        self.bootstrap = bootstrap
        self.prefix = f"own-{uuid.uuid4().hex[:8]}."
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
        admin = AdminClient({"bootstrap.servers": bootstrap})
        for made in admin.create_topics([NewTopic(self.prefix + name, 1, 1) for name in names]).values():
            made.result(30)

    def write(self, topic: str, outputs: Iterable[dict[str, Any] | bytes]) -> None:
        """Appends outputs under their ids."""
        for output in outputs:
            value = output if isinstance(output, bytes) else json.dumps(output, separators=(",", ":")).encode()
            self._producer.produce(self.prefix + topic, value, json.loads(value)["id"])
        assert self._producer.flush(30) == 0


def read_all(bootstrap: str, topic: str, partitions: int) -> list[tuple[int, bytes, bytes]]:
    """(partition, key, value) of everything that a topic holds, each partition in its order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False})
    found: list[tuple[int, bytes, bytes]] = []
    for number in range(partitions):
        begin, end = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=20)
        consumer.assign([TopicPartition(topic, number, begin)])
        while begin < end:
            for message in consumer.consume(min(1000, end - begin), 20):
                assert message.error() is None
                found.append((number, message.key(), message.value()))
                begin = message.offset() + 1
    consumer.close()
    return found

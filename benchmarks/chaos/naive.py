"""The naive Faust agent beside the run: fed with the same usage, killed when a worker is, looked at in the end."""

import json
import time
from collections import Counter
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks import naive_faust
from benchmarks.chaos.deployment import Deployment
from benchmarks.chaos.load import Mirror
from benchmarks.chaos.topics_read import read_topic

_DRAIN_S = 90.0


@dataclass(frozen=True)
class NaiveResult:
    """How far off it was. Tokens in thousandths, as it counted them."""

    kills: int
    fed: int
    """Events in its topic."""
    counted: int
    """Events that its table has counted."""
    milli_tokens: int
    milli_tokens_found: int
    milli_tokens_off: int
    """The sum of |expected - found| over the customers."""
    customers_wrong: int
    customers: int
    drained: bool

    @property
    def doubled(self) -> int:
        return max(self.counted - self.fed, 0)

    @property
    def lost(self) -> int:
        return max(self.fed - self.counted, 0)

    @property
    def cents_off(self) -> float:
        """At the price of a token's first tier, 0.0005 dollars."""
        return self.milli_tokens_off / 1000 * 0.05

    @property
    def percent(self) -> float:
        return 100.0 * (self.milli_tokens_found - self.milli_tokens) / max(self.milli_tokens, 1)


class Naive:
    """The agent's process in a deployment's fleet."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._bootstrap, self._prefix = deployment.site.direct, deployment.prefix
        self.kills = 0
        topic = NewTopic(self._prefix + naive_faust.TOPIC, naive_faust.PARTITIONS, 1)
        admin = AdminClient({"bootstrap.servers": self._bootstrap})
        for future in admin.create_topics([topic]).values():
            future.result(20)
        self._mirror = Mirror(self._bootstrap, self._prefix + naive_faust.TOPIC)
        deployment.load.mirror = self._mirror
        folder = deployment.folder / "naive"
        self._member = deployment.fleet.add(
            "naive", self._bootstrap, self._prefix, folder, module="benchmarks.naive_faust"
        )

    def kill(self) -> None:
        """kill -9; the supervisor starts it again."""
        self.kills += self._member.kill()

    def result(self) -> NaiveResult:
        """Lets it finish, and compares its tables with its topic."""
        self._mirror.close()
        drained = self._drain()
        fed: Counter[str] = Counter()
        events = 0
        for values in read_topic(self._bootstrap, self._prefix + naive_faust.TOPIC, naive_faust.PARTITIONS):
            for value in values:
                record = json.loads(value)
                fed[record["customer"]] += record["milli_tokens"]
                events += 1
        totals, counts = self._table(naive_faust.TABLE), self._table(naive_faust.COUNTS)
        self._deployment.fleet.remove(self._member)
        off = {name: abs(totals.get(name, 0) - fed[name]) for name in fed.keys() | totals.keys()}
        return NaiveResult(
            kills=self.kills,
            fed=events,
            counted=sum(counts.values()),
            milli_tokens=sum(fed.values()),
            milli_tokens_found=sum(totals.values()),
            milli_tokens_off=sum(off.values()),
            customers_wrong=sum(1 for one in off.values() if one),
            customers=len(off),
            drained=drained,
        )

    def _drain(self) -> bool:
        """Waits until its group has acknowledged everything, and its tables stand still."""
        topic = self._prefix + naive_faust.TOPIC
        client = Consumer({"bootstrap.servers": self._bootstrap, "group.id": naive_faust.group_of(self._prefix)})
        deadline = time.monotonic() + _DRAIN_S
        try:
            while time.monotonic() < deadline:
                try:
                    places = [TopicPartition(topic, number) for number in range(naive_faust.PARTITIONS)]
                    ends = [client.get_watermark_offsets(place, timeout=10)[1] for place in places]
                    committed = [place.offset for place in client.committed(places, timeout=10)]
                except KafkaException:
                    continue
                if all(at >= end or end == 0 for at, end in zip(committed, ends, strict=True)):
                    time.sleep(2.0)  # for the last of the changelog
                    return True
                time.sleep(0.5)
        finally:
            client.close()
        return False

    def _table(self, name: str) -> dict[str, int]:
        """What the table is restored from: the last value of each key."""
        topic = naive_faust.changelog(self._prefix, name)
        config = {"bootstrap.servers": self._bootstrap, "group.id": "chaos"}
        consumer = Consumer(config)
        table: dict[str, int] = {}
        try:
            for number in range(naive_faust.PARTITIONS):
                place = TopicPartition(topic, number, 0)
                _, end = consumer.get_watermark_offsets(place, timeout=20)
                consumer.assign([place])
                position = 0
                while position < end:
                    for message in consumer.consume(min(10_000, end - position), 20.0):
                        key, value = message.key(), message.value()
                        if message.error() is None and key and value:
                            table[json.loads(key)] = json.loads(value)
                        position = (message.offset() or 0) + 1
                    position = max(position, consumer.position([place])[0].offset)
        finally:
            consumer.close()
        return table

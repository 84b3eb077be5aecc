"""The source log's open end on Kafka: what the door appends to."""

from schemas import topics
from streams.kafka.producer import KafkaProducer
from streams.kafka.settings import KafkaSettings


class KafkaSink:
    """`streams.log.Sink` on Kafka. Made on a running event loop.

    Durable means: `acks=all`, by as many copies as the topic's `min.insync.replicas` says. A single broker's word is
    its operating system's memory: it survives a killed process, not a power cut.
    """

    def __init__(self, settings: KafkaSettings, *, linger_ms: float = 1) -> None:
        self.partitions = settings.partitions
        self._producer = KafkaProducer(settings, linger_ms=linger_ms)

    async def append(self, partition: int, value: bytes, events: int) -> int:
        """See `streams.log.Sink`. Kafka counts messages, so the position moves on by one. Raises: LogUnavailable."""
        return await self._producer.produce(topics.EVENTS, partition, b"%d" % partition, value) + 1

    async def close(self) -> None:
        """Waits for what was appended, and ends."""
        await self._producer.close()

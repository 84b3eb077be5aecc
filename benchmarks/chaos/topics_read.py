"""Whole topics, as any consumer would read them."""

from confluent_kafka import Consumer, TopicPartition

_TIMEOUT_S = 20.0


def read_topic(bootstrap: str, topic: str, partitions: int) -> list[list[bytes]]:
    """The values of each partition, in order, up to its end now. Raises: RuntimeError where they do not come."""
    plain = {"bootstrap.servers": bootstrap, "group.id": "chaos", "enable.auto.commit": False}
    consumer = Consumer(plain | {"fetch.wait.max.ms": 20})
    found: list[list[bytes]] = []
    try:
        for number in range(partitions):
            where = TopicPartition(topic, number)
            begin, end = consumer.get_watermark_offsets(where, timeout=_TIMEOUT_S)
            if begin:
                raise RuntimeError(f"{topic}[{number}] begins at {begin}: the run was longer than Kafka keeps")
            consumer.assign([TopicPartition(topic, number, 0)])
            values: list[bytes] = []
            position = 0
            while position < end:
                messages = consumer.consume(min(10_000, end - position), _TIMEOUT_S)
                if not messages:
                    raise RuntimeError(f"{topic}[{number}] ends at {end}, and nothing comes after {position}")
                for message in messages:
                    offset = message.offset()
                    if message.error() is None and offset is not None and offset < end:
                        values.append(message.value() or b"")
                        position = offset + 1
                position = max(position, consumer.position([where])[0].offset)
            found.append(values)
    finally:
        consumer.close()
    return found

"""The log's two ends on a real broker: topics, the sink, the source."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from schemas import topics
from schemas.topics import REGISTRY
from streams.kafka.admin import TopicError, ensure_topics
from streams.kafka.producer import KafkaProducer, Message
from streams.kafka.settings import KafkaSettings
from streams.kafka.sink import KafkaSink
from streams.kafka.source import KafkaSource, LogReader
from streams.log import LogUnavailable, TopicRecord
from tests.kafka.deployment import Deployment

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(60)]


def test_topics_are_made_once_by_several_processes_at_a_time(kafka_bootstrap: str, tmp_path: Path) -> None:
    settings = KafkaSettings(kafka_bootstrap, prefix=f"{tmp_path.name}.", partitions=3)
    with ThreadPoolExecutor(4) as executor:
        list(executor.map(ensure_topics, [settings] * 4))
    ensure_topics(settings)
    present = AdminClient(settings.confluent()).list_topics(timeout=10).topics
    found = {topic.name: len(present[settings.topic(topic.name)].partitions) for topic in REGISTRY}
    assert found == {topic.name: topic.partitions or 3 for topic in REGISTRY}


def test_another_number_of_partitions_is_refused(kafka_bootstrap: str, tmp_path: Path) -> None:
    prefix = f"{tmp_path.name}."
    ensure_topics(KafkaSettings(kafka_bootstrap, prefix=prefix, partitions=2))
    with pytest.raises(TopicError, match="has 2 partitions, expected 3"):
        ensure_topics(KafkaSettings(kafka_bootstrap, prefix=prefix, partitions=3))


def test_topics_of_a_broker_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.kafka.admin._TIMEOUT_S", 1.0)
    with pytest.raises(TopicError, match=r"cannot ask Kafka at 127\.0\.0\.1:1"):
        ensure_topics(KafkaSettings("127.0.0.1:1"))


async def test_the_sink_answers_with_the_position_after_the_entry(deployment: Deployment) -> None:
    sink = KafkaSink(deployment.settings)
    assert await sink.append(1, b"a", 5) == 1
    assert await asyncio.gather(*(sink.append(1, b"b", 5) for _ in range(50))) == list(range(2, 52))
    assert await sink.append(0, b"c", 0) == 1
    await sink.close()


async def test_a_log_that_cannot_be_reached_is_said_in_time() -> None:
    sink = KafkaSink(KafkaSettings("127.0.0.1:1", delivery_timeout_s=1.5))
    begun = time.monotonic()
    with pytest.raises(LogUnavailable, match=r"taximeter\.events partition 0: .*timed out"):
        await sink.append(0, b"a", 1)
    assert time.monotonic() - begun < 4
    await sink.close()


async def test_a_record_that_is_too_large_is_refused(deployment: Deployment) -> None:
    sink = KafkaSink(deployment.settings)
    with pytest.raises(LogUnavailable, match="too large"):
        await sink.append(0, bytes(deployment.settings.message_bytes_max + 1), 1)
    await sink.close()


async def test_many_records_keep_their_order(deployment: Deployment) -> None:
    producer = KafkaProducer(deployment.settings)
    messages = [Message(topics.LINE_ITEMS, n % 2, b"k", b"%d" % n) for n in range(2000)]
    offsets = await producer.produce_many(messages)
    await producer.close()
    assert offsets == [n // 2 for n in range(2000)]
    assert deployment.read(topics.LINE_ITEMS)[1] == [b"%d" % n for n in range(1, 2000, 2)]


@pytest.mark.parametrize("compression", ["lz4", "snappy", "zstd", "gzip"])
async def test_what_producers_compress_is_read(deployment: Deployment, compression: str) -> None:
    """Workers write lz4; who writes to `taximeter.events.json` chooses."""
    values = [b"%d alike alike alike alike alike alike alike alike" % n for n in range(500)]
    producer = KafkaProducer(deployment.settings, linger_ms=50, compression=compression)
    await producer.produce_many([Message(topics.LINE_ITEMS, 0, b"key", value) for value in values])
    await producer.close()
    async with LogReader(deployment.settings, 0) as reader:
        bounded = [message.value async for found in reader.read(topics.LINE_ITEMS, 0, 500) for message in found]
    assert bounded == values
    assert [record.value for record in await take(KafkaSource(deployment.settings), {}, 500)] == values
    assert deployment.read(topics.LINE_ITEMS)[0] == values


async def take(source: KafkaSource, positions: dict[tuple[str, int], int], count: int) -> list[TopicRecord]:
    """The first records that a read brings."""
    found: list[TopicRecord] = []
    async for records in source.read([topics.EVENTS, topics.LINE_ITEMS], positions):
        found += records
        if len(found) >= count:
            break
    return found


async def test_the_source_reads_from_positions_and_from_the_beginning(deployment: Deployment) -> None:
    producer = KafkaProducer(deployment.settings)
    await producer.produce_many([Message(topics.EVENTS, 0, None, b"%d" % n) for n in range(6)])
    await producer.produce_many([Message(topics.LINE_ITEMS, 1, b"key", b"line")])
    await producer.close()

    found = await take(KafkaSource(deployment.settings), {(topics.EVENTS, 0): 4}, 3)
    assert sorted(found) == [
        TopicRecord(topics.EVENTS, 0, 4, 5, b"", b"4"),
        TopicRecord(topics.EVENTS, 0, 5, 6, b"", b"5"),
        TopicRecord(topics.LINE_ITEMS, 1, 0, 1, b"key", b"line"),
    ]


async def test_the_source_goes_on_at_the_oldest_record_where_a_position_is_gone(deployment: Deployment) -> None:
    producer = KafkaProducer(deployment.settings)
    await producer.produce_many([Message(topics.EVENTS, 0, None, b"%d" % n) for n in range(6)])
    await producer.close()
    name = deployment.settings.topic(topics.EVENTS)
    admin = AdminClient(deployment.settings.confluent())
    for future in admin.delete_records([TopicPartition(name, 0, 4)]).values():
        future.result()

    for gone in (1, 99):
        found = await take(KafkaSource(deployment.settings), {(topics.EVENTS, 0): gone}, 2)
        assert [record.offset for record in found] == [4, 5]


async def test_the_source_names_a_missing_topic(deployment: Deployment) -> None:
    with pytest.raises(LogUnavailable, match=r"the topic .* is not there"):
        async for _ in KafkaSource(deployment.settings).read(["no-such-topic"], {}):
            pass


async def test_a_bounded_read_ends(deployment: Deployment) -> None:
    producer = KafkaProducer(deployment.settings)
    await producer.produce_many([Message(topics.EVENTS, 1, None, b"%d" % n) for n in range(10)])
    await producer.close()
    async with LogReader(deployment.settings, 1) as reader:
        assert await reader.bounds(topics.EVENTS) == (0, 10)
        found = [message.offset async for messages in reader.read(topics.EVENTS, 3, 7) for message in messages]
        assert found == [3, 4, 5, 6]
        assert [_ async for _ in reader.read(topics.EVENTS, 10, 10)] == []

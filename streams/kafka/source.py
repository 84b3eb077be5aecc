"""Reading Kafka by position, without a consumer group: the readers' `KafkaSource`, and the restore's `LogReader`."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from streams.kafka.avro import is_avro, read_value
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable, Positions, TopicRecord

_POLL_MS: Final = 1000
_FOLLOW_WAIT_MS: Final = 500
_BOUNDED_WAIT_MS: Final = 10
"""aiokafka goes on fetching at a topic's end, and another topic waits for that fetch to return."""
_MARKS_MAX: Final = 1024
"""Fetches of a partition whose times are known."""
_SILENCE_S: Final = 30.0
"""A bounded read that brings nothing for so long has failed."""


class SourceMessage(NamedTuple):
    """One message of a source or journal topic."""

    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes


def _consumer(settings: KafkaSettings, wait_ms: int) -> Any:
    return AIOKafkaConsumer(
        **settings.aiokafka(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",  # where reading begins is decided here, never by a default
        fetch_max_wait_ms=wait_ms,
        max_partition_fetch_bytes=settings.message_bytes_max,
    )


class KafkaSource:
    """`streams.log.Source` on Kafka. Each `read` has a connection of its own, which ends with it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.partitions = settings.partitions
        self._settings = settings
        self._ends: dict[tuple[str, int], int] = {}
        self._marks: dict[tuple[str, int], deque[tuple[int, int]]] = {}

    def end(self, topic: str, partition: int) -> int:
        """Where a topic that is read ends, as the last fetch had it; 0 where nothing is known."""
        return self._ends.get((topic, partition), 0)

    def written_at(self, topic: str, partition: int, offset: int) -> int | None:
        """About when the record at an offset was written, in microseconds, by what was read; None where unknown."""
        marks = list(self._marks.get((topic, partition), ()))
        return next((at for end, at in marks if end > offset), marks[-1][1] if marks else None)

    async def read(self, topics: Sequence[str], positions: Positions) -> AsyncIterator[list[TopicRecord]]:
        """See `streams.log.Source`. Raises: LogUnavailable where a topic is missing or Kafka cannot be reached."""
        consumer = _consumer(self._settings, _FOLLOW_WAIT_MS)
        try:
            await consumer.start()
            names = await self._assign(consumer, topics, positions)
            while True:
                try:
                    batches = await consumer.getmany(timeout_ms=_POLL_MS)
                except OffsetOutOfRangeError as error:
                    await consumer.seek_to_beginning(*error.args[0])
                    continue
                self._note(consumer, names, batches)
                if records := [_record(names, record) for batch in batches.values() for record in batch]:
                    yield await _as_json(self._settings, records)
        except KafkaError as error:
            raise LogUnavailable(f"cannot read {', '.join(topics)} from Kafka: {error}") from error
        finally:
            await consumer.stop()

    def _note(self, consumer: Any, names: dict[str, str], batches: dict[TopicPartition, list[Any]]) -> None:
        for tp in consumer.assignment():
            end = consumer.highwater(tp)
            if end is not None:
                self._ends[names[tp.topic], tp.partition] = end
        for tp, records in batches.items():
            if records:
                mark = records[-1].offset + 1, records[-1].timestamp * 1000
                self._marks.setdefault((names[tp.topic], tp.partition), deque(maxlen=_MARKS_MAX)).append(mark)

    async def _assign(self, consumer: Any, topics: Sequence[str], positions: Positions) -> dict[str, str]:
        """Takes all partitions, goes to their positions. Returns the cluster's name of each topic -> the registry's."""
        names = {self._settings.topic(topic): topic for topic in topics}
        cluster = await consumer._client.fetch_all_metadata()
        partitions: list[TopicPartition] = []
        for name in names:
            found = cluster.partitions_for_topic(name)
            if not found:
                raise LogUnavailable(f"the topic {name} is not there")
            partitions += [TopicPartition(name, partition) for partition in sorted(found)]
        consumer.assign(partitions)
        for tp in partitions:
            position = positions.get((names[tp.topic], tp.partition))
            if position is not None:
                consumer.seek(tp, position)
        fresh = [tp for tp in partitions if (names[tp.topic], tp.partition) not in positions]
        if fresh:
            await consumer.seek_to_beginning(*fresh)
        return names


def _record(names: dict[str, str], record: Any) -> TopicRecord:
    return TopicRecord(
        names[record.topic],
        record.partition,
        record.offset,
        record.offset + 1,
        record.key or b"",
        record.value or b"",
    )


async def _as_json(settings: KafkaSettings, records: list[TopicRecord]) -> list[TopicRecord]:
    """Outputs that stand in Avro, as the JSON that the engine made. Raises: LogUnavailable."""
    if not any(is_avro(record.topic, record.value) for record in records):
        return records

    def translated(record: TopicRecord) -> TopicRecord:
        if not is_avro(record.topic, record.value):
            return record
        return record._replace(value=read_value(settings, record.topic, record.value))

    return await asyncio.to_thread(lambda: [translated(record) for record in records])


class LogReader:
    """Bounded reads of one partition number, for taking a partition over. An async context manager."""

    def __init__(self, settings: KafkaSettings, partition: int) -> None:
        self._settings = settings
        self._partition = partition
        self._consumer = _consumer(settings, _BOUNDED_WAIT_MS)

    async def __aenter__(self) -> "LogReader":
        await self._consumer.start()
        await asyncio.sleep(0)  # a task of aiokafka that is cancelled before it has begun would cancel us
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def bounds(self, topic: str) -> tuple[int, int]:
        """The offset of the oldest record that the log holds, and the one after the newest. Raises: KafkaError."""
        tp = TopicPartition(self._settings.topic(topic), self._partition)
        begin = await self._consumer.beginning_offsets([tp])
        end = await self._consumer.end_offsets([tp])
        return begin[tp], end[tp]

    async def read(self, topic: str, start: int, end: int) -> AsyncIterator[list[SourceMessage]]:
        """Yields the records of `[start, end)`, all of which the log must hold. Raises: KafkaError, LogUnavailable."""
        if start >= end:
            return
        tp = TopicPartition(self._settings.topic(topic), self._partition)
        self._consumer.assign([tp])
        self._consumer.seek(tp, start)
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while (position := await self._consumer.position(tp)) < end:
            found = await self._consumer.getmany(tp, timeout_ms=_POLL_MS)
            messages = [_message(record) for record in found.get(tp, ()) if record.offset < end]
            if messages:
                heard = loop.time()
                yield await self._as_json(topic, messages)
            elif loop.time() - heard > _SILENCE_S:
                raise LogUnavailable(f"{tp.topic} partition {tp.partition}: nothing from {position} for {_SILENCE_S} s")

    async def _as_json(self, topic: str, messages: list[SourceMessage]) -> list[SourceMessage]:
        if not any(is_avro(topic, message.value) for message in messages):
            return messages

        def translated(message: SourceMessage) -> SourceMessage:
            if not is_avro(topic, message.value):
                return message
            return message._replace(value=read_value(self._settings, topic, message.value))

        return await asyncio.to_thread(lambda: [translated(message) for message in messages])


def _message(record: Any) -> SourceMessage:
    return SourceMessage(record.offset, record.timestamp, record.key or b"", record.value or b"")

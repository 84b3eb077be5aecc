"""The status of a deployment on Kafka from outside: from the journal, the ends of the topics and the group's offsets.

No worker is asked, so it works where none is left. The journal's last part is enough: each step says what all steps
before it came to.
"""

import asyncio
import time
from typing import Final

from aiokafka.errors import KafkaError
from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas import topics
from streams.journal import REPAIR, Open, Place, Record, RecordDamaged, decode_record
from streams.kafka.settings import KafkaSettings
from streams.kafka.source import LogReader
from streams.log import LogUnavailable
from streams.sums import Sums
from taximeter.status import Finding, PartitionStatus, Status, make_status
from taximeter.status_data import journal_findings

_LAST_RECORDS: Final = 20_000
_TIMEOUT_S: Final = 10.0


async def kafka_status(settings: KafkaSettings, group: str, whole: bool) -> Status:
    """`whole`: adds the whole journal up in place of its last part. Raises: LogUnavailable."""
    try:
        async with asyncio.timeout(None if whole else 6 * _TIMEOUT_S):
            committed = await asyncio.to_thread(_committed, settings, group)
            found = [
                await _partition(settings, number, committed.get(number), whole)
                for number in range(settings.partitions)
            ]
    except (KafkaError, KafkaException, TimeoutError) as error:
        raise LogUnavailable(f"cannot read from Kafka at {settings.bootstrap}: {error or 'no answer'}") from error
    return make_status("kafka topics", found, ready=False, notes=["no worker was asked: this is what the journal says"])


async def _partition(settings: KafkaSettings, number: int, committed: int | None, whole: bool) -> PartitionStatus:
    records: list[Record] = []
    damaged: list[Finding] = []
    async with LogReader(settings, number) as reader:
        begin, end = await reader.bounds(topics.JOURNAL)
        start = begin if whole else max(begin, end - _LAST_RECORDS)
        async for messages in reader.read(topics.JOURNAL, start, end):
            for message in messages:
                try:
                    record = decode_record(message.value, Place(topics.JOURNAL, number, message.offset))
                except RecordDamaged as error:
                    damaged.append(_damage(number, message.offset, error))
                    continue
                records.append(record)
                if isinstance(record, Open) and record.writer.startswith(REPAIR):
                    damaged.clear()  # what a repair has left behind
        sums = Sums.of(records)
        source = await reader.bounds(topics.EVENTS)
        lag_seconds = 0.0
        if source[1] > sums.position:
            async for messages in reader.read(topics.EVENTS, max(sums.position, source[0]), source[1]):
                lag_seconds = max(time.time() - messages[0].timestamp_ms / 1000, 0.0)
                break
    owners = {record.epoch: record.writer for record in records if hasattr(record, "writer")}
    epoch = max((record.epoch for record in records), default=0)
    return PartitionStatus(
        partition=number,
        position=sums.position,
        end=source[1],
        ready=False,
        lag_seconds=lag_seconds,
        epoch=epoch,
        writer=owners.get(epoch),
        committed=committed,
        totals=sums.counts if sums.claims else None,
        through=sums.position,
        differences=[*damaged, *journal_findings(number, sums)],
    )


def _damage(number: int, offset: int, error: RecordDamaged) -> Finding:
    what = f"journal: the record at offset {offset}"
    return Finding(partition=number, position=offset, what=what, expected="whole", found=str(error))


def _committed(settings: KafkaSettings, group: str) -> dict[int, int]:
    """What the group has committed, by partition. Raises: KafkaException."""
    client = Consumer(settings.confluent() | {"group.id": settings.prefix + group, "enable.auto.commit": False})
    try:
        name = settings.topic(topics.EVENTS)
        wanted = [TopicPartition(name, number) for number in range(settings.partitions)]
        found = client.committed(wanted, timeout=_TIMEOUT_S)
        return {one.partition: one.offset for one in found if one.offset >= 0}
    finally:
        client.close()

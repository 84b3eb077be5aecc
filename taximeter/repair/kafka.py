"""The repair of a deployment on Kafka: the journals and snapshots of the rating workers."""

import asyncio
from collections.abc import Iterable

from aiokafka.errors import KafkaError

from rating.engine import RatingProcessor, RatingSettings
from rating.rise import rise_above
from schemas import topics
from schemas.times import DAY
from streams.kafka.admin import ensure_topics
from streams.kafka.mender import repair_partition
from streams.kafka.producer import KafkaProducer
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable
from streams.processor import Output, PartitionProcessor
from streams.repairing import Repair
from streams.snapshots import SnapshotStore
from taximeter.follower import CatalogueFollower
from taximeter.workers import rate_bindings


async def repair_kafka(
    settings: KafkaSettings,
    store: SnapshotStore,
    rating: RatingSettings,
    partitions: list[int],
    repair: Repair,
    max_ahead: int | None = DAY,
) -> None:
    """Looks at both journals of every partition; `max_ahead` as the workers have it.

    Raises: TopicError, LogUnavailable, SnapshotError."""
    await asyncio.to_thread(ensure_topics, settings)
    follower = CatalogueFollower(settings)
    await asyncio.to_thread(follower.start)
    producer = KafkaProducer(settings)
    try:
        for binding in rate_bindings(RatingProcessor(rating), follower, None, max_ahead):
            rise = rise_above if binding.source == topics.EVENTS else _nothing
            for partition in partitions:
                await repair_partition(settings, producer, binding, store, partition, rise, repair)
    except KafkaError as error:
        raise LogUnavailable(f"cannot read Kafka at {settings.bootstrap}: {error}") from error
    finally:
        await producer.close()
        await asyncio.to_thread(follower.stop)


def _nothing(state: PartitionProcessor, emitted: Iterable[tuple[bytes, bytes]]) -> list[Output]:
    """The feed from JSON writes packs of events: one that comes twice is a duplicate, and counts once."""
    return []

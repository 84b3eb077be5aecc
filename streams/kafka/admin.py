"""Makes the topics of the registry, and checks those that are there."""

import time
from collections.abc import Sequence
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from schemas.topics import REGISTRY, Topic
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable

_TIMEOUT_S: Final = 10.0
_DAY_MS: Final = 24 * 60 * 60 * 1000

_LEADERLESS: Final = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
"""What a broker answers while a partition's leader is only just chosen: for a moment after a topic is made."""

_AGAIN_S: Final = 0.1

_COMPACTION_LAG_MS: Final = _DAY_MS
"""Compaction keeps a key's *last* record. A stopped process may wake and write an older revision after a newer one
(see README.md, "What is weak"): within this time a reader sees both and keeps the higher."""


class TopicError(RuntimeError):
    """A topic is not as this deployment needs it, or cannot be made; the message says what was found and expected."""


def ensure_topics(settings: KafkaSettings, registry: Sequence[Topic] = REGISTRY) -> None:
    """Makes what is missing and checks what is there. Idempotent; several processes may do it at once. Blocks.

    Raises: TopicError.
    """
    # At level 6 librdkafka says at the end what it has dropped of its own.
    admin = AdminClient(settings.confluent() | {"log_level": 5})
    try:
        present = _partition_counts(admin)
        missing = [topic for topic in registry if settings.topic(topic.name) not in present]
        _create(admin, settings, missing)
        _check(admin, settings, registry)
    except KafkaException as error:
        raise TopicError(f"cannot ask Kafka at {settings.bootstrap} for its topics: {error.args[0]}") from error


def partition_count(settings: KafkaSettings, topic: Topic) -> int:
    """How many partitions a topic has in this deployment."""
    return settings.partitions if topic.partitions is None else topic.partitions


def offsets_of(consumer: Consumer, place: TopicPartition, seconds: float) -> tuple[int, int]:
    """A partition's first offset and its end. While its leader is only just chosen it is asked again. Blocks for up to
    about `seconds`. Raises: LogUnavailable."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = consumer.get_watermark_offsets(place, timeout=seconds)
        except KafkaException as error:
            if error.args[0].code() not in _LEADERLESS or time.monotonic() >= deadline:
                raise LogUnavailable(f"cannot ask Kafka for the end of {place.topic}: {error.args[0].str()}") from error
            time.sleep(_AGAIN_S)
        else:
            if found is None:
                raise LogUnavailable(f"Kafka does not say within {seconds:g} s where {place.topic} ends")
            return found


def _config(settings: KafkaSettings, topic: Topic) -> dict[str, str]:
    config = {
        "min.insync.replicas": str(settings.min_insync),
        "max.message.bytes": str(settings.message_bytes_max),
    }
    if topic.kept == "compacted":
        return config | {"cleanup.policy": "compact", "min.compaction.lag.ms": str(_COMPACTION_LAG_MS)}
    return config | {"cleanup.policy": "delete", "retention.ms": str(settings.retention_days * _DAY_MS)}


def _create(admin: AdminClient, settings: KafkaSettings, missing: Sequence[Topic]) -> None:
    if not missing:
        return
    wanted = [
        NewTopic(
            settings.topic(topic.name),
            num_partitions=partition_count(settings, topic),
            replication_factor=settings.replication,
            config=_config(settings, topic),
        )
        for topic in missing
    ]
    for name, future in admin.create_topics(wanted, operation_timeout=_TIMEOUT_S).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was quicker
                raise TopicError(f"cannot make the topic {name}: {error.args[0].str()}") from error


def _partition_counts(admin: AdminClient) -> dict[str, int]:
    """The topics that are there. Raises: KafkaException."""
    metadata = admin.list_topics(timeout=_TIMEOUT_S)
    return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}


def _check(admin: AdminClient, settings: KafkaSettings, registry: Sequence[Topic]) -> None:
    """Waits until all topics are known, then compares. Raises: TopicError, KafkaException."""
    names = {settings.topic(topic.name): topic for topic in registry}
    deadline = time.monotonic() + _TIMEOUT_S
    while not names.keys() <= (present := _partition_counts(admin)).keys():
        if time.monotonic() > deadline:
            raise TopicError(f"the topics {sorted(names.keys() - present.keys())} were made and do not appear")
        time.sleep(0.1)
    policies = _cleanup_policies(admin, list(names))
    for name, topic in names.items():
        if present[name] != partition_count(settings, topic):
            raise TopicError(
                f"the topic {name} has {present[name]} partitions, expected {partition_count(settings, topic)}: "
                "start with that number, or move to new topics; customers are bound to partitions, so it cannot change"
            )
        expected = "compact" if topic.kept == "compacted" else "delete"
        if policies[name] != expected:
            raise TopicError(f"the topic {name} has cleanup.policy={policies[name]}, expected {expected}")


def _cleanup_policies(admin: AdminClient, names: Sequence[str]) -> dict[str, str]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = admin.describe_configs(resources, request_timeout=_TIMEOUT_S)
    return {resource.name: future.result()["cleanup.policy"].value for resource, future in answers.items()}

"""Kafka settings: what both clients get, and what is refused."""

import numpy as np
import pytest

from schemas import topics
from streams.kafka.binding import Binding, addressed
from streams.kafka.ownership import StepLimits
from streams.kafka.settings import KafkaSettings
from streams.kafka.source import SourceMessage
from streams.kafka.wire import Message, MessageBlock
from streams.processor import Block, Output


def test_both_clients_get_the_same_security_under_their_names() -> None:
    settings = KafkaSettings(
        "a:1,b:2",
        security={
            "security.protocol": "sasl_plaintext",
            "sasl.mechanisms": "SCRAM-SHA-256",
            "sasl.username": "me",
            "sasl.password": "secret",
        },
    )
    assert settings.confluent()["sasl.password"] == "secret"
    assert settings.aiokafka() == {
        "bootstrap_servers": "a:1,b:2",
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": "SCRAM-SHA-256",
        "sasl_plain_username": "me",
        "sasl_plain_password": "secret",
    }
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("protocol", ["ssl", "SASL_SSL"])
def test_tls_has_a_context(protocol: str) -> None:
    settings = KafkaSettings("a:1", security={"security.protocol": protocol})
    assert settings.aiokafka()["ssl_context"] is not None


@pytest.mark.parametrize(
    "options",
    [
        {"security": {"sasl.user": "x"}},
        {"partitions": 0},
        {"replication": 1, "min_insync": 2},
        {"session_timeout_s": 2.0, "heartbeat_s": 1.0},
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"found .* expected"):
        KafkaSettings("a:1", **options)  # type: ignore[arg-type]


def test_outputs_stay_in_their_partition_except_entries_and_single_topics() -> None:
    places = (topics.LINE_ITEMS, b"li_1", 3), (topics.EVENTS, b"1", 1), (topics.CATALOGUE, b"book", 0)
    for topic, key, partition in places:
        assert addressed(Output(topic, key, b"value"), 3) == Message(topic, partition, key, b"value")


def test_a_block_stays_in_its_partition_too_and_is_never_of_entries() -> None:
    for topic, partition in ((topics.LINE_ITEMS, 3), (topics.CATALOGUE, 0)):
        block = Block(topic, 1, b"ab", b"12", np.arange(3))
        assert addressed(block, 3) == MessageBlock(partition, block)
    with pytest.raises(ValueError, match="expected single outputs"):
        addressed(Block(topics.EVENTS, 1, b"12", b"", np.zeros(3, np.int64)), 3)


def test_ticks_only_for_the_events() -> None:
    with pytest.raises(ValueError, match="expected them only for"):
        Binding(None, source=topics.EVENTS_JSON, tick_s=1.0)  # type: ignore[arg-type]


def test_steps_are_cut_by_number_and_bytes_and_hold_at_least_one() -> None:
    sizes = [3, 3, 9, 1, 1, 1, 1]
    messages = [SourceMessage(offset, 0, b"", b"x" * size) for offset, size in enumerate(sizes)]
    chunks = StepLimits(entries=3, bytes=7).cut(messages)
    assert [[len(message.value) for message in chunk] for chunk in chunks] == [[3, 3], [9], [1, 1, 1], [1]]


def test_steps_of_single_events_hold_more_messages_and_no_more_bytes() -> None:
    packs, singles = Binding(None), Binding(None, source=topics.EVENTS_JSON, step_factor=16)  # type: ignore[arg-type]
    limits = StepLimits(entries=128, bytes=1000, snapshot_entries=10)
    assert limits.of(packs) == limits
    assert limits.of(singles) == StepLimits(entries=2048, bytes=1000, snapshot_entries=160)


def test_parts_of_a_step_are_together_no_more_than_it_and_hold_at_least_one() -> None:
    assert StepLimits(entries=130, bytes=1000).part(16) == StepLimits(entries=8, bytes=62)
    assert StepLimits(entries=3, bytes=1000).part(16).entries == 1

"""Faust's consumer as this host uses it, without a broker."""

from types import SimpleNamespace

from aiokafka import AIOKafkaConsumer

from streams.kafka.consumer import OwnedConsumer


async def test_a_group_that_is_not_joined_yet_is_nothing_to_complain_of() -> None:
    """The watch may look before the consumer has started: it has no coordinator then."""
    not_started = AIOKafkaConsumer("events", bootstrap_servers="127.0.0.1:1", group_id="group")
    consumer = object.__new__(OwnedConsumer)
    consumer._thread = SimpleNamespace(_consumer=not_started)
    consumer.check_group()
    await not_started.stop()

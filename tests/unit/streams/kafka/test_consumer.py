"""Faust's consumer as this host uses it, without a broker."""

from types import SimpleNamespace
from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.types import TP

from streams.kafka.consumer import OwnedConsumer
from streams.kafka.ownership import StepLimits
from streams.kafka.source import SourceMessage


async def test_a_group_that_is_not_joined_yet_is_nothing_to_complain_of() -> None:
    """The watch may look before the consumer has started: it has no coordinator then."""
    not_started = AIOKafkaConsumer("events", bootstrap_servers="127.0.0.1:1", group_id="group")
    consumer = object.__new__(OwnedConsumer)
    consumer._thread = SimpleNamespace(_consumer=not_started)
    consumer.check_group()
    await not_started.stop()


async def test_what_a_fetch_brings_goes_through_faust_in_bundles() -> None:
    """Each message once, in the order of the log; a partition's bundles by the limits of its topic."""
    packs, events = TP("packs", 1), TP("events", 0)
    fetched = {
        packs: [SimpleNamespace(offset=n, timestamp=1_000 + n, key=None, value=b"abc") for n in range(5)],
        events: [SimpleNamespace(offset=7, timestamp=2_001, key=b"k", value=None)],
    }

    async def getmany(active: set[TP], timeout: float) -> dict[TP, list[Any]]:
        return {tp: found for tp, found in fetched.items() if tp in active}

    consumer = object.__new__(OwnedConsumer)
    consumer.app = SimpleNamespace(consumer_generation_id=3)
    consumer._thread = SimpleNamespace(getmany=getmany, _consumer=None)
    consumer.bundle_of = lambda tp: StepLimits(entries=2 if tp == packs else 100)
    found = await consumer._getmany({packs, events}, 1.0)
    each = [SourceMessage(n, 1_000 + n, b"", b"abc") for n in range(5)]
    assert found == {packs: [each[:2], each[2:4], each[4:]], events: [[SourceMessage(7, 2_001, b"k", b"")]]}
    message = consumer._to_message(packs, found[packs][1])
    assert (message.tp, message.offset, message.timestamp, message.generation_id) == (packs, 2, 1.002, 3)
    assert message.value == each[2:4]

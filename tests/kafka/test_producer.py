"""The producer over both wires: what goes in comes out, in order, and the caller hears what became of it."""

import asyncio
import ctypes
import random
import time
from collections.abc import Callable
from typing import Any

import confluent_kafka.cimpl
import pytest
from confluent_kafka import Consumer, TopicPartition

import streams.kafka.producer as producer_module
from schemas import topics
from streams.kafka.admin import ensure_topics
from streams.kafka.native_wire import NativeWire, is_there
from streams.kafka.producer import KafkaProducer, Message
from streams.kafka.settings import KafkaSettings
from streams.kafka.wire import MessageBlock, ends_of, singles
from streams.log import LogUnavailable
from tests.kafka.deployment import Deployment
from tests.unit.streams.blocks import block

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.parametrize("native", [pytest.param(True, id="native"), pytest.param(False, id="python")]),
]


@pytest.fixture(autouse=True)
def _wired(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if native and not is_there():
        pytest.skip("the library is left out")
    monkeypatch.setattr(producer_module, "is_there", lambda: native)


def _with_room(room: int, native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The producers made from now on have a queue for that many records."""
    name = "NativeWire" if native else "PlainWire"
    wire, small = getattr(producer_module, name), {"queue.buffering.max.messages": room}
    monkeypatch.setattr(producer_module, name, lambda settings, config: wire(settings, config | small))


def records(settings: KafkaSettings, topic: str, partition: int) -> list[tuple[bytes | None, bytes]]:
    """Keys and values of a partition, to its end now."""
    consumer = Consumer({"bootstrap.servers": settings.bootstrap, "group.id": "test", "enable.auto.commit": False})
    where = TopicPartition(settings.topic(topic), partition, 0)
    _, end = consumer.get_watermark_offsets(where, timeout=10.0)
    consumer.assign([where])
    found: list[tuple[bytes | None, bytes]] = []
    deadline = time.monotonic() + 30
    while len(found) < end and time.monotonic() < deadline:
        found += [(message.key(), message.value() or b"") for message in consumer.consume(1000, 0.5)]
    consumer.close()
    return found


async def test_every_record_stands_where_its_offset_says(deployment: Deployment) -> None:
    dice = random.Random(5)
    places = [(topics.EVENTS, 0), (topics.EVENTS, 1), (topics.JOURNAL, 0)]
    messages: list[Message] = []
    while len(messages) < 3000:
        topic, partition = dice.choice(places)
        for _ in range(dice.choice((1, 2, 50))):  # runs to one place, and single ones
            key = dice.choice((None, b"", b"\0k\0", dice.randbytes(32)))
            messages.append(Message(topic, partition, key, dice.randbytes(dice.choice((0, 1, 600)))))
    producer = KafkaProducer(deployment.settings)
    halves = messages[:1500], messages[1500:]
    offsets = [await producer.produce_many(half) for half in halves]
    assert await producer.produce_many([]) == []
    await producer.close()
    stored = {place: records(deployment.settings, *place) for place in places}
    for message, offset in zip(messages, offsets[0] + offsets[1], strict=True):
        assert stored[message.topic, message.partition][offset] == (message.key, message.value)
    for place in places:
        mine = [(m.key, m.value) for m in messages if (m.topic, m.partition) == place]
        assert stored[place] == mine


@pytest.mark.parametrize("room", [7, 100_000])
async def test_a_block_stands_as_its_records(
    native: bool, room: int, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the queue has no room for a whole one (`room`, in records)."""
    _with_room(room, native, monkeypatch)
    dice, messages = random.Random(6), list[Message | MessageBlock]()
    for _ in range(40):
        partition = dice.randrange(2)
        single = Message(topics.LINE_ITEMS, partition, b"single", dice.randbytes(9))
        made = [(dice.randbytes(35), dice.randbytes(dice.choice((0, 1, 600)))) for _ in range(dice.randrange(1, 30))]
        messages += [single, MessageBlock(partition, block(topics.LINE_ITEMS, made))][dice.randrange(2) :]
    producer = KafkaProducer(deployment.settings)
    offsets = await producer.produce_many(messages)
    await producer.close()
    for partition in range(2):
        mine = [one for one in zip(messages, offsets, strict=True) if one[0].partition == partition]
        stored = records(deployment.settings, topics.LINE_ITEMS, partition)
        assert stored == [(one.key, one.value) for one in singles([message for message, _ in mine])]
        assert [offset + 1 for _, offset in mine] == ends_of([message for message, _ in mine])


async def test_a_block_larger_than_a_request_stands_in_order(deployment: Deployment) -> None:
    count, size = 30, deployment.settings.message_bytes_max // 10
    large = block(topics.LINE_ITEMS, [(b"%2d" % number, bytes(size)) for number in range(count)])
    producer = KafkaProducer(deployment.settings, compression="lz4", delivery_timeout_s=60)
    both = [producer.produce_many([MessageBlock(0, large)]), producer.produce_many([MessageBlock(1, large)])]
    assert await asyncio.gather(*both) == [[count - 1]] * 2
    await producer.close()
    for partition in range(2):
        found = records(deployment.settings, topics.LINE_ITEMS, partition)
        assert [key for key, _ in found] == [b"%2d" % number for number in range(count)]


async def test_many_callers_at_once_get_their_own_offsets(deployment: Deployment) -> None:
    producer = KafkaProducer(deployment.settings)
    calls = [[Message(topics.EVENTS, 0, None, b"%d-%d" % (call, n)) for n in range(20)] for call in range(50)]
    found = await asyncio.gather(*(producer.produce_many(call) for call in calls))
    await producer.close()
    stored = records(deployment.settings, topics.EVENTS, 0)
    for call, offsets in zip(calls, found, strict=True):
        assert [stored[offset][1] for offset in offsets] == [message.value for message in call]


async def test_a_record_that_is_refused_fails_its_call_alone(deployment: Deployment) -> None:
    producer = KafkaProducer(deployment.settings)
    large = bytes(deployment.settings.message_bytes_max + 1)
    values = [b"before", large, b"after"]
    other = asyncio.create_task(producer.produce(topics.EVENTS, 1, None, b"other"))
    with pytest.raises(LogUnavailable, match=f"refused a record for {topics.EVENTS}: .*too large"):
        await producer.produce_many([Message(topics.EVENTS, 0, None, value) for value in values])
    assert await other == 0
    assert await producer.produce(topics.EVENTS, 0, None, b"next") == 1
    await producer.close()
    assert [value for _, value in records(deployment.settings, topics.EVENTS, 0)] == [b"before", b"next"]


async def test_a_full_queue_is_waited_for(
    native: bool, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_room(7, native, monkeypatch)
    producer = KafkaProducer(deployment.settings)
    values = [b"%d" % n for n in range(40)]
    offsets = await producer.produce_many([Message(topics.EVENTS, n % 2, None, v) for n, v in enumerate(values)])
    await producer.close()
    assert offsets == [n // 2 for n in range(40)]
    assert [value for _, value in records(deployment.settings, topics.EVENTS, 1)] == values[1::2]


async def test_a_caller_that_goes_away_disturbs_nobody(deployment: Deployment) -> None:
    producer = KafkaProducer(deployment.settings, linger_ms=200)
    gone = asyncio.create_task(producer.produce(topics.EVENTS, 0, None, b"gone"))
    stays = asyncio.create_task(producer.produce(topics.EVENTS, 0, None, b"stays"))
    await asyncio.sleep(0.02)
    gone.cancel()
    assert await stays == 1
    await producer.close()


async def test_close_delivers_what_was_given(deployment: Deployment) -> None:
    producer = KafkaProducer(deployment.settings, linger_ms=500)
    waiting = asyncio.create_task(producer.produce(topics.EVENTS, 0, None, b"last"))
    await asyncio.sleep(0.02)
    await producer.close()
    assert await asyncio.wait_for(waiting, 5) == 0


async def test_without_its_broker_a_call_fails_in_time_and_works_again_after(new_broker: Callable[..., Any]) -> None:
    broker = new_broker()
    settings = KafkaSettings(broker.bootstrap, partitions=2, delivery_timeout_s=1.5)
    ensure_topics(settings)
    producer = KafkaProducer(settings)
    assert await producer.produce(topics.EVENTS, 0, None, b"0") == 0
    broker.kill()
    begun = time.monotonic()
    with pytest.raises(LogUnavailable, match=f"{topics.EVENTS} partition 0: "):
        await producer.produce_many([Message(topics.EVENTS, 0, None, b"lost")] * 5)
    assert time.monotonic() - begun < 10
    broker.restart()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert await producer.produce(topics.EVENTS, 0, None, b"again") >= 1
            break
        except LogUnavailable:
            assert time.monotonic() < deadline
    await producer.close()


async def test_after_a_fatal_error_another_producer_takes_over(native: bool, deployment: Deployment) -> None:
    if not native:
        pytest.skip("confluent-kafka has no way to bring one about")
    producer = KafkaProducer(deployment.settings, linger_ms=2000)
    wire = producer._wire
    assert isinstance(wire, NativeWire)
    waiting = asyncio.create_task(producer.produce(topics.EVENTS, 0, None, b"held"))
    await asyncio.sleep(0.05)
    break_it = ctypes.CDLL(confluent_kafka.cimpl.__file__).rd_kafka_test_fatal_error
    break_it.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    break_it(wire._handle, 45, b"out of sequence")
    expected = [b"taken"]
    try:
        await producer.produce(topics.EVENTS, 1, None, b"next")
        expected.insert(0, b"next")  # the other one was there already
    except LogUnavailable:
        pass
    with pytest.raises(LogUnavailable):
        await asyncio.wait_for(waiting, 10)
    assert await producer.produce(topics.EVENTS, 1, None, b"taken") == len(expected) - 1
    await producer.close()
    assert records(deployment.settings, topics.EVENTS, 0) == []
    assert [value for _, value in records(deployment.settings, topics.EVENTS, 1)] == expected


async def test_a_closed_producer_takes_nothing(native: bool, deployment: Deployment) -> None:
    if not native:
        pytest.skip("confluent-kafka's own goes on")
    producer = KafkaProducer(deployment.settings)
    await producer.close()
    with pytest.raises(LogUnavailable, match="closed"):
        await producer.produce(topics.EVENTS, 0, None, b"late")

"""Appending to Kafka from asyncio: idempotent, awaited, explicit partitions. Used by the sink and by the host."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Final

from streams.kafka.avro import writing
from streams.kafka.native_wire import NativeWire, is_there
from streams.kafka.settings import KafkaSettings
from streams.kafka.wire import Message, MessageBlock, Messages, PlainWire, Sending, Wire
from streams.log import LogUnavailable

__all__ = ["KafkaProducer", "Message"]

_FULL_QUEUE_PAUSE_S: Final = 0.005
_BATCH_MESSAGES: Final = 100_000


class KafkaProducer:
    """An idempotent producer (`acks=all`) whose deliveries are awaited on the event loop that it was made on.

    librdkafka reports deliveries on a thread that polls it; what one poll brings is handed to the loop in one call.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        *,
        linger_ms: float = 0,
        delivery_timeout_s: float | None = None,
        compression: str = "none",
    ) -> None:
        """`compression`: as librdkafka names it. Of packs, which are compressed already, it only takes time."""
        self._settings = settings
        self._timeout_s = settings.delivery_timeout_s if delivery_timeout_s is None else delivery_timeout_s
        config: dict[str, Any] = {
            **settings.confluent(),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "compression.type": compression,
            "delivery.timeout.ms": int(self._timeout_s * 1000),
            "message.max.bytes": settings.message_bytes_max,
            # As many as there are in a request: what waits for the one before it is looked at again and again.
            "batch.size": settings.message_bytes_max,
            "batch.num.messages": _BATCH_MESSAGES,
            "queue.buffering.max.kbytes": 128 * 1024,
        }
        self._wire: Wire = NativeWire(settings, config) if is_there() else PlainWire(settings, config)
        self._translation = writing(settings)
        self._loop = asyncio.get_running_loop()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-delivery", daemon=True)
        self._thread.start()

    async def produce(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        """Appends one record, waits until it is durable, and returns its offset. Raises: LogUnavailable."""
        return (await self.produce_many([Message(topic, partition, key, value)]))[0]

    async def produce_many(self, messages: Messages) -> list[int]:
        """Appends records, waits until all are durable, and returns the offset of each message, in the same order; of
        a block, that of its last record.

        Records of one partition stand in the order given. Raises: LogUnavailable when any was not taken in time;
        the others may then have been written.
        """
        if not messages:
            return []
        if self._translation is not None:
            messages = await asyncio.to_thread(self._translated, messages)
        future: asyncio.Future[list[int]] = self._loop.create_future()
        sending = Sending(messages, future)
        await self._push(self._wire.begin(sending), sending.count)
        return await future

    async def _push(self, begun: Any, count: int) -> None:
        """Hands all records over, as the queue has room. Raises: LogUnavailable."""
        try:
            start, heard = self._wire.push(begun, 0), self._loop.time()
            while start < count:
                await asyncio.sleep(_FULL_QUEUE_PAUSE_S)
                taken, now = self._wire.push(begun, start), self._loop.time()
                if taken > start:
                    start, heard = taken, now
                elif now > heard + self._timeout_s:
                    raise LogUnavailable(f"Kafka takes no records: the queue was full for {self._timeout_s} s")
        except BaseException:
            self._wire.abandon(begun)
            raise

    def _translated(self, messages: Messages) -> Messages:
        """Outputs as this deployment writes them. Off the event loop: heartbeats go on meanwhile."""
        assert self._translation is not None
        return [_encoded(message, self._translation.encode) for message in messages]

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._hand_over(self._wire.poll())
        self._hand_over(self._wire.close(self._timeout_s + 1.0))

    def _hand_over(self, settled: list[Sending]) -> None:
        """One wake-up of the loop for all that has come since the last."""
        if settled and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_settle, settled)

    async def close(self) -> None:
        """Waits until what was given is delivered or has failed, then ends the thread."""
        self._closing.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)  # what was settled last is handed over in the loop's next turn


def _encoded(message: Message | MessageBlock, encode: Callable[[str, bytes], bytes]) -> Message | MessageBlock:
    if isinstance(message, Message):
        return message._replace(value=encode(message.topic, message.value))
    values = [encode(topic, value) for topic, _, value in message.block]
    return message._replace(block=message.block.with_values(values))


def _settle(settled: list[Sending]) -> None:
    for sending in settled:
        sending.settle()

"""Appending to Kafka from asyncio: idempotent, awaited, explicit partitions. Used by the sink and by the host."""

import asyncio
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException, Producer

from streams.kafka.avro import writing
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable

_POLL_S: Final = 0.1
_FULL_QUEUE_PAUSE_S: Final = 0.005


class Message(NamedTuple):
    """A record to append. `topic` is the registry's name, without the deployment's prefix."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


class _Pending:
    """Messages that one caller waits for together. Filled by the thread that polls."""

    def __init__(self, count: int, future: "asyncio.Future[list[int]]") -> None:
        self.offsets = [-1] * count
        self.missing = count
        self.future = future
        self.error: str | None = None

    def resolve(self) -> None:
        if self.future.done():
            return  # the caller was cancelled
        if self.error is not None:
            self.future.set_exception(LogUnavailable(self.error))
        else:
            self.future.set_result(self.offsets)


class KafkaProducer:
    """An idempotent producer (`acks=all`) whose deliveries are awaited on the event loop that it was made on.

    librdkafka reports deliveries on a thread that polls it; what one poll brings is handed to the loop in one call.
    """

    def __init__(
        self, settings: KafkaSettings, *, linger_ms: float = 0, delivery_timeout_s: float | None = None
    ) -> None:
        self._settings = settings
        self._timeout_s = settings.delivery_timeout_s if delivery_timeout_s is None else delivery_timeout_s
        self._config: dict[str, Any] = {
            **settings.confluent(),
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "compression.type": "none",  # packs are compressed already, the rest is small
            "delivery.timeout.ms": int(self._timeout_s * 1000),
            "message.max.bytes": settings.message_bytes_max,
            "queue.buffering.max.kbytes": 128 * 1024,
        }
        self._producer = Producer(self._config)
        self._translation = writing(settings)
        self._loop = asyncio.get_running_loop()
        self._finished: list[_Pending] = []
        self._broken = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-delivery", daemon=True)
        self._thread.start()

    async def produce(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        """Appends one record, waits until it is durable, and returns its offset. Raises: LogUnavailable."""
        return (await self.produce_many([Message(topic, partition, key, value)]))[0]

    async def produce_many(self, messages: Sequence[Message]) -> list[int]:
        """Appends records, waits until all are durable, and returns their offsets in the same order.

        Records of one partition stand in the order given. Raises: LogUnavailable when any was not taken in time;
        the others may then have been written.
        """
        if not messages:
            return []
        if self._translation is not None:
            messages = await asyncio.to_thread(self._translated, messages)
        pending = _Pending(len(messages), self._loop.create_future())
        for index, message in enumerate(messages):
            await self._enqueue(message, partial(self._delivered, pending, index))
        return await pending.future

    def _translated(self, messages: Sequence[Message]) -> list[Message]:
        """Outputs as this deployment writes them. Off the event loop: heartbeats go on meanwhile."""
        assert self._translation is not None
        encode = self._translation.encode
        return [message._replace(value=encode(message.topic, message.value)) for message in messages]

    async def _enqueue(self, message: Message, on_delivery: Any) -> None:
        deadline = self._loop.time() + self._timeout_s
        while True:
            try:
                self._producer.produce(
                    self._settings.topic(message.topic),
                    value=message.value,
                    key=message.key,
                    partition=message.partition,
                    on_delivery=on_delivery,
                )
                return
            except BufferError:
                if self._loop.time() > deadline:
                    raise LogUnavailable(
                        f"Kafka takes no records: the queue was full for {self._timeout_s} s"
                    ) from None
                await asyncio.sleep(_FULL_QUEUE_PAUSE_S)
            except KafkaException as error:
                self._broken = self._broken or error.args[0].fatal()
                raise LogUnavailable(f"Kafka refused a record for {message.topic}: {error.args[0].str()}") from error

    def _delivered(self, pending: _Pending, index: int, error: Any, record: Any) -> None:
        """Called by the polling thread for each record."""
        if error is None:
            pending.offsets[index] = record.offset()
        else:
            self._broken = self._broken or error.fatal()
            pending.error = f"{record.topic()} partition {record.partition()}: {error.str()}"
        pending.missing -= 1
        if pending.missing == 0:
            self._finished.append(pending)

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(_POLL_S)
            if self._broken:
                self._renew()
            self._hand_over()

    def _hand_over(self) -> None:
        """One wake-up of the loop for all that has come since the last."""
        if self._finished and not self._loop.is_closed():
            finished, self._finished = self._finished, []
            self._loop.call_soon_threadsafe(_resolve, finished)

    def _renew(self) -> None:
        """After a fatal error an idempotent producer takes nothing more: fail what it holds, and start another."""
        old = self._producer
        old.purge()
        old.flush(1.0)
        self._producer = Producer(self._config)
        self._broken = False

    async def close(self) -> None:
        """Waits until what was given is delivered or has failed, then ends the thread."""
        await asyncio.to_thread(self._producer.flush, self._timeout_s + 1.0)
        self._closing.set()
        await asyncio.to_thread(self._thread.join)
        finished, self._finished = self._finished, []
        _resolve(finished)


def _resolve(finished: list[_Pending]) -> None:
    for pending in finished:
        pending.resolve()

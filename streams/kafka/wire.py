"""The wire under a producer: records go in without waiting, what became of them comes back to the thread that polls.

Two do the same: `PlainWire`, by confluent-kafka, and `streams.kafka.native_wire`, without Python for each record.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
from confluent_kafka import KafkaException, Producer

from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable
from streams.processor import Block

POLL_S: Final = 0.1
"""How long `Wire.poll` waits for the first report."""
_RECORD_BYTES: Final = 36
"""What librdkafka counts for a record beside key and value, at most."""
_REQUEST_BYTES: Final = 1024
"""What it counts for a request beside its records, at most."""


class Message(NamedTuple):
    """A record to append. `topic` is the registry's name, without the deployment's prefix."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes


class MessageBlock(NamedTuple):
    """Records to append to one partition of one topic."""

    partition: int
    block: Block

    @property
    def topic(self) -> str:
        """As `Message.topic`."""
        return self.block.topic


Messages: TypeAlias = Sequence[Message | MessageBlock]


def singles(messages: Messages) -> list[Message]:
    """Every record as a message of its own."""
    found: list[Message] = []
    for message in messages:
        if isinstance(message, Message):
            found.append(message)
        else:
            found += (Message(topic, message.partition, key, value) for topic, key, value in message.block)
    return found


def ends_of(messages: Messages) -> list[int]:
    """How many records there are up to the end of each message."""
    return list(accumulate(1 if isinstance(message, Message) else len(message.block) for message in messages))


def requests_of(messages: Messages, bytes_max: int) -> Iterator[Messages]:
    """The same records in the same order, as many at a time as one request of so many bytes takes; one is at least."""
    room = left = bytes_max - _REQUEST_BYTES
    request: list[Message | MessageBlock] = []
    for message in messages:
        for piece, size in _pieces(message, left, room):
            if size > left and request:
                yield request
                request, left = [], room
            request.append(piece)
            left -= size
    if request:
        yield request


def _pieces(message: Message | MessageBlock, left: int, room: int) -> Iterator[tuple[Message | MessageBlock, int]]:
    """A message in pieces, with their bytes in a request: the first has `left` for it or begins one, the others do."""
    if isinstance(message, Message):
        yield message, len(message.key or b"") + len(message.value) + _RECORD_BYTES
        return
    block = message.block
    ends = (np.diff(block.ends) + (block.width + _RECORD_BYTES)).cumsum()
    start = before = 0
    while start < len(block):
        fit = [int(ends.searchsorted(before + bytes_, "right")) for bytes_ in (left, room)]
        end = max(fit[0] if fit[0] > start else fit[1], start + 1)
        size = int(ends[end - 1]) - before
        yield message._replace(block=block.part(start, end)), size
        start, before, left = end, before + size, 0


class Sending:
    """Messages, one or more, that one caller waits for together. `offsets` (of each message; of a block, that of its
    last record) and `error` are known when a poll has returned it."""

    def __init__(self, messages: Messages, future: "asyncio.Future[list[int]]") -> None:
        self.messages = messages
        self.ends = ends_of(messages)
        self.offsets: list[int] = []
        self.error: str | None = None
        self._future = future

    @property
    def count(self) -> int:
        """How many records there are."""
        return self.ends[-1]

    def message_of(self, record: int) -> Message | MessageBlock:
        """The message that a record belongs to."""
        return self.messages[bisect_right(self.ends, record)]

    def settle(self) -> None:
        """Answers the caller, on its event loop."""
        if self._future.done():
            return  # the caller was cancelled
        if self.error is not None:
            self._future.set_exception(LogUnavailable(self.error))
        else:
            self._future.set_result(self.offsets)


class Wire(Protocol):
    """One idempotent producer (`acks=all`). `push` in the event loop's thread; all else in the one that polls."""

    def begin(self, sending: Sending) -> Any:
        """What `push` is given for this sending."""
        ...

    def push(self, begun: Any, start: int) -> int:
        """Queues records from `start` on, in order. Returns which is the first that the full queue has not taken.

        Raises: LogUnavailable where one is refused; those before it may be written.
        """
        ...

    def abandon(self, begun: Any) -> None:
        """No more of it will be pushed, and nobody waits for what was."""
        ...

    def poll(self) -> list[Sending]:
        """Waits a moment for reports. Returns what is settled now. After a fatal error it fails all that it holds."""
        ...

    def close(self, seconds: float) -> list[Sending]:
        """Waits until everything is delivered or has failed. Returns what is settled now."""
        ...


class _Begun:
    """A sending's records one by one, where they came to stand, and how many are not reported yet."""

    def __init__(self, sending: Sending) -> None:
        self.sending = sending
        self.messages = singles(sending.messages)
        self.offsets = [-1] * len(self.messages)
        self.missing = len(self.messages)


class PlainWire:
    """By confluent-kafka: a call and a callback for each record."""

    def __init__(self, settings: KafkaSettings, config: dict[str, Any]) -> None:
        self._settings = settings
        self._config = config
        self._producer = Producer(config)
        self._settled: list[Sending] = []
        self._broken = False

    def begin(self, sending: Sending) -> _Begun:
        """See `Wire`."""
        return _Begun(sending)

    def push(self, begun: _Begun, start: int) -> int:
        """See `Wire`."""
        messages = begun.messages
        for index in range(start, len(messages)):
            message = messages[index]
            try:
                self._producer.produce(
                    self._settings.topic(message.topic),
                    value=message.value,
                    key=message.key,
                    partition=message.partition,
                    on_delivery=partial(self._delivered, begun, index),
                )
            except BufferError:
                return index
            except KafkaException as error:
                self._broken = self._broken or error.args[0].fatal()
                raise LogUnavailable(f"Kafka refused a record for {message.topic}: {error.args[0].str()}") from error
        return len(messages)

    def abandon(self, begun: _Begun) -> None:
        """See `Wire`. What is missing stays missing, so it is never settled."""

    def _delivered(self, begun: _Begun, index: int, error: Any, record: Any) -> None:
        if error is None:
            begun.offsets[index] = record.offset()
        else:
            self._broken = self._broken or error.fatal()
            begun.sending.error = f"{record.topic()} partition {record.partition()}: {error.str()}"
        begun.missing -= 1
        if begun.missing == 0:
            begun.sending.offsets = [begun.offsets[end - 1] for end in begun.sending.ends]
            self._settled.append(begun.sending)

    def poll(self) -> list[Sending]:
        """See `Wire`."""
        self._producer.poll(POLL_S)
        if self._broken:
            self._renew()
        settled, self._settled = self._settled, []
        return settled

    def _renew(self) -> None:
        """After a fatal error an idempotent producer takes nothing more: fail what it holds, and start another."""
        old = self._producer
        old.purge()
        old.flush(1.0)
        self._producer = Producer(self._config)
        self._broken = False

    def close(self, seconds: float) -> list[Sending]:
        """See `Wire`."""
        self._producer.flush(seconds)
        settled, self._settled = self._settled, []
        return settled

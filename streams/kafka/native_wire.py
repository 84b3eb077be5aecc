"""The wire in C: records are handed to librdkafka many at a time, and its delivery reports are counted without Python.

confluent-kafka makes a Python object of each report and takes the interpreter's lock for it, which other threads hold
for milliseconds. Here its own librdkafka is used directly, by `native/src/deliveries.c`. What the two tell librdkafka
is the same configuration; its settings for logins that need Python (OAuth) are not among ours.
"""

import ctypes
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

import confluent_kafka.cimpl
import numpy as np
from numpy.typing import NDArray

from native.library import function
from streams.kafka.settings import KafkaSettings
from streams.kafka.wire import POLL_S, Message, MessageBlock, Sending
from streams.log import LogUnavailable

_PRODUCER: Final = 0  # RD_KAFKA_PRODUCER
_QUEUE_FULL: Final = -184  # RD_KAFKA_RESP_ERR__QUEUE_FULL
_PURGE_ALL: Final = 1 | 2  # what is queued and what is in flight
_PURGE_MS: Final = 1000
_TEXT_BYTES: Final = 512
_SLOT_FIELDS: Final = 7
_LEVELS: Final = (logging.CRITICAL,) * 3 + (logging.ERROR, logging.WARNING, logging.INFO, logging.INFO, logging.DEBUG)
"""Of a syslog level."""


class _Send(ctypes.Structure):
    """`send_t`."""

    _fields_ = [
        ("produce", c_void_p),
        ("last_error", c_void_p),
        ("topic", c_void_p),
        ("partition", c_int64),
        ("count", c_int64),
        ("values", c_char_p),
        ("keys", c_char_p),
        ("slots", c_void_p),
        ("error", c_int64),
    ]


_LogCallback = ctypes.CFUNCTYPE(None, c_void_p, c_int, c_char_p, c_char_p)

_SEND: Final = function("tx_kafka_send", c_int64, POINTER(_Send))
_DELIVERED: Final = function("tx_kafka_delivered", None, c_void_p, c_void_p, c_void_p)


class _Librdkafka:
    """The functions that are used of the librdkafka that confluent-kafka has loaded. Raises: AttributeError."""

    def __init__(self) -> None:
        library = ctypes.CDLL(confluent_kafka.cimpl.__file__)  # its functions are found through what it is linked to

        def get(name: str, result: Any, *arguments: Any) -> Any:
            found = getattr(library, f"rd_kafka_{name}")
            found.restype, found.argtypes = result, arguments
            return found

        self.produce = ctypes.cast(library.rd_kafka_produce, c_void_p)
        self.last_error = ctypes.cast(library.rd_kafka_last_error, c_void_p)
        self.conf_new = get("conf_new", c_void_p)
        self.conf_set = get("conf_set", c_int, c_void_p, c_char_p, c_char_p, c_char_p, c_size_t)
        self.conf_set_delivered = get("conf_set_dr_msg_cb", None, c_void_p, c_void_p)
        self.conf_set_log = get("conf_set_log_cb", None, c_void_p, c_void_p)
        self.new = get("new", c_void_p, c_int, c_void_p, c_char_p, c_size_t)
        self.set_log_queue = get("set_log_queue", c_int, c_void_p, c_void_p)
        self.topic_new = get("topic_new", c_void_p, c_void_p, c_char_p, c_void_p)
        self.topic_destroy = get("topic_destroy", None, c_void_p)
        self.poll = get("poll", c_int, c_void_p, c_int)
        self.flush = get("flush", c_int, c_void_p, c_int)
        self.purge = get("purge", c_int, c_void_p, c_int)
        self.fatal_error = get("fatal_error", c_int, c_void_p, c_char_p, c_size_t)
        self.destroy = get("destroy", None, c_void_p)
        self.error_text = get("err2str", c_char_p, c_int)


def _load() -> _Librdkafka | None:
    if _SEND is None:
        return None
    try:
        return _Librdkafka()
    except (OSError, AttributeError):  # a build of confluent-kafka that keeps its librdkafka to itself
        return None


_KAFKA: Final = _load()


def is_there() -> bool:
    """Whether this process has what it takes."""
    return _KAFKA is not None


class _Run(NamedTuple):
    """Records that follow each other to the same place, from `first` to `end`; their slots point into the bytes."""

    topic: str
    partition: int
    first: int
    end: int
    values: bytes
    keys: bytes


class _Begun:
    """One sending's memory, which C writes: a header (`call_t`) and a slot for each record (`slot_t`).

    The bytes of a block are sent from where they stand; those of single messages are joined first."""

    def __init__(self, sending: Sending) -> None:
        self.sending = sending
        self.header = np.array([sending.count, 0, 0], np.int64)
        self.slots: NDArray[np.int64] = np.empty((sending.count, _SLOT_FIELDS), np.int64)
        call, index, *_, offset = self.slots.T
        call[:], index[:], offset[:] = self.header.ctypes.data, np.arange(sending.count), -1
        self.runs: list[_Run] = []
        singles: list[Message] = []
        for message in sending.messages:
            if isinstance(message, Message):
                singles.append(message)
            else:
                self._add(singles)
                self._add_block(message)
                singles = []
        self._add(singles)
        self.pushed = 0
        """How many records librdkafka was given."""
        self.silent = 0
        """Records of which no report will ever come: never given, or lost with their producer."""
        self.abandoned = False

    def _add(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        topics, partitions, keys, values = zip(*messages, strict=True)
        first, count = self._filled, len(messages)
        _, _, value, value_size, key, key_size, _ = self.slots[first : first + count].T
        value_size[:] = np.fromiter(map(len, values), np.int64, count)
        key_size[:] = np.fromiter((-1 if key is None else len(key) for key in keys), np.int64, count)
        value[:] = value_size.cumsum() - value_size
        key[:] = np.maximum(key_size, 0).cumsum() - np.maximum(key_size, 0)
        joined = b"".join(values), b"".join(filter(None, keys))
        self.runs += (_Run(*where, first + at, first + end, *joined) for where, at, end in _runs(topics, partitions))

    def _add_block(self, message: MessageBlock) -> None:
        block = message.block
        first, count = self._filled, len(block)
        _, _, value, value_size, key, key_size, _ = self.slots[first : first + count].T
        value[:], value_size[:] = block.ends[:-1], np.diff(block.ends)
        key[:], key_size[:] = np.arange(count) * block.width, block.width
        self.runs.append(_Run(block.topic, message.partition, first, first + count, block.values, block.keys))

    @property
    def _filled(self) -> int:
        return self.runs[-1].end if self.runs else 0

    @property
    def offsets(self) -> list[int]:
        """Where the last record of each message came to stand; -1 where that is not known."""
        return self.slots[np.array(self.sending.ends) - 1, -1].tolist()

    @property
    def missing(self) -> int:
        """How many are not reported yet."""
        return int(self.header[0])

    def fall_silent(self) -> None:
        """The producer has ended: of what it was given, no report will come any more."""
        still_to_push = 0 if self.abandoned else self.sending.count - self.pushed
        self.silent = self.missing - still_to_push


def _runs(topics: Sequence[str], partitions: Sequence[int]) -> Iterator[tuple[tuple[str, int], int, int]]:
    """Topic and partition, and the first and the last + 1 of messages that follow each other to the same place."""
    places = enumerate(zip(topics, partitions, strict=True))
    for place, run in groupby(places, key=itemgetter(1)):
        numbers = [number for number, _ in run]
        yield place, numbers[0], numbers[-1] + 1


class NativeWire:
    """See `Wire`. Only where `is_there()`."""

    def __init__(self, settings: KafkaSettings, config: Mapping[str, Any]) -> None:
        assert _KAFKA is not None
        self._kafka = _KAFKA
        self._settings = settings
        self._logger: logging.Logger = config["logger"]
        self._config = {name: _text(value) for name, value in config.items() if name != "logger"}
        self._on_log = _LogCallback(self._log)
        self._lock = threading.Lock()
        """Of `_handle` and `_topics`, against `_renew`."""
        self._open_sendings: list[_Begun] = []
        self._broken = False
        self._connect()

    def _connect(self) -> None:
        kafka, text = self._kafka, ctypes.create_string_buffer(_TEXT_BYTES)
        conf = kafka.conf_new()
        for name, value in (self._config | {"log.queue": "true"}).items():
            if kafka.conf_set(conf, name.encode(), value.encode(), text, _TEXT_BYTES) != 0:
                raise ValueError(f"Kafka: {text.value.decode(errors='replace')}")
        kafka.conf_set_delivered(conf, ctypes.cast(_DELIVERED, c_void_p))  # type: ignore[arg-type]
        kafka.conf_set_log(conf, ctypes.cast(self._on_log, c_void_p))
        handle = kafka.new(_PRODUCER, conf, text, _TEXT_BYTES)
        if handle is None:
            raise ValueError(f"Kafka: {text.value.decode(errors='replace')}")
        kafka.set_log_queue(handle, None)  # logged by who polls, never by a thread of librdkafka's
        self._handle: int | None = handle
        self._topics: dict[str, int] = {}

    def _log(self, _: int, level: int, facility: bytes, text: bytes) -> None:
        said = f"{facility.decode(errors='replace')} {text.decode(errors='replace')}"
        self._logger.log(_LEVELS[min(max(level, 0), len(_LEVELS) - 1)], "%s", said)

    def begin(self, sending: Sending) -> _Begun:
        """See `Wire`."""
        begun = _Begun(sending)
        with self._lock:
            self._open_sendings.append(begun)
        return begun

    def push(self, begun: _Begun, start: int) -> int:
        """See `Wire`."""
        for run in begun.runs:
            at = max(run.first, start)
            if at < run.end:
                with self._lock:
                    taken, error = self._send(begun, run, at)
                    begun.pushed = at + taken
                if error == _QUEUE_FULL:
                    return begun.pushed
                if error:
                    self._look_whether_broken()
                    raise LogUnavailable(f"Kafka refused a record for {run.topic}: {self._said(error)}")
        return begun.sending.count

    def _send(self, begun: _Begun, run: _Run, start: int) -> tuple[int, int]:
        """How many records of a run, from `start` on, were taken, and the error of the next. Raises: LogUnavailable."""
        if self._handle is None:
            raise LogUnavailable("Kafka takes no records: the producer is closed")
        kafka = self._kafka
        send = _Send(
            kafka.produce,
            kafka.last_error,
            self._topic(run.topic),
            run.partition,
            run.end - start,
            run.values,
            run.keys,
            begun.slots[start:].ctypes.data,
            0,
        )
        assert _SEND is not None
        taken = int(_SEND(ctypes.byref(send)))
        return taken, int(send.error)

    def _topic(self, name: str) -> int:
        if name not in self._topics:
            self._topics[name] = self._kafka.topic_new(self._handle, self._settings.topic(name).encode(), None)
        return self._topics[name]

    def abandon(self, begun: _Begun) -> None:
        """See `Wire`. Its memory is kept until all that was taken is reported."""
        with self._lock:
            begun.silent, begun.abandoned = begun.silent + begun.sending.count - begun.pushed, True

    def _look_whether_broken(self) -> None:
        text = ctypes.create_string_buffer(_TEXT_BYTES)
        with self._lock:
            if self._handle is not None and self._kafka.fatal_error(self._handle, text, _TEXT_BYTES) != 0:
                self._broken = True

    def _said(self, error: int) -> str:
        return str(self._kafka.error_text(error).decode())

    def poll(self) -> list[Sending]:
        """See `Wire`."""
        self._kafka.poll(self._handle, int(POLL_S * 1000))
        settled = self._settled()
        if self._broken:
            self._renew()
            settled += self._settled()
        return settled

    def _settled(self) -> list[Sending]:
        """Takes out those of which every report has come that will."""
        with self._lock:
            done = [begun for begun in self._open_sendings if begun.missing == begun.silent]
            if done:
                self._open_sendings = [begun for begun in self._open_sendings if begun not in done]
        for begun in done:
            self._note(begun)
        return [begun.sending for begun in done if not begun.abandoned]

    def _note(self, begun: _Begun) -> None:
        """What became of a sending."""
        _, error, failed = begun.header.tolist()
        sending = begun.sending
        if error:
            message = sending.message_of(failed)
            place = f"{self._settings.topic(message.topic)} partition {message.partition}"
            sending.error = f"{place}: {self._said(error)}"
            self._look_whether_broken()
        elif begun.silent:
            sending.error = "the producer ended before it knew"
        else:
            sending.offsets = begun.offsets

    def _renew(self) -> None:
        """After a fatal error an idempotent producer takes nothing more: fail what it holds, and start another."""
        with self._lock:
            self._kafka.purge(self._handle, _PURGE_ALL)
            self._kafka.flush(self._handle, _PURGE_MS)
            self._disconnect()
            self._connect()
            self._broken = False

    def _disconnect(self) -> None:
        for topic in self._topics.values():
            self._kafka.topic_destroy(topic)
        self._topics = {}
        self._kafka.destroy(self._handle)
        self._handle = None
        for begun in self._open_sendings:
            begun.fall_silent()

    def close(self, seconds: float) -> list[Sending]:
        """See `Wire`."""
        self._kafka.flush(self._handle, int(seconds * 1000))
        with self._lock:
            self._disconnect()
        return self._settled()


def _text(value: object) -> str:
    """A setting as librdkafka reads it."""
    return str(value).lower() if isinstance(value, bool) else str(value)

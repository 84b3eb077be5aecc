"""Follows a topic of one partition on Kafka, in a thread of its own: a process always has what it holds now."""

import logging
import threading
import time
from collections.abc import Callable, Iterable

from confluent_kafka import Consumer, KafkaError, TopicPartition

from schemas import topics
from schemas.catalogue import CatalogueError
from streams.kafka.admin import offsets_of
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable
from taximeter.documents import Catalogues

_POLL_S = 0.1
_CATCH_UP_S = 30.0
_END_S = 5.0

_logger = logging.getLogger(__name__)


class TopicFollower:
    """Gives all values of a topic to `add`, in order, from `start` until `stop`. At the start its errors are raised,
    later those of `CatalogueError` are logged."""

    def __init__(self, settings: KafkaSettings, topic: str, add: Callable[[Iterable[bytes]], None]) -> None:
        self._topic = settings.topic(topic)
        self._add = add
        plain = {**settings.confluent(), "group.id": "unused", "enable.auto.commit": False}
        self._consumer = Consumer({**plain, "enable.partition.eof": True})
        self._asker = Consumer(plain)  # the other one answers nothing while its thread waits for records
        self._stopping = threading.Event()
        self._moved = threading.Condition()
        self._read_to = 0
        self._thread = threading.Thread(target=self._follow, name=topic, daemon=True)

    def start(self) -> None:
        """Reads the topic to its end, then goes on in the background. Raises: LogUnavailable, and
        what `add` does."""
        # The end is asked for: the broker says that nothing follows only when nothing has come for half a second.
        first, end = offsets_of(self._asker, TopicPartition(self._topic, 0), _CATCH_UP_S)
        self._consumer.assign([TopicPartition(self._topic, 0, 0)])
        deadline = time.monotonic() + _CATCH_UP_S
        values: list[bytes] = []
        self._read_to = end if first == end else 0
        while self._read_to < end:
            record = self._consumer.poll(_POLL_S)
            error = None if record is None else record.error()
            if record is not None and error is None:
                values.append(record.value() or b"")
                self._read_to = (record.offset() or 0) + 1
            elif record is not None and error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._read_to = record.offset() or 0
                break
            elif time.monotonic() > deadline:
                raise LogUnavailable(f"cannot read {self._topic} from Kafka within {_CATCH_UP_S:.0f} s")
        self._add(values)
        self._thread.start()

    def catch_up(self) -> None:
        """Waits until everything is read that the topic holds now. Raises: LogUnavailable."""
        first, end = offsets_of(self._asker, TopicPartition(self._topic, 0), _END_S)
        with self._moved:
            if not self._moved.wait_for(lambda: self._read_to >= end or first == end, _END_S):
                raise LogUnavailable(f"cannot read {self._topic} to its end within {_END_S:.0f} s")

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._consumer.close()
        self._asker.close()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            records = self._consumer.consume(1000, _POLL_S)
            taken = [record for record in records if record.error() is None]
            if not taken:
                continue
            try:
                self._add(record.value() or b"" for record in taken)
            except CatalogueError as error:
                # Documents of one change come one by one: the rest of it is on its way.
                _logger.warning("the catalogue on %s is not whole yet: %d faults", self._topic, len(error.faults))
            with self._moved:
                self._read_to = (taken[-1].offset() or 0) + 1
                self._moved.notify_all()


class CatalogueFollower(TopicFollower):
    """`catalogues` are kept up to date from `start` until `stop`. `start` raises CatalogueError too."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.catalogues = Catalogues()
        super().__init__(settings, topics.CATALOGUE, self.catalogues.add)

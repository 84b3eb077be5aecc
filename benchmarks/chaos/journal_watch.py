"""Follows the journals of a deployment: who owns what, how far it is, when it went on after a fault."""

import threading
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas import topics
from streams.journal import Batch, Journal, Open, Verdict, decode_record

_PAIRS: Final = ((topics.EVENTS, topics.JOURNAL), (topics.EVENTS_JSON, topics.JOURNAL_JSON))
_TIMEOUT_S: Final = 5.0


@dataclass
class _Followed:
    """One partition of one journal."""

    journal: Journal = field(default_factory=Journal)
    steps: list[tuple[int, int]] = field(default_factory=list)
    """(time of the record in milliseconds, epoch) of every step that counts."""
    events: int = 0
    fenced: int = 0


class JournalWatch:
    """A thread with a consumer of its own, which goes round the proxy. `stop` at the end."""

    def __init__(self, bootstrap: str, prefix: str, partitions: int) -> None:
        self._prefix, self.partitions = prefix, partitions
        self._config = {"bootstrap.servers": bootstrap, "group.id": "chaos", "enable.auto.commit": False}
        self._followed = {(name, number): _Followed() for _, name in _PAIRS for number in range(partitions)}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._asker = Consumer(self._config)
        self._thread = threading.Thread(target=self._follow, name="journals", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        self._thread.join()
        self._asker.close()

    def owned_by(self, pid: int) -> dict[int, int]:
        """The partitions of the events that this process opened last -> the epoch."""
        with self._lock:
            return {
                number: followed.journal.epoch
                for (name, number), followed in self._followed.items()
                if name == topics.JOURNAL and f"-{pid}-" in followed.journal.writer
            }

    def epochs(self) -> dict[int, int]:
        """Every partition of the events -> its epoch."""
        with self._lock:
            return {
                n: followed.journal.epoch for (name, n), followed in self._followed.items() if name == topics.JOURNAL
            }

    def progress_since(self, concerned: dict[int, int], at_ms: int, newer_epoch: bool) -> float | None:
        """Seconds from a moment (wall clock) until the last of these partitions made a step again; None: not yet.

        `newer_epoch`: only steps of a later epoch than the one given count: those of the next owner.
        """
        firsts: list[int] = []
        with self._lock:
            for number, epoch in concerned.items():
                steps = self._followed[topics.JOURNAL, number].steps[-5000:]
                later = [at for at, of in steps if at >= at_ms and (of > epoch or not newer_epoch)]
                if not later:
                    return None
                firsts.append(min(later))
        return max(0.0, (max(firsts) - at_ms) / 1000) if firsts else 0.0

    @property
    def events(self) -> int:
        """Events in the steps so far, duplicates too."""
        with self._lock:
            return sum(followed.events for (name, _), followed in self._followed.items() if name == topics.JOURNAL)

    @property
    def steps(self) -> int:
        """Steps over the events so far."""
        with self._lock:
            return sum(len(followed.steps) for (name, _), followed in self._followed.items() if name == topics.JOURNAL)

    @property
    def fenced(self) -> int:
        """Records that the epoch rule ignored."""
        with self._lock:
            return sum(followed.fenced for followed in self._followed.values())

    def left(self) -> list[str]:
        """What of the sources is not worked in or not emitted yet; empty when everything is."""
        left: list[str] = []
        for source, name in _PAIRS:
            for number in range(self.partitions):
                where = TopicPartition(self._prefix + source, number)
                try:
                    end = self._asker.get_watermark_offsets(where, timeout=_TIMEOUT_S)[1]
                except KafkaException as error:
                    return [f"Kafka does not say where {where.topic} ends: {error.args[0].str()}"]
                with self._lock:
                    journal = self._followed[name, number].journal
                    if journal.position < end or journal.pending:
                        left.append(f"{source}[{number}] at {journal.position} of {end}, pending {journal.pending[:2]}")
        return left

    def _follow(self) -> None:
        consumer = Consumer(self._config | {"fetch.wait.max.ms": 20})
        consumer.assign([TopicPartition(self._prefix + name, number, 0) for name, number in self._followed])
        while not self._stopping.is_set():
            messages = [message for message in consumer.consume(500, 0.05) if message.error() is None]
            with self._lock:
                for message in messages:
                    name, number = (message.topic() or "").removeprefix(self._prefix), message.partition() or 0
                    self._take(self._followed[name, number], message.value() or b"", message.timestamp()[1])
        consumer.close()

    @staticmethod
    def _take(followed: _Followed, value: bytes, at_ms: int) -> None:
        record = decode_record(value)
        verdict = followed.journal.apply(record)
        followed.fenced += verdict is Verdict.FENCED and not isinstance(record, Open)
        if verdict is Verdict.APPLIED and isinstance(record, Batch):
            followed.steps.append((at_ms, record.epoch))
            followed.events += record.summary.events

"""One contender over one topic: started, watched from outside, held against what must come of it, stopped.

What it took is read from `/proc` (CPU of the process and its children, the peak of its memory), and when it was done
from the end of the topic that it writes to: the moment after which nothing more came. Nothing is asked of a contender.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.rivals.job import Lines, difference

LOOK_S: Final = 0.05
QUIET_S: Final = 1.0
"""Looked at closely when nothing has come for so long; it may be slow and not be done."""

STALL_S: Final = 60.0
STOP_S: Final = 20.0
TICKS: Final = os.sysconf("SC_CLK_TCK")


class WrongResult(Exception):
    """A contender that did not end, or did not come to what it must."""


class Taken(NamedTuple):
    """Seconds and CPU seconds from the start of the process to its last line, and its memory at most (bytes)."""

    seconds: float
    cpu: float
    memory: int


class Contestant:
    """A process of its own, its output in a file. A context manager: at the end it is stopped."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], folder: Path) -> None:
        self.log = folder / "log.txt"
        self._command, self._environment, self._folder = [str(word) for word in command], environment, folder

    def __enter__(self) -> "Contestant":
        self.began = time.perf_counter()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, **self._environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)  # its own session, so nobody else's
                self._process.wait()

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def said(self) -> str:
        """The end of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def taken(self) -> Taken:
        """Until now, its children with it."""
        family, cpu, memory = [self._process.pid], 0.0, 0
        for pid in family:
            try:
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    family += map(int, (thread / "children").read_text().split())
                stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue  # ended meanwhile: what it took is its parent's
            cpu += sum(map(int, stat[11:15])) / TICKS
            memory += int(status.partition("VmHWM:")[2].split()[0]) * 1024 if "VmHWM:" in status else 0
        return Taken(time.perf_counter() - self.began, cpu, memory)


def watch(
    contestant: Contestant, bootstrap: str, out: str, wanted: Lines, read: Callable[[Iterable[bytes]], Lines]
) -> Taken:
    """Waits until every event is in the lines of the topic `out`. Returns what it took by then. Raises: WrongResult."""
    events = sum(line.events for line in wanted.values())
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "rivals", "enable.auto.commit": False})
    place = TopicPartition(out, 0, 0)
    records: list[bytes] = []
    end, last, looked = 0, contestant.taken(), 0.0
    try:
        while True:
            time.sleep(LOOK_S)
            now, alive = contestant.taken(), contestant.is_running()
            _, high = consumer.get_watermark_offsets(place, timeout=20)
            if high > end:
                end, last = high, now
            quiet = now.seconds - max(last.seconds, looked)
            if quiet > QUIET_S and end > len(records):
                records += _read(consumer, TopicPartition(out, 0, len(records)), end)
                found, looked = read(records), contestant.taken().seconds
                if sum(line.events for line in found.values()) >= events:
                    break
            if not alive or now.seconds - last.seconds > STALL_S:
                what = "stood still" if alive else "ended"
                raise WrongResult(f"{what} after {end} records; its output ends with:\n{contestant.said()}")
    finally:
        consumer.close()
    if wrong := difference(found, wanted):
        raise WrongResult(wrong)
    return last


def _read(consumer: Consumer, place: TopicPartition, end: int) -> list[bytes]:
    consumer.assign([place])
    values: list[bytes] = []
    at = place.offset
    while at < end:
        for message in consumer.consume(min(10_000, end - at), 20):
            if message.error() is not None:
                raise WrongResult(f"{place.topic} cannot be read: {message.error()}")
            values.append(message.value() or b"")
            at = (message.offset() or 0) + 1
    return values


def make_topics(bootstrap: str, *names: str) -> None:
    """One partition each, kept for good; those that are there stay."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = [NewTopic(name, 1, 1, config={"retention.ms": "-1"}) for name in names]
    for future in admin.create_topics(new).values():
        error = future.exception(20)
        if error is not None and error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise error


def drop_topics(bootstrap: str, prefix: str) -> None:
    """All whose names begin so."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    names = [name for name in admin.list_topics(timeout=20).topics if name.startswith(prefix)]
    for future in admin.delete_topics(names).values() if names else ():
        future.result(20)


def fill(bootstrap: str, topic: str, texts: Iterable[bytes]) -> None:
    """Writes the events, keyed by customer, as a producer of theirs would."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 50, "queue.buffering.max.messages": 500_000})
    for text in texts:
        customer = text.split(b'"subject":"', 1)[1].split(b'"', 1)[0]
        while True:
            try:
                producer.produce(topic, text, customer)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()

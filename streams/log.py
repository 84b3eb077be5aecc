"""What every log offers, embedded or Kafka: appending entries to the source, and reading topics by position."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol

_VALUE_OF = attrgetter("value")

Positions = Mapping[tuple[str, int], int]
"""(topic, partition) -> the offset of the first record that has not been read."""


class LogUnavailable(RuntimeError):
    """The log did not take a record in time or at all: nothing of the call was promised. The message says why."""


class Sink(Protocol):
    """The source log's open end, as the door sees it."""

    partitions: int

    async def append(self, partition: int, value: bytes, events: int) -> int:
        """Appends one entry (its whole envelope, holding `events` usage events; 0 for other kinds) to
        `taximeter.events`, waits until it is durable, and returns the position after it (`Entry.end`).

        Calls may run at once; entries of one caller that awaits each are in its order. Raises: LogUnavailable.
        """
        ...


class TopicRecord(NamedTuple):
    """One record as a reader sees it."""

    topic: str
    partition: int
    offset: int
    end: int
    key: bytes
    value: bytes


def bytes_of(records: Iterable[TopicRecord]) -> int:
    """Of all values."""
    return sum(map(len, map(_VALUE_OF, records)))


class Source(Protocol):
    """Topics, read from given positions onwards, without a consumer group: the reader keeps its own position."""

    partitions: int

    def read(self, topics: Sequence[str], positions: Positions) -> AsyncIterator[list[TopicRecord]]:
        """Yields records in batches as they come, each partition's in order, for ever (until the task is cancelled).

        A partition without a position is read from its beginning. Records of one partition never repeat or skip;
        where the log no longer holds a position, reading goes on at the oldest record that it has.
        """
        ...


def encode_position(position: Mapping[int, int]) -> str:
    """A position token: partition -> offset after the last entry that must be included. `0:1234,3:88`."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(position.items()))


def decode_position(token: str) -> dict[int, int]:
    """Raises: ValueError that says what was found and what was expected."""
    position: dict[int, int] = {}
    try:
        for part in filter(None, token.split(",")):
            partition, offset = part.split(":")
            position[int(partition)] = int(offset)
    except ValueError:
        raise ValueError(
            f"found the position {token[:80]!r}, expected one that the door gave, such as 0:1234"
        ) from None
    return position

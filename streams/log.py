"""What every log offers, embedded or Kafka: appending entries to the source, and reading topics by position."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

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


class RecordBlock(NamedTuple):
    """Records of one topic and partition whose offsets follow each other, at least one, as they stand in memory. None
    of their values is empty.

    Row k of `spans` is of the record at `offset + k`: where in `body` its key begins and ends, and its value.
    """

    topic: str
    partition: int
    offset: int
    end: int
    body: bytes
    spans: NDArray[np.int64]

    def records(self) -> Iterator[TopicRecord]:
        """Each of them, made when it is asked for."""
        topic, partition, body = self.topic, self.partition, self.body
        for offset, (key, key_end, value, value_end) in enumerate(self.spans.tolist(), self.offset):
            yield TopicRecord(topic, partition, offset, offset + 1, body[key:key_end], body[value:value_end])


Part: TypeAlias = TopicRecord | RecordBlock


class Records(Sequence[TopicRecord]):
    """Records in their order, of which many may stand in blocks. Each record is made when it is asked for."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self._count = sum(len(part.spans) if isinstance(part, RecordBlock) else 1 for part in parts)
        self.nbytes = sum(map(_bytes_of_part, parts))
        """Of all values."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[TopicRecord]:
        for part in self.parts:
            if isinstance(part, RecordBlock):
                yield from part.records()
            else:
                yield part

    @overload
    def __getitem__(self, at: int) -> TopicRecord: ...
    @overload
    def __getitem__(self, at: slice) -> list[TopicRecord]: ...
    def __getitem__(self, at: int | slice) -> TopicRecord | list[TopicRecord]:
        return list(self)[at]


def parts_of(records: Sequence[TopicRecord]) -> Sequence[Part]:
    """The records in their order, in blocks where they stand in blocks."""
    return records.parts if isinstance(records, Records) else records


def parts_since(parts: Iterable[Part], offset: int) -> Iterator[Part]:
    """What of some records of one topic and partition stands at `offset` or later."""
    for part in parts:
        if part.offset >= offset:
            yield part
        elif isinstance(part, RecordBlock) and part.end > offset:
            yield part._replace(offset=offset, spans=part.spans[offset - part.offset :])


def bytes_of(records: Sequence[TopicRecord]) -> int:
    """Of all values."""
    return records.nbytes if isinstance(records, Records) else sum(map(_bytes_of_part, records))


def _bytes_of_part(part: Part) -> int:
    if isinstance(part, RecordBlock):
        return int((part.spans[:, 3] - part.spans[:, 2]).sum())
    return len(part.value)


class Source(Protocol):
    """Topics, read from given positions onwards, without a consumer group: the reader keeps its own position."""

    partitions: int

    def read(self, topics: Sequence[str], positions: Positions) -> AsyncIterator[Sequence[TopicRecord]]:
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

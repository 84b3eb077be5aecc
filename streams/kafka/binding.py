"""What a worker runs on what: a processor, the topic that it reads, the topic of its journal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from schemas import topics
from streams.kafka.source import SourceMessage
from streams.kafka.wire import Message, MessageBlock
from streams.processor import Output, Part, Processor, StepObserver

_SINGLE: Final = frozenset(topic.name for topic in topics.REGISTRY if topic.partitions == 1)


def message_value(message: SourceMessage) -> bytes:
    """The entry of a topic whose messages are entries already."""
    return message.value


@dataclass(frozen=True)
class Binding:
    """One processor in its place. Two bindings of a worker need two journals."""

    processor: Processor
    source: str = topics.EVENTS
    journal: str = topics.JOURNAL
    entry: Callable[[SourceMessage], bytes] = message_value
    """The entry's value (its whole envelope) from a message. It must be a function of the message alone, since a
    restore calls it again, and raise for no input: what cannot be read is an entry that the processor rejects."""
    tick_s: float | None = None
    """How often the owner of a partition writes the time into its source, which must then be `taximeter.events`."""
    observer: StepObserver | None = None
    step_factor: int = 1
    """How many times as many messages as `StepLimits` says a step may hold: for a topic of single events, not of packs.
    Its bytes stay bounded as they are."""

    def __post_init__(self) -> None:
        if self.tick_s is not None and self.source != topics.EVENTS:
            raise ValueError(f"found ticks for {self.source}, expected them only for {topics.EVENTS}")


def addressed(part: Part, partition: int) -> Message | MessageBlock:
    """An output, or a block of them, and where it goes: the partition of the entries it came from, with two exceptions.

    An output to `taximeter.events` says its partition in its key (`b"3"`): customers are bound to partitions.
    A topic that has one partition is always its partition 0. Raises: ValueError, for a block for `taximeter.events`.
    """
    to = 0 if part.topic in _SINGLE else partition
    if isinstance(part, Output):
        return Message(part.topic, int(part.key) if part.topic == topics.EVENTS else to, part.key, part.value)
    if part.topic == topics.EVENTS:
        raise ValueError(f"found a block for {part.topic}, expected single outputs, which say their partition")
    return MessageBlock(to, part)

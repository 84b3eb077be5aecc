"""What a run left behind: the topics, as one form for both hosts, and what went wrong on the way."""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.simulation.story import Story


class Record(NamedTuple):
    """A record of an output or journal topic."""

    key: bytes
    value: bytes


@dataclass
class Outcome:
    """See the module."""

    story: Story
    entries: dict[int, list[tuple[int, int, bytes]]]
    """By partition, the source: offset, end, value."""
    outputs: dict[str, dict[int, list[Record]]]
    """By topic and partition."""
    journals: dict[int, list[bytes]]
    journal_begins: dict[int, int]
    """By partition, the source's offset at which the first kept batch begins (a journal may be trimmed)."""
    acknowledged: list[str]
    """The events that the door called accepted or duplicate."""
    followed: dict[str, dict[int, list[Record]]] = field(default_factory=dict)
    """What a reader that never restarted has read."""
    problems: list[str] = field(default_factory=list)
    """What may not happen, whatever the bills say."""
    trace: list[str] = field(default_factory=list)
    happened: Counter[str] = field(default_factory=Counter)

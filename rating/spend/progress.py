"""How far the outputs that have been read reach into the source: the through position of one partition.

The engine's journal says `Done(end, emitted)` when all outputs of the source up to `end` are durable, and where in
each topic they end. The store reads the journal and the outputs side by side, so a `Done` may come before its
outputs: it waits here until they have been read. A `Done` without outputs of its own waits for those before it.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from schemas.topics import LINE_ITEMS
from streams.journal import Done, Record
from streams.sums import Sums

PENDING_MAX: Final = 256
"""Dones that wait. Where there are more, neighbours are joined: told less often, never too early."""


class Pending(msgspec.Struct, frozen=True):
    """The source up to `end` is included once `needs` (topic -> offset) has been read."""

    end: int
    needs: dict[str, int]


class Progress(msgspec.Struct, frozen=True):
    """The fold of one partition's journal and of what has been read of its outputs.

    `through`: the source's entries below it are included. `epoch`: what an older owner says no longer counts. `sums`:
    what the journal's steps add up to.
    """

    epoch: int = 0
    through: int = 0
    pending: tuple[Pending, ...] = ()
    sums: Sums = Sums()
    lines: int = 0
    """The offset after the last line item of what is done."""
    source: int = -1
    """The offset of the first entry of the source that was ever read; -1 where nobody knows."""

    @property
    def done(self) -> int:
        """The outputs of the source's entries below it have been written, whether or not they have been read."""
        return self.pending[-1].end if self.pending else self.through

    def fold(self, records: Iterable[Record]) -> "Progress":
        """What the journal's next records change. Folding some of them again changes nothing."""
        epoch, pending, sums, lines = self.epoch, list(self.pending), self.sums, self.lines
        end = self.done
        for record in records:
            if record.epoch < epoch:
                continue
            epoch = record.epoch  # also where the `Open` could not be read
            sums = sums.take(record)
            if isinstance(record, Done):
                lines = max(lines, record.emitted.get(LINE_ITEMS, 0))
                if record.end > end:
                    pending.append(Pending(record.end, record.emitted))
                    end = record.end
        return Progress(epoch, self.through, _thinned(pending), sums, lines, self.source)

    def settle(self, read: Mapping[str, int]) -> "Progress":
        """What can be said now that the partition's topics have been read up to these offsets."""
        through, left = self.through, self.pending
        while left and all(topic not in read or read[topic] >= offset for topic, offset in left[0].needs.items()):
            through, left = left[0].end, left[1:]
        return self if left is self.pending else msgspec.structs.replace(self, through=through, pending=left)


def _thinned(pending: list[Pending]) -> tuple[Pending, ...]:
    """At most `PENDING_MAX`: neighbours are joined to steps of about the same width."""
    if len(pending) <= PENDING_MAX:
        return tuple(pending)
    width = (pending[-1].end - pending[0].end) // (PENDING_MAX // 2) + 1
    steps = [pending[0]]
    begun = pending[0].end
    for one in pending[1:]:
        if one.end - begun > width:
            begun = steps[-1].end
            steps.append(one)
        else:
            steps[-1] = _joined(steps[-1], one)
    return tuple(steps)


def _joined(first: Pending, second: Pending) -> Pending:
    topics = first.needs.keys() | second.needs.keys()
    needs = {topic: max(first.needs.get(topic, 0), second.needs.get(topic, 0)) for topic in sorted(topics)}
    return Pending(second.end, needs)

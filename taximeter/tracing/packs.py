"""The traces that packs carry, and which of them an output belongs to."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import pyarrow as pa

from schemas.entry import ENTRY_VERSION, EVENTS
from schemas.trace import TRACES_KEY, Stretch, decode_traces

_HEAD: Final = bytes((ENTRY_VERSION, EVENTS))
_LOOK_BYTES: Final = 64 * 1024
"""In so much of a pack's beginning its metadata stand: what does not name traces there is not opened."""


@dataclass
class TracedPack:
    """A pack some of whose rows are traced. `offset` and `end` are its entry's."""

    value: bytes
    offset: int
    end: int
    traces: list[Stretch]

    def context_of(self, row: int) -> str | None:
        """Of one row; the first stretch that holds it counts."""
        return next((one.context for one in self.traces if one.start <= row < one.end), None)

    def context_at(self, offset: int, index: int | None = None) -> str | None:
        """Of the event at a place of the log. Where all events of the pack stand at one offset and `index` does not say
        which it is, only one trace of them all is an answer."""
        if index is not None:
            return self.context_of(index)
        if self.end - self.offset == self.rows:
            return self.context_of(offset - self.offset)
        one = self.traces[0]
        return one.context if one.start == 0 and one.end == self.rows else None

    @property
    def rows(self) -> int:
        """How many events it holds."""
        return int(self._batch.num_rows)

    @cached_property
    def _batch(self) -> pa.RecordBatch:
        return pa.ipc.open_stream(pa.py_buffer(self.value)[2:]).read_next_batch()

    def events(self) -> Iterator[tuple[tuple[str, str, str], str]]:
        """(customer, source, id) of each traced event, and its context."""
        names = ("customer", "source", "id")
        for stretch in self.traces:
            part = self._batch.slice(stretch.start, stretch.end - stretch.start)
            columns = [part.column(name).cast(pa.string()).to_pylist() for name in names]
            for key in zip(*columns, strict=True):
                yield key, stretch.context


def traced_pack(value: bytes, offset: int, end: int) -> TracedPack | None:
    """An entry of the log as a traced pack; None where it is something else. Raises: pa.ArrowInvalid."""
    if value[:2] != _HEAD or value.find(TRACES_KEY, 0, _LOOK_BYTES) < 0:
        return None
    metadata = pa.ipc.open_stream(pa.py_buffer(value)[2:]).schema.metadata or {}
    traces = decode_traces(metadata.get(TRACES_KEY))
    return TracedPack(value, offset, end, traces) if traces else None

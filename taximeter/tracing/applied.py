"""Spans of the spend store: from when an event's pack was read until the answers include everything that came of it."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Tracer

from schemas import topics
from streams.log import TopicRecord, parts_of
from taximeter.tracing.contexts import harmless, inside, link_to
from taximeter.tracing.packs import traced_pack

WAITING_MAX: Final = 256
"""Traces that wait for the store to include them; of more the oldest are given up."""


class _Waiting(NamedTuple):
    """A trace whose events are read, and not yet included."""

    context: str
    partition: int
    end: int
    begun_ns: int
    batch: SpanContext


class ApplyTracer:
    """See `rating.spend.view.ApplyObserver`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._waiting: deque[_Waiting] = deque(maxlen=WAITING_MAX)

    @harmless
    def applied(self, records: Sequence[TopicRecord], through: Mapping[int, int], begun_ns: int) -> None:
        """One batch: a trace of its own, with links to those whose events it holds."""
        found: list[tuple[str, TopicRecord]] = []
        entries = [part for part in parts_of(records) if part.topic == topics.EVENTS and isinstance(part, TopicRecord)]
        for record in entries:
            pack = traced_pack(record.value, record.offset, record.end)
            if pack is not None and len(found) < WAITING_MAX:
                found += ((context, record) for context in dict.fromkeys(one.context for one in pack.traces))
        if found:
            span = self._tracer.start_span(
                "apply",
                Context(),
                SpanKind.CONSUMER,
                links=[link_to(context) for context in list(dict.fromkeys(context for context, _ in found))[:64]],
                start_time=begun_ns,
                attributes={"taximeter.records": len(records)},
            )
            span.end()
            batch = span.get_span_context()
            self._waiting.extend(_Waiting(text, at.partition, at.end, begun_ns, batch) for text, at in found)
        self._include(through)

    def _include(self, through: Mapping[int, int]) -> None:
        left = []
        for one in self._waiting:
            if through.get(one.partition, 0) < one.end:
                left.append(one)
                continue
            self._tracer.start_span(
                "include in spend",
                inside(one.context),
                SpanKind.CONSUMER,
                links=[Link(one.batch)],
                start_time=one.begun_ns,
                attributes={"taximeter.partition": one.partition},
            ).end()
        self._waiting = deque(left, maxlen=WAITING_MAX)

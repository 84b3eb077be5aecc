"""Spans of the engine's steps. A step works in many requests' events, so it is a trace of its own with links to theirs;
and in each of theirs stands a span `rate`, with what came of just these events below it.

Everything is read from what went in and what came out, after it is durable: the engine knows nothing of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Tracer, set_span_in_context

from schemas import topics
from schemas.entry import Entry
from schemas.output import EventRef, Through
from schemas.rejection import Where
from streams.processor import Output, Step
from taximeter.tracing.contexts import harmless, inside, link_to
from taximeter.tracing.packs import TracedPack, traced_pack

STEP_TRACES_MAX: Final = 64
"""Traces that one step goes on with; further ones end at the door."""
OUTPUTS_MAX: Final = 256
"""Spans of outputs of one step."""
_LINES_READ_MAX: Final = 4096
_NAMES: Final = {
    topics.INVOICES: "emit invoice",
    topics.ALERTS: "emit alert",
    topics.LINE_ITEMS: "emit line item",
    topics.REJECTIONS: "emit rejection",
}


class _Because(msgspec.Struct):
    event: EventRef | None = None


class _Emitted(msgspec.Struct):
    """What an output says of itself and of what caused it."""

    id: str | None = None
    revision: int | None = None
    kind: str | None = None
    code: str | None = None
    customer: str | None = None
    because: _Because | None = None
    through: Through | None = None
    where: Where | None = None


_DECODER: Final = msgspec.json.Decoder(_Emitted)


class StepTracer:
    """See `streams.processor.StepObserver`."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    @harmless
    def stepped(self, partition: int, entries: Sequence[Entry], step: Step, begun_ns: int) -> None:
        """One step, where there is something of it to trace: an event that is, or an invoice or alert."""
        packs = [pack for entry in entries if (pack := traced_pack(entry.value, entry.offset, entry.end)) is not None]
        contexts = list(islice(dict.fromkeys(one.context for pack in packs for one in pack.traces), STEP_TRACES_MAX))
        if not contexts and not (step.summary.invoices or step.summary.alerts):
            return
        span = self._tracer.start_span(
            "step",
            Context(),
            SpanKind.CONSUMER,
            links=[link_to(context) for context in contexts],
            start_time=begun_ns,
            attributes=_attributes(partition, entries, step),
        )
        own = Link(span.get_span_context())
        rated = {
            context: self._tracer.start_span(
                "rate", inside(context), SpanKind.CONSUMER, links=[own], start_time=begun_ns,
                attributes={"taximeter.partition": partition},
            )
            for context in contexts
        }  # fmt: skip
        self._emitted(step.outputs, packs, rated, span)
        for one in (*rated.values(), span):
            one.end()

    def _emitted(self, outputs: Sequence[Output], packs: list[TracedPack], rated: dict[str, Span], step: Span) -> None:
        causes = _Causes(packs)
        made = 0
        for output, said in _read(outputs, bool(packs)):
            context = causes.of(said)
            parent = rated.get(context) if context is not None else None
            if parent is None and output.topic not in (topics.INVOICES, topics.ALERTS):
                continue
            attributes = {"id": said.id, "kind": said.kind, "revision": said.revision, "code": said.code}
            self._tracer.start_span(
                _NAMES[output.topic],
                set_span_in_context(step if parent is None else parent, Context()),
                SpanKind.PRODUCER,
                attributes={f"taximeter.{name}": value for name, value in attributes.items() if value is not None},
            ).end()
            made += 1
            if made == OUTPUTS_MAX:
                return


def _attributes(partition: int, entries: Sequence[Entry], step: Step) -> dict[str, int]:
    counts = {name: getattr(step.summary, name) for name in ("events", "line_items", "invoices", "alerts", "rejected")}
    place = {"partition": partition, "offset": entries[0].offset, "end": entries[-1].end}
    return {f"taximeter.{name}": value for name, value in (place | counts).items()}


def _read(outputs: Iterable[Output], lines: bool) -> Iterator[tuple[Output, _Emitted]]:
    """What is worth a span, the rare ones first; of line items as many as may be read."""
    known = [output for output in outputs if output.topic in _NAMES]
    rare = [output for output in known if output.topic != topics.LINE_ITEMS]
    many = [output for output in known if output.topic == topics.LINE_ITEMS][: _LINES_READ_MAX if lines else 0]
    for output in (*rare, *many):
        try:
            yield output, _DECODER.decode(output.value)
        except msgspec.ValidationError:  # not of a customer's usage
            continue


class _Causes:
    """Which trace an output belongs to: by the event that it names, or the place of the last one that it includes."""

    def __init__(self, packs: list[TracedPack]) -> None:
        self._packs = packs
        self._events: dict[tuple[str, str, str], str] | None = None

    def of(self, said: _Emitted) -> str | None:
        """The context; None where it is not known."""
        if not self._packs:
            return None
        if said.because is not None:
            return self._named(said.customer, said.because.event)
        if said.through is not None:
            return self._placed(said.through.offset, None)
        if said.where is not None and said.where.offset is not None:
            return self._placed(said.where.offset, said.where.index)
        return None

    def _named(self, customer: str | None, event: EventRef | None) -> str | None:
        if event is None or customer is None:
            return None
        if self._events is None:
            self._events = {}
            for pack in self._packs:
                for key, context in pack.events():
                    self._events.setdefault(key, context)
        return self._events.get((customer, event.source, event.id))

    def _placed(self, offset: int, index: int | None) -> str | None:
        pack = next((one for one in self._packs if one.offset <= offset < one.end), None)
        return None if pack is None else pack.context_at(offset, index)

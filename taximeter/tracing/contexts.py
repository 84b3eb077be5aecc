"""Between the text `traceparent` and OpenTelemetry's objects; and what tracing does with its own failures."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

_P = ParamSpec("_P")
_logger = logging.getLogger(__name__)


def span_context(text: str) -> SpanContext:
    """The context that a valid `traceparent` names."""
    _, trace, span, flags = text.split("-")
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


def inside(text: str) -> Context:
    """To begin a span in, as a child of the one that the text names."""
    return set_span_in_context(NonRecordingSpan(span_context(text)), Context())


def link_to(text: str) -> Link:
    """A link to the span that the text names."""
    return Link(span_context(text))


def text_of(span: Span) -> str | None:
    """The `traceparent` of a span; None of one that is not recorded."""
    found = span.get_span_context()
    if not found.is_valid or not found.trace_flags.sampled:
        return None
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def harmless(function: Callable[_P, None]) -> Callable[_P, None]:
    """What is observed never fails because of the observer. Only the kind of a failure is logged: its message might
    hold what an event says."""

    @wraps(function)
    def call(*arguments: _P.args, **named: _P.kwargs) -> None:
        try:
            function(*arguments, **named)
        except Exception as error:
            _logger.warning("something was not traced: %s in %s", type(error).__name__, function.__qualname__)

    return call

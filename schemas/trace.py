"""Where the trace of an event goes on: W3C trace contexts, and those that travel with a pack.

A trace context is the text `traceparent` of W3C Trace Context: in an HTTP header of that name, or in an event as the
CloudEvents extension attribute of that name. A pack mixes many requests' events, so its metadata `traces` holds a few
contexts, each with the stretch of rows that it is of. Nothing that is computed from a pack depends on them.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

PACK_TRACES_MAX: Final = 8
"""Trace contexts that one pack carries; those of further requests end at the door."""
TRACES_KEY: Final = b"traces"
"""The name in a pack's metadata."""

_CONTEXT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}\Z", re.ASCII)
_MENTIONED: Final = '"traceparent"'


class Stretch(NamedTuple):
    """The rows `[start, end)` of a pack, and the context that the work on them goes on from."""

    context: str
    start: int
    end: int


class _Traced(msgspec.Struct):
    traceparent: str | None = None


_decode_extensions = msgspec.json.Decoder(_Traced).decode


def sampled(context: str | None) -> bool:
    """Whether a text is a trace context that says: record this."""
    return context is not None and _CONTEXT.match(context) is not None and bool(int(context[-2:], 16) & 1)


def event_traces(extensions: Sequence[str | None]) -> list[Stretch]:
    """The sampled contexts that events bring themselves, by their extension attributes; the first few different ones.

    Neighbours of one context are one stretch.
    """
    found: list[Stretch] = []
    if extensions.count(None) == len(extensions):
        return found
    for row, text in enumerate(extensions):
        context = None if text is None or _MENTIONED not in text else _read(text)
        if context is None:
            continue
        if found and found[-1].context == context and found[-1].end == row:
            found[-1] = found[-1]._replace(end=row + 1)
        elif len(found) < PACK_TRACES_MAX:
            found.append(Stretch(context, row, row + 1))
    return found


def _read(extensions: str) -> str | None:
    try:
        context = _decode_extensions(extensions).traceparent
    except msgspec.MsgspecError:
        return None
    return context if sampled(context) else None


def cut(traces: Iterable[Stretch], start: int, end: int) -> list[Stretch]:
    """Those of the rows `[start, end)`, counted from `start`."""
    return [
        Stretch(one.context, max(one.start, start) - start, min(one.end, end) - start)
        for one in traces
        if one.start < end and one.end > start
    ]


def encode_traces(traces: Sequence[Stretch]) -> bytes:
    """As a pack's metadata has them: `CONTEXT/START-END`, with commas between."""
    return ",".join(f"{one.context}/{one.start}-{one.end}" for one in traces[:PACK_TRACES_MAX]).encode()


def decode_traces(value: bytes | None) -> list[Stretch]:
    """What a pack's metadata says; nothing where it says nothing that can be read: a trace is a courtesy."""
    try:
        return [_stretch(text) for text in (value or b"").decode().split(",")[:PACK_TRACES_MAX] if text]
    except ValueError:
        return []


def _stretch(text: str) -> Stretch:
    context, _, rows = text.partition("/")
    start, _, end = rows.partition("-")
    if not sampled(context):
        raise ValueError(f"found {text!r}, expected a sampled trace context and its rows")
    return Stretch(context, int(start), int(end))

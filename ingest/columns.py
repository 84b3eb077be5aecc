"""What the door works with: events as columns (one list for each attribute), and what is said of wrong ones.

An event is a position in the lists of `Events` or `Rows`, never an object: at hundreds of thousands of events a
second an object for each costs more than everything else.
"""

from collections.abc import Container, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple, cast

import msgspec

from schemas.limits import EVENT_DEPTH_MAX, REJECTED_EVENT_BYTES_MAX
from schemas.rejection import Code, Rejection, Where


class Fault(NamedTuple):
    """What is wrong with one event: the code, the place in the event (None: the whole), and found and expected."""

    code: Code
    path: str | None
    message: str


class Refused(NamedTuple):
    """One event that was not taken. `at` is its position in the request, from nought; `text` the event as it came."""

    at: int
    fault: Fault
    text: bytes
    id: str | None = None
    source: str | None = None


ABSENT: Final = -1
"""No time: the event's time is its arrival. (No time before 1970 is taken.)"""


class Event(NamedTuple):
    """One valid event; the fields are those of `Events`."""

    id: str
    source: str
    type: str
    subject: str
    time: str | None
    micros: int
    data: bytes
    extensions: str | None
    values: dict[str, Any] | None = None


class Events(NamedTuple):
    """Valid events as columns, all of one length, in the order of the request.

    `at` is each event's position in the request; `time` the text as it came, None where there was none; `micros` the
    same as microseconds since the epoch, `ABSENT` where there was none; `data` the JSON object's text; `extensions` a
    JSON object's text with sorted names, None where there are none; `values` what `data` says where that is known
    already (see `schemas.paths.Extractor.extract_values`), else None.
    """

    at: list[int]
    id: list[str]
    source: list[str]
    type: list[str]
    subject: list[str]
    time: list[str | None]
    micros: list[int]
    data: list[bytes]
    extensions: list[str | None]
    values: list[dict[str, Any] | None]

    @classmethod
    def empty(cls) -> "Events":
        """No events, to `append` to and to `extend`."""
        return cls([], [], [], [], [], [], [], [], [], [])

    def append(self, at: int, event: Event) -> None:
        """Adds one event that stood at position `at` of the request."""
        for column, value in zip(self, (at, *event), strict=True):
            cast(list[Any], column).append(value)

    def extend(self, other: "Events", start: int) -> None:
        """Adds events whose positions count from `start`."""
        self.at.extend(at + start for at in other.at)
        for column, more in zip(self[1:], other[1:], strict=True):
            cast(list[Any], column).extend(cast(list[Any], more))

    def show(self, i: int) -> bytes:
        """The event at position `i` of the lists as a JSON text, for its rejection."""
        event: dict[str, Any] = {"specversion": "1.0", "id": self.id[i], "source": self.source[i]}
        event |= {"type": self.type[i], "subject": self.subject[i]}
        if self.time[i] is not None:
            event["time"] = self.time[i]
        if (extensions := self.extensions[i]) is not None:
            event |= msgspec.json.decode(extensions, type=dict[str, msgspec.Raw])
        return msgspec.json.encode(event | {"data": msgspec.Raw(self.data[i])})

    def without(self, positions: Container[int]) -> "Events":
        """The same less the events at these positions of the lists."""
        kept = [i for i in range(len(self.id)) if i not in positions]
        return Events._make(pick(column, kept) for column in self)


class Parsed(NamedTuple):
    """A request's body: the valid events, the wrong ones in order, and how many there were in all."""

    events: Events
    refused: list[Refused]
    total: int
    lines: list[int] | None = None
    """For NDJSON: the line (from 1) of each event of the request; None where events stand in an array."""

    def where(self, at: int) -> Where:
        """Where the request's event at position `at` stood."""
        return Where(index=at) if self.lines is None else Where(line=self.lines[at])


class Rows(NamedTuple):
    """Routed events of one tenant and partition: a pack's columns as lists (`schemas.event`), and `Events.values`."""

    identity: list[bytes]
    content: list[int]
    customer: list[str]
    subject: list[str]
    source: list[str]
    type: list[str]
    id: list[str]
    time: list[int]
    arrived: list[int]
    data: list[bytes]
    extensions: list[str | None]
    values: list[dict[str, Any] | None]

    def pick(self, positions: Sequence[int]) -> "Rows":
        """The rows at these positions."""
        return Rows._make(pick(column, positions) for column in self)

    def cut(self, start: int, end: int) -> "Rows":
        """The rows `[start, end)`."""
        return Rows._make(column[start:end] for column in self)

    @classmethod
    def joined(cls, parts: "Sequence[Rows]") -> "Rows":
        """All rows of the parts, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls._make([item for part in column for item in part] for column in zip(*parts, strict=True))


def pick(column: list[Any], positions: Sequence[int]) -> list[Any]:
    """The items of a list at these positions."""
    if len(positions) == 1:
        return [column[positions[0]]]
    return list(itemgetter(*positions)(column)) if positions else []


def make_rejection(refused: Refused, where: Where, tenant: str) -> Rejection:
    """The document that is published for a refused event."""
    code, path, message = refused.fault
    event = show_event(refused.text)
    return Rejection(event=event, code=code, message=message, where=where, tenant=tenant, path=path)


def rejection_record(rejection: Rejection) -> tuple[bytes, bytes]:
    """The key and the value of a rejection in `taximeter.rejections`."""
    return rejection.tenant.encode(), msgspec.json.encode(rejection)


def show_event(text: bytes) -> Any:
    """An event as a rejection shows it: itself where every JSON reader can read it, else its text (or its head)."""
    if len(text) > REJECTED_EVENT_BYTES_MAX:
        return text[:1000].decode(errors="replace") + f"… ({len(text)} bytes)"
    try:
        if text.count(b"{") + text.count(b"[") <= 2 * EVENT_DEPTH_MAX:
            msgspec.json.decode(text)
            return msgspec.Raw(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return text.decode(errors="replace")

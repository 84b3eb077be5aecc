"""What the door works with: events as columns (one for each attribute), and what is said of wrong ones.

An event is a position in the columns of `Events` or `Rows`, never an object: at hundreds of thousands of events a
second an object for each costs more than everything else. Where the compiled half is used they hold a table
(`ingest.table`), and a column becomes a list of Python objects only when somebody looks at it.
"""

from collections.abc import Container, Sequence
from itertools import accumulate
from operator import itemgetter
from typing import Any, ClassVar, Final, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from ingest.table import (
    ARRIVED,
    CONTENT,
    CUSTOMER,
    DATA,
    EXTENSIONS,
    ID,
    IDENTITY,
    MOMENT,
    SOURCE,
    SUBJECT,
    TYPE,
    Table,
)
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


class _Columns:
    """Columns of one length, the names of which are in `NAMES`: lists, or a table from which a list is read when it is
    asked for. Compared by what they hold."""

    __slots__ = ("table",)
    NAMES: ClassVar[tuple[str, ...]]
    TIME: ClassVar = "time"
    """What a table calls the column `time`."""

    def __init__(self, *lists: list[Any], table: Table | None = None) -> None:
        """All columns in the order of `NAMES`, or a table."""
        self.table = table
        if table is None:
            for name, column in zip(self.NAMES, lists, strict=True):
                setattr(self, name, column)

    def __getattr__(self, name: str) -> Any:
        """A column of the table that no one has asked for yet."""
        if name not in self.NAMES or self.table is None:
            raise AttributeError(name)
        found = self.table.column(self.TIME if name == "time" else name)
        setattr(self, name, found)
        return found

    def __len__(self) -> int:
        return len(self.table) if self.table is not None else len(getattr(self, self.NAMES[0]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.lists() == other.lists()

    __hash__ = None  # type: ignore[assignment]

    def lists(self) -> list[list[Any]]:
        """All columns as lists."""
        return [getattr(self, name) for name in self.NAMES]

    def pick(self, positions: Sequence[int] | NDArray[np.int64]) -> Self:
        """What stands at these positions, in that order."""
        if self.table is not None:
            return type(self)(table=self.table.take(np.asarray(positions, np.int64)))
        return type(self)(*(pick(column, positions) for column in self.lists()))


class Events(_Columns):
    """Valid events as columns, all of one length, in the order of the request.

    `at` is each event's position in the request; `time` the text as it came, None where there was none; `micros` the
    same as microseconds since the epoch, `ABSENT` where there was none; `data` the JSON object's text; `extensions` a
    JSON object's text with sorted names, None where there are none.
    """

    NAMES = ("at", *Event._fields)
    __slots__ = NAMES

    at: list[int]
    id: list[str]
    source: list[str]
    type: list[str]
    subject: list[str]
    time: list[str | None]
    micros: list[int]
    data: list[bytes]
    extensions: list[str | None]

    @classmethod
    def empty(cls) -> "Events":
        """No events, to `append` to and to `extend`."""
        return cls(*([] for _ in cls.NAMES))

    def append(self, at: int, event: Event) -> None:
        """Adds one event that stood at position `at` of the request. Only to lists."""
        for column, value in zip(self.lists(), (at, *event), strict=True):
            column.append(value)

    def extend(self, other: "Events", start: int) -> None:
        """Adds events whose positions count from `start`. Only to lists."""
        self.at.extend(at + start for at in other.at)
        for column, more in zip(self.lists()[1:], other.lists()[1:], strict=True):
            column.extend(more)

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
        return self.pick([i for i in range(len(self)) if i not in positions])


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


class Rows(_Columns):
    """Routed events of one tenant and partition: a pack's columns (`schemas.event`)."""

    NAMES = (
        "identity", "content", "customer", "subject", "source", "type", "id", "time", "arrived", "data", "extensions",
    )  # fmt: skip
    __slots__ = NAMES
    TIME = "moment"

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

    def cut(self, start: int, end: int) -> "Rows":
        """The rows `[start, end)`."""
        if self.table is not None:
            return Rows(table=self.table.cut(start, end))
        return Rows(*(column[start:end] for column in self.lists()))

    @property
    def data_bytes(self) -> int:
        """The bytes of all rows' data."""
        return int(self.table.sizes(DATA).sum()) if self.table is not None else sum(map(len, self.data))

    def data_ends(self) -> list[int]:
        """How many bytes of data stand before each row, and in all."""
        sizes = map(len, self.data) if self.table is None else self.table.sizes(DATA).tolist()
        return list(accumulate(sizes, initial=0))

    @property
    def keys(self) -> tuple[Any, Any]:
        """Identities and contents, as `ingest.memory` takes them: no object is made of a table's."""
        if self.table is not None:
            return self.table.rows[:, IDENTITY:CONTENT], self.table.rows[:, CONTENT]
        return self.identity, self.content

    def tabled(self) -> Table:
        """The rows as a table: to stand among others of that kind, which need no lists then."""
        if self.table is not None:
            return self.table
        table = Table.empty(len(self))
        for column, texts in (
            (CUSTOMER, self.customer), (SUBJECT, self.subject), (SOURCE, self.source), (TYPE, self.type), (ID, self.id),
            (EXTENSIONS, self.extensions),
        ):  # fmt: skip
            table.put(slice(None), column, [None if text is None else text.encode() for text in texts])
        table.put(slice(None), DATA, self.data)
        table.rows[:, IDENTITY:CONTENT] = np.frombuffer(b"".join(self.identity), np.int64).reshape(-1, 2)
        for column, numbers in ((CONTENT, self.content), (MOMENT, self.time), (ARRIVED, self.arrived)):
            table.rows[:, column] = numbers
        return table

    @classmethod
    def joined(cls, parts: "Sequence[Rows]") -> "Rows":
        """All rows of the parts, in order."""
        if len(parts) == 1:
            return parts[0]
        if any(part.table is not None for part in parts):
            return cls(table=Table.joined([part.tabled() for part in parts]))
        columns = zip(*(part.lists() for part in parts), strict=True)
        return cls(*([item for part in column for item in part] for column in columns))


def pick(column: list[Any], positions: Sequence[int] | NDArray[np.int64]) -> list[Any]:
    """The items of a list at these positions."""
    if len(positions) == 1:
        return [column[positions[0]]]
    return list(itemgetter(*positions)(column)) if len(positions) else []


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

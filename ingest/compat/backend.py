"""What a door in another dialect stands on: our own door, catalogue and queries, behind one protocol.

Times are microseconds since the epoch, stretches half-open, decimals texts. A query sees everything that its tenant was
told is taken through this backend: it waits for it, bounded (`Late`).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from ingest.columns import Parsed
from ingest.receipt import Receipt
from schemas.catalogue import Catalogue, Filed
from schemas.output import LineItem

Unit = Literal["minute", "hour", "day", "week", "month", "total"]
"""The windows of usage; `total`: one window over all that was asked for."""


class NotHere(Exception):
    """What this process does not do; the message says which one does."""


class NoQueries(NotHere):
    """A question to a process that keeps no store."""


class NoDoor(NotHere):
    """Events or documents for a process that takes nothing."""


class Late(Exception):
    """What the tenant was told is taken is not yet included in the queries: ask again."""


class QueryRefused(ValueError):
    """A question that cannot be answered. `name`: the parameter in our own words; `unknown_meter` has status 404."""

    def __init__(self, status: int, code: str, name: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.name, self.detail = status, code, name, detail


class UsageQuestion(NamedTuple):
    """A question about one meter. No customers, subjects: all. `group_by`: dimensions, `customer`, `subject`.

    `filters`: dimension -> the values of which one must be there (None: without it).
    """

    meter: str
    unit: Unit = "total"
    zone: str = "UTC"
    first: int | None = None
    last: int | None = None
    customers: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, frozenset[str | None]] = MappingProxyType({})


class UsageRow(NamedTuple):
    """A meter's value (a decimal's text) in one window, for one combination of `group_by` values."""

    start: int
    end: int
    dimensions: Mapping[str, str | None]
    value: str
    events: int


class EventsQuestion(NamedTuple):
    """Which kept events, the last one to arrive first; `id_part`, `subject_part`: what the text must hold."""

    customers: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    type: str | None = None
    source: str | None = None
    id: str | None = None
    id_part: str | None = None
    subject_part: str | None = None
    first: int | None = None
    last: int | None = None
    arrived_from: int | None = None
    arrived_to: int | None = None
    after: str | None = None
    """The `next` of the page before."""
    limit: int = 100


class KeptEvent(NamedTuple):
    """One event as it came, its owner and arrival. `rejected`: what the engine said of it, where it said anything."""

    event: Mapping[str, Any]
    customer: str
    arrived: int
    rejected: str | None


class EventsPage(NamedTuple):
    """A page of kept events; `next`: where the next one begins, None after the last."""

    events: list[KeptEvent]
    next: str | None


class Backend(Protocol):
    """The one way from a dialect to what this system does. Every method is of one tenant."""

    async def take(self, tenant: str, parsed: Parsed, *, whole: bool = False, new: bool = False) -> Receipt:
        """Takes events: durable when this returns. `whole`: all of them or none; `new`: of known ones none either.

        Raises: ingest.door.NotWhole (nothing was taken); LogUnavailable (nothing is promised); NoDoor.
        """
        ...

    @property
    def retry_after_seconds(self) -> int:
        """What a client is told to wait where the log takes nothing."""
        ...

    def now(self) -> int:
        """The door's clock."""
        ...

    async def catalogue(self, tenant: str) -> Catalogue:
        """The documents in force, those of other processes included."""
        ...

    def known(self, tenant: str) -> Catalogue:
        """The documents in force as this process knows them: asks nobody, for what is done at every event."""
        ...

    def filed(self, tenant: str, kind: str, id: str) -> list[Filed]:
        """What is known of a document's versions, the first one first."""
        ...

    async def apply(self, tenant: str, fresh: Catalogue) -> None:
        """Brings documents into force, whole or not at all. Raises: CatalogueError, LogUnavailable, NoDoor."""
        ...

    async def usage(self, tenant: str, question: UsageQuestion) -> list[UsageRow]:
        """The windows that hold any usage. Raises: QueryRefused, NoQueries, Late."""
        ...

    async def kept_events(self, tenant: str, question: EventsQuestion) -> EventsPage:
        """Kept events, duplicates included. Raises: QueryRefused, NoQueries, Late."""
        ...

    async def line_items(self, tenant: str, customer: str, subscription: str | None = None) -> list[LineItem]:
        """The line items of a customer that are not nought, the latest period first. Raises: NoQueries, Late."""
        ...


def decode_line_items(bodies: list[bytes]) -> list[LineItem]:
    """Line items from their JSON documents."""
    return [_LINE_ITEM.decode(body) for body in bodies]


_LINE_ITEM = msgspec.json.Decoder(LineItem)

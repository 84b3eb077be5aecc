"""What a spend store can do: take records in, once each, and answer the queries of the view.

Two stores keep this protocol with the same numbers: `duckdb_store` (a file, embedded) and `clickhouse_store`.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol

import pyarrow as pa

from rating.spend.index import Account
from rating.spend.progress import Progress
from schemas import topics
from streams.log import TopicRecord

TOPICS: Final = (
    topics.EVENTS,
    topics.LINE_ITEMS,
    topics.INVOICES,
    topics.ALERTS,
    topics.REJECTIONS,
    topics.JOURNAL,
)
"""What a store reads."""

Listing = Literal["line_items", "invoices", "alerts", "rejections"]
"""What can be listed page by page, newest first."""


SumBy = Literal["customer", "subscription", "charge", "dimensions"]
"""By what line items can be added up."""


class StoreError(RuntimeError):
    """A record that no engine of this version writes: a broken invariant. The message says which and why."""


class StoreFull(RuntimeError):
    """The store found no room for a batch, and none of the batch is in it: the same may be applied again."""


class StoreUnavailable(StoreFull):
    """The store's server does not answer. What was begun to be written may be applied again, as with a full one."""


class StoreDamaged(RuntimeError):
    """The store's file cannot be read. Everything in it can be made again from the topics; the message says how."""


class Place(NamedTuple):
    """Where a row stands in a listing: rows are listed by falling `(sort_key, id)`."""

    sort_key: str
    id: str


class Row(NamedTuple):
    """One row of a listing: where it stands, and its JSON document."""

    place: Place
    body: bytes


class Whose(NamedTuple):
    """Whose events: a tenant's; of some customers, or of all; of some subjects, or of all."""

    tenant: str
    customers: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()


class FiledAlert(NamedTuple):
    """An alert (JSON), whose it is, and where it stands in its partition of the topic."""

    customer: str
    offset: int
    body: bytes


class SpendSum(NamedTuple):
    """What the line items of one name and currency come to: `amount` is a scaled number."""

    name: str
    currency: str
    amount: int
    events: int
    line_items: int


class EventFilter(NamedTuple):
    """Which kept events; times are microseconds, stretches half-open. `id_part`, `subject_part`: what it must hold."""

    type: str | None = None
    source: str | None = None
    id: str | None = None
    first: int | None = None
    last: int | None = None
    arrived_from: int | None = None
    arrived_to: int | None = None
    id_part: str | None = None
    subject_part: str | None = None


class EventPlace(NamedTuple):
    """Where an event stands in the listing of kept events: by falling places."""

    arrived: int
    log_partition: int
    log_offset: int
    log_index: int


EVENT_COLUMNS: Final = (
    "log_partition",
    "log_offset",
    "log_index",
    "customer",
    "subject",
    "source",
    "id",
    "type",
    "time",
    "arrived",
    "data",
    "extensions",
)
"""What is kept of an event and can be shown. Times are microseconds; `data` is JSON text, `extensions` too or null."""


class SpendStore(Protocol):
    """Keeps the highest revision of every output, the raw events, and how far it has read.

    One thread takes records in and one writes at a time; queries may run beside them in other threads, and see whole
    batches (DuckDB) or parts of them (ClickHouse), never less than what `positions` and `progress` said before they
    began; `account` never less than `progress_at_hand`.
    """

    def positions(self) -> Mapping[tuple[str, int], int]:
        """(topic, partition) -> the offset after the last record written."""
        ...

    def progress(self) -> Mapping[int, Progress]:
        """Partition -> which part of the source the outputs written so far include."""
        ...

    def progress_at_hand(self) -> Mapping[int, Progress]:
        """The same of what `account` includes: it is ahead of the tables by what was taken in and not yet written."""
        ...

    @property
    def unwritten(self) -> int:
        """How many bytes of records were taken in and not yet written."""
        ...

    def take(self, records: Sequence[TopicRecord]) -> None:
        """Takes records in, for `account` to see at once and for `write` to write; what stands below the position
        reached so far is skipped. Raises: StoreError."""
        ...

    def write(self) -> None:
        """Writes what has been taken in, and moves the positions on. May run beside `take`, never twice at once.
        Raises: StoreFull, and nothing of it is written: it may be tried again."""
        ...

    def apply(self, records: Sequence[TopicRecord]) -> None:
        """Both in one go: `account` does not see what could not be written. Raises: StoreError, StoreFull."""
        ...

    def catalogue(self, tenant: str, partition: int) -> bytes | None:
        """The newest catalogue (JSON) of a tenant in that partition of the source, else in any."""
        ...

    def account(self, tenant: str, customer: str) -> Account:
        """What a customer's spend is made of: from memory, or where it is not there, from the tables."""
        ...

    def account_at_hand(self, tenant: str, customer: str) -> Account | None:
        """The same where it is in memory: no SQL, no waiting."""
        ...

    def lines(self, tenant: str, customer: str) -> pa.Table:
        """A customer's line items without the nought ones: `decode.LINE_ITEMS` but for `id`, `sort_key` and `body`."""
        ...

    def bills(self, tenant: str, customer: str) -> pa.Table:
        """A customer's invoices: `decode.INVOICES` but for `id`, `sort_key` and `body`."""
        ...

    def crossings(self, tenant: str, customer: str) -> pa.Table:
        """The thresholds that a customer has crossed: subscription, currency and period of each."""
        ...

    def events(
        self,
        whose: Whose,
        type: str,
        first: int | None,
        last: int | None,
        known_at: int | None = None,
        columns: Sequence[str] = ("time", "data"),
    ) -> pa.Table:
        """`columns` (of `EVENT_COLUMNS`) of the events of one type with `first <= time < last`, in order of arrival.

        Of one identity only the first to arrive counts, whatever its type and time; voided events do not. With
        `known_at` (microseconds) only what had arrived by then counts, voids too.
        """
        ...

    def newest(self, whose: Whose, partition: int | None) -> int | None:
        """The greatest time known: of the events (voids have none) and of the ticks of the partition, else of all."""
        ...

    def kept_events(self, whose: Whose, where: EventFilter, after: EventPlace | None, limit: int) -> pa.Table:
        """`EVENT_COLUMNS` of kept events as they came, duplicates and voids too, the last one to arrive first."""
        ...

    def page(self, listing: Listing, where: Mapping[str, str | int], after: Place | None, limit: int) -> list[Row]:
        """The next rows after a place whose columns equal `where`; nought line items are not listed."""
        ...

    def sums(self, by: SumBy, tenant: str, at: int, where: Mapping[str, str]) -> list[SpendSum]:
        """What the line items whose period holds the moment `at` come to, by one of their columns.

        `where`: columns and what they equal. `dimensions` is a JSON text.
        """
        ...

    def latest(self, tenant: str) -> int | None:
        """The newest time known: of the ticks, else of the tenant's rated events."""
        ...

    def alerts_from(self, tenant: str, customer: str | None, offset: int, limit: int) -> list[FiledAlert]:
        """Alerts that stand at `offset` of their partition's topic or later, those at the lowest offsets first."""
        ...

    def mends(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Key (see `rating.spend.mends`) -> the event (JSON) that stands for what it names; those that have one."""
        ...

    def invoice(self, tenant: str, id: str) -> bytes | None:
        """One invoice of a tenant (JSON)."""
        ...

    def arrivals(self, tenant: str, customer: str, partition: int, start: int, end: int, limit: int) -> pa.Table:
        """The first `limit` events of a customer in `[start, end)` of its partition's source, as they came: duplicates
        and voids too. `log_offset` and the columns of a pack (`schemas.event`) but for `content` and `customer`.
        """
        ...

    def count_arrivals(self, tenant: str, customer: str, partition: int, start: int, end: int) -> int:
        """How many rows `arrivals` has in all."""
        ...

    def controls(self, partition: int, start: int, end: int) -> pa.Table:
        """What is no usage event in `[start, end)` of a partition's source: `log_offset`, `kind`, `time` and `body`."""
        ...

    def first_after(self, partition: int, time: int) -> int | None:
        """The offset of the first event that arrived, or the first tick that was made, after a time; None: none."""
        ...

    def alerts_at_ticks(self, tenant: str, customer: str) -> list[bytes]:
        """The alerts (JSON) of a customer that name a tick as their reason."""
        ...

    def count_events(self, partition: int, start: int, end: int) -> int:
        """How many events of `[start, end)` of a partition's source are kept, duplicates included."""
        ...

    def sum_amounts(self) -> int:
        """What all line items come to, as a scaled number. Raises: an error of the store's where it does not fit."""
        ...

    def close(self) -> None:
        """Lets go of the file or the connection."""
        ...

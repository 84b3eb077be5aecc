"""What both stores share: the positions and progress of what was applied, and the queries.

The queries are plain enough to be the same text in both dialects; a store says how a value is bound, what a table is
called and how rows are written. No amount is ever added up in SQL: ClickHouse lets a sum of Decimal(38, 12) wrap in
silence (DuckDB stops with an error), so sums are made from Python's whole numbers, which do neither.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from rating.spend.decode import INVOICES, LINE_ITEMS, Staged, journal_records, stage, stage_positions, stage_progress
from rating.spend.progress import Progress
from rating.spend.store import TOPICS, Listing, Place, Row
from schemas import topics
from schemas.event import VOID_TYPE
from schemas.identity import event_identity
from schemas.numbers import parse_scaled
from streams.log import TopicRecord

_UNASKED: Final = ("id", "revision", "sort_key", "body", "tenant", "customer")
_LINE_COLUMNS: Final = ", ".join(name for name in LINE_ITEMS.names if name not in _UNASKED)
_BILL_COLUMNS: Final = ", ".join(name for name in INVOICES.names if name not in _UNASKED)
_BILLABLE: Final = "(quantity <> 0 OR amount <> 0)"

_PROGRESS = msgspec.json.Decoder(Progress)


class _Void(msgspec.Struct, frozen=True):
    """What a void event names."""

    source: str
    id: str


_VOID = msgspec.json.Decoder(_Void)


class SqlStore(ABC):
    """A `SpendStore` over some engine of SQL."""

    _SUM = "CAST(sum(amount) AS VARCHAR)"
    """The exact sum of all amounts as a text, or an error: never one that has wrapped."""

    def __init__(self) -> None:
        """The tables stand when this is called: it reads how far they are."""
        self._positions = dict(self._read_positions())
        rows = self._rows("SELECT id, revision, body FROM {progress}", {})
        self._progress = {int(row["id"]): _PROGRESS.decode(row["body"]) for row in rows}
        self._changes = {int(row["id"]): int(row["revision"]) for row in rows}

    @abstractmethod
    def _select(self, sql: str, values: Mapping[str, str | int]) -> pa.Table:
        """Runs a query; `{table}` in it names a table and `{:name}` a value. May be called from several threads."""

    @abstractmethod
    def _write(self, staged: Staged) -> None:
        """Keeps the rows: events as they are, of all others the highest revision of each id. `positions` come last.

        One transaction where the engine has them; where not, in that order, so that a crash is followed by a replay.
        """

    def positions(self) -> Mapping[tuple[str, int], int]:
        """(topic, partition) -> the offset after the last record applied."""
        return dict(self._positions)

    def progress(self) -> Mapping[int, Progress]:
        """Partition -> which part of the source the outputs applied so far include."""
        return dict(self._progress)

    def apply(self, records: Sequence[TopicRecord]) -> None:
        """Takes records in and moves the positions on; what stands below a position is skipped. Raises: StoreError."""
        positions = dict(self._positions)
        fresh: list[TopicRecord] = []
        for record in records:
            at = (record.topic, record.partition)
            if record.offset >= positions.get(at, 0):
                positions[at] = record.end
                fresh.append(record)
        if not fresh:
            return
        progress = self._advanced(fresh, positions)
        changes = {partition: self._changes.get(partition, 0) + 1 for partition in progress}
        staged = stage(fresh)
        if progress:
            bodies = {partition: msgspec.json.encode(state) for partition, state in progress.items()}
            staged["progress"] = stage_progress(bodies, changes)
        moved = {at: next for at, next in positions.items() if self._positions.get(at) != next}
        staged["positions"] = stage_positions(moved)
        self._write(staged)
        # In memory only after the store has it: a failed write is tried again from where it began.
        self._progress |= progress
        self._changes |= changes
        self._positions = positions

    def catalogue(self, partition: int) -> bytes | None:
        """The newest catalogue (JSON) in that partition of the source, else in any."""
        found = self._rows("SELECT id, revision, body FROM {catalogues}", {})
        found.sort(key=lambda row: (int(row["id"]) == partition, row["revision"]))
        return found[-1]["body"].encode() if found else None

    def lines(self, tenant: str, customer: str) -> pa.Table:
        """A customer's line items without the nought ones."""
        sql = f"SELECT {_LINE_COLUMNS} FROM {{line_items}} WHERE {_OF_CUSTOMER} AND {_BILLABLE}"
        return self._select(sql, {"tenant": tenant, "customer": customer})

    def bills(self, tenant: str, customer: str) -> pa.Table:
        """A customer's invoices."""
        sql = f"SELECT {_BILL_COLUMNS} FROM {{invoices}} WHERE {_OF_CUSTOMER}"
        return self._select(sql, {"tenant": tenant, "customer": customer})

    def crossings(self, tenant: str, customer: str) -> pa.Table:
        """The thresholds that a customer has crossed: subscription, currency and period of each."""
        columns = "subscription, currency, period_start, period_end"
        sql = f"SELECT {columns} FROM {{alerts}} WHERE {_OF_CUSTOMER} AND {_OF_THRESHOLD}"
        return self._select(sql, {"tenant": tenant, "customer": customer})

    def events(self, tenant: str, customer: str, type: str, first: int | None, last: int | None) -> pa.Table:
        """`time` and `data` of a customer's events of one type, each identity once, in order of arrival."""
        later = self._later(tenant, customer)
        voided = {
            event_identity(tenant, customer, void.source, void.id)
            for void in map(
                _read_void, self._firsts(tenant, customer, VOID_TYPE, None, None, later)["data"].to_pylist()
            )
            if void is not None
        }
        found = self._firsts(tenant, customer, type, first, last, later)
        if voided:
            found = found.filter(pa.array([identity not in voided for identity in found["identity"].to_pylist()]))
        return found.select(["time", "data"])

    def newest(self, tenant: str, customer: str, partition: int) -> int | None:
        """The greatest time known for a customer: of its events (voids have none) and of its partition's ticks."""
        clocks = self._rows("SELECT revision FROM {clocks} WHERE id = {:id}", {"id": str(partition)})
        known = [int(row["revision"]) for row in clocks]
        later = self._later(tenant, customer)
        sql = f"SELECT time, {_PLACE} FROM {{events}} WHERE {_OF_CUSTOMER} AND type <> {{:void}} ORDER BY time DESC"
        values: dict[str, str | int] = {"tenant": tenant, "customer": customer, "void": VOID_TYPE}
        found = self._select(sql if later else sql + " LIMIT 1", values)
        times = zip(found["time"].to_pylist(), _places(found), strict=True)
        known += [time for time, place in times if place not in later][:1]
        return max(known, default=None)

    def page(self, listing: Listing, where: Mapping[str, str | int], after: Place | None, limit: int) -> list[Row]:
        """The next rows after a place whose columns equal `where`; nought line items are not listed."""
        condition = _BILLABLE if listing == "line_items" else "1 = 1"
        sql, values = page_query("sort_key, id, body", f"{{{listing}}}", where, after, condition, limit=limit)
        return [Row(Place(row["sort_key"], row["id"]), row["body"].encode()) for row in self._rows(sql, values)]

    def invoice(self, id: str) -> bytes | None:
        """One invoice (JSON)."""
        found = self._rows("SELECT body FROM {invoices} WHERE id = {:id}", {"id": id})
        return found[0]["body"].encode() if found else None

    def count_events(self, partition: int, start: int, end: int) -> int:
        """How many events of `[start, end)` of a partition's source are kept, duplicates included."""
        sql = (
            "SELECT count(*) AS found FROM {events} "
            "WHERE log_partition = {:partition} AND log_offset >= {:start} AND log_offset < {:end}"
        )
        return int(self._rows(sql, {"partition": partition, "start": start, "end": end})[0]["found"])

    def sum_amounts(self) -> int:
        """What all line items come to, as a scaled number. Raises: what the store raises where it does not fit."""
        found = self._rows(f"SELECT {self._SUM} AS total FROM {{line_items}}", {})[0]["total"]
        return 0 if found is None else parse_scaled(str(found))

    def _read_positions(self) -> dict[tuple[str, int], int]:
        found = {}
        for row in self._rows("SELECT id, revision FROM {positions}", {}):
            topic, _, partition = row["id"].rpartition(":")
            found[topic, int(partition)] = int(row["revision"])
        return found

    def _rows(self, sql: str, values: Mapping[str, str | int]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._select(sql, values).to_pylist()
        return rows

    def _advanced(
        self, records: Sequence[TopicRecord], positions: Mapping[tuple[str, int], int]
    ) -> dict[int, Progress]:
        """The progress of the partitions where it changes."""
        changed = {}
        by_partition = sorted(records, key=lambda record: record.partition)  # stable: each one's order stays
        for partition, group in groupby(by_partition, key=lambda record: record.partition):
            own = list(group)
            before = self._progress.get(partition, Progress())
            before = _begun(before, own, self._positions.get((topics.EVENTS, partition), 0))
            read = {topic: positions.get((topic, partition), 0) for topic in TOPICS}
            after = before.fold(journal_records(own)).settle(read)
            if after != self._progress.get(partition, Progress()):
                changed[partition] = after
        return changed

    def _later(self, tenant: str, customer: str) -> set[tuple[bytes, int, int, int]]:
        """Where a customer's identities stand for the second time and later: duplicates."""
        sql = (
            f"SELECT {_PLACE} FROM {{events}} WHERE {_OF_CUSTOMER} AND identity IN "
            f"(SELECT identity FROM {{events}} WHERE {_OF_CUSTOMER} GROUP BY identity HAVING count(*) > 1) "
            "ORDER BY log_partition, log_offset, log_index"
        )
        first: set[bytes] = set()
        later: set[tuple[bytes, int, int, int]] = set()
        for place in _places(self._select(sql, {"tenant": tenant, "customer": customer})):
            if place[0] in first:
                later.add(place)
            first.add(place[0])
        return later

    def _firsts(
        self,
        tenant: str,
        customer: str,
        type: str,
        first: int | None,
        last: int | None,
        later: set[tuple[bytes, int, int, int]],
    ) -> pa.Table:
        """`time`, `data` and `identity` of the events that are no duplicates, in order of arrival."""
        values: dict[str, str | int] = {"tenant": tenant, "customer": customer, "type": type}
        conditions = [_OF_CUSTOMER, "type = {:type}"]
        for name, operator, bound in (("first", ">=", first), ("last", "<", last)):
            if bound is not None:
                conditions.append(f"time {operator} {{:{name}}}")
                values[name] = bound
        sql = (
            f"SELECT time, data, {_PLACE} FROM {{events}} WHERE {' AND '.join(conditions)} "
            "ORDER BY log_partition, log_offset, log_index"
        )
        found = self._select(sql, values)
        if later:
            found = found.filter(pa.array([place not in later for place in _places(found)], pa.bool_()))
        return found.set_column(1, "data", pc.cast(found["data"], pa.binary()))


def _begun(progress: Progress, records: Sequence[TopicRecord], position: int) -> Progress:
    """Remembers where the very first entry of the source stood."""
    if progress.source >= 0 or position > 0:
        return progress
    first = next((record.offset for record in records if record.topic == topics.EVENTS), -1)
    return msgspec.structs.replace(progress, source=first)


def page_query(
    columns: str,
    table: str,
    where: Mapping[str, str | int],
    after: Place | None,
    condition: str = "1 = 1",
    order: str = "",
    *,
    limit: int,
) -> tuple[str, dict[str, str | int]]:
    """The text and the values of a query for the rows behind a place, by falling `(sort_key, id)` and then `order`."""
    conditions = [condition, *(f"{column} = {{:{column}}}" for column in where)]
    values = dict(where)
    if after is not None:
        conditions.append("(sort_key, id) < ({:after_key}, {:after_id})")
        values |= {"after_key": after.sort_key, "after_id": after.id}
    order_by = "sort_key DESC, id DESC" + (f", {order}" if order else "")
    text = f"SELECT {columns} FROM {table} WHERE {' AND '.join(conditions)} ORDER BY {order_by} LIMIT {limit:d}"
    return text, values


_OF_CUSTOMER: Final = "tenant = {:tenant} AND customer = {:customer}"
_OF_THRESHOLD: Final = 'body LIKE \'%"kind":"threshold"%\''
"""No text of an alert can hold these letters elsewhere: quotes in a text are escaped."""
_PLACE: Final = "identity, log_partition, log_offset, log_index"


def _places(found: pa.Table) -> list[tuple[bytes, int, int, int]]:
    columns = [found[name].to_pylist() for name in ("identity", "log_partition", "log_offset", "log_index")]
    return list(zip(*columns, strict=True))


def _read_void(data: bytes) -> _Void | None:
    """What a void names; one that names nothing takes nothing back."""
    try:
        return _VOID.decode(data)
    except msgspec.MsgspecError:
        return None

"""What both stores share: the positions and progress of what was applied, and the queries.

The queries are plain enough to be the same text in both dialects; a store says how a value is bound, what a table is
called and how rows are written. No amount is ever added up in SQL: ClickHouse lets a sum of Decimal(38, 12) wrap in
silence (DuckDB stops with an error), so sums are made from Python's whole numbers, which do neither.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from rating.spend.ahead import Reached, Step, join_staged
from rating.spend.decode import (
    FIRST_STAYS,
    INVOICES,
    LINE_ITEMS,
    Staged,
    catalogue_place,
    journal_records,
    stage,
    stage_positions,
    stage_progress,
)
from rating.spend.index import BYTES_MAX, Account, SpendIndex
from rating.spend.line_table import Rows
from rating.spend.progress import Progress
from rating.spend.store import (
    EVENT_COLUMNS,
    TOPICS,
    EventFilter,
    EventPlace,
    FiledAlert,
    Listing,
    Place,
    Row,
    SpendSum,
    SumBy,
    Whose,
)
from schemas import topics
from schemas.entry import TICK
from schemas.event import VOID_TYPE
from schemas.identity import event_identity
from schemas.numbers import parse_scaled
from streams.log import Part, Records, TopicRecord, parts_of, parts_since

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

    def __init__(self, index_bytes_max: int = BYTES_MAX) -> None:
        """The tables stand when this is called: it reads how far they are, and what the index holds of them."""
        rows = self._rows("SELECT id, revision, body FROM {progress}", {})
        self._written = self._taken = Reached(
            self._read_positions(),
            {int(row["id"]): _PROGRESS.decode(row["body"]) for row in rows},
            {int(row["id"]): int(row["revision"]) for row in rows},
        )
        self._unwritten: list[Step] = []
        """What `index` has and the tables have not, in order: `take` appends, `write` removes."""
        self.index = SpendIndex(index_bytes_max)
        self.index.build(self._stream)

    @abstractmethod
    def _select(self, sql: str, values: Mapping[str, str | int]) -> pa.Table:
        """Runs a query; `{table}` in it names a table and `{:name}` a value. May be called from several threads."""

    @abstractmethod
    def _stream(self, table: str, columns: Sequence[str]) -> Iterable[Rows]:
        """Reads a whole table in parts: the newest revision of each id for certain, and perhaps others."""

    @abstractmethod
    def _write(self, staged: Staged) -> None:
        """Keeps the rows: events as they are, of all others the highest revision of each id. `positions` come last.

        One transaction where the engine has them; where not, in that order, so that a crash is followed by a replay.
        """

    def positions(self) -> Mapping[tuple[str, int], int]:
        """(topic, partition) -> the offset after the last record written."""
        return dict(self._written.positions)

    def progress(self) -> Mapping[int, Progress]:
        """Partition -> which part of the source the outputs written so far include."""
        return dict(self._written.progress)

    def progress_at_hand(self) -> Mapping[int, Progress]:
        """The same of what `account` includes: what has been taken in, whether or not it is written."""
        return dict(self._taken.progress)

    @property
    def unwritten(self) -> int:
        """How many bytes of records have been taken in and not written."""
        return sum(step.nbytes for step in tuple(self._unwritten))

    def apply(self, records: Sequence[TopicRecord]) -> None:
        """Writes records and moves the positions on; what stands below a position is skipped. Raises: StoreError."""
        self.write()
        step = self._step(records)
        if step is not None:
            self._write(step.staged)
            # In memory only after the store has it: a failed write is tried again from where it began.
            self.index.take(step.staged)
            self._written = self._taken = step.reached

    def take(self, records: Sequence[TopicRecord]) -> None:
        """Takes records in, for `account` to see at once and for `write` to write. Raises: StoreError."""
        step = self._step(records)
        if step is not None:
            self.index.take(step.staged, written=False)
            self._unwritten.append(step)
            self._taken = step.reached

    def write(self) -> None:
        """Writes what has been taken in, as one batch. May run beside `take`, never twice at once."""
        steps = self._unwritten[:]
        if steps:
            self._write(join_staged([step.staged for step in steps]))
            self._written = steps[-1].reached
            self.index.written([step.staged for step in steps])
            del self._unwritten[: len(steps)]

    def _step(self, records: Sequence[TopicRecord]) -> Step | None:
        """The rows and positions that records bring to what has been taken in; None where they bring nothing."""
        before = self._taken
        positions = dict(before.positions)
        parts: list[Part] = []
        for at, group in groupby(parts_of(records), key=_PLACE_OF):  # of one place they come in their order
            own = list(group)
            reached = positions.get(at, 0)
            parts += own if own[0].offset >= reached else parts_since(own, reached)
            positions[at] = max(reached, own[-1].end)
        if not parts:
            return None
        fresh = Records(parts)
        progress = self._advanced(parts, positions)
        changes = {partition: before.changes.get(partition, 0) + 1 for partition in progress}
        staged = stage(fresh)
        if progress:
            bodies = {partition: msgspec.json.encode(state) for partition, state in progress.items()}
            staged["progress"] = stage_progress(bodies, changes)
        staged["positions"] = stage_positions(
            {at: next for at, next in positions.items() if before.positions.get(at) != next}
        )
        after = Reached(positions, {**before.progress, **progress}, {**before.changes, **changes})
        return Step(staged, after, fresh.nbytes)

    def catalogue(self, tenant: str, partition: int) -> bytes | None:
        """The newest catalogue (JSON) of a tenant in that partition of the source, else in any."""
        rows = self._rows("SELECT id, revision FROM {catalogues}", {})
        found = [
            (catalogue_place(row["id"])[1] == partition, int(row["revision"]), row["id"])
            for row in rows
            if catalogue_place(row["id"])[0] == tenant
        ]
        if not found:
            return None
        [row] = self._rows("SELECT body FROM {catalogues} WHERE id = {:id}", {"id": max(found)[2]})
        return bytes(row["body"].encode())

    def account(self, tenant: str, customer: str) -> Account:
        """What a customer's spend is made of: from memory, or where it is not there, from the tables."""
        return self.index.load((tenant, customer), partial(self._of_customer, tenant, customer))

    def account_at_hand(self, tenant: str, customer: str) -> Account | None:
        """The same where it is in memory."""
        return self.index.get((tenant, customer))

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

    def events(
        self,
        whose: Whose,
        type: str,
        first: int | None,
        last: int | None,
        known_at: int | None = None,
        columns: Sequence[str] = ("time", "data"),
    ) -> pa.Table:
        """`columns` of the events of one type, each identity once, in order of arrival."""
        later = self._later(whose, known_at)
        voids = self._firsts(whose, VOID_TYPE, None, None, known_at, later, ("customer", "data"))
        voided = {
            event_identity(whose.tenant, customer, void.source, void.id)
            for customer, void in zip(
                voids["customer"].to_pylist(), map(_read_void, voids["data"].to_pylist()), strict=True
            )
            if void is not None
        }
        found = self._firsts(whose, type, first, last, known_at, later, columns)
        if voided:
            found = found.filter(pa.array([known not in voided for known in found["identity"].to_pylist()], pa.bool_()))
        return found.select(list(columns))

    def newest(self, whose: Whose, partition: int | None) -> int | None:
        """The greatest time known: of the events (voids have none) and of the ticks of the partition, else of all."""
        id = {} if partition is None else {"id": str(partition)}
        clocks = self._rows("SELECT revision FROM {clocks}" + (" WHERE id = {:id}" if id else ""), id)
        known = [int(row["revision"]) for row in clocks]
        later = self._later(whose, None)
        condition, values = _of(whose)
        sql = f"SELECT time, {_PLACE} FROM {{events}} WHERE {condition} AND type <> {{:void}} ORDER BY time DESC"
        found = self._select(sql if later else sql + " LIMIT 1", values | {"void": VOID_TYPE})
        times = zip(found["time"].to_pylist(), _places(found), strict=True)
        known += [time for time, place in times if place not in later][:1]
        return max(known, default=None)

    def kept_events(self, whose: Whose, where: EventFilter, after: EventPlace | None, limit: int) -> pa.Table:
        """Kept events as they came, duplicates and voids too, the last one to arrive first."""
        condition, values = _of(whose)
        conditions = [condition]
        for name, operator, bound in (
            ("type", "=", where.type),
            ("source", "=", where.source),
            ("id", "=", where.id),
            ("time", ">=", where.first),
            ("time", "<", where.last),
            ("arrived", ">=", where.arrived_from),
            ("arrived", "<", where.arrived_to),
        ):
            if bound is not None:
                conditions.append(f"{name} {operator} {{:where_{len(values)}}}")
                values[f"where_{len(values)}"] = bound
        for name, part in (("id", where.id_part), ("subject", where.subject_part)):
            if part is not None:
                conditions.append(f"position({{:{name}_part}} IN {name}) > 0")
                values[f"{name}_part"] = part
        if after is not None:
            conditions.append(f"({_EVENT_ORDER}) < ({{:at_0}}, {{:at_1}}, {{:at_2}}, {{:at_3}})")
            values |= {f"at_{number}": value for number, value in enumerate(after)}
        order = ", ".join(f"{name} DESC" for name in _EVENT_ORDER.split(", "))
        names = ", ".join(EVENT_COLUMNS)
        sql = f"SELECT {names} FROM {{events}} WHERE {' AND '.join(conditions)} ORDER BY {order} LIMIT {limit:d}"
        found = self._select(sql, values)
        return found.set_column(found.schema.get_field_index("data"), "data", pc.cast(found["data"], pa.binary()))

    def page(self, listing: Listing, where: Mapping[str, str | int], after: Place | None, limit: int) -> list[Row]:
        """The next rows after a place whose columns equal `where`; nought line items are not listed."""
        condition = _BILLABLE if listing == "line_items" else "1 = 1"
        sql, values = page_query("sort_key, id, body", f"{{{listing}}}", where, after, condition, limit=limit)
        return [Row(Place(row["sort_key"], row["id"]), row["body"].encode()) for row in self._rows(sql, values)]

    def sums(self, by: SumBy, tenant: str, at: int, where: Mapping[str, str]) -> list[SpendSum]:
        """What the line items whose period holds the moment `at` come to, by one of their columns."""
        conditions = ["tenant = {:tenant}", "period_start <= {:at}", "period_end > {:at}", _BILLABLE]
        conditions += [f"{column} = {{:{column}}}" for column in where]
        sql = (
            f"SELECT {by} AS name, currency, {self._SUM} AS total, sum(events) AS used, count(*) AS lines "
            f"FROM {{line_items}} WHERE {' AND '.join(conditions)} GROUP BY {by}, currency"
        )
        rows = self._rows(sql, {"tenant": tenant, "at": at, **where})
        return [
            SpendSum(row["name"], row["currency"], parse_scaled(row["total"]), int(row["used"]), int(row["lines"]))
            for row in rows
        ]

    def latest(self, tenant: str) -> int | None:
        """The newest time known: of the ticks, else of the tenant's rated events."""
        ticks = [int(row["revision"]) for row in self._rows("SELECT revision FROM {clocks}", {})]
        sql = "SELECT max(last_event) AS newest FROM {line_items} WHERE tenant = {:tenant}"
        found = None if ticks else self._rows(sql, {"tenant": tenant})[0]["newest"]
        return max(ticks) if ticks else None if found is None else int(found)

    def alerts_from(self, tenant: str, customer: str | None, offset: int, limit: int) -> list[FiledAlert]:
        """Alerts that stand at `offset` of their partition's topic or later, those at the lowest offsets first."""
        sql = "SELECT customer, revision, body FROM {alerts} WHERE tenant = {:tenant} AND revision <= {:newest}"
        values: dict[str, str | int] = {"tenant": tenant, "newest": FIRST_STAYS - offset}
        if customer is not None:
            sql += " AND customer = {:customer}"
            values["customer"] = customer
        rows = self._rows(f"{sql} ORDER BY revision DESC, id LIMIT {limit:d}", values)
        return [FiledAlert(row["customer"], FIRST_STAYS - int(row["revision"]), row["body"].encode()) for row in rows]

    def mends(self, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Key (see `rating.spend.mends`) -> the event (JSON) that stands for what it names; those that have one."""
        if not keys:
            return {}
        values: dict[str, str | int] = {f"id_{number}": id for number, id in enumerate(keys)}
        names = ", ".join(f"{{:{name}}}" for name in values)
        found = self._rows(f"SELECT id, body FROM {{mends}} WHERE id IN ({names})", values)
        return {row["id"]: row["body"].encode() for row in found}

    def invoice(self, tenant: str, id: str) -> bytes | None:
        """One invoice of a tenant (JSON)."""
        sql = "SELECT body FROM {invoices} WHERE id = {:id} AND tenant = {:tenant}"
        found = self._rows(sql, {"id": id, "tenant": tenant})
        return found[0]["body"].encode() if found else None

    def arrivals(self, tenant: str, customer: str, partition: int, start: int, end: int, limit: int) -> pa.Table:
        """The events of a customer in a stretch of its partition's source as they came, duplicates and voids too."""
        sql = (
            f"SELECT {_ARRIVAL} FROM {{events}} WHERE {_OF_CUSTOMER} AND {_STRETCH} "
            f"ORDER BY log_offset, log_index LIMIT {limit:d}"
        )
        values: dict[str, str | int] = {"tenant": tenant, "customer": customer}
        values |= {"partition": partition, "start": start, "end": end}
        found = self._select(sql, values)
        for name in ("data", "identity"):
            binary = pa.binary(16) if name == "identity" else pa.binary()
            column = pc.cast(pc.cast(found[name], pa.binary()), binary)
            found = found.set_column(found.schema.get_field_index(name), name, column)
        return found

    def count_arrivals(self, tenant: str, customer: str, partition: int, start: int, end: int) -> int:
        """How many rows `arrivals` has in all."""
        sql = f"SELECT count(*) AS found FROM {{events}} WHERE {_OF_CUSTOMER} AND {_STRETCH}"
        values: dict[str, str | int] = {"tenant": tenant, "customer": customer}
        values |= {"partition": partition, "start": start, "end": end}
        return int(self._rows(sql, values)[0]["found"])

    def controls(self, partition: int, start: int, end: int) -> pa.Table:
        """What is no usage event in a stretch of a partition's source: `decode.CONTROLS`, by offset."""
        sql = f"SELECT log_offset, kind, time, body FROM {{controls}} WHERE {_STRETCH} ORDER BY log_offset"
        return self._select(sql, {"partition": partition, "start": start, "end": end})

    def first_after(self, partition: int, time: int) -> int | None:
        """The offset of the first input of a partition that came after a time: an event or a tick."""
        found: list[int] = []
        for table, later in (("events", "arrived > {:time}"), ("controls", f"kind = {TICK} AND time > {{:time}}")):
            sql = (
                f"SELECT min(log_offset) AS found, count(*) AS rows FROM {{{table}}} "
                f"WHERE log_partition = {{:partition}} AND {later}"
            )
            row = self._rows(sql, {"partition": partition, "time": time})[0]
            found += [int(row["found"])] if row["rows"] else []
        return min(found, default=None)

    def alerts_at_ticks(self, tenant: str, customer: str) -> list[bytes]:
        """The alerts (JSON) of a customer that name a tick as their reason."""
        sql = f"SELECT body FROM {{alerts}} WHERE {_OF_CUSTOMER} AND body LIKE '%\"tick\":%'"
        return [row["body"].encode() for row in self._rows(sql, {"tenant": tenant, "customer": customer})]

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

    def _of_customer(self, tenant: str, customer: str, table: str, columns: Sequence[str]) -> list[pa.Table]:
        sql = f"SELECT {', '.join(columns)} FROM {{{table}}} WHERE {_OF_CUSTOMER}"
        return [self._select(sql, {"tenant": tenant, "customer": customer})]

    def _read_positions(self) -> dict[tuple[str, int], int]:
        found = {}
        for row in self._rows("SELECT id, revision FROM {positions}", {}):
            topic, _, partition = row["id"].rpartition(":")
            found[topic, int(partition)] = int(row["revision"])
        return found

    def _rows(self, sql: str, values: Mapping[str, str | int]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self._select(sql, values).to_pylist()
        return rows

    def _advanced(self, parts: Sequence[Part], positions: Mapping[tuple[str, int], int]) -> dict[int, Progress]:
        """The progress of the partitions where it changes."""
        changed = {}
        own_of: dict[int, list[Part]] = {part.partition: [] for part in parts}
        for part in parts:
            if part.topic != topics.LINE_ITEMS:
                own_of[part.partition].append(part)
        for partition, own in own_of.items():
            known = self._taken.progress.get(partition, Progress())
            before = _begun(known, own, self._taken.positions.get((topics.EVENTS, partition), 0))
            read = {topic: positions.get((topic, partition), 0) for topic in TOPICS}
            after = before.fold(journal_records(Records(own))).settle(read)
            if after != known:
                changed[partition] = after
        return changed

    def _later(self, whose: Whose, known_at: int | None) -> set[tuple[bytes, int, int, int]]:
        """Where identities stand for the second time and later: duplicates. Of what had arrived by `known_at`."""
        # An identity is of one customer. A subject's may have come first from another subject of the same customer.
        condition, values = _of(whose._replace(subjects=()))
        if known_at is not None:
            condition += " AND arrived <= {:known_at}"
            values["known_at"] = known_at
        sql = (
            f"SELECT {_PLACE} FROM {{events}} WHERE {condition} AND identity IN "
            f"(SELECT identity FROM {{events}} WHERE {condition} GROUP BY identity HAVING count(*) > 1) "
            "ORDER BY log_partition, log_offset, log_index"
        )
        first: set[bytes] = set()
        later: set[tuple[bytes, int, int, int]] = set()
        for place in _places(self._select(sql, values)):
            if place[0] in first:
                later.add(place)
            first.add(place[0])
        return later

    def _firsts(
        self,
        whose: Whose,
        type: str,
        first: int | None,
        last: int | None,
        known_at: int | None,
        later: set[tuple[bytes, int, int, int]],
        columns: Sequence[str],
    ) -> pa.Table:
        """`columns` and places of the events that are no duplicates, in order of arrival."""
        # A void may come from any subject of the customer whose event it names.
        condition, values = _of(whose._replace(subjects=()) if type == VOID_TYPE else whose)
        conditions = [condition, "type = {:type}"]
        values["type"] = type
        for name, column, operator, bound in (
            ("first", "time", ">=", first),
            ("last", "time", "<", last),
            ("known_at", "arrived", "<=", known_at),
        ):
            if bound is not None:
                conditions.append(f"{column} {operator} {{:{name}}}")
                values[name] = bound
        names = ", ".join(dict.fromkeys([*columns, *_PLACE.split(", ")]))
        sql = (
            f"SELECT {names} FROM {{events}} WHERE {' AND '.join(conditions)} "
            "ORDER BY log_partition, log_offset, log_index"
        )
        found = self._select(sql, values)
        if later:
            found = found.filter(pa.array([place not in later for place in _places(found)], pa.bool_()))
        if "data" not in found.column_names:
            return found
        return found.set_column(found.schema.get_field_index("data"), "data", pc.cast(found["data"], pa.binary()))


def _of(whose: Whose) -> tuple[str, dict[str, str | int]]:
    """The condition that an event is one of theirs, and its values."""
    conditions, values = ["tenant = {:tenant}"], dict[str, str | int](tenant=whose.tenant)
    for column, names in (("customer", whose.customers), ("subject", whose.subjects)):
        bound = {f"{column}_{number}": name for number, name in enumerate(names)}
        if bound:
            conditions.append(f"{column} IN ({', '.join(f'{{:{name}}}' for name in bound)})")
            values |= bound
    return " AND ".join(conditions), values


def _begun(progress: Progress, parts: Sequence[Part], position: int) -> Progress:
    """Remembers where the very first entry of the source stood."""
    if progress.source >= 0 or position > 0:
        return progress
    first = next((part.offset for part in parts if part.topic == topics.EVENTS), -1)
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
_STRETCH: Final = "log_partition = {:partition} AND log_offset >= {:start} AND log_offset < {:end}"
_ARRIVAL: Final = "log_offset, identity, subject, source, type, id, time, arrived, data, extensions"
_PLACE_OF: Final = itemgetter(0, 1)
"""Topic and partition of a record."""
_PLACE: Final = "identity, log_partition, log_offset, log_index"
_EVENT_ORDER: Final = "arrived, log_partition, log_offset, log_index"


def _places(found: pa.Table) -> list[tuple[bytes, int, int, int]]:
    columns = [found[name].to_pylist() for name in ("identity", "log_partition", "log_offset", "log_index")]
    return list(zip(*columns, strict=True))


def _read_void(data: bytes) -> _Void | None:
    """What a void names; one that names nothing takes nothing back."""
    try:
        return _VOID.decode(data)
    except msgspec.MsgspecError:
        return None

"""Placing: which catalogue and which time were in force where, and which bill each use belongs to.

Makes the tables `catalogues` and `ticks`, then for each catalogue in question `placed`: a row for each use and each
subscription of its customer that covers its time, with the billing period and the segment.
"""

import json
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from schemas.access import DEFAULT_TENANT
from schemas.entry import CATALOGUE, TENANT_CATALOGUE, decode_catalogue
from schemas.times import parse_time
from taximeter.audit.agreements import (
    Agreement,
    Book,
    Document,
    Period,
    Segment,
    bodies,
    merge_documents,
    read_documents,
)
from taximeter.audit.exact import text
from taximeter.audit.prices import read_tree


class Rerating(NamedTuple):
    """What a re-rating entry asks, and where it stands."""

    partition: int
    seq: int
    asked: Document


class Clock(NamedTuple):
    """One tick that moved a partition's clock on."""

    seq: int
    time: int


class History:
    """What the entries that are no events say to a tenant. `books`: every catalogue that was in force, by number."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, tenant: str) -> None:
        self.books: dict[int, Book] = {}
        self.changes: dict[int, list[tuple[int, int]]] = {}
        """Partition -> (seq, number of the catalogue from there on)."""
        self.ticks: dict[int, list[Clock]] = {}
        self.reratings: list[Rerating] = []
        self._numbers: dict[str, int] = {}
        self._in_force: dict[int, Document] = {}
        query = "SELECT partition, seq, kind, payload FROM entries ORDER BY partition, seq"
        for partition, seq, kind, payload in connection.execute(query).fetchall():
            if kind == "tick":
                self._tick(partition, seq, parse_time(_time_of(payload)))
            elif kind == "rerate":
                asked = read_documents(payload)
                if asked.get("tenant", DEFAULT_TENANT) == tenant:
                    self.reratings.append(Rerating(partition, seq, asked))
            else:
                form = CATALOGUE if kind == "catalogue" else TENANT_CATALOGUE
                brought = decode_catalogue(form, payload.encode())
                if brought.tenant == tenant:
                    self._change(partition, seq, bytes(brought.catalogue).decode())
        _make(
            connection,
            "catalogues",
            "partition INTEGER, seq BIGINT, epoch INTEGER",
            [(partition, *change) for partition, changes in self.changes.items() for change in changes],
        )
        _make(
            connection,
            "ticks",
            "partition INTEGER, seq BIGINT, clock BIGINT",
            [(partition, *tick) for partition, ticks in self.ticks.items() for tick in ticks],
        )

    def _change(self, partition: int, seq: int, payload: str) -> None:
        merged = merge_documents(self._in_force.get(partition, {}), read_documents(payload))
        self._in_force[partition] = merged
        key = json.dumps(merged, sort_keys=False)
        number = self._numbers.setdefault(key, len(self._numbers))
        if number not in self.books:
            self.books[number] = Book(merged)
        changes = self.changes.setdefault(partition, [])
        if not changes or changes[-1][1] != number:
            changes.append((seq, number))

    def _tick(self, partition: int, seq: int, time: int) -> None:
        ticks = self.ticks.setdefault(partition, [])
        if not ticks or time > ticks[-1].time:
            ticks.append(Clock(seq, time))

    def book_at(self, partition: int, seq: int) -> int | None:
        """The catalogue in force before a place; None where there was none."""
        found = [number for at, number in self.changes.get(partition, []) if at < seq]
        return found[-1] if found else None

    def clock_at(self, partition: int, seq: int) -> int | None:
        """The greatest tick before a place."""
        found = [tick.time for tick in self.ticks.get(partition, []) if tick.seq < seq]
        return found[-1] if found else None


def _time_of(payload: str) -> str:
    return str(read_documents(payload)["time"])


class Places:
    """Places uses under one catalogue after another; keeps each agreement's number."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, history: History, lateness: int, corrections: int
    ) -> None:
        self._connection, self._history = connection, history
        self._closed_after = lateness + corrections
        self.agreements: dict[int, Agreement] = {}
        self._numbers: dict[int, int] = {}
        self.subscriptions: dict[int, dict[str, list[tuple[str, int]]]] = {}
        """Book -> customer -> (subscription, number of the agreement)."""
        connection.execute(
            "CREATE TABLE subs (book INTEGER, customer VARCHAR, subscription VARCHAR, agreement INTEGER)"
        )
        connection.execute(
            """CREATE TABLE segments (agreement INTEGER, period BIGINT, until BIGINT, seg BIGINT, seg_end BIGINT,
            meters VARCHAR[])"""
        )
        connection.execute(
            "CREATE TABLE placed AS SELECT *, NULL::INTEGER AS book, NULL::VARCHAR AS subscription, "
            "NULL::INTEGER AS agreement, NULL::BIGINT AS period, NULL::BIGINT AS until, NULL::BIGINT AS seg, "
            "NULL::BOOLEAN AS charged FROM uses WHERE false"
        )
        row = connection.execute("SELECT min(time), max(time) FROM uses").fetchone()
        self.span: tuple[int, int] = (row[0], row[1]) if row is not None and row[0] is not None else (0, 0)
        customers = [name for (name,) in connection.execute("SELECT DISTINCT customer FROM placed_events").fetchall()]
        for number in history.books:
            self._subscribe(number, customers)

    def number_of(self, agreement: Agreement) -> int:
        """The number of an agreement."""
        found = self._numbers.setdefault(id(agreement), len(self._numbers))
        self.agreements[found] = agreement
        return found

    def _subscribe(self, number: int, customers: list[str]) -> None:
        book = self._history.books[number]
        everybody = dict.fromkeys([*customers, *book.own])
        known = self.subscriptions[number] = {
            customer: [(name, self.number_of(one)) for name, one in book.subscriptions(customer)]
            for customer in everybody
        }
        rows = [(number, customer, *one) for customer, several in known.items() for one in several]
        _append(self._connection, "subs", rows)

    def place(self, number: int) -> None:
        """Adds to `placed` what stands under one catalogue."""
        connection = self._connection
        wanted = {one for several in self.subscriptions[number].values() for _, one in several}
        have = {row[0] for row in connection.execute("SELECT DISTINCT agreement FROM segments").fetchall()}
        rows: list[tuple[Any, ...]] = []
        for one in sorted(wanted - have):
            agreement = self.agreements[one]
            for period in agreement.periods(*self.span):
                rows += self._segment_rows(one, agreement, period)
        _append(connection, "segments", rows)
        connection.execute(
            f"""INSERT INTO placed BY NAME
            SELECT u.* REPLACE (CASE WHEN u.void_clock - {self._closed_after} >= g.until THEN NULL ELSE u.void_seq END
                AS void_seq), {number} AS book, s.subscription, s.agreement, g.period, g.until, g.seg,
                list_contains(g.meters, u.meter) AS charged
            FROM uses u
            JOIN subs e ON e.book = u.epoch AND e.customer = u.customer
            JOIN subs s ON s.book = {number} AND s.customer = u.customer AND s.subscription = e.subscription
            JOIN segments g ON g.agreement = s.agreement AND u.time >= g.seg AND u.time < g.seg_end
            WHERE u.clock - {self._closed_after} < g.until"""
        )
        for one in sorted(wanted):
            self._drop_unpriced(number, one)

    def _drop_unpriced(self, book: int, agreement: int) -> None:
        """An event that lacks the amount of a `dynamic` price that covers it counts for no charge of its meter."""
        meters = self._history.books[book].meters
        for period in self.agreements[agreement].periods(*self.span):
            for segment in self.agreements[agreement].segments(period):
                for charge in segment.plan.charges.values():
                    if not segment.plan.trial and '"dynamic"' in json.dumps(charge["price"]):
                        self._drop(
                            book, agreement, segment, charge, list(meters[charge["meter"]].get("dimensions") or {})
                        )

    def _drop(self, book: int, agreement: int, segment: Segment, charge: Document, dimensions: list[str]) -> None:
        tree = read_tree(charge["price"], dimensions, self.span)
        lacks = " OR ".join(
            f"(leaf = {at} AND map_extract_value(amounts, {text(leaf['amount'])}) IS NULL)"
            for at, leaf in enumerate(tree.leaves)
            if leaf["model"] == "dynamic"
        )
        self._connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE unpriced AS SELECT partition, seq, meter FROM (
                SELECT partition, seq, meter, amounts, {tree.leaf} AS leaf FROM placed
                WHERE book = ? AND agreement = ? AND seg = ? AND meter = ?) WHERE {lacks}""",
            [book, agreement, segment.start, charge["meter"]],
        )
        self._connection.execute(
            """DELETE FROM placed p USING unpriced u
            WHERE p.partition = u.partition AND p.seq = u.seq AND p.meter = u.meter"""
        )

    def _segment_rows(self, number: int, agreement: Agreement, period: Period) -> list[tuple[Any, ...]]:
        return [
            (
                number,
                period.start,
                period.end,
                segment.start,
                segment.end,
                sorted({charge["meter"] for charge in segment.plan.charges.values() if charge.get("meter")}),
            )
            for segment in agreement.segments(period)
        ]

    def epochs(self, price_book: str, charge: str, meter: str) -> list[int] | None:
        """The catalogues under which a price book's charge counted a meter's events; None for all of them."""
        books = self._history.books
        if len(books) == 1:
            return None
        found = [number for number, one in books.items() if meter in _meters_of(one, price_book, charge)]
        return None if len(found) == len(books) else found


def _meters_of(book: Book, price_book: str, charge: str) -> set[str]:
    priced = book.books.get(price_book)
    found = [body["charges"].get(charge) for body in bodies(priced)] if priced else []
    return {one["meter"] for one in found if one is not None and one.get("meter")}


def _make(connection: duckdb.DuckDBPyConnection, table: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
    connection.execute(f"CREATE TABLE {table} ({columns})")
    _append(connection, table, rows)


def _append(connection: duckdb.DuckDBPyConnection, table: str, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    names = [row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()]
    data = pa.table({name: pa.array(list(column)) for name, column in zip(names, zip(*rows, strict=True), strict=True)})
    connection.register("made_rows", data)
    connection.execute(f"INSERT INTO {table} SELECT * FROM made_rows")
    connection.unregister("made_rows")

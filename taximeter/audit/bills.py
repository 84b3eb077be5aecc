"""Bills: which billing periods there are, from where in the log on they are open and closed, and at which places they
have to be looked at.

A period is open from its first counted event on, or from the tick that comes to it where it asks something without
usage; it is closed by the first tick that is `lateness` after its end.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import duckdb

from schemas.identity import partition_of
from schemas.times import parse_time
from taximeter.audit.agreements import DEFAULT, FOREVER, Agreement, Period, Plan
from taximeter.audit.lines import Look
from taximeter.audit.placing import History, Places
from taximeter.audit.tape import STEP


@dataclass
class Bill:
    """One billing period of one subscription."""

    partition: int
    customer: str
    subscription: str
    period: Period
    counted_from: int | None
    """Where the first event stands that one of its charges counted (whether it is taken back later or not)."""
    opened_from: int
    closed_at: int | None = None
    """Where the tick stands that closed it."""
    changes: list[int] = field(default_factory=list)
    """After the close: where the ticks (or re-ratings) stand that may correct it."""
    doubts: list[str] = field(default_factory=list)
    """Why this audit cannot say what it comes to."""

    @property
    def key(self) -> tuple[str, str, int]:
        """Whose it is, and when its period begins."""
        return self.customer, self.subscription, self.period.start


class Bills:
    """All bills, and the looks that are taken at them."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        history: History,
        places: Places,
        through: dict[int, int],
        lateness: int,
        customers: Iterable[str],
        tenant: str,
    ) -> None:
        self.tenant = tenant
        self._connection, self._history, self._places = connection, history, places
        self._lateness, self._only = lateness, set(customers)
        self.ends = {partition: offset * STEP for partition, offset in through.items()}
        self._tick_seqs = {partition: [tick.seq for tick in ticks] for partition, ticks in history.ticks.items()}
        self._placed: set[int] = set()
        self._newest: dict[str, tuple[list[int], list[int]]] = {}
        self._firsts: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self.looks: list[Look] = []
        self.bills: dict[tuple[str, str, int], Bill] = {}
        self._gauged = {
            name
            for book in history.books.values()
            for name, meter in book.meters.items()
            if meter["aggregate"] == "time_weighted"
        }
        for partition, end in self.ends.items():
            book = history.book_at(partition, end)
            if book is not None:
                self._place(book)
        connection.execute(
            """CREATE VIEW covered AS
            SELECT DISTINCT book, partition, seq, customer, meter, time, value, dims, gauge, void_seq FROM placed"""
        )
        self._find()

    # Which bills there are ----------------------------------------------------------------------

    def _place(self, book: int) -> None:
        if book not in self._placed:
            self._placed.add(book)
            self._places.place(book)

    def _find(self) -> None:
        self._hear()
        last = {partition: self._history.book_at(partition, end) for partition, end in self.ends.items()}
        for book in sorted({number for number in last.values() if number is not None}):
            rows = self._connection.execute(
                """SELECT partition, customer, subscription, agreement, period, min(seq), min(time) FROM placed
                WHERE book = ? AND charged GROUP BY ALL ORDER BY ALL""",
                [book],
            ).fetchall()
            for partition, customer, subscription, agreement, start, seq, time in rows:
                if last[partition] != book:
                    continue
                self._firsts.setdefault((customer, subscription), []).append((seq, start))
                period = self._places.agreements[agreement].period_at(time)
                self._add(Bill(partition, customer, subscription, period, seq, seq))
        gauges = self._gauge_starts()
        for partition, number in last.items():
            if number is not None:
                self._without_usage(partition, number, gauges)
        for bill in self.bills.values():
            bill.closed_at = self._closing(bill)
        self._late_changes()

    def _add(self, bill: Bill) -> None:
        self.bills[bill.key] = bill

    def _hear(self) -> None:
        """Of each customer with gauges: where its events stand, and the greatest time up to there."""
        if not self._gauged:
            return
        rows = self._connection.execute(
            """SELECT customer, list(seq ORDER BY seq), list(newest ORDER BY seq) FROM (
                SELECT customer, seq, max(time) OVER (PARTITION BY customer ORDER BY seq) AS newest
                FROM events WHERE fresh AND type <> 'taximeter.void') GROUP BY customer"""
        ).fetchall()
        self._newest = {customer: (seqs, newest) for customer, seqs, newest in rows}

    def _gauge_starts(self) -> dict[tuple[str, str], tuple[int, int]]:
        """(customer, subscription) -> (time of the first level of a gauge, where it came)."""
        if not self._gauged:
            return {}
        names = ", ".join(f"'{name}'" for name in sorted(self._gauged))
        rows = self._connection.execute(
            f"""SELECT p.customer, s.subscription, min(p.time), min(p.seq) FROM placed p JOIN subs s
            ON s.book = p.book AND s.customer = p.customer WHERE p.meter IN ({names}) GROUP BY ALL"""
        ).fetchall()
        return {(customer, subscription): (time, seq) for customer, subscription, time, seq in rows}

    def _without_usage(self, partition: int, book: int, gauges: dict[tuple[str, str], tuple[int, int]]) -> None:
        for customer, several in self._places.subscriptions[book].items():
            if partition_of(self.tenant, customer, len(self.ends)) != partition or not self._asked(customer):
                continue
            for subscription, number in several:
                agreement = self._places.agreements[number]
                firsts = self._firsts.get((customer, subscription), [])
                first = agreement.start if agreement.start is not None else min((s for _, s in firsts), default=None)
                horizon = self._horizon(partition, customer, self.ends[partition])
                gauge = gauges.get((customer, subscription))
                if gauge is not None and first is None:
                    first = agreement.period_at(gauge[0]).start
                if first is None or horizon is None or horizon < first:
                    continue
                asks = [agreement.terms_of(agreement.period_at(first))]
                if not gauge and not self._may_ask(agreement) and not any(p and p.asks_unused for p in asks):
                    continue
                for period in agreement.periods(first, horizon):
                    self._open_unused(partition, customer, subscription, agreement, period, gauge)

    def _may_ask(self, agreement: Agreement) -> bool:
        times = [agreement.moments[0] - 1, *agreement.moments] if agreement.moments else [0]
        plans = [agreement.plan_at(time) for time in [*times, FOREVER // 2**10]]
        return any(plan is not None and plan.asks_unused for plan in plans)

    def _open_unused(
        self,
        partition: int,
        customer: str,
        subscription: str,
        agreement: Agreement,
        period: Period,
        gauge: tuple[int, int] | None,
    ) -> None:
        segments = agreement.segments(period)
        asks = any(segment.plan.asks_unused for segment in segments)
        if not segments or not (asks or gauge):
            return
        since = self._known_from(partition, customer, subscription, period)
        found = [tick.seq for tick in self._history.ticks.get(partition, []) if tick.time >= period.start]
        found = [seq for seq in found if since is not None and seq >= since][:1]
        if gauge is not None and gauge[0] < period.end:
            seqs, newest = self._newest.get(customer, ([], []))
            at = bisect_left(newest, period.start)
            if at < len(seqs):
                found.append(max(seqs[at], gauge[1]))
        if not found:
            return
        key = (customer, subscription, period.start)
        known = self.bills.get(key)
        if known is not None:
            known.opened_from = min(known.opened_from, *found)
        else:
            self._add(Bill(partition, customer, subscription, period, None, min(found)))

    def _known_from(self, partition: int, customer: str, subscription: str, period: Period) -> int | None:
        """From where in the log on a tick could open a period."""
        if subscription == DEFAULT:
            seqs = [seq for seq, start in self._firsts.get((customer, DEFAULT), []) if start <= period.start]
            return min(seqs, default=None)
        for seq, number in self._history.changes.get(partition, []):
            if any(name == subscription for name, _ in self._places.subscriptions[number].get(customer, [])):
                return seq
        return None

    def _closing(self, bill: Bill) -> int | None:
        for tick in self._history.ticks.get(bill.partition, []):
            if tick.time - self._lateness >= bill.period.end and tick.seq >= bill.opened_from:
                return tick.seq if tick.seq < self.ends[bill.partition] else None
        return None

    def _late_changes(self) -> None:
        """What came to a bill after its close: the next tick may correct it."""
        rows = self._connection.execute(
            """SELECT DISTINCT customer, subscription, period, seq FROM (
                SELECT customer, subscription, period, seq FROM placed WHERE charged
                UNION ALL SELECT customer, subscription, period, void_seq FROM placed
                WHERE charged AND void_seq IS NOT NULL)
            ORDER BY seq"""
        ).fetchall()
        for customer, subscription, period, seq in rows:
            bill = self.bills.get((customer, subscription, period))
            if bill is None or bill.closed_at is None or seq <= bill.closed_at or seq >= self.ends[bill.partition]:
                continue
            if self._history.book_at(bill.partition, seq) != self._history.book_at(bill.partition, bill.closed_at):
                bill.doubts.append("usage came to it after its close, under a catalogue that had changed")
            seqs = self._tick_seqs.get(bill.partition, [])
            at = bisect_right(seqs, seq)
            if at < len(seqs) and seqs[at] not in bill.changes:
                bill.changes.append(seqs[at])
        for rerating in self._history.reratings:
            asked = rerating.asked
            since, until = parse_time(asked["from"]), parse_time(asked["to"]) if asked.get("to") else FOREVER
            for bill in self.bills.values():
                if bill.customer == asked["customer"] and since <= bill.period.start < until:
                    if asked.get("price_book"):
                        bill.doubts.append("it was re-rated under another price book")
                    elif bill.closed_at is not None and bill.closed_at < rerating.seq:
                        bill.changes.append(rerating.seq)
        for bill in self.bills.values():
            bill.changes.sort()

    # Looks --------------------------------------------------------------------------------------

    def _horizon(self, partition: int, customer: str, at: int) -> int | None:
        clock = self._history.clock_at(partition, at)
        seqs, newest = self._newest.get(customer, ([], []))
        place = bisect_left(seqs, at)
        known = [time for time in (clock, newest[place - 1] if place else None) if time is not None]
        return max(known, default=None)

    def book_of(self, bill: Bill, at: int) -> int | None:
        """The catalogue by which a bill is rated at a place: after its close, that of the close or of a re-rating."""
        if bill.closed_at is None or at <= bill.closed_at:
            return self._history.book_at(bill.partition, at)
        reratings = {rerating.seq for rerating in self._history.reratings}
        again = [seq for seq in bill.changes if seq in reratings and seq < at]
        return self._history.book_at(bill.partition, max([bill.closed_at, *again]) + 1)

    def look(self, bill: Bill, at: int) -> Look | None:
        """A look at a bill before a place; None where its subscription is not in the catalogue there."""
        book = self.book_of(bill, at)
        if book is None:
            return None
        known = dict(self._places.subscriptions[book].get(bill.customer, []))
        number = known.get(bill.subscription)
        if number is None:
            return None
        self._place(book)
        agreement = self._places.agreements[number]
        horizon = self._horizon(bill.partition, bill.customer, at)
        firsts = [start for seq, start in self._firsts.get((bill.customer, bill.subscription), []) if seq < at]
        first = agreement.start if agreement.start is not None else min(firsts, default=bill.period.start)
        found = Look(
            len(self.looks),
            book,
            bill.partition,
            bill.customer,
            bill.subscription,
            number,
            agreement.period_at(bill.period.start),
            at,
            bill.period.start if horizon is None else horizon,
            bill.opened_from < at,
            bill.closed_at is not None and bill.closed_at < at,
            first,
        )
        self.looks.append(found)
        return found

    def agreement_of(self, look: Look) -> Agreement:
        """The agreement of a look."""
        return self._places.agreements[look.agreement]

    def plan_of(self, look: Look) -> Plan | None:
        """The plan whose terms a bill has at a look."""
        return self.agreement_of(look).terms_of(look.period)

    def _asked(self, customer: str) -> bool:
        return not self._only or customer in self._only

    def knows(self, customer: str, subscription: str) -> bool:
        """Whether a customer has a subscription in the catalogue of the end."""
        partition = partition_of(self.tenant, customer, max(len(self.ends), 1))
        book = self._history.book_at(partition, self.ends.get(partition, 0))
        several = {} if book is None else self._places.subscriptions[book]
        return any(name == subscription for name, _ in several.get(customer, []))

    @property
    def restricted(self) -> bool:
        """Whether only some customers are in question."""
        return bool(self._only)

    def chosen(self) -> Iterator[Bill]:
        """The bills in question."""
        for key in sorted(self.bills):
            if self._asked(key[0]):
                yield self.bills[key]

"""The audit itself: from an archive and what the engine wrote to every difference between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from rating.archive.store import Archive
from schemas.access import DEFAULT_TENANT
from schemas.identity import output_id
from schemas.numbers import format_scaled, parse_scaled
from schemas.times import DAY, HOUR, format_time, parse_time
from taximeter.audit.bills import Bills
from taximeter.audit.found import Found, Output
from taximeter.audit.invoicing import Invoicing
from taximeter.audit.lines import Ledger, Line, LineKey, Lines, Look
from taximeter.audit.metering import meter_events, place_events
from taximeter.audit.placing import History, Places
from taximeter.audit.report import Difference, Report
from taximeter.audit.tape import load

EVENTS_SHOWN = 20
GONE = "its subscription is no longer in the catalogue, or not this customer's"


@dataclass(frozen=True)
class AuditSettings:
    """What the log does not say: how the engine was run. As its own settings, in microseconds."""

    lateness: int = 1 * HOUR
    corrections: int = 35 * DAY
    window_days: int | None = 35


class Audit:
    """One audit, of one tenant. `ledger`, `bills` and `connection` stay for those who want to look closer."""

    def __init__(
        self,
        archive: Archive,
        found: Found,
        settings: AuditSettings | None = None,
        customers: Sequence[str] = (),
        tenant: str = DEFAULT_TENANT,
    ) -> None:
        """Raises: ArchiveError."""
        self.tenant = tenant
        self.settings = settings or AuditSettings()
        self.found, self.customers = found, list(customers)
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        self.loaded = load(self.connection, archive, found.through, self.settings.window_days, customers, tenant)
        self.report = Report(self.loaded, tenant)
        self.history = History(self.connection, tenant)
        unread: dict[tuple[int, str], str] = {}
        place_events(self.connection)
        meter_events(self.connection, self.history.books, unread)
        self.places = Places(self.connection, self.history, self.settings.lateness, self.settings.corrections)
        self.bills = Bills(
            self.connection,
            self.history,
            self.places,
            self.loaded.through,
            self.settings.lateness,
            self.customers,
            tenant,
        )
        self.ledger = Ledger(
            self.connection,
            self.places.agreements,
            {number: book.meters for number, book in self.history.books.items()},
            self.places.span,
            self.places.epochs,
            {name: why for (_, name), why in unread.items()},
        )

    def run(self) -> Report:
        """Compares everything."""
        looks: dict[tuple[str, str, int], Look] = {}
        for bill in self.bills.chosen():
            look = self.bills.look(bill, self.bills.ends[bill.partition])
            if look is None:
                bill.doubts.append(GONE)
            else:
                looks[bill.key] = look
        invoicing = Invoicing(self.bills, self.ledger, self.history, self.found, self.report, self.connection)
        invoicing.plan_looks()
        lines = self.ledger.work_out(self.bills.looks)
        self._compare_lines(looks, lines)
        invoicing.compare(lines)
        self._compare_customers()
        for partition, last in self.found.ahead.items():
            if last > self.found.through.get(partition, 0):
                what = f"partition {partition}, offsets {self.found.through.get(partition, 0)} to {last}"
                self.report.leave_out(what, "the engine is ahead of the archive")
        for partition, start, end in self.loaded.gaps:
            self.report.leave_out(f"partition {partition}, offsets {start} to {end}", "the archive does not hold them")
        for difference in self.report.differences:
            difference.tenant = self.tenant
        return self.report

    # Line items ---------------------------------------------------------------------------------

    def _compare_lines(self, looks: dict[tuple[str, str, int], Look], lines: Lines) -> None:
        expected: dict[str, Output] = {}
        skipped: set[tuple[str, str, str, str]] = set()
        doubtful = {
            (bill.customer, bill.subscription, bill.period): bill for bill in self.bills.chosen() if bill.doubts
        }
        for bill in self.bills.chosen():
            look = looks.get(bill.key)
            if bill.doubts or look is None:
                self.report.leave_out(f"{bill.customer}, {bill.subscription}", bill.doubts[0])
                continue
            for (number, segment, charge), why in lines.unread.items():
                if number == look.number:
                    self.report.leave_out(charge, why)
                    skipped.add((bill.customer, bill.subscription, format_time(segment), charge))
            for key, line in lines.found[look.number].items():
                if (bill.customer, bill.subscription, format_time(key.segment), key.charge) in skipped:
                    continue
                one = self.line_item(look, key, line)
                expected[one["id"]] = one
        found = {id: item for id, item in self.found.line_items.items() if self._in_question(item)}
        spans = [(who, name, period.start, period.end) for who, name, period in doubtful]
        for id in sorted(expected.keys() | found.keys()):
            item = found.get(id)
            if id not in expected and item is not None and self._may_stand(item, skipped, spans):
                continue
            self.report.line_items += 1
            self._compare_line(id, expected.get(id), item)

    def _may_stand(self, item: Output, skipped: set[Any], spans: list[tuple[str, str, int, int]]) -> bool:
        """Whether a line item that is not expected says nothing, or is of what is not audited."""
        if not _is_nought(item) and not self.bills.knows(item["customer"], item["subscription"]):
            self.report.leave_out(f"{item['customer']}, {item['subscription']}", GONE)
            return True
        return _is_nought(item) or _place(item) in skipped or _within(item, spans)

    def _in_question(self, item: Output) -> bool:
        return item["tenant"] == self.tenant and (not self.customers or item["customer"] in self.customers)

    def line_item(self, look: Look, key: LineKey, line: Line) -> Output:
        """A line item as it should stand in the topic."""
        agreement = self.bills.agreement_of(look)
        segment = next(one for one in agreement.segments(look.period) if one.start == key.segment)
        charge = segment.plan.charges[key.charge]
        dimensions = dict(zip(charge.get("group_by") or [], key.group, strict=False))
        return {
            "id": line_id(self.tenant, look.customer, look.subscription, key.segment, key.charge, dimensions),
            "customer": look.customer,
            "subscription": look.subscription,
            "charge": key.charge,
            "meter": charge.get("meter"),
            "dimensions": dimensions,
            "currency": segment.plan.currency,
            "period": {"start": format_time(segment.start), "end": format_time(segment.end)},
            "quantity": format_scaled(line.quantity),
            "amount": format_scaled(line.amount),
            "price_book": segment.plan.book,
            "price_version": segment.plan.version,
            "events": line.events,
            "first_event": None if line.first is None else format_time(line.first),
            "last_event": None if line.last is None else format_time(line.last),
        }

    def _compare_line(self, id: str, expected: Output | None, found: Output | None) -> None:
        one = expected or found
        assert one is not None
        names = [name for name in expected or one if name not in ("id", "customer", "subscription")]
        if expected is None or found is None:
            wanted, written = ("a line item" if side is not None else "none" for side in (expected, found))
            fields = [("line item", wanted, written)]
            fields += [(name, _shown(expected, name), _shown(found, name)) for name in ("quantity", "amount")]
        else:
            fields = [
                (name, _shown(expected, name), _shown(found, name))
                for name in names
                if expected[name] != found.get(name)
            ]
        if fields:
            difference = Difference("line item", id, _about(one), fields)
            difference.events, difference.more = self._events_behind(one)
            self.report.differences.append(difference)

    def _events_behind(self, item: Output) -> tuple[list[tuple[str, str]], int]:
        if item.get("meter") is None:
            return [], 0
        meter_dims = self.dimension_places(item)
        wheres = " ".join(f"AND p.dims[{at}] IS NOT DISTINCT FROM ?" for at, _ in meter_dims)
        rows = self.connection.execute(
            f"""SELECT DISTINCT e.seq, e.source, e.id FROM placed p JOIN events e USING (partition, seq)
            WHERE p.customer = ? AND p.subscription = ? AND p.meter = ? AND p.seg = epoch_us(?::TIMESTAMPTZ)
                AND p.void_seq IS NULL {wheres} ORDER BY e.seq""",
            [
                item["customer"],
                item["subscription"],
                item["meter"],
                item["period"]["start"],
                *(v for _, v in meter_dims),
            ],
        ).fetchall()
        return [(source, id) for _, source, id in rows[:EVENTS_SHOWN]], max(0, len(rows) - EVENTS_SHOWN)

    def dimension_places(self, item: Output) -> list[tuple[int, str | None]]:
        """Where in the list `dims` the values of a line item stand."""
        for book in reversed(self.history.books.values()):
            names = list((book.meters.get(item["meter"]) or {}).get("dimensions") or {})
            if all(name in names for name in item["dimensions"]):
                return [(names.index(name) + 1, value) for name, value in item["dimensions"].items()]
        return []

    def _compare_customers(self) -> None:
        rows = self.connection.execute(
            """SELECT source, id, list(DISTINCT customer ORDER BY customer) FROM events
            GROUP BY tenant, source, id HAVING count(DISTINCT customer) > 1 ORDER BY 1, 2"""
        ).fetchall()
        self.report.shared_ids = [(source, id, customers) for source, id, customers in rows]


def line_id(
    tenant: str, customer: str, subscription: str, start: int, charge: str, dimensions: dict[str, str | None]
) -> str:
    """The identity of a line item."""
    parts: list[str] = []
    for name, value in dimensions.items():
        parts += (name, "0") if value is None else (name, "1", value)
    return output_id("li", tenant, customer, subscription, format_time(start), charge, *parts)


def _is_nought(item: Output) -> bool:
    return not parse_scaled(item["quantity"]) and not parse_scaled(item["amount"])


def _place(item: Output) -> tuple[str, str, str, str]:
    return item["customer"], item["subscription"], item["period"]["start"], item["charge"]


def _within(item: Output, spans: list[tuple[str, str, int, int]]) -> bool:
    start = parse_time(item["period"]["start"])
    return any(
        (who, name) == (item["customer"], item["subscription"]) and first <= start < end
        for who, name, first, end in spans
    )


def _shown(item: Output | None, name: str) -> str:
    value: Any = None if item is None else item.get(name)
    if isinstance(value, dict) and set(value) == {"start", "end"}:
        return f"{value['start']} to {value['end']}"
    return "none" if value is None else str(value)


def _about(item: Output) -> str:
    dimensions = " ".join(f"{name}={value}" for name, value in item["dimensions"].items())
    where = f"{item['customer']}, {item['subscription']}, {item['charge']}{' ' + dimensions if dimensions else ''}"
    return f"{where}, from {item['period']['start']}"

"""Invoices: made again from the lines at the places in the log where they fall due, and compared.

The invoice of a close and those of corrections have their places from the clock. A threshold's invoice says which event
(or tick) crossed which level: at that place the spend must be at or above the level, and just before it below. Where
the spend has passed a level without an invoice, the event that first did is looked for.
"""

from dataclasses import dataclass, field
from typing import Any

import duckdb

from schemas.currency import round_quotient, round_to_minor
from schemas.identity import output_id
from schemas.numbers import ONE, divide_half_up, format_scaled, parse_scaled
from schemas.times import format_time, parse_time
from taximeter.audit.agreements import Agreement, Document, Plan
from taximeter.audit.bills import Bill, Bills
from taximeter.audit.conditions import scaled
from taximeter.audit.found import Found, Output
from taximeter.audit.lines import Ledger, LineKey, Lines, Look
from taximeter.audit.placing import History
from taximeter.audit.report import Difference, Report
from taximeter.audit.settle import MINIMUM, OVERAGE, Purse, Row, grants_of, settle, taxes_of

_LOOKED_AT = 500
"""Places at which a bill is looked at at once, in search of the event that crossed a level."""
_ORDER = {"correction": 0, "period": 1, "threshold": 2}


@dataclass
class Occasion:
    """A place at which an invoice may fall due. `before`: the look just before it, for a level."""

    bill: Bill
    kind: str
    at: int
    look: Look
    before: Look | None = None
    claimed: Output | None = None
    tick: bool = False

    @property
    def order(self) -> tuple[Any, ...]:
        """The order in which the engine makes invoices."""
        until = 0 if self.kind == "threshold" else self.bill.period.end
        return self.at, _ORDER[self.kind], until, self.bill.subscription


@dataclass
class _Billed:
    """What invoices have billed of a period so far."""

    lines: dict[LineKey, int] = field(default_factory=dict)
    own: dict[str, int] = field(default_factory=dict)
    capped: int = 0
    invoices: int = 0
    crossed: dict[tuple[str, bool], int] = field(default_factory=dict)
    """Threshold -> how many of its levels are crossed."""

    def copy(self) -> "_Billed":
        """One that can go on by itself."""
        return _Billed(dict(self.lines), dict(self.own), self.capped, self.invoices, dict(self.crossed))


class Invoicing:
    """The invoices of all bills in question."""

    def __init__(
        self,
        bills: Bills,
        ledger: Ledger,
        history: History,
        found: Found,
        report: Report,
        connection: duckdb.DuckDBPyConnection,
    ) -> None:
        self._ledger = ledger
        self._bills, self._history, self._report, self._connection = bills, history, report, connection
        chosen = {bill.key: bill for bill in bills.chosen()}
        self._found: dict[str, Output] = {}
        self._by_bill: dict[tuple[str, str, int], list[Output]] = {}
        for id, invoice in found.invoices.items():
            key = (invoice["customer"], invoice["subscription"], parse_time(invoice["period"]["start"]))
            if invoice["tenant"] == bills.tenant and (key in chosen or not bills.restricted):
                self._found[id] = invoice
                self._by_bill.setdefault(key, []).append(invoice)
        self._occasions: list[Occasion] = []
        self._billed: dict[tuple[str, str, int], _Billed] = {}
        self._known: dict[tuple[str, str, int], list[tuple[int, _Billed]]] = {}
        """Bill -> (place, what was billed of it from there on)."""
        self._last_open: dict[tuple[str, str, int], Look] = {}
        self._purses: dict[str, Purse] = {}
        self._checked: set[str] = set()
        self._left_out: set[str] = set()

    # Where invoices fall due --------------------------------------------------------------------

    def plan_looks(self) -> None:
        """Notes every occasion, and takes the looks that they need."""
        places = self._event_places()
        for bill in self._bills.chosen():
            if bill.doubts:
                continue
            last = self._bills.look(
                bill, self._bills.ends[bill.partition] if bill.closed_at is None else bill.closed_at
            )
            plan = None if last is None else self._bills.plan_of(last)
            if last is not None and plan is not None and plan.terms["thresholds"] and not plan.trial:
                self._last_open[bill.key] = last
            if bill.closed_at is not None:
                self._note(bill, "period", bill.closed_at)
            for at in bill.changes:
                self._note(bill, "correction", at)
            for invoice in self._by_bill.get(bill.key, []):
                if invoice["kind"] == "threshold":
                    self._note_level(bill, invoice, places)

    def _note(self, bill: Bill, kind: str, at: int) -> None:
        look = self._bills.look(bill, at + 1)
        if look is not None:
            self._occasions.append(Occasion(bill, kind, at, look))

    def _note_level(self, bill: Bill, invoice: Output, places: dict[tuple[str, str, str], int]) -> None:
        because = invoice.get("because") or {}
        event = because.get("event")
        at: int | None
        if event:
            at = places.get((bill.customer, event["source"], event["id"]))
        else:
            wanted = parse_time(because["tick"])
            at = next((tick.seq for tick in self._history.ticks[bill.partition] if tick.time == wanted), None)
        if at is None:
            self._differ(invoice, [("because", "an event of the archive", str(because))])
            self._checked.add(invoice["id"])
            return
        after, before = self._bills.look(bill, at + 1), self._bills.look(bill, at)
        if after is not None and before is not None:
            self._occasions.append(Occasion(bill, "threshold", at, after, before, invoice, not event))

    def _event_places(self) -> dict[tuple[str, str, str], int]:
        wanted = {
            (invoice["customer"], invoice["because"]["event"]["source"], invoice["because"]["event"]["id"])
            for invoice in self._found.values()
            if (invoice.get("because") or {}).get("event")
        }
        if not wanted:
            return {}
        customers = ", ".join("'" + who.replace("'", "''") + "'" for who in sorted({who for who, _, _ in wanted}))
        rows = self._connection.execute(
            f"SELECT customer, source, id, seq FROM events WHERE fresh AND customer IN ({customers})"
        ).fetchall()
        return {(who, source, id): seq for who, source, id, seq in rows if (who, source, id) in wanted}

    # Comparing ----------------------------------------------------------------------------------

    def compare(self, lines: Lines) -> None:
        """Makes every invoice again, in the order in which they were made, and compares."""
        doubtful = self._doubtful(lines)
        for occasion in sorted(self._occasions, key=lambda one: (one.bill.customer, *one.order)):
            if occasion.bill.key not in doubtful and occasion.bill.customer not in self._left_out:
                self._make(occasion, lines)
        for bill in self._bills.chosen():
            look = self._last_open.get(bill.key)
            if look is not None and bill.key not in doubtful and bill.customer not in self._left_out:
                self._passed_levels(bill, look, lines)
        for id, invoice in self._found.items():
            key = (invoice["customer"], invoice["subscription"], parse_time(invoice["period"]["start"]))
            if not self._bills.knows(invoice["customer"], invoice["subscription"]):
                self._report.leave_out(f"invoices of {invoice['customer']}", "their subscription is gone")
            elif id not in self._checked and key not in doubtful and invoice["customer"] not in self._left_out:
                self._report.invoices += 1
                self._differ(invoice, [("invoice", "none", f"{invoice['kind']}, total {invoice['total']}")])

    def _doubtful(self, lines: Lines) -> set[tuple[str, str, int]]:
        """Bills whose invoices cannot be said, and the customers whose credits and coupons depend on them."""
        doubtful = {bill.key: bill.doubts[0] for bill in self._bills.chosen() if bill.doubts}
        looks = {look.number: look for look in self._bills.looks}
        for (number, _, charge), why in lines.unread.items():
            look = looks[number]
            doubtful[look.customer, look.subscription, look.period.start] = f"{charge}: {why}"
        waits = {
            occasion.bill.customer
            for occasion in self._occasions
            if occasion.kind == "correction" and self._plan(occasion.look).corrections == "next"
        }
        self._left_out = {key[0] for key in doubtful} | waits
        for customer in sorted(waits):
            self._report.leave_out(f"invoices of {customer}", "corrections wait for the next invoice")
        for (customer, _, _), why in doubtful.items():
            if customer not in waits:
                self._report.leave_out(f"invoices of {customer}", why)
        return set(doubtful)

    def _plan(self, look: Look) -> Plan:
        plan = self._bills.plan_of(look)
        assert plan is not None
        return plan

    def _make(self, occasion: Occasion, lines: Lines) -> None:
        bill, look = occasion.bill, occasion.look
        if self._bills.plan_of(look) is None:
            return
        plan, billed = self._plan(look), self._billed.setdefault(bill.key, _Billed())
        documents = self._documents(occasion)
        closing = bill.period.end
        if occasion.kind == "threshold":
            assert occasion.claimed is not None
            if not self._crosses(occasion, plan, billed, lines):
                return
            because = occasion.claimed["because"]
            closing = parse_time(because["tick"]) if occasion.tick else self._time_of(occasion)
        rows, capped = self._due(bill, look, plan, billed, lines, documents)
        if rows:
            bill_key = (bill.subscription, bill.period.start)
            purse = self._purses.setdefault(bill.customer, Purse())
            sums = settle(rows, plan, purse, documents, bill.customer, {bill_key: capped}, bill_key, closing)
            self._compare_one(occasion, plan, billed, rows, sums)
            billed.invoices += 1
            self._known.setdefault(bill.key, []).append((occasion.at, billed.copy()))
        elif occasion.claimed is not None:
            self._checked.add(occasion.claimed["id"])
            self._differ(occasion.claimed, [("lines", "none", f"{len(occasion.claimed['lines'])} lines")])
        if occasion.kind == "period":
            grants = grants_of(documents, bill.customer)
            self._purses.setdefault(bill.customer, Purse()).roll_over(grants, bill.period.end)

    def _documents(self, occasion: Occasion) -> Document:
        book = self._history.book_at(occasion.bill.partition, occasion.at + 1)
        assert book is not None
        return self._history.books[book].documents

    def _time_of(self, occasion: Occasion) -> int:
        row = self._connection.execute(
            "SELECT time, type, (SELECT max(time) FROM events o WHERE o.customer = e.customer AND o.fresh"
            " AND o.seq <= e.seq"
            " AND o.type <> 'taximeter.void') FROM events e WHERE partition = ? AND seq = ?",
            [occasion.bill.partition, occasion.at],
        ).fetchone()
        assert row is not None
        return int(row[2] if row[1] == "taximeter.void" else row[0])

    # Levels -------------------------------------------------------------------------------------

    def _crosses(self, occasion: Occasion, plan: Plan, billed: _Billed, lines: Lines) -> bool:
        """Whether a threshold's invoice is at its place; what is wrong with it is a difference."""
        invoice, before = occasion.claimed, occasion.before
        assert invoice is not None and before is not None
        self._passed_levels(occasion.bill, before, lines)
        level = parse_scaled(invoice["because"]["level"])
        spend, earlier = self._spend(lines, occasion.look), self._spend(lines, before)
        reached = self._reached(plan, spend)
        highest = max((step * count for (step, _), count in reached.items() if count), default=0)
        wrong: list[tuple[str, str, str]] = []
        if spend < level or highest != level:
            wrong.append(
                ("level", f"{format_scaled(highest)} (the spend is {format_scaled(spend)})", format_scaled(level))
            )
        elif earlier >= level and not self._moved_since(occasion.bill.customer, occasion.bill.partition, occasion.at):
            wrong.append(("event", f"an earlier one: the spend was {format_scaled(earlier)} before it", "this one"))
        for (step, repeat), count in reached.items():
            key = (format_scaled(step), repeat)
            billed.crossed[key] = max(billed.crossed.get(key, 0), count)
        if wrong:
            self._checked.add(invoice["id"])
            self._differ(invoice, wrong)
        return not wrong

    def _reached(self, plan: Plan, spend: int) -> dict[tuple[int, bool], int]:
        found: dict[tuple[int, bool], int] = {}
        for threshold in plan.terms["thresholds"] or []:
            step, repeat = scaled(threshold["spend"]), bool(threshold.get("repeat"))
            found[step, repeat] = max(0, spend // step) if repeat else int(spend >= step)
        return found

    def _moved_since(self, customer: str, partition: int, before: int) -> bool:
        """Whether prices were changed since the customer's last event: then its next one finds the levels."""
        row = self._connection.execute(
            "SELECT max(seq) FROM events WHERE customer = ? AND fresh AND seq < ?", [customer, before]
        ).fetchone()
        last = row[0] if row is not None and row[0] is not None else -1
        moved = [seq for seq, _ in self._history.changes.get(partition, [])[1:]]
        moved += [one.seq for one in self._history.reratings if one.partition == partition]
        return any(last < seq < before for seq in moved)

    def _spend(self, lines: Lines, look: Look) -> int:
        return sum(line.amount for line in lines.found[look.number].values())

    def _passed_levels(self, bill: Bill, look: Look, lines: Lines) -> None:
        """Levels that the spend is above, for which there is no invoice. `look`: the last one before the close."""
        if self._bills.plan_of(look) is None or self._moved_since(bill.customer, bill.partition, look.at):
            return
        plan, billed = self._plan(look), self._billed.setdefault(bill.key, _Billed())
        reached = self._reached(plan, self._spend(lines, look))
        missing = {
            (step, repeat): count
            for (step, repeat), count in reached.items()
            if count > billed.crossed.get((format_scaled(step), repeat), 0)
        }
        for (step, repeat), count in missing.items():
            level = step * (billed.crossed.get((format_scaled(step), repeat), 0) + 1 if repeat else count)
            crossing = self._first_above(bill, look, level)
            if crossing is not None:
                self._missing_level(bill, plan, level, *crossing)
            billed.crossed[format_scaled(step), repeat] = count

    def _first_above(self, bill: Bill, last: Look, level: int) -> tuple[Look, Lines] | None:
        """The first look at a bill, after one of its customer's events, at which its spend is at or above a level."""
        rows = self._connection.execute(
            "SELECT seq FROM events WHERE customer = ? AND fresh AND seq < ? ORDER BY seq", [bill.customer, last.at]
        ).fetchall()
        places = [seq + 1 for (seq,) in rows if seq + 1 > bill.opened_from]
        while len(places) > _LOOKED_AT:  # coarsely first: usage nearly always rises
            some = places[:: len(places) // _LOOKED_AT + 1]
            found = self._above(bill, some, level)
            if found is None:
                places = places[places.index(some[-1]) :][-_LOOKED_AT:]
                break
            at = some.index(found[0].at)
            places = places[places.index(some[at - 1]) if at else 0 : places.index(some[at]) + 1]
        return self._above(bill, places, level)

    def _above(self, bill: Bill, places: list[int], level: int) -> tuple[Look, Lines] | None:
        looks = [look for look in (self._bills.look(bill, at) for at in places) if look is not None]
        lines = self._ledger.work_out(looks)
        return next(((look, lines) for look in looks if self._spend(lines, look) >= level), None)

    def _missing_level(self, bill: Bill, plan: Plan, level: int, look: Look, lines: Lines) -> None:
        billed = _Billed()
        for at, known in self._known.get(bill.key, []):
            if at < look.at:
                billed = known
        book = self._history.book_at(bill.partition, look.at)
        assert book is not None
        if not self._due(bill, look, plan, billed.copy(), lines, self._history.books[book].documents)[0]:
            return  # there was no cent to bill: the level makes an alert, and no invoice
        start, shown = format_time(bill.period.start), format_scaled(level)
        id = output_id("inv", self._bills.tenant, bill.customer, bill.subscription, start, "threshold", shown)
        name = f"{bill.customer}, {bill.subscription}, threshold, from {start}"
        spend = format_scaled(self._spend(lines, look))
        event = self._connection.execute(
            "SELECT source, id FROM events WHERE customer = ? AND seq = ?", [bill.customer, look.at - 1]
        ).fetchall()
        self._report.invoices += 1
        fields = [("invoice", f"one at the level {shown} (the spend is {spend})", "none")]
        self._report.differences.append(Difference("invoice", id, name, fields, event))

    # One invoice --------------------------------------------------------------------------------

    def _due(
        self, bill: Bill, look: Look, plan: Plan, billed: _Billed, lines: Lines, documents: Document
    ) -> tuple[list[Row], int]:
        """What of a period is not billed yet, as an invoice's rows; and what the maximum takes off of it."""
        agreement, now = self._bills.agreement_of(look), lines.found[look.number]
        segments = {segment.start: segment for segment in agreement.segments(look.period)}
        rows: list[Row] = []
        charged = 0
        bill_key = (bill.subscription, bill.period.start)
        before_lines = dict(billed.lines)
        for key in sorted(before_lines.keys() | now.keys(), key=lambda key: _order(agreement, look, key)):
            line = now.get(key)
            due = 0 if line is None else round_to_minor(line.amount, plan.currency, plan.rounding)
            part = due - before_lines.get(key, 0)
            charged += due
            if not part:
                continue
            billed.lines[key] = due
            charge = segments[key.segment].plan.charges.get(key.charge, {})
            dimensions = dict(zip(charge.get("group_by") or [], key.group, strict=False))
            shown = {"dimensions": dimensions, "quantity": format_scaled(line.quantity if line else 0)}
            rows.append(Row(key.charge, part, bill_key, taxes_of(documents, charge.get("taxes")), shown))
        least = self._commitment(plan, look)
        overage = 0
        if least is not None and plan.terms["overage_factor"] is not None:
            above = max(0, charged - least[0]) * (scaled(plan.terms["overage_factor"]) - ONE)
            overage = round_quotient(above, ONE, plan.currency, plan.rounding)
        charged += overage
        most = plan.terms["maximum"]
        capped = 0 if most is None else max(0, charged - round_to_minor(scaled(most), plan.currency, plan.rounding))
        true_up = max(0, least[0] - (charged - capped)) if least is not None and least[1] else 0
        for name, due in ((OVERAGE, overage), (MINIMUM, true_up)):
            part = due - billed.own.get(name, 0)
            if part:
                billed.own[name] = due
                rows.append(Row(name, part, bill_key, None, {"dimensions": {}, "quantity": None}))
        more = capped - billed.capped
        if rows:
            billed.capped = capped
        return rows, more if rows else 0

    def _commitment(self, plan: Plan, look: Look) -> tuple[int, bool] | None:
        """The least that a closed period comes to, to the cent, and whether the difference to it is billed."""
        wanted = plan.terms["minimum"]
        if wanted is None or not look.closed or plan.trial:
            return None
        wanted = wanted if isinstance(wanted, dict) else {"amount": wanted}
        amount = scaled(wanted["amount"])
        if wanted.get("prorate"):
            amount = divide_half_up(amount * (look.period.end - look.period.start), look.period.whole)
        return round_to_minor(amount, plan.currency, plan.rounding), wanted.get("true_up") is not False

    def _compare_one(self, occasion: Occasion, plan: Plan, billed: _Billed, rows: list[Row], sums: Output) -> None:
        bill = occasion.bill
        level = str(billed.invoices) if occasion.kind == "correction" else ""
        if occasion.claimed is not None:
            level = occasion.claimed["because"]["level"]
        start = format_time(bill.period.start)
        id = output_id("inv", self._bills.tenant, bill.customer, bill.subscription, start, occasion.kind, level)
        self._report.invoices += 1
        found = self._found.get(id)
        name = f"{bill.customer}, {bill.subscription}, {occasion.kind}, from {start}"
        if found is None:
            fields = [("invoice", f"{occasion.kind}, total {sums['total']}", "none")]
            self._report.differences.append(Difference("invoice", id, name, fields))
            return
        self._checked.add(id)
        expected = {**sums, "kind": occasion.kind, "currency": plan.currency}
        fields = [
            (word, str(value), str(found.get(word) or type(value)()))
            for word, value in expected.items()
            if (found.get(word) or type(value)()) != value
        ]
        wanted = [_row(row) for row in rows]
        written = [_written(line) for line in found["lines"]]
        for at in range(max(len(wanted), len(written))):
            one = wanted[at] if at < len(wanted) else "none"
            other = written[at] if at < len(written) else "none"
            if one != other:
                fields.append((f"line {at + 1}", str(one), str(other)))
        if fields:
            self._report.differences.append(Difference("invoice", id, name, fields))

    def _differ(self, invoice: Output, fields: list[tuple[str, str, str]]) -> None:
        name = f"{invoice['customer']}, {invoice['subscription']}, {invoice['kind']}, from {invoice['period']['start']}"
        self._report.differences.append(Difference("invoice", invoice["id"], name, fields))


def _order(agreement: Agreement, look: Look, key: LineKey) -> tuple[Any, ...]:
    segment = next(one for one in agreement.segments(look.period) if one.start == key.segment)
    names = list(segment.plan.charges)
    known = key.charge in names
    group = [(value is not None, value or "") for value in key.group]
    return key.segment, not known, names.index(key.charge) if known else 0, key.charge, group


def _row(row: Row) -> str:
    quantity = "" if row.shown["quantity"] is None else f" quantity {row.shown['quantity']}"
    parts = [
        f"{word} {format_scaled(value)}"
        for word, value in (("discount", row.discount), ("credit", row.credit), ("tax", row.tax))
        if value
    ]
    dims = "".join(f" {name}={value}" for name, value in row.shown["dimensions"].items())
    return " ".join([f"{row.charge}{dims}{quantity}", f"amount {format_scaled(row.amount)}", *parts])


def _written(line: dict[str, Any]) -> str:
    own = line["charge"] in (MINIMUM, OVERAGE) and line.get("line_item") is None
    quantity = "" if own else f" quantity {line['quantity']}"
    parts = [f"{word} {line[word]}" for word in ("discount", "credit", "tax") if line.get(word, "0") != "0"]
    dims = "".join(f" {name}={value}" for name, value in line["dimensions"].items())
    return " ".join([f"{line['charge']}{dims}{quantity}", f"amount {line['amount']}", *parts])

"""Holds what came out against what must: every line item, bill, invoice line, level and rejection, to the cent."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from taximeter.demo_check import Bill, Expected, Key
from taximeter.demo_day import PERIOD_END, PERIOD_START
from taximeter.demo_prices import cents, plain

_PERIOD = {"start": PERIOD_START, "end": PERIOD_END}


@dataclass(slots=True)
class Outputs:
    """What came out: documents as the queries answer them; `spend` by customer."""

    line_items: list[Any] = field(default_factory=list)
    invoices: list[Any] = field(default_factory=list)
    alerts: list[Any] = field(default_factory=list)
    rejections: list[Any] = field(default_factory=list)
    spend: dict[str, Any] = field(default_factory=dict)


def differences(expected: Expected, outputs: Outputs) -> list[str]:
    """Every difference in a line; nothing where all is as it must be."""
    found = [
        *_line_items(expected, outputs),
        *_invoices(expected, outputs),
        *_spend(expected, outputs),
        *_alerts(expected, outputs),
    ]
    codes = Counter(str(rejection["code"]) for rejection in outputs.rejections)
    for code in sorted(codes.keys() | expected.codes.keys()):
        if codes[code] != expected.codes[code]:
            found.append(f"rejections with the code {code}: found {codes[code]}, expected {expected.codes[code]}")
    return found


def _line_items(expected: Expected, outputs: Outputs) -> Iterator[str]:
    items: dict[Key, Any] = {}
    for item in outputs.line_items:
        key = _key(item)
        if key in items:
            yield f"{_show(key)}: found more than one line item"
        items[key] = item
    for key in sorted(items.keys() - expected.lines.keys()):
        yield f"{_show(key)}: found a line item of {items[key]['amount']}, expected none"
    for key, line in expected.lines.items():
        item = items.get(key)
        if item is None:
            yield f"{_show(key)}: found no line item, expected {plain(line.amount)}"
            continue
        for name, must in (("quantity", line.quantity), ("amount", line.amount), ("events", Fraction(line.events))):
            if Fraction(item[name]) != must:
                yield f"{_show(key)}: found the {name} {item[name]}, expected {plain(must)}"
        for name, at in (("first_event", line.first), ("last_event", line.last)):
            if _time(item[name]) != _time(at):
                yield f"{_show(key)}: found {name} {item[name]}, expected {at}"
        if item["period"] != _PERIOD or item["currency"] != "USD":
            yield f"{_show(key)}: found {item['period']} in {item['currency']}, expected {_PERIOD} in USD"


def _invoices(expected: Expected, outputs: Outputs) -> Iterator[str]:
    """Every invoice adds up; the invoices of a month sum to the month; and so does what they bill of each line."""
    key_of = {item["id"]: _key(item) for item in outputs.line_items}
    bills: dict[Bill, Decimal] = defaultdict(Decimal)
    billed: dict[Key, Decimal] = defaultdict(Decimal)
    for invoice in outputs.invoices:
        bill = (invoice["customer"], invoice["subscription"])
        total = Decimal(invoice["total"])
        bills[bill] += total
        if total != sum(Decimal(line["amount"]) for line in invoice["lines"]):
            yield f"{_show(bill)}: the invoice {invoice['id']} over {total} is not the sum of its lines"
        for line in invoice["lines"]:
            if line["line_item"] in key_of:
                billed[key_of[line["line_item"]]] += Decimal(line["amount"])
            elif line["line_item"] is not None:
                yield f"{_show(bill)}: the invoice {invoice['id']} names the unknown line item {line['line_item']}"
    for bill in sorted(bills.keys() | expected.bills.keys()):
        must = expected.bills.get(bill, Decimal(0))
        if bills[bill] != must:
            yield f"{_show(bill)}: found invoices over {bills[bill]}, expected {must}"
    for key, line in expected.lines.items():
        if billed[key] != cents(line.amount):
            yield f"{_show(key)}: found {billed[key]} on invoices, expected {cents(line.amount)}"


def _spend(expected: Expected, outputs: Outputs) -> Iterator[str]:
    totals: dict[str, Fraction] = defaultdict(Fraction)
    for key, line in expected.lines.items():
        totals[key[0]] += line.amount
    bills: dict[str, Decimal] = defaultdict(Decimal)
    for (customer, _), bill in expected.bills.items():
        bills[customer] += bill
    for customer, total in totals.items():
        found = outputs.spend.get(customer, {}).get("currencies", [])
        said = Fraction(found[0]["total"]) if found else Fraction(0)
        billed = Decimal(found[0]["billed"]["total"]) if found else Decimal(0)
        if said != total:
            yield f"{customer}: the spend query says {plain(said)}, expected {plain(total)}"
        if billed != bills[customer]:
            yield f"{customer}: the spend query says that {billed} is billed, expected {bills[customer]}"


def _alerts(expected: Expected, outputs: Outputs) -> Iterator[str]:
    crossed = Counter(
        (a["customer"], a["subscription"], a["because"]["threshold"], a["because"]["level"]) for a in outputs.alerts
    )
    for level in sorted(crossed.keys() | expected.levels):
        if crossed[level] != (level in expected.levels):
            yield f"{_show(level)}: found {crossed[level]} alerts, expected {int(level in expected.levels)}"


def _key(item: Any) -> Key:
    return item["customer"], item["subscription"], item["charge"], tuple(item["dimensions"].items())


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _show(key: tuple[Any, ...]) -> str:
    parts = (" ".join(f"{n}={v}" for n, v in part) if isinstance(part, tuple) else str(part) for part in key)
    return " / ".join(filter(None, parts))

"""The demo's independent calculation: what the day costs, from its file and its price book, in plain fractions.

It shares no code with the engine on purpose: it parses the events' JSON itself, keeps every identity in a dictionary
and prices with `Fraction`, so a fault on either side shows. It knows only what the demo's price book uses.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

import yaml

from taximeter.demo_prices import Document, cents, find_cell, plain, price_line

Key = tuple[str, str, str, tuple[tuple[str, str], ...]]
"""Customer, subscription, charge, dimensions."""
Bill = tuple[str, str]
"""Customer, subscription."""
_REQUIRED = ("id", "source", "type", "subject", "specversion")
_DEFAULT = "default"


@dataclass(slots=True)
class Line:
    """What a line item must say. `cells`: usage by the cell of a matrix price (0 where there is none)."""

    quantity: Fraction = Fraction(0)
    amount: Fraction = Fraction(0)
    events: int = 0
    first: str = ""
    last: str = ""
    cells: dict[int, Fraction] = field(default_factory=dict)


@dataclass(slots=True)
class Expected:
    """What must come out."""

    lines: dict[Key, Line] = field(default_factory=dict)
    bills: dict[Bill, Decimal] = field(default_factory=dict)
    """What is asked for in the month, in dollars and cents, the minimum included."""
    levels: set[tuple[str, str, str, str]] = field(default_factory=set)
    """Customer, subscription, threshold, level."""
    codes: Counter[str] = field(default_factory=Counter)
    events: int = 0
    counted: int = 0
    duplicates: int = 0


def calculate(book: str, lines: Iterable[bytes]) -> Expected:
    """What the events come to once the month is over. `book`: the price book's YAML; `lines`: NDJSON."""
    return _Calculation(yaml.safe_load(book)).run(lines)


class _Calculation:
    def __init__(self, book: Document) -> None:
        self.book = book
        self.expected = Expected()
        customers = book["customers"].items()
        self.owner: dict[str, str] = {s: name for name, one in customers for s in one.get("subjects") or [name]}
        self.contract = {one["customer"]: (name, one) for name, one in book["subscriptions"].items()}
        self.seen: dict[tuple[str, str, str], int] = {}
        self.keys: dict[Bill, list[Key]] = {(customer, name): [] for customer, (name, _) in self.contract.items()}
        self.known: dict[str, tuple[str, Document, Document]] = {}

    def run(self, lines: Iterable[bytes]) -> Expected:
        for text in lines:
            self.expected.events += 1
            self._event(text.strip())
        for bill in self.keys:
            self._bill(bill)
        return self.expected

    def terms(self, customer: str) -> tuple[str, Document, Document]:
        """(subscription, charges, price book) of a customer, with the overrides."""
        if customer not in self.known:
            name, said = self.contract.get(customer, (_DEFAULT, self.book["default_subscription"]))
            book = self.book["price_books"][said["price_book"]]
            changes = said.get("overrides", {})
            charges = {c: {**one, **changes.get("charges", {}).get(c, {})} for c, one in book["charges"].items()}
            self.known[customer] = name, charges, {**book, **changes}
        return self.known[customer]

    # Events ------------------------------------------------------------------------------------------------------

    def _event(self, text: bytes) -> None:
        try:
            event = json.loads(text, parse_float=Decimal)
        except ValueError:
            self.expected.codes["invalid_json"] += 1
            return
        if any(not event.get(name) for name in _REQUIRED):
            self.expected.codes["invalid_event"] += 1
        elif event["time"][4:5] != "-":
            self.expected.codes["invalid_time"] += 1
        else:
            self._valid(event, hash(text))

    def _valid(self, event: Document, content: int) -> None:
        customer: str = self.owner.get(event["subject"], str(event["subject"]))
        identity = (customer, event["source"], event["id"])
        if identity in self.seen:  # the first one counts
            same = self.seen[identity] == content
            self.expected.duplicates += same
            self.expected.codes["conflict"] += not same
            return
        self.seen[identity] = content
        self.expected.counted += 1
        subscription, charges, _ = self.terms(customer)
        for name, meter in self.book["meters"].items():
            value = self._value(event, meter)
            for charge, said in charges.items():
                if value is not None and said.get("meter") == name:
                    self._count((customer, subscription), charge, meter, event, value)

    def _value(self, event: Document, meter: Document) -> Fraction | None:
        """What the event adds to a meter; None where the meter does not count it, or cannot."""
        data = event["data"]
        if event["type"] != meter["event"] or any(data.get(_name(p)) != v for p, v in meter.get("where", {}).items()):
            return None
        if meter["aggregate"] == "count":
            return Fraction(1)
        found = data.get(_name(meter["value"]))
        if isinstance(found, int | Decimal):
            return Fraction(found)
        self.expected.codes["missing_value" if found is None else "invalid_value"] += 1
        return None

    def _count(self, bill: Bill, charge: str, meter: Document, event: Document, value: Fraction) -> None:
        said = self.terms(bill[0])[1][charge]
        read = {name: event["data"].get(_name(path)) for name, path in meter.get("dimensions", {}).items()}
        key = (*bill, charge, tuple((name, read[name]) for name in said.get("group_by", [])))
        line = self.expected.lines.get(key)
        if line is None:
            line = self.expected.lines[key] = Line()
            self.keys.setdefault(bill, []).append(key)
        cell = find_cell(said["price"], read)
        line.cells[cell] = line.cells.get(cell, Fraction(0)) + value
        line.quantity += value
        line.events += 1
        line.first = min(line.first or event["time"], event["time"])
        line.last = max(line.last, event["time"])

    # Bills -------------------------------------------------------------------------------------------------------

    def _bill(self, bill: Bill) -> None:
        """Prices a bill's lines, its fees and its minimum, and says which levels its usage has crossed."""
        _, charges, book = self.terms(bill[0])
        spend = Fraction(0)
        for key in self.keys[bill]:
            line = self.expected.lines[key]
            line.amount = price_line(charges[key[2]], line.cells)
            spend += line.amount
        for charge, said in charges.items():
            if "meter" not in said:
                key = (*bill, charge, ())
                self.expected.lines[key] = Line(Fraction(1), Fraction(said["price"]["amount"]))
                self.keys[bill].append(key)
        total = sum((cents(self.expected.lines[key].amount) for key in self.keys[bill]), Decimal(0))
        self.expected.bills[bill] = max(total, Decimal(book.get("minimum", "0")))
        for threshold in book["thresholds"]:
            level = Fraction(threshold["spend"])
            times = int(spend // level) if threshold.get("repeat") else min(int(spend // level), 1)
            self.expected.levels.update((*bill, plain(level), plain(level * n)) for n in range(1, times + 1))


def _name(path: str) -> str:
    return path.removeprefix("$.")

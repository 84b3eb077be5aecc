"""The independent pass: what must be on every line, invoice and alert, from what the log has taken.

Plain Python and fractions, event by event in the order of the log. Nothing of `rating` is used: only what a pack and
an entry look like is read by the published form (Arrow, two leading bytes).
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from typing import Any, Final, NamedTuple

import pyarrow as pa

from benchmarks.chaos import book

Identity = tuple[str, str, str]
"""Customer, source, id."""
LineKey = tuple[str, str, str]
"""Customer, charge, model (empty for the calls)."""

_VOID: Final = "taximeter.void"


class Billed(NamedTuple):
    """An invoice by its meaning: which level, reached by which event; its lines (key, quantity, cents); its total."""

    customer: str
    kind: str
    threshold: str
    level: str
    event: str
    lines: tuple[tuple[LineKey, Fraction, int], ...]
    total: int


class Warned(NamedTuple):
    """An alert by its meaning."""

    customer: str
    threshold: str
    level: str
    event: str
    spend: Fraction


@dataclass(slots=True)
class Line:
    """What one line item must say."""

    quantity: Fraction = Fraction(0)
    amount: Fraction = Fraction(0)
    events: int = 0


@dataclass(slots=True)
class Expected:
    """What must come out."""

    lines: dict[LineKey, Line] = field(default_factory=lambda: defaultdict(Line))
    invoices: list[Billed] = field(default_factory=list)
    alerts: list[Warned] = field(default_factory=list)
    identities: set[Identity] = field(default_factory=set)
    """Everything that the log holds, voids too."""
    entries: int = 0
    duplicates: int = 0
    conflicts: int = 0
    voided: int = 0


class _Customer:
    """One customer's month."""

    __slots__ = ("billed", "closed", "keys", "next_repeat", "once")

    def __init__(self) -> None:
        self.keys: list[LineKey] = []
        self.billed: defaultdict[LineKey, int] = defaultdict(int)
        self.once = False
        self.next_repeat = 1
        self.closed = False


def rate(partitions: Iterable[Iterable[bytes]]) -> Expected:
    """Rates the log: each partition's entries (whole envelopes) in order. Raises: ValueError on what it cannot read."""
    expected = Expected()
    for entries in partitions:
        _rate_partition(entries, expected)
    return expected


def _rate_partition(entries: Iterable[bytes], expected: Expected) -> None:
    customers: defaultdict[str, _Customer] = defaultdict(_Customer)
    counted: dict[Identity, tuple[str, Fraction] | None] = {}
    contents: dict[Identity, int] = {}
    taken_back: set[Identity] = set()
    for value in entries:
        expected.entries += 1
        kind, payload = value[1:2], value[2:]
        if kind == b"T":
            if _is_over(payload):
                for name in sorted(customers):
                    _close(name, customers[name], expected)
            continue
        if kind != b"E":
            continue
        for row in pa.ipc.open_stream(BytesIO(payload)).read_all().to_pylist():
            identity = row["customer"], row["source"], row["id"]
            if identity in contents:
                expected.duplicates += 1
                expected.conflicts += contents[identity] != row["content"]
                continue
            contents[identity] = row["content"]
            expected.identities.add(identity)
            data = json.loads(row["data"], parse_float=Fraction, parse_int=Fraction)
            if row["type"] == _VOID:
                target = row["customer"], data["source"], data["id"]
                if target not in taken_back:
                    taken_back.add(target)
                    expected.voided += 1
                    _take_back(target, counted.pop(target, None), expected)
                continue
            if row["type"] != book.EVENT_TYPE:
                raise ValueError(f"found an event of the type {row['type']!r}")
            if identity in taken_back:
                continue
            counted[identity] = data["model"], data["n"]
            _count(row["customer"], customers[row["customer"]], row["id"], data, expected)


def _is_over(payload: bytes) -> bool:
    """Whether a tick says that the month and its lateness have passed. Texts of one form: they compare as times do."""
    return json.loads(payload)["time"] >= "2031-02-01T01:00:00"


def _add(key: LineKey, quantity: Fraction, events: int, expected: Expected) -> None:
    line = expected.lines[key]
    line.quantity += quantity
    line.events += events
    line.amount = book.calls_amount(int(line.quantity)) if key[1] == "calls" else book.tokens_amount(line.quantity)


def _count(name: str, customer: _Customer, id: str, data: dict[str, Any], expected: Expected) -> None:
    """One accepted event: both charges, then the levels."""
    for key, quantity in (((name, "tokens", data["model"]), data["n"]), ((name, "calls", ""), Fraction(1))):
        if key not in customer.keys:
            customer.keys.append(key)
        _add(key, quantity, 1, expected)
    spend = sum((expected.lines[key].amount for key in customer.keys), Fraction(0))
    crossed: list[tuple[Fraction, Fraction]] = []
    if not customer.once and spend >= book.ONCE:
        customer.once = True
        crossed.append((book.ONCE, book.ONCE))
    while spend >= customer.next_repeat * book.REPEATED:
        crossed.append((book.REPEATED, customer.next_repeat * book.REPEATED))
        customer.next_repeat += 1
    for threshold, level in crossed:
        expected.alerts.append(Warned(name, text(threshold), text(level), id, spend))
    if crossed:
        threshold, level = max(crossed, key=lambda one: one[1])
        _bill(name, customer, ("threshold", text(threshold), text(level), id), expected)


def _take_back(identity: Identity, was: tuple[str, Fraction] | None, expected: Expected) -> None:
    """A counted event is taken out of its lines; one that has not come yet will not count."""
    if was is not None:
        model, n = was
        _add((identity[0], "tokens", model), -n, -1, expected)
        _add((identity[0], "calls", ""), Fraction(-1), -1, expected)


def _bill(name: str, customer: _Customer, because: tuple[str, str, str, str], expected: Expected) -> None:
    """An invoice of what has not been billed yet, if there is any."""
    lines = []
    for key in sorted(customer.keys):
        due = cents(expected.lines[key].amount) - customer.billed[key]
        if due:
            customer.billed[key] += due
            lines.append((key, expected.lines[key].quantity, due))
    if lines:
        expected.invoices.append(Billed(name, *because, tuple(lines), sum(due for *_, due in lines)))


def _close(name: str, customer: _Customer, expected: Expected) -> None:
    if not customer.closed:
        customer.closed = True
        _bill(name, customer, ("period", "", "", ""), expected)


def cents(amount: Fraction) -> int:
    """Whole cents, half away from nought."""
    whole = abs(amount) * 100 + Fraction(1, 2)
    return int(whole) if amount >= 0 else -int(whole)


def text(amount: Fraction) -> str:
    """A decimal fraction as contracts write it: no trailing noughts, no exponent."""
    scaled = amount * 10**12
    if scaled.denominator != 1:
        raise ValueError(f"found {amount}, expected at most 12 digits after the point")
    digits = f"{abs(int(scaled)):013d}"
    whole = f"{digits[:-12]}.{digits[-12:]}".rstrip("0").rstrip(".")
    return "-" + whole if amount < 0 else whole

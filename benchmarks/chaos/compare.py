"""What was found against what must be: counts of everything that must be nought. Pure."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from benchmarks.chaos.expected import Billed, Expected, Identity, LineKey, Warned

EXAMPLES_MAX: Final = 5
_EXAMPLE_MAX: Final = 900


@dataclass
class Findings:
    """Nought everywhere, or something is wrong. `examples` says what, for a person."""

    lost: int = 0
    """Acknowledged events that the log does not hold, and accepted ones that the bills do not count."""
    doubled: int = 0
    """Events that the bills count more often than once."""
    wrong_cents: Fraction = Fraction(0)
    """The sum of |expected - found| over line items, in cents, and of the totals of invoices that differ."""
    conflicting: int = 0
    """Two contents under one id and revision."""
    documents: int = 0
    """Invoices and alerts that are missing, too many, or say something else."""
    examples: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether all is as it must be."""
        return not (self.lost or self.doubled or self.wrong_cents or self.conflicting or self.documents)

    def say(self, example: str) -> None:
        """Keeps the first few."""
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(example if len(example) < _EXAMPLE_MAX else example[:_EXAMPLE_MAX] + "…")


@dataclass
class Found:
    """Every record of the three output topics, in the order of the log: nothing is taken out yet."""

    line_items: list[bytes]
    invoices: list[bytes]
    alerts: list[bytes]


def compare(acknowledged: Iterable[Identity], expected: Expected, found: Found) -> Findings:
    """All checks."""
    findings = Findings()
    for identity in acknowledged:
        if identity not in expected.identities:
            findings.lost += 1
            findings.say(f"acknowledged and not in the log: {identity}")
    _compare_lines(expected, _highest(found.line_items, "line item", findings), findings)
    _compare_invoices(expected.invoices, _highest(found.invoices, "invoice", findings), findings)
    _compare_alerts(expected.alerts, _highest(found.alerts, "alert", findings), findings)
    return findings


def _highest(values: Iterable[bytes], what: str, findings: Findings) -> list[dict[str, Any]]:
    """The content of each id's highest revision, as a consumer has it; two contents of one revision are a conflict."""
    contents: dict[tuple[str, int], bytes] = {}
    highest: dict[str, int] = {}
    for value in values:
        record = json.loads(value)
        key = record["id"], record.get("revision", 0)
        if contents.setdefault(key, value) != value:
            findings.conflicting += 1
            findings.say(f"two contents of the {what} {key}: {contents[key]!r} and {value!r}")
        highest[key[0]] = max(highest.get(key[0], 0), key[1])
    return [json.loads(contents[id, revision]) for id, revision in highest.items()]


def _line_key(item: dict[str, Any]) -> LineKey:
    return item["customer"], item["charge"], item["dimensions"].get("model") or ""


def _compare_lines(expected: Expected, items: list[dict[str, Any]], findings: Findings) -> None:
    found: dict[LineKey, dict[str, Any]] = {}
    for item in items:
        key = _line_key(item)
        if key in found and found[key]["id"] != item["id"]:
            findings.conflicting += 1
            findings.say(f"two line items of {key}: {found[key]['id']} and {item['id']}")
        found[key] = item
    nothing = {"quantity": "0", "amount": "0", "events": 0}
    for key in sorted(expected.lines.keys() | found.keys()):
        must = expected.lines.get(key)
        item = found.get(key, nothing)
        events, quantity, amount = (must.events, must.quantity, must.amount) if must else (0, Fraction(0), Fraction(0))
        said = item["events"], Fraction(item["quantity"]), Fraction(item["amount"])
        if said == (events, quantity, amount):
            continue
        if key[1] == "calls":  # every event is one call: counted once for each event
            findings.lost += max(events - said[0], 0)
            findings.doubled += max(said[0] - events, 0)
        # A quantity that is wrong where the amount is not (free units, one package) still is no nought.
        findings.wrong_cents += max(abs(amount - said[2]) * 100, Fraction(1, 100))
        findings.say(f"line {key}: found events, quantity, amount {_show(said)}, expected {events} {quantity} {amount}")


def _show(said: tuple[int, Fraction, Fraction]) -> str:
    return f"{said[0]} {said[1]} {said[2]}"


def _compare_invoices(expected: list[Billed], invoices: list[dict[str, Any]], findings: Findings) -> None:
    must = Counter(expected)
    have = Counter(_billed(invoice) for invoice in invoices)
    for label, some in (("missing", must - have), ("not expected", have - must)):
        for invoice, times in some.items():
            findings.documents += times
            findings.wrong_cents += abs(invoice.total) * times
            findings.say(f"invoice {label}: {invoice}")


def _billed(invoice: dict[str, Any]) -> Billed:
    because = invoice.get("because") or {}
    event = because.get("event") or {}
    lines = tuple(
        sorted(
            (
                (invoice["customer"], line["charge"], line["dimensions"].get("model") or ""),
                Fraction(line["quantity"]),
                _whole_cents(line["amount"]),
            )
            for line in invoice["lines"]
        )
    )
    return Billed(
        invoice["customer"],
        invoice["kind"],
        because.get("threshold", ""),
        because.get("level", ""),
        event.get("id", ""),
        lines,
        _whole_cents(invoice["total"]),
    )


def _whole_cents(text: str) -> int:
    amount = Fraction(text) * 100
    if amount.denominator != 1:
        raise ValueError(f"found {text} on an invoice, expected whole cents")
    return int(amount)


def _compare_alerts(expected: list[Warned], alerts: list[dict[str, Any]], findings: Findings) -> None:
    must = Counter(expected)
    have = Counter(
        Warned(
            alert["customer"],
            alert["because"]["threshold"],
            alert["because"]["level"],
            (alert["because"].get("event") or {}).get("id", ""),
            Fraction(alert["spend"]),
        )
        for alert in alerts
    )
    for label, some in (("missing", must - have), ("not expected", have - must)):
        for alert, times in some.items():
            findings.documents += times
            findings.say(f"alert {label}: {alert}")

"""Reads a golden case: a text that an accountant can check. `README.md` beside this file describes the form."""

import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

from tests.oracle.engine import Outputs
from tests.oracle.oracle import Tick
from tests.oracle.reading import number, show

_SECTION = re.compile(r"^--- (price book|events|as of|line items|invoices|alerts|rejections) *(.*)$", re.M)


class Case(NamedTuple):
    """One golden case: what goes in, and the rows that must come out, each as a tuple of texts."""

    title: str
    catalogue: str
    events: list[str | Tick]
    as_of: str | None
    expected: dict[str, list[Any]]


def read_case(path: Path) -> Case:
    """The case of one file."""
    parts = _SECTION.split(path.read_text())
    sections = {name: (rest + "\n" + body).strip("\n") for name, rest, body in zip(*[iter(parts[1:])] * 3, strict=True)}
    expected = {
        "line items": sorted(_cells(row) for row in _rows(sections.get("line items", ""))[1:]),
        "invoices": _invoices(sections.get("invoices", "")),
        "alerts": [_cells(row) for row in _rows(sections.get("alerts", ""))],
        "rejections": sorted(_cells(row) for row in _rows(sections.get("rejections", ""))),
    }
    as_of = sections.get("as of", "").strip()
    return Case(
        parts[0], sections["price book"], _events(sections["events"]), _time(as_of) if as_of else None, expected
    )


def as_rows(outputs: Outputs) -> dict[str, list[Any]]:
    """What the engine (or the oracle) wrote, as the rows of a case."""
    lines = [(_who(o), o["charge"], _dims(o), _period(o), o["quantity"], o["amount"]) for o in outputs["line_items"]]
    invoices = []
    for o in outputs["invoices"]:
        _check_sums(o)
        entries = [(line["charge"], _dims(line), line["amount"], *_parts(line)) for line in o["lines"]]
        head = (_who(o), _period(o), o["kind"], *_why(o.get("because")), o["total"])
        invoices.append((head, sorted([*entries, *_applied(o)])))
    alerts = [(_who(o), _period(o), *_kind(o), *_why(o["because"]), o["spend"]) for o in outputs["alerts"]]
    rejections = sorted((o["id"], o["code"], o["meter"] or "-") for o in outputs["rejections"])
    return {"line items": sorted(lines), "invoices": invoices, "alerts": alerts, "rejections": rejections}


def _check_sums(invoice: dict[str, Any]) -> None:
    """An invoice's sums are those of its lines, and add up to its total."""
    sums = {name: Fraction(0) for name in ("subtotal", "minimum", "discounts", "credits", "taxes")}
    for line in invoice["lines"]:
        sums["minimum" if line["charge"] == "minimum" else "subtotal"] += Fraction(line["amount"])
        for name, part in (("discounts", "discount"), ("credits", "credit"), ("taxes", "tax")):
            sums[name] += Fraction(line.get(part, "0"))
    assert {name: show(value) for name, value in sums.items()} == {name: invoice.get(name, "0") for name in sums}
    signed = (-value if name in ("discounts", "credits") else value for name, value in sums.items())
    assert number(invoice["total"]) == sum(signed), f"the total is not the sum: {invoice}"


def _parts(line: dict[str, Any]) -> tuple[str, ...]:
    parts = [(part, line.get(part, "0")) for part in ("discount", "credit", "tax")]
    return tuple(text for part, amount in parts if amount != "0" for text in (part, amount))


def _applied(invoice: dict[str, Any]) -> list[tuple[str, ...]]:
    """What came off an invoice (`-`), on top of it (`+`) or lies in it (`=`), one by one."""
    coupons = invoice.get("applied_coupons", [])
    capped = Fraction(invoice.get("discounts", "0")) - sum(Fraction(coupon["amount"]) for coupon in coupons)
    return [
        *([("-", "maximum", show(capped))] if capped else []),
        *(("-", "coupon", one["coupon"], one["amount"]) for one in coupons),
        *(("-", "credit", one["grant"], one["amount"]) for one in invoice.get("applied_credits", [])),
        *(
            ("=" if one["inclusive"] else "+", "tax", one["name"], one["rate"], "of", one["base"], one["amount"])
            for one in invoice.get("tax_lines", [])
        ),
    ]


def _kind(alert: dict[str, Any]) -> tuple[str, ...]:
    return () if alert.get("kind", "threshold") == "threshold" else (alert["kind"], *filter(None, [alert.get("grant")]))


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _cells(row: str) -> tuple[str, ...]:
    return tuple(row.split("  # ", maxsplit=1)[0].split())


def _invoices(text: str) -> list[Any]:
    """A row that begins at the margin is an invoice, an indented one a line of it."""
    found: list[Any] = []
    for row in _rows(text):
        if row[0] == " ":
            found[-1][1].append(_cells(row))
        else:
            found.append((_cells(row), []))
    return [(head, sorted(lines)) for head, lines in found]


def _events(text: str) -> list[str | Tick]:
    """CloudEvents as JSON texts, from a table, with the ticks that stand among them."""
    rows = [_cells(row) for row in _rows(text)]
    head = rows[0]
    return [Tick(_time(row[1])) if row[0] == "tick" else _event(dict(zip(head, row, strict=True))) for row in rows[1:]]


def _event(cells: dict[str, str]) -> str:
    """One CloudEvent; the columns that CloudEvents does not name are `data`."""
    taken_back = cells.pop("voids", "-")
    if cells["id"].startswith("-"):
        taken_back, cells["id"] = cells["id"][1:], f"void{cells['id']}"
    envelope = {
        "specversion": "1.0",
        "id": cells.pop("id"),
        "source": cells.pop("source", "meter-1"),
        "type": cells.pop("type", "use"),
        "subject": cells.pop("subject", "acme"),
        "time": _time(cells.pop("time")),
    }
    data = ", ".join(f"{json.dumps(key)}: {_json(cell)}" for key, cell in cells.items() if cell != "-")
    if taken_back != "-":
        source, _, id = taken_back.rpartition("/")
        envelope["type"] = "taximeter.void"
        data = json.dumps({"source": source or "meter-1", "id": id, "reason": "a mistake"})[1:-1]
    return json.dumps(envelope)[:-1] + ', "data": {' + data + "}}"


def _json(cell: str) -> str:
    """A cell as JSON: what reads as JSON is taken letter by letter, anything else is a text."""
    try:
        json.loads(cell)
    except ValueError:
        return json.dumps(cell)
    return cell


def _time(cell: str) -> str:
    return cell if "T" in cell else cell + "T00:00:00Z"


def _period(output: dict[str, Any]) -> str:
    period = output["period"]
    return "..".join(period[end].removesuffix("T00:00:00Z") for end in ("start", "end"))


def _who(output: dict[str, Any]) -> str:
    customer, subscription = output["customer"], output["subscription"]
    return customer if customer == subscription else f"{customer}/{subscription}"


def _dims(output: dict[str, Any]) -> str:
    return ",".join(f"{k}={'null' if v is None else v}" for k, v in sorted(output["dimensions"].items())) or "-"


def _why(because: dict[str, Any] | None) -> tuple[str, ...]:
    if because is None:
        return ()
    by = (because.get("event") or {}).get("id") or because.get("tick")
    return ("level", because["level"], "of", because["threshold"], *(("by", by) if by else ()))

"""`taximeter simulate`: the bills of a file of events in tables, how two catalogues differ by customer and charge."""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Final

import click

from rating.catalogue import load_catalogue
from schemas.catalogue import Catalogue
from schemas.currency import MINOR_DIGITS
from schemas.numbers import format_scaled, parse_scaled
from schemas.times import parse_time, to_datetime
from taximeter.documents import zone_of
from taximeter.rate_file import Rated, rate_events, read_lines
from taximeter.simulate import Bill, Difference, Line, bills, compare
from taximeter.text import about, heading, moment, number, paragraph, plural, table

BILLS_MAX: Final = 50
"""Bills that are shown one by one, unless customers are named."""
_SAID = {"subtotal": "invoiced", "minimum": "commitment", "discounts": "discounts", "credits": "credits",
         "taxes": "taxes", "total": "to pay"}  # fmt: skip
_TAKEN: Final = ("discounts", "credits")


def simulate_path(
    catalogue: Path, events: Path, as_of: int | None, against: Path | None, customers: Sequence[str], width: int
) -> int:
    """The command: returns the exit status, 0 or 3. Raises: CatalogueError, OSError."""
    text = catalogue.read_bytes()
    compiled = load_catalogue(text)
    other = None if against is None else against.read_bytes()
    if other is not None:
        load_catalogue(other)
    rated = _rate(text, events, as_of)
    lines = list(_events(rated))
    if other is None or against is None:
        lines += _bills(rated, compiled.documents, customers, width)
    else:
        before = _rate(other, events, as_of)
        lines += _differences(compare(before, rated), against.name, catalogue.name, customers, width)
    click.echo("\n".join([*lines, "", f"{rated.rejected} rejected"]))
    return 3 if rated.rejected else 0


def _rate(catalogue: bytes, events: Path, as_of: int | None) -> Rated:
    try:
        return rate_events(catalogue, read_lines(events), as_of)
    except (EOFError, zlib.error) as error:
        raise OSError(None, f"not a whole gzip file: {error}", str(events)) from None


def _events(rated: Rated) -> Iterator[str]:
    yield f"{plural(rated.events, 'event')}: {rated.accepted:,} accepted, {plural(rated.duplicates, 'duplicate')}"
    codes = Counter(rejection.code for rejection in rated.rejections)
    for code, count in sorted(codes.items()):
        first = next(one for one in rated.rejections if one.code == code)
        at = f" (first: line {first.where.line}, {first.message})"
        yield from paragraph(f"{count:,} {code}{at}", 2, hang=2)


# Bills --------------------------------------------------------------------------------------------


def _bills(rated: Rated, catalogue: Catalogue, customers: Sequence[str], width: int) -> Iterator[str]:
    found = [bill for bill in bills(rated) if not customers or bill.customer in customers]
    shown = found if customers else found[:BILLS_MAX]
    for bill in shown:
        yield ""
        yield from _bill(bill, zone_of(catalogue, bill.customer, bill.subscription), width)
    if len(found) > len(shown):
        yield ""
        yield f"and {plural(len(found) - len(shown), 'more bill')}: name customers with --customer"
    if len(found) > 1:
        yield ""
        yield from _all(found, width)


def _bill(bill: Bill, zone: str, width: int) -> Iterator[str]:
    periods = list(dict.fromkeys(line.period for line in bill.lines))
    alone = f", {_period(periods[0], zone)}" if len(periods) == 1 else ""
    name = bill.customer if bill.subscription == "default" else f"{bill.customer}, {bill.subscription}"
    yield from heading(f"{name}{alone}", f"in {bill.currency}", width)
    rows: list[list[str]] = []
    for period in periods:
        rows += [] if alone else [[_period(period, zone), "", ""]]
        lines = [line for line in bill.lines if line.period == period]
        rows += [[_name(line, "" if alone else "  "), _number(line.quantity), _number(line.amount)] for line in lines]
    if len(bill.lines) > 1:
        rows.append(["charges", "", _number(bill.amount)])
    for total, amount in (bill.totals or {}).items():
        if amount or total in ("subtotal", "total"):
            sign = -1 if total in _TAKEN else 1
            count = f" ({plural(bill.invoices, 'invoice')})" if total == "subtotal" else ""
            rows.append([_SAID[total] + count, "", _money(sign * amount, bill.currency)])
    yield from table(["charge", "quantity", "amount"], rows, ["left", "number", "number"], width=width)


def _all(found: list[Bill], width: int) -> Iterator[str]:
    yield from heading(f"All {plural(len(found), 'bill')}", width=width)
    rows = []
    for currency in sorted({bill.currency for bill in found}):
        of = [bill for bill in found if bill.currency == currency]
        asked = sum(bill.totals["total"] for bill in of if bill.totals is not None)
        rows.append([currency, _number(sum(bill.amount for bill in of)), _money(asked, currency)])
    yield from table(["currency", "charges", "to pay by invoices"], rows, ["left", "number", "number"], width=width)


def _name(line: Line, indent: str) -> str:
    values = [value if value is not None else "(none)" for _, value in line.dimensions]
    return f"{indent}{line.charge}  {' · '.join(values)}" if values else indent + line.charge


def _period(period: tuple[str, str], zone: str) -> str:
    start, end = (_time(text) for text in period)
    return f"{moment(start, zone)} to {moment(end, zone)}"


def in_words(time: str, zone: str = "UTC") -> str:
    """A time of an output as people write it."""
    return moment(_time(time), zone)


def in_numbers(amount: str) -> str:
    """An amount of an output, in full."""
    return _number(parse_scaled(amount))


def in_money(amount: str, currency: str, sign: int = 1) -> str:
    """An amount of an invoice, in full cents."""
    return _money(sign * parse_scaled(amount), currency)


def _time(text: str) -> datetime:
    return to_datetime(parse_time(text))


def _number(scaled: int) -> str:
    return number(format_scaled(scaled))


def _money(scaled: int, currency: str) -> str:
    """An amount of an invoice, with the digits of its currency's minor unit."""
    whole, _, rest = _number(scaled).partition(".")
    digits = MINOR_DIGITS.get(currency, 2)
    return f"{whole}.{rest.ljust(digits, '0')}" if digits else whole


# Differences --------------------------------------------------------------------------------------


def _differences(
    found: list[Difference], before: str, after: str, customers: Sequence[str], width: int
) -> Iterator[str]:
    wanted = [one for one in found if not customers or one.customer in customers]
    names = list(dict.fromkeys((one.customer, one.currency) for one in wanted))
    shown = names if customers else names[:BILLS_MAX]
    yield ""
    yield from heading(f"{after} against {before}", width=width)
    rows: list[list[str]] = []
    for name in shown:
        own = [one for one in wanted if (one.customer, one.currency) == name]
        rows += _rows(name[0], name[1], own)
    for currency in sorted({currency for _, currency in names}) if len(names) > 1 else ():
        rows += _rows("all customers", currency, _summed([one for one in wanted if one.currency == currency]))
    header = ["", before, after, "difference", ""]
    yield from table(header, rows, ["left", "number", "number", "number", "number"], width=width)
    if len(names) > len(shown):
        yield f"and {plural(len(names) - len(shown), 'more customer')}: name them with --customer"


def _rows(title: str, currency: str, own: list[Difference]) -> list[list[str]]:
    charges = [one for one in own if one.charge is not None and (one.before or one.after)]
    total = Difference("", "", "charges", sum(one.before for one in charges), sum(one.after for one in charges))
    rows = [[f"{title}, {currency}", "", "", "", ""]]
    for one in [*charges, *([total] if len(charges) > 1 else []), *(one for one in own if one.charge is None)]:
        change, asked = one.after - one.before, one.charge is None
        amounts = [_money(a, currency) if asked else _number(a) for a in (one.before, one.after, change)]
        amounts[2] = ("+" if change > 0 else "") + amounts[2]
        rows.append([f"  {one.charge or 'to pay by invoices'}", *amounts, _share(one)])
    return rows


def _summed(found: list[Difference]) -> list[Difference]:
    sums: dict[str | None, list[int]] = {}
    for one in found:
        of = sums.setdefault(one.charge, [0, 0])
        of[0] += one.before
        of[1] += one.after
    ordered = sorted(sums, key=lambda charge: (charge is None, charge or ""))
    return [Difference("", "", charge, *sums[charge]) for charge in ordered]


def _share(one: Difference) -> str:
    """The difference as a share of what it was, to three digits."""
    if not one.before or one.before == one.after:
        return ""
    with localcontext(prec=60):
        share = Decimal(one.after - one.before) * 100 / abs(one.before)
    return f"{'+' if share > 0 else ''}{about(share, 3)} %"

"""What events would cost: a sample through the real engine under any catalogue, in memory, touching nothing.

`simulate` rates, `bills` gathers what each subscription owes, `compare` sets two catalogues side by side.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from ingest.route import View
from rating.catalogue import load_catalogue
from schemas.access import DEFAULT_TENANT
from schemas.catalogue import Catalogue
from schemas.faults import encode_document
from schemas.numbers import format_scaled, parse_scaled
from schemas.output import Invoice, LineItem
from schemas.times import parse_time
from taximeter.rate_file import FileRater, Rated

ALERTS_MAX = 100_000
"""Of a repeating threshold a single event may cross a thousand levels: more than so many alerts are no sample."""
_CHUNK = 500


class TooMuch(ValueError):
    """The simulation was given up; the message says what was too much."""


class Line(NamedTuple):
    """One line item of a bill; amounts and quantities are scaled."""

    charge: str
    dimensions: tuple[tuple[str, str | None], ...]
    period: tuple[str, str]
    quantity: int
    amount: int


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What one subscription of a customer comes to: its line items, and what its invoices say (scaled; None where
    there are none)."""

    customer: str
    subscription: str
    currency: str
    lines: list[Line]
    amount: int
    invoices: int
    totals: dict[str, int] | None


class Difference(NamedTuple):
    """What a charge of a customer comes to under two catalogues (scaled). `charge` None: what invoices ask in all."""

    customer: str
    currency: str
    charge: str | None
    before: int
    after: int


TOTALS = ("subtotal", "minimum", "discounts", "credits", "taxes", "total")


def simulate(catalogue: Catalogue, events: Sequence[bytes], as_of: int | None, tenant: str = DEFAULT_TENANT) -> Rated:
    """Rates CloudEvents (each a JSON text) as a tenant's. `as_of` (microseconds) closes what has ended by then.

    Raises: CatalogueError; TooMuch.
    """
    rater = FileRater(load_catalogue(encode_document(catalogue)), tenant)
    for start in range(0, len(events), _CHUNK):
        chunk = events[start : start + _CHUNK]
        rater.add(list(chunk), list(range(start + 1, start + len(chunk) + 1)))
        if len(rater.rated.alerts) > ALERTS_MAX:
            raise TooMuch(f"found more than {ALERTS_MAX} alerts, expected at most as many: raise the thresholds")
    return rater.finish(as_of)


def concerned(catalogue: Catalogue, events: Iterable[bytes], also: Iterable[str] = ()) -> Catalogue:
    """The catalogue without the subscriptions of customers that neither have events here nor stand in `also`."""
    subjects = View.of(catalogue).subjects
    used = {_subject_of(event) for event in events}
    customers = {subjects.get(subject, subject) for subject in used if subject is not None} | set(also)
    kept = {id: one for id, one in catalogue.subscriptions.items() if one.customer in customers}
    return msgspec.structs.replace(catalogue, subscriptions=kept)


class _Subject(msgspec.Struct):
    subject: str | None = None


def _subject_of(event: bytes) -> str | None:
    try:
        return msgspec.json.decode(event, type=_Subject).subject
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def since_first_event(rated: Rated) -> Rated:
    """Without the periods that had ended before the first event: a subscription may have begun long before it."""
    times = [parse_time(item.first_event) for item in rated.line_items if item.first_event is not None]
    if not times:
        return rated
    first = min(times)
    rated.line_items = [item for item in rated.line_items if parse_time(item.period.end) > first]
    rated.invoices = [invoice for invoice in rated.invoices if parse_time(invoice.period.end) > first]
    return rated


def bills(rated: Rated) -> list[Bill]:
    """What each subscription comes to, by customer, subscription and currency."""
    items: dict[tuple[str, str, str], list[LineItem]] = {}
    for item in rated.line_items:
        items.setdefault((item.customer, item.subscription, item.currency), []).append(item)
    invoices: dict[tuple[str, str, str], list[Invoice]] = {}
    for invoice in rated.invoices:
        key = invoice.customer, invoice.subscription, invoice.currency
        items.setdefault(key, [])
        invoices.setdefault(key, []).append(invoice)
    return [_bill(key, items[key], invoices.get(key, [])) for key in sorted(items)]


def _bill(key: tuple[str, str, str], items: list[LineItem], invoices: list[Invoice]) -> Bill:
    lines = [
        Line(
            item.charge,
            tuple(item.dimensions.items()),
            (item.period.start, item.period.end),
            parse_scaled(item.quantity),
            parse_scaled(item.amount),
        )
        for item in items
    ]
    totals = {name: sum(parse_scaled(getattr(one, name)) for one in invoices) for name in TOTALS} if invoices else None
    return Bill(
        customer=key[0],
        subscription=key[1],
        currency=key[2],
        lines=lines,
        amount=sum(line.amount for line in lines),
        invoices=len(invoices),
        totals=totals,
    )


def compare(before: Rated, after: Rated) -> list[Difference]:
    """Each customer's charges under two catalogues, and what the invoices ask in all where there are any."""
    found: dict[tuple[str, str, str | None], list[int]] = {}
    for place, rated in enumerate((before, after)):
        for item in rated.line_items:
            found.setdefault((item.customer, item.currency, item.charge), [0, 0])[place] += parse_scaled(item.amount)
        for invoice in rated.invoices:
            found.setdefault((invoice.customer, invoice.currency, None), [0, 0])[place] += parse_scaled(invoice.total)
    order = sorted(found, key=lambda key: (key[0], key[1], key[2] is None, key[2] or ""))
    return [Difference(*key, *found[key]) for key in order]


def difference_document(one: Difference) -> dict[str, Any]:
    """A difference as the answer shows it."""
    amounts = {"before": one.before, "after": one.after, "difference": one.after - one.before}
    named = {"customer": one.customer, "currency": one.currency, "charge": one.charge}
    return {**named, **{name: format_scaled(amount) for name, amount in amounts.items()}}

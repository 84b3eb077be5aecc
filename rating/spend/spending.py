"""Adds up a customer's line items: exact sums in whole numbers, by currency, subscription, charge and dimension."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import NamedTuple, TypeVar

import msgspec
import pyarrow as pa

from rating.spend.answers import Billed, ChargeSpend, CurrencySpend, DimensionSpend, Spend, SubscriptionSpend
from rating.spend.columns import scaled
from rating.spend.store import SpendStore
from schemas.numbers import format_scaled
from schemas.output import Span
from schemas.times import format_time

CURRENT = "current"
ALL = "all"
Choice = str | int
"""`current` (each subscription's latest period), `all`, or the start of a period in microseconds."""

_Place = tuple[str, int, int]
_DIMENSIONS = msgspec.json.Decoder(dict[str, str | None])
_COUNTED = ("issued", "paid")


class _Line(NamedTuple):
    currency: str
    subscription: str
    start: int
    end: int
    charge: str
    dimensions: str
    amount: int
    events: int
    last_event: int | None


class _Bill(NamedTuple):
    currency: str
    subscription: str
    start: int
    end: int
    kind: str
    status: str
    subtotal: int
    total: int


class _Crossing(NamedTuple):
    currency: str
    subscription: str
    start: int
    end: int


_Row = _Line | _Bill | _Crossing
_R = TypeVar("_R", _Line, _Bill, _Crossing)


def spend(store: SpendStore, tenant: str, customer: str, period: Choice) -> Spend:
    """What the customer's usage in the chosen periods has come to. A customer without any has no currencies."""
    lines = _lines(store.lines(tenant, customer))
    bills = _bills(store.bills(tenant, customer))
    crossings = list(map(_Crossing._make, _rows(store.crossings(tenant, customer))))
    priced: list[_Line | _Bill] = [*lines, *bills]
    chosen = _chooser(period, priced)
    lines, bills, crossings = _kept(lines, chosen), _kept(bills, chosen), _kept(crossings, chosen)
    last = max((line.last_event for line in lines if line.last_event is not None), default=None)
    return Spend(
        customer=customer,
        period=format_time(period) if isinstance(period, int) else period,
        currencies=[
            _currency(currency, _of(currency, lines), _of(currency, bills), _of(currency, crossings))
            for currency in sorted({row.currency for row in priced if chosen(row)})
        ],
        as_of=None if last is None else format_time(last),
    )


def _chooser(period: Choice, rows: Iterable[_Line | _Bill]) -> Callable[[_Row], bool]:
    if period == ALL:
        return lambda row: True
    if isinstance(period, int):
        return lambda row: row.start == period
    latest: dict[str, int] = {}
    for row in rows:
        latest[row.subscription] = max(row.start, latest.get(row.subscription, row.start))
    return lambda row: latest.get(row.subscription) == row.start


def _kept(rows: Iterable[_R], chosen: Callable[[_Row], bool]) -> list[_R]:
    return [row for row in rows if chosen(row)]


def _of(currency: str, rows: Iterable[_R]) -> list[_R]:
    return [row for row in rows if row.currency == currency]


def _currency(
    currency: str, lines: Sequence[_Line], bills: Sequence[_Bill], crossings: Sequence[_Crossing]
) -> CurrencySpend:
    return CurrencySpend(
        currency=currency,
        total=format_scaled(sum(line.amount for line in lines)),
        billed=_billed(bills),
        thresholds=len(crossings),
        by_subscription=_by_subscription(lines, bills, crossings),
        by_charge=_by_charge(lines),
        by_dimension=_by_dimension(lines),
    )


def _billed(bills: Sequence[_Bill]) -> Billed:
    counted = [bill for bill in bills if bill.status in _COUNTED]
    kinds = [bill.kind for bill in counted]
    return Billed(
        subtotal=format_scaled(sum(bill.subtotal for bill in counted)),
        total=format_scaled(sum(bill.total for bill in counted)),
        threshold=kinds.count("threshold"),
        period=kinds.count("period"),
        correction=kinds.count("correction"),
    )


def _by_subscription(
    lines: Sequence[_Line], bills: Sequence[_Bill], crossings: Sequence[_Crossing]
) -> list[SubscriptionSpend]:
    amounts: dict[_Place, int] = {}
    for line in lines:
        amounts[_place(line)] = amounts.get(_place(line), 0) + line.amount
    own_bills: dict[_Place, list[_Bill]] = {}
    for bill in bills:
        own_bills.setdefault(_place(bill), []).append(bill)
    crossed = Counter(map(_place, crossings))
    return [
        SubscriptionSpend(
            subscription=place[0],
            period=Span(format_time(place[1]), format_time(place[2])),
            amount=format_scaled(amounts.get(place, 0)),
            billed=_billed(own_bills.get(place, [])),
            thresholds=crossed[place],
        )
        for place in sorted(amounts.keys() | own_bills.keys())
    ]


def _place(row: _Row) -> _Place:
    return row.subscription, row.start, row.end


def _by_charge(lines: Sequence[_Line]) -> list[ChargeSpend]:
    def key(line: _Line) -> tuple[str, str]:
        return line.subscription, line.charge

    found = []
    for (subscription, charge), group in groupby(sorted(lines, key=key), key):
        own = list(group)
        found.append(
            ChargeSpend(
                subscription=subscription,
                charge=charge,
                amount=format_scaled(sum(line.amount for line in own)),
                events=sum(line.events for line in own),
                line_items=len(own),
            )
        )
    return found


def _by_dimension(lines: Sequence[_Line]) -> list[DimensionSpend]:
    sums: dict[tuple[str, str | None], tuple[int, int]] = {}
    for line in lines:
        for pair in _DIMENSIONS.decode(line.dimensions).items():
            amount, events = sums.get(pair, (0, 0))
            sums[pair] = amount + line.amount, events + line.events
    order = sorted(sums, key=lambda pair: (pair[0], pair[1] is not None, pair[1] or ""))
    return [
        DimensionSpend(dimension=pair[0], value=pair[1], amount=format_scaled(sums[pair][0]), events=sums[pair][1])
        for pair in order
    ]


def _rows(table: pa.Table, *more: Sequence[object]) -> Iterable[tuple[object, ...]]:
    places = [table[name].to_pylist() for name in ("currency", "subscription", "period_start", "period_end")]
    return zip(*places, *more, strict=True)


def _lines(table: pa.Table) -> list[_Line]:
    names = ("charge", "dimensions"), ("events", "last_event")
    before, after = ([table[name].to_pylist() for name in part] for part in names)
    return list(map(_Line._make, _rows(table, *before, scaled(table["amount"]), *after)))


def _bills(table: pa.Table) -> list[_Bill]:
    texts = [table[name].to_pylist() for name in ("kind", "status")]
    return list(map(_Bill._make, _rows(table, *texts, scaled(table["subtotal"]), scaled(table["total"]))))

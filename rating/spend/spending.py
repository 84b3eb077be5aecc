"""Adds up a customer's line items: exact sums in whole numbers, by currency, subscription, charge and dimension."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from rating.spend.answers import Billed, ChargeSpend, CurrencySpend, DimensionSpend, Spend, SubscriptionSpend
from rating.spend.index import Account, Bill, Crossing
from rating.spend.line_table import Line
from rating.spend.store import SpendStore
from schemas.numbers import format_scaled
from schemas.output import Span
from schemas.times import format_time

CURRENT = "current"
ALL = "all"
Choice = str | int
"""`current` (each subscription's latest period), `all`, or the start of a period in microseconds."""

AT_ONCE_MAX: Final = 500
"""An account of more line items and invoices is added up in a thread."""

_Place = tuple[str, int, int]
_COUNTED = ("issued", "paid")

_Row = Line | Bill | Crossing
_R = TypeVar("_R", Line, Bill, Crossing)


def spend(store: SpendStore, tenant: str, customer: str, period: Choice) -> Spend:
    """What the customer's usage in the chosen periods has come to. A customer without any has no currencies."""
    return spend_of(store.account(tenant, customer), customer, period)


def spend_of(account: Account, customer: str, period: Choice) -> Spend:
    """The same of the customer's account."""
    lines, bills, crossings = account.read()
    priced: list[Line | Bill] = [*lines, *bills]
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


@dataclass(frozen=True, slots=True)
class SpendQuery:
    """A question for a customer's spend, as `SpendView.ask` takes it."""

    tenant: str
    customer: str
    period: Choice

    def __call__(self, store: SpendStore) -> Mapping[str, Any]:
        """The members of the answer."""
        return msgspec.structs.asdict(spend(store, self.tenant, self.customer, self.period))

    def at_once(self, store: SpendStore) -> Mapping[str, Any] | None:
        """The same, where it takes no SQL and about a millisecond at most: it need not go to a thread."""
        account = store.account_at_hand(self.tenant, self.customer)
        if account is None or len(account) > AT_ONCE_MAX:
            return None
        return msgspec.structs.asdict(spend_of(account, self.customer, self.period))


def _chooser(period: Choice, rows: Iterable[Line | Bill]) -> Callable[[_Row], bool]:
    if period == ALL:
        return lambda row: True
    if isinstance(period, int):
        return lambda row: row.start == period
    latest: dict[str, int] = {}
    for row in rows:
        latest[row.subscription] = max(row.start, latest.get(row.subscription, row.start))
    return lambda row: latest.get(row.subscription) == row.start


def _kept(rows: list[_R], chosen: Callable[[_Row], bool]) -> list[_R]:
    return [row for row in rows if chosen(row)]


def _of(currency: str, rows: list[_R]) -> list[_R]:
    return [row for row in rows if row.currency == currency]


def _currency(
    currency: str, lines: Sequence[Line], bills: Sequence[Bill], crossings: Sequence[Crossing]
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


def _billed(bills: Sequence[Bill]) -> Billed:
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
    lines: Sequence[Line], bills: Sequence[Bill], crossings: Sequence[Crossing]
) -> list[SubscriptionSpend]:
    amounts: defaultdict[_Place, int] = defaultdict(int)
    for _, subscription, start, end, _, _, amount, _, _ in lines:
        amounts[subscription, start, end] += amount
    own_bills: dict[_Place, list[Bill]] = {}
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


def _by_charge(lines: Sequence[Line]) -> list[ChargeSpend]:
    sums: dict[tuple[str, str], list[int]] = {}
    for _, subscription, _, _, charge, _, amount, events, _ in lines:
        one = sums.setdefault((subscription, charge), [0, 0, 0])
        one[0] += amount
        one[1] += events
        one[2] += 1
    return [
        ChargeSpend(
            subscription=place[0], charge=place[1], amount=format_scaled(amount), events=events, line_items=count
        )
        for place, (amount, events, count) in sorted(sums.items())
    ]


def _by_dimension(lines: Sequence[Line]) -> list[DimensionSpend]:
    sums: dict[tuple[str, str | None], list[int]] = {}
    for _, _, _, _, _, pairs, amount, events, _ in lines:
        for pair in pairs:
            one = sums.setdefault(pair, [0, 0])
            one[0] += amount
            one[1] += events
    return [
        DimensionSpend(
            dimension=name, value=value, amount=format_scaled(sums[name, value][0]), events=sums[name, value][1]
        )
        for name, value in sorted(sums, key=lambda pair: (pair[0], pair[1] is not None, pair[1] or ""))
    ]

"""The rating oracle: what the contracts say of metering, rating and invoicing, worked out the plain way.

It keeps every event of every line and prices the whole line again after each, in fractions. It imports nothing of
the engine; the engine is right where both say the same. `rate` is the entry. Where the contracts leave a choice,
the reading is noted beside the line that makes it ("Reading:").
"""

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from tests.oracle.calendars import iso, moment, period_of, terms_of
from tests.oracle.prices import NOUGHT, OTHERWISE, TINY, Use, aggregate, bounded, cell_of, price_line
from tests.oracle.reading import (
    amount,
    fits,
    half_even,
    half_up,
    look,
    name_of,
    number,
    passes,
    read_book,
    read_event,
    show,
)

DEFAULT = "default"
"""What the default subscription is called. Reading: the contracts give it no name."""

MINOR_DIGITS = {"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3, "ISK": 0, "JPY": 0, "KRW": 0}
MINOR_DIGITS |= {"CLP": 0, "VND": 0, "XAF": 0, "XOF": 0, "PYG": 0, "UGX": 0}


def rate(catalogue_text: str, events: Iterable[Any], as_of: str | int | None = None) -> dict[str, list[dict[str, Any]]]:
    """Rates events (JSON texts or dicts, in order of arrival) and closes what has ended by `as_of`.

    Returns `line_items`, `invoices`, `alerts` and `rejections`, each a list of dicts whose numbers are texts.
    """
    ledger = Ledger(read_book(catalogue_text))
    for arrival, event in enumerate(events):
        ledger.take(arrival, read_event(event))
    if as_of is not None:
        ledger.close(moment(as_of) if isinstance(as_of, str) else as_of)
    return {
        "line_items": [line for account in ledger.accounts.values() for line in account.shown()],
        "invoices": ledger.invoices,
        "alerts": ledger.alerts,
        "rejections": ledger.rejections,
    }


class Subscription:
    """One customer's agreement: its price book with the overrides laid over it, and its periods."""

    def __init__(self, name: str, customer: str, terms: dict[str, Any], zone: str, books: dict[str, Any]) -> None:
        book, overrides = books[terms["price_book"]], terms.get("overrides") or {}
        self.name, self.customer = name, customer
        self.start = moment(terms["start"]) if "start" in terms else None
        self.end = moment(terms["end"]) if terms.get("end") else None
        self.terms = terms_of(
            terms.get("period", "month"), terms.get("anchor"), terms.get("timezone") or zone, self.start
        )
        changed = overrides.get("charges") or {}
        self.charges = {key: {**charge, **changed.get(key, {})} for key, charge in book["charges"].items()}
        self.minimum = overrides.get("minimum") or book.get("minimum")
        # Thresholds that an override names, even as an empty list, replace the book's.
        own = overrides.get("thresholds")
        self.thresholds = own if own is not None else book.get("thresholds") or []
        self.currency, self.book = book["currency"], terms["price_book"]
        self.cent = Fraction(1, 10 ** MINOR_DIGITS.get(self.currency, 2))
        self.to_cents = half_even if book.get("rounding") == "half_even" else half_up

    def covers(self, time: int) -> bool:
        """Whether a time lies in `[start, end)`; a default subscription covers all."""
        return (self.start is None or self.start <= time) and (self.end is None or time < self.end)

    def period(self, time: int) -> tuple[int, int]:
        """The billing period that holds a time: the calendar's, cut at the subscription's start and end."""
        begin, end = period_of(self.terms, time)
        return (
            begin if self.start is None else max(begin, self.start),
            end if self.end is None else min(end, self.end),
        )

    def share(self, period: tuple[int, int]) -> Fraction:
        """A period's duration over that of the whole calendar period."""
        begin, end = period_of(self.terms, period[0])
        return Fraction(period[1] - period[0], end - begin)

    def rounded(self, value: Fraction) -> Fraction:
        """An amount as it stands on an invoice."""
        return self.to_cents(value, self.cent)


class Line:
    """One line item: the uses of one charge under one combination of its dimensions, by cell of its matrix."""

    def __init__(self, name: str, charge: dict[str, Any], how: str | None, dimensions: dict[str, str | None]) -> None:
        self.name, self.charge, self.how, self.dimensions = name, charge, how, dimensions
        self.cells: dict[int, list[Use]] = {}
        self.quantity, self.amount, self.tiers = NOUGHT, NOUGHT, []

    def add(self, cell: int, use: Use) -> None:
        """Counts one more event and prices the line again."""
        self.cells.setdefault(cell, []).append(use)
        self.price()

    def price(self) -> None:
        """The line's quantity and amount, from all its events."""
        totals = {cell: aggregate(self.how, uses) for cell, uses in self.cells.items()}
        price = self.charge["price"]
        # Reading: usage of nought has no dimensions, so it stands where null matches: in `otherwise`, if there is one.
        nowhere = price["model"] == "matrix" and price.get("otherwise") is None
        no_usage = {} if nowhere else {OTHERWISE if price["model"] == "matrix" else 0: NOUGHT}
        self.quantity, self.amount, self.tiers = price_line(self.charge, totals or no_usage)

    def times(self) -> list[int]:
        """The times of all its events."""
        return [use.time for uses in self.cells.values() for use in uses]


class Account:
    """One billing period of one subscription: its lines, what was billed of them, the levels that were crossed."""

    def __init__(self, subscription: Subscription, period: tuple[int, int]) -> None:
        self.subscription, self.period = subscription, period
        self.lines: dict[tuple[Any, ...], Line] = {}
        self.billed: dict[tuple[Any, ...], Fraction] = {}
        self.crossed: set[tuple[Fraction, Fraction]] = set()

    def line(self, name: str, dimensions: dict[str, str | None], how: str | None) -> Line:
        """The line of a charge and its dimensions."""
        key = (name, *dimensions.items())
        if key not in self.lines:
            self.lines[key] = Line(name, self.subscription.charges[name], how, dimensions)
        return self.lines[key]

    def spend(self) -> Fraction:
        """The unrounded sum of the charges so far."""
        return sum((line.amount for line in self.lines.values()), NOUGHT)

    def add_flat(self, when: str) -> None:
        """The period's own charges: those without a meter. Reading: their quantity is 1."""
        for name, charge in self.subscription.charges.items():
            if charge["price"]["model"] != "flat" or charge.get("when", "in_arrears") != when:
                continue
            share = self.subscription.share(self.period) if charge.get("prorate") else 1
            line = self.line(name, {}, None)
            line.quantity = Fraction(1)
            line.amount = bounded(charge, amount(charge["price"]["amount"]) * share)

    def add_unused(self) -> None:
        """Charges that bill a period without any event. Reading: their line has null for each of its dimensions."""
        used = {line.name for line in self.lines.values()}
        for name, charge in self.subscription.charges.items():
            due = charge.get("bill_zero_usage") or charge.get("minimum") is not None
            if charge.get("meter") and due and name not in used:
                self.line(name, dict.fromkeys(charge.get("group_by") or []), None).price()

    def head(self) -> dict[str, Any]:
        """What every output of the period begins with."""
        period = {"start": iso(self.period[0]), "end": iso(self.period[1])}
        whose = self.subscription
        return {"customer": whose.customer, "subscription": whose.name, "currency": whose.currency, "period": period}

    def shown(self) -> list[dict[str, Any]]:
        """The line items; one with neither a quantity nor an amount is none."""
        return [
            {
                **self.head(),
                "price_book": self.subscription.book,
                "charge": line.name,
                "meter": line.charge.get("meter"),
                "dimensions": line.dimensions,
                "quantity": show(line.quantity),
                "amount": show(line.amount),
                "events": len(line.times()),
                "first_event": iso(min(line.times())) if line.cells else None,
                "last_event": iso(max(line.times())) if line.cells else None,
                "tiers": line.tiers,
            }
            for line in self.lines.values()
            if line.quantity or line.amount
        ]

    def invoice(self, kind: str, because: dict[str, Any] | None) -> dict[str, Any] | None:
        """What has not been billed yet, to the cent; None where that is no line."""
        lines = []
        for key, line in self.lines.items():
            due = self.subscription.rounded(line.amount)
            part, self.billed[key] = due - self.billed.get(key, NOUGHT), due
            if part:
                shown = {"charge": line.name, "dimensions": line.dimensions, "quantity": show(line.quantity)}
                lines.append({**shown, "amount": show(part)})
        subtotal = sum((amount(line["amount"]) for line in lines), NOUGHT)
        trued_up = self.true_up() if kind == "period" else NOUGHT
        if trued_up:
            lines.append({"charge": "minimum", "dimensions": {}, "quantity": None, "amount": show(trued_up)})
        if not lines:
            return None
        totals = {"subtotal": show(subtotal), "minimum": show(trued_up), "total": show(subtotal + trued_up)}
        return {**self.head(), "kind": kind, "because": because, "lines": lines, **totals}

    def true_up(self) -> Fraction:
        """What the period's rounded lines fall short of the book's commitment, itself rounded to the cent."""
        wanted = self.subscription.minimum
        if wanted is None:
            return NOUGHT
        if not isinstance(wanted, dict):
            wanted = {"amount": wanted}
        if wanted.get("true_up") is False:
            return NOUGHT
        share = self.subscription.share(self.period) if wanted.get("prorate") else 1
        due = self.subscription.rounded(half_up(amount(wanted["amount"]) * share, TINY))
        return max(NOUGHT, due - sum(self.billed.values(), NOUGHT))


class Ledger:
    """Everything: catalogue, events seen, accounts by subscription and period, and what was written."""

    def __init__(self, book: dict[str, Any]) -> None:
        self.meters, self.books = book.get("meters") or {}, book.get("price_books") or {}
        self.customers = book.get("customers") or {}
        self.default = book.get("default_subscription")
        self.owner = {s: name for name, who in self.customers.items() for s in (who or {}).get("subjects") or []}
        self.subscriptions: dict[str, list[Subscription]] = {}
        for name, terms in (book.get("subscriptions") or {}).items():
            self._subscribe(name, terms["customer"], terms)
        self.charged = {c.get("meter") for b in self.books.values() for c in b["charges"].values()}
        self.seen: dict[tuple[str, str, str], Any] = {}
        self.accounts: dict[tuple[str, str, int], Account] = {}
        self.invoices: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.rejections: list[dict[str, Any]] = []

    def _subscribe(self, name: str, customer: str, terms: dict[str, Any]) -> None:
        zone = (self.customers.get(customer) or {}).get("timezone") or "UTC"
        self.subscriptions.setdefault(customer, []).append(Subscription(name, customer, terms, zone, self.books))

    def take(self, arrival: int, event: dict[str, Any]) -> None:
        """One event: deduplicate, meter, rate, look at the thresholds."""
        customer = self.owner.get(event["subject"], event["subject"])
        identity = (customer, event["source"], event["id"])
        if identity in self.seen:
            if self.seen[identity] != event:
                self._reject(event, "conflict", None)
            return
        self.seen[identity] = event
        time = moment(event["time"])
        counted = self._meter(event)
        if customer not in self.subscriptions and self.default is not None:
            self._subscribe(DEFAULT, customer, self.default)
        covering = [s for s in self.subscriptions.get(customer, []) if s.covers(time)]
        if not covering:
            for meter in counted:
                if meter in self.charged:
                    self._reject(event, "no_subscription", meter)
        for subscription in covering:
            account = self._account(subscription, subscription.period(time))
            if self._rate(account, Use(time, arrival, None), counted):
                account.add_flat("in_advance")
                self._watch(account, {"event": {"source": event["source"], "id": event["id"]}})

    def _meter(self, event: dict[str, Any]) -> dict[str, tuple[Any, dict[str, str | None]]]:
        """Meter -> (value, dimensions) of an event; values that cannot be counted are rejected.

        Reading: every meter of the catalogue looks at the value, whoever pays for it; a fault there comes before
        `no_subscription`."""
        data, counted = event.get("data"), {}
        for name, meter in self.meters.items():
            if meter["event"] != event["type"] or not passes(meter.get("where") or {}, data):
                continue
            value = None
            if meter["aggregate"] != "count":
                found = look(data, meter["value"])
                numeric = meter["aggregate"] != "unique_count"
                value = number(found) if numeric else name_of(found)
                code = None
                if found is None:
                    code = "missing_value"
                elif value is None:
                    code = "invalid_value"
                elif numeric and not fits(value):
                    code = "out_of_range"
                if code:
                    self._reject(event, code, name)
                    continue
            dimensions = {key: name_of(look(data, path)) for key, path in (meter.get("dimensions") or {}).items()}
            counted[name] = (value, dimensions)
        return counted

    def _rate(self, account: Account, use: Use, counted: dict[str, tuple[Any, dict[str, str | None]]]) -> bool:
        """Adds an event to the lines of a subscription's charges. Returns whether any charge counted it."""
        rated = False
        for name, charge in account.subscription.charges.items():
            if charge.get("meter") not in counted:
                continue
            value, dimensions = counted[charge["meter"]]
            cell = cell_of(charge["price"], dimensions) if charge["price"]["model"] == "matrix" else 0
            if cell is None:  # Reading: what no cell prices is no part of the line.
                continue
            grouped = {key: dimensions[key] for key in charge.get("group_by") or []}
            line = account.line(name, grouped, self.meters[charge["meter"]]["aggregate"])
            line.add(cell, use._replace(value=value))
            rated = True
        return rated

    def _watch(self, account: Account, found_by: dict[str, Any]) -> None:
        """The levels that the period's spend is at or above for the first time: one invoice, an alert for each."""
        spend, reached = account.spend(), []
        for threshold in account.subscription.thresholds:
            step = amount(threshold["spend"])
            times = max(0, spend // step) if threshold.get("repeat") else 1
            reached += [(step * n, step) for n in range(1, times + 1) if step * n <= spend]
        new = sorted(set(reached) - account.crossed)
        if not new:
            return
        account.crossed |= set(new)
        because = [{"threshold": show(step), "level": show(level), **found_by} for level, step in new]
        self._write(account.invoice("threshold", because[-1]))
        self.alerts += [{**account.head(), "spend": show(spend), "because": why} for why in because]

    def close(self, now: int) -> None:
        """The tick: every period that has ended is completed and invoiced; those that have begun get their fees."""
        for subscription in [s for several in self.subscriptions.values() for s in several]:
            time = self._first(subscription)
            while time is not None and time <= now and subscription.covers(time):
                period = subscription.period(time)
                account = self._account(subscription, period)
                account.add_flat("in_advance")
                if period[1] > now:
                    # Reading: a fee that is due in advance may cross a level without any event. The tick finds that
                    # while the period is open; what a closing bills is billed by the period's invoice alone.
                    self._watch(account, {"tick": iso(now)})
                else:
                    account.add_flat("in_arrears")
                    account.add_unused()
                    self._write(account.invoice("period", None))
                time = period[1]

    def _first(self, subscription: Subscription) -> int | None:
        """When a subscription's first period begins; a default one's with its earliest rated event."""
        if subscription.start is not None:
            return subscription.start
        rated = [a.period[0] for a in self.accounts.values() if a.subscription is subscription and a.lines]
        return min(rated, default=None)

    def _account(self, subscription: Subscription, period: tuple[int, int]) -> Account:
        key = (subscription.customer, subscription.name, period[0])
        if key not in self.accounts:
            self.accounts[key] = Account(subscription, period)
        return self.accounts[key]

    def _reject(self, event: dict[str, Any], code: str, meter: str | None) -> None:
        self.rejections.append({"source": event["source"], "id": event["id"], "code": code, "meter": meter})

    def _write(self, invoice: dict[str, Any] | None) -> None:
        if invoice is not None:
            self.invoices.append(invoice)

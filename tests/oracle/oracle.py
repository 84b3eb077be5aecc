"""The rating oracle: what the contracts say of metering, rating and invoicing, worked out the plain way.

It keeps every event, and looks at all of them again for each question, in fractions. It imports nothing of the engine;
the engine is right where both say the same. `rate` is the entry. Where the contracts leave a choice, the reading is
noted: here, and at the head of `agreements`, `aggregates`, `bills`, `expressions`, `prices` and `settle`.

Readings:
- The default subscription is called `default`. It begins with the period of the earliest event that one of its charges
  counted when it came, even if the event is taken back later: a void takes back usage, not the beginning.
- Every meter of the catalogue looks at its value, whoever pays for it; a fault there comes before `no_subscription`.
- An event that was taken back before it came is not looked at by any meter: it makes no rejection and begins nothing.
  Its time is a time that was seen, and the levels are looked at after it.
- An event that lacks the amount of a `dynamic` price that covers it is a rejection for the meter, like one that lacks
  the meter's value.
- A void is an event like any other: it has an identity, it cannot be taken back, and the levels are looked at after it.
  Its time is no event time; an invoice that it sets off closes at the customer's greatest event time.
- After each accepted event every open period of the customer is looked at, whichever one the event belongs to.
- A period is closed when a tick has made its invoice; one without usage whose prices ask nothing then is not: what
  comes late is on a period invoice too. A tick that is not later than those before it changes nothing.
- One tick opens periods and brings gauges up to date; then corrects, by the period's end and then the subscription's
  name; then closes what has ended, in the same order; then looks at the levels of what is still open.
- A correction is drawn from grants that were in force at its period's end, and holds what commitment, overage and
  maximum come to now. With `corrections: next` its lines join the subscription's next invoice of any kind; where none
  can follow, they have an invoice of their own.
- Overage and true-up are worked out when a period closes, from the rounded lines. The maximum caps lines and overage,
  on every invoice of the period; what it takes off is in `discounts`. It does not count for thresholds and budgets.
- A budget's alerts look at what thresholds look at, and stand among theirs by level. A low balance is reported after
  the invoice that drew it down, before the levels that made the invoice; its event or tick is theirs.
- Without `as_of`, gauges are integrated at last to the file's greatest event time, if no tick was later; levels that
  are crossed then name that time as the tick. Nothing is closed and no fee falls due by it.
"""

import json
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

from tests.oracle.aggregates import NOUGHT, Use, converted_value
from tests.oracle.agreements import MINOR_DIGITS, Plan, Subscription, bodies, commitment
from tests.oracle.bills import Facts, Line, lines_of
from tests.oracle.calendars import iso, moment
from tests.oracle.expressions import NoValue, value_of
from tests.oracle.prices import leaf_of, way_to
from tests.oracle.reading import TINY, amount, fits, half_up, look, name_of, passes, read_book, read_event, show
from tests.oracle.settle import Purse, settle

__all__ = ["MINOR_DIGITS", "Tick", "rate"]

DEFAULT = "default"
VOID = "taximeter.void"
Outputs = dict[str, list[dict[str, Any]]]


class Tick(NamedTuple):
    """Time has come this far (RFC 3339): it stands among the events."""

    time: str


def rate(catalogue: str | dict[str, Any], inputs: Iterable[Any], as_of: str | int | None = None) -> Outputs:
    """Rates inputs in order of arrival: events (JSON texts or dicts) and ticks. `as_of` is a tick at the end.

    Returns `line_items`, `invoices`, `alerts` and `rejections`, each a list of dicts whose numbers are texts.
    """
    ledger = Ledger(read_book(catalogue))
    for arrival, one in enumerate(inputs):
        if isinstance(one, Tick):
            ledger.tick(moment(one.time))
        else:
            ledger.take(arrival, read_event(one))
    if as_of is not None:
        ledger.tick(moment(as_of) if isinstance(as_of, str) else as_of)
    else:
        ledger.bring_up()
    return {
        "line_items": ledger.line_items(),
        "invoices": ledger.invoices,
        "alerts": ledger.alerts,
        "rejections": ledger.rejections,
    }


class Event(NamedTuple):
    """An accepted event, and what each meter counted of it (whether it is taken back or not)."""

    identity: tuple[str, str, str]
    time: int
    uses: dict[str, Use]


class Bill:
    """One billing period of one subscription: what was billed of it, and which levels were crossed."""

    def __init__(self, subscription: Subscription, period: tuple[int, int]) -> None:
        self.subscription, self.period = subscription, period
        self.opened = self.closed = False
        self.billed: dict[tuple[Any, ...], Fraction] = {}
        self.known: dict[tuple[Any, ...], Line] = {}
        self.capped = NOUGHT
        self.crossed: set[Any] = set()
        segments = subscription.segments(period)
        billed = [segment.plan for segment in segments if not segment.plan.trial]
        self.is_trial = not billed
        self.plan: Plan | None = (billed or [segment.plan for segment in segments] or [None])[-1]

    @property
    def key(self) -> tuple[str, int]:
        """What coupons know the period by."""
        return self.subscription.name, self.period[0]

    def head(self) -> dict[str, Any]:
        """What every output of the period begins with."""
        whose, plan = self.subscription, self.plan
        return {
            "customer": whose.customer,
            "subscription": whose.name,
            "currency": plan.currency if plan else None,
            "period": _span(self.period),
        }

    def levels(self) -> list[Any]:
        """The thresholds and the budget in force."""
        has = self.plan is not None and not self.is_trial
        return [*(self.plan.terms["thresholds"] or []), self.plan.terms["budget"]] if self.plan and has else []


class Ledger:
    """Everything: catalogue, events seen, bills, purses, and what was written."""

    def __init__(self, book: dict[str, Any]) -> None:
        self.book, self.meters, self.books = book, book.get("meters") or {}, book.get("price_books") or {}
        self.customers = book.get("customers") or {}
        self.owner = {s: name for name, who in self.customers.items() for s in (who or {}).get("subjects") or []}
        self.subscriptions: dict[str, list[Subscription]] = {}
        for name, terms in (book.get("subscriptions") or {}).items():
            self._subscribe(name, terms["customer"], terms)
        self.charged = {
            charge.get("meter")
            for versions in self.books.values()
            for body in bodies(versions)
            for charge in body["charges"].values()
        }
        # Where there are none, nothing has to be looked at after each event.
        self.has_levels = any(f'"{word}":' in json.dumps(book) for word in ("thresholds", "budget"))
        self.has_gauges = any(meter["aggregate"] == "time_weighted" for meter in self.meters.values())
        self.seen: dict[tuple[str, str, str], Any] = {}
        self.voided: set[tuple[str, str, str]] = set()
        self.events: dict[str, list[Event]] = {}
        self.uses: dict[tuple[str, int], tuple[int, dict[str, list[Use]]]] = {}
        self.rated: dict[tuple[str, str], list[int]] = {}
        self.greatest: dict[str, int] = {}
        self.now: int | None = None
        self.brought: int | None = None
        self.bills: dict[tuple[str, str, int], Bill] = {}
        self.purses: dict[str, Purse] = {}
        self.invoices: list[dict[str, Any]] = []
        self.alerts: list[dict[str, Any]] = []
        self.rejections: list[dict[str, Any]] = []

    def _subscribe(self, name: str, customer: str, terms: dict[str, Any]) -> None:
        who = self.customers.get(customer) or {}
        self.subscriptions.setdefault(customer, []).append(Subscription(name, customer, terms, who, self.books))

    # Events

    def take(self, arrival: int, event: dict[str, Any]) -> None:
        """One event: deduplicate, meter, look at the levels."""
        customer = self.owner.get(event["subject"], event["subject"])
        identity = (customer, event["source"], event["id"])
        if identity in self.seen:
            if self.seen[identity] != event:
                self._reject(event, "conflict", None)
            return
        self.seen[identity] = event
        if event["type"] == VOID:
            self.voided.add((customer, event["data"]["source"], event["data"]["id"]))
            closing = self.greatest.get(customer)
        else:
            if customer not in self.subscriptions and self.book.get("default_subscription") is not None:
                self._subscribe(DEFAULT, customer, self.book["default_subscription"])
            closing = moment(event["time"])
            self.greatest[customer] = max(closing, self.greatest.get(customer, closing))
            uses = {} if identity in self.voided else self._meter(arrival, customer, event)
            self._keep(Event(identity, closing, uses))
        if closing is not None:
            self._watch(customer, {"event": {"source": event["source"], "id": event["id"]}}, closing)

    def _keep(self, event: Event) -> None:
        customer = event.identity[0]
        self.events.setdefault(customer, []).append(event)
        for subscription in self.subscriptions.get(customer, []):
            plan = subscription.plan_at(event.time)
            if plan and any(charge.get("meter") in event.uses for charge in plan.charges.values()):
                self.rated.setdefault((customer, subscription.name), []).append(event.time)

    def _meter(self, arrival: int, customer: str, event: dict[str, Any]) -> dict[str, Use]:
        """Meter -> what it counts of an event; what cannot be counted is rejected."""
        data, time, counted = event.get("data"), moment(event["time"]), {}
        covered = any(s.plan_at(time) for s in self.subscriptions.get(customer, []))
        for name, meter in self.meters.items():
            if meter["event"] != event["type"] or not passes(meter.get("where") or {}, data):
                continue
            try:
                value = _value(meter, data)
            except NoValue as nothing:
                self._reject(event, nothing.code, name)
                continue
            if not covered:
                if name in self.charged:
                    self._reject(event, "no_subscription", name)
                continue
            dimensions = {key: name_of(look(data, path)) for key, path in (meter.get("dimensions") or {}).items()}
            key = name_of(look(data, meter["key"])) if meter.get("key") else None
            use = Use(time, arrival, value, dimensions, key, data)
            try:
                self._check_amounts(customer, name, use)
            except NoValue as nothing:
                self._reject(event, nothing.code, name)
                continue
            counted[name] = use
        return counted

    def _check_amounts(self, customer: str, meter: str, use: Use) -> None:
        """Raises: NoValue, where a `dynamic` price asks for an amount that the event does not bring."""
        for subscription in self.subscriptions.get(customer, []):
            plan = subscription.plan_at(use.time)
            for charge in plan.charges.values() if plan else []:
                price = charge["price"]
                if charge.get("meter") == meter:
                    leaf = leaf_of(price, way_to(price, use.dimensions, use.time, subscription.zone))
                    if leaf["model"] == "dynamic":
                        value_of(leaf["amount"], use.data)

    def _reject(self, event: dict[str, Any], code: str, meter: str | None) -> None:
        self.rejections.append({"source": event["source"], "id": event["id"], "code": code, "meter": meter})

    # Bills

    def _bill(self, subscription: Subscription, time: int) -> Bill:
        period = subscription.period(time)
        key = (subscription.customer, subscription.name, period[0])
        if key not in self.bills:
            self.bills[key] = Bill(subscription, period)
        return self.bills[key]

    def _rated(self, subscription: Subscription) -> list[int]:
        """The times of all events that a charge of the subscription counts, those taken back too."""
        return self.rated.get((subscription.customer, subscription.name), [])

    def _first(self, subscription: Subscription) -> int | None:
        """When a subscription's first period begins."""
        if subscription.start is not None:
            return subscription.start
        return min((subscription.period(time)[0] for time in self._rated(subscription)), default=None)

    def _bills_until(self, subscription: Subscription, until: int | None) -> list[Bill]:
        """Every bill from the first to the one that holds `until`, and every one with rated events."""
        starts = {subscription.period(time)[0] for time in self._rated(subscription)}
        found = {start: self._bill(subscription, start) for start in starts}
        time = self._first(subscription)
        while time is not None and until is not None and time <= until:
            if subscription.end is not None and time >= subscription.end:
                break
            bill = self._bill(subscription, time)
            found[bill.period[0]] = bill
            time = bill.period[1]
        return [found[start] for start in sorted(found)]

    def _horizon(self, customer: str) -> int | None:
        seen = [time for time in (self.greatest.get(customer), self.now, self.brought) if time is not None]
        return max(seen, default=None)

    def _lines(self, bill: Bill) -> list[Line]:
        customer, period = bill.subscription.customer, bill.period
        opened = any(period[0] <= time < period[1] for time in self._rated(bill.subscription))
        horizon = self._horizon(customer)
        first = self._first(bill.subscription)
        facts = Facts(
            self.meters,
            self._uses(customer),
            period[0] if horizon is None else horizon,
            opened or bill.opened,
            first,
            bill.closed,
        )
        return lines_of(bill.subscription, period, facts)

    def _uses(self, customer: str) -> dict[str, list[Use]]:
        """Of each meter what it counts of a customer: all events that were not taken back."""
        events, key = self.events.get(customer, []), (customer, len(self.voided))
        if key not in self.uses or self.uses[key][0] != len(events):
            found: dict[str, list[Use]] = {}
            for event in events:
                if event.identity not in self.voided:
                    for meter, use in event.uses.items():
                        found.setdefault(meter, []).append(use)
            self.uses[key] = (len(events), found)
        return self.uses[key][1]

    def _watch(self, customer: str, found_by: dict[str, Any], closing: int) -> None:
        if not self.has_levels:
            return
        for subscription in self.subscriptions.get(customer, []):
            for bill in self._bills_until(subscription, self._horizon(customer) if self.has_gauges else None):
                if not bill.closed:
                    self._cross(bill, found_by, closing)

    def _cross(self, bill: Bill, found_by: dict[str, Any], closing: int) -> None:
        """The levels that the period's spend is at or above for the first time: one invoice, an alert for each."""
        if not any(bill.levels()):
            return
        assert bill.plan is not None
        spend = sum((line.amount for line in self._lines(bill)), NOUGHT)
        reached = []
        for threshold in bill.plan.terms["thresholds"] or []:
            step = amount(threshold["spend"])
            times = max(0, spend // step) if threshold.get("repeat") else 1
            reached += [(step * n, step) for n in range(1, times + 1) if step * n <= spend]
        new = sorted(set(reached) - bill.crossed)
        bill.crossed |= set(new)
        because = [{"threshold": show(step), "level": show(level), **found_by} for level, step in new]
        if new:
            self._write(bill, "threshold", because[-1], closing)
            self._alert_low(bill, closing, found_by)
        alerts = [("threshold", why) for why in because]
        budget = bill.plan.terms["budget"]
        whole = amount(budget["amount"]) if budget else NOUGHT
        for share in sorted(amount(share) for share in (budget or {}).get("alerts", ["80", "100"]) if budget):
            if ("budget", share) not in bill.crossed and spend * 100 >= share * whole:
                bill.crossed.add(("budget", share))
                level = half_up(whole * share / 100, TINY)
                alerts.append(("budget", {"threshold": show(whole), "level": show(level), **found_by}))
        for kind, why in sorted(alerts, key=_level):
            self._alert(bill, kind, [why], spend)

    def _alert(self, bill: Bill, kind: str, because: list[dict[str, Any]], spend: Fraction) -> None:
        self.alerts += [{**bill.head(), "kind": kind, "spend": show(spend), "because": why} for why in because]

    def _alert_low(self, bill: Bill, closing: int, found_by: dict[str, Any]) -> None:
        if bill.plan is None:
            return
        for grant, why in self._purse(bill).falls_low(closing, bill.plan.currency):
            spend = sum((line.amount for line in self._lines(bill)), NOUGHT)
            self._alert(bill, "low_balance", [{**why, **found_by}], spend)
            self.alerts[-1]["grant"] = grant

    # Ticks

    def tick(self, now: int) -> None:
        """Corrects what was closed, closes what has ended, and looks at the levels of what is open."""
        if self.now is not None and now <= self.now:
            return
        self.now = now
        bills = [
            bill
            for several in self.subscriptions.values()
            for subscription in several
            for bill in self._bills_until(subscription, now)
        ]
        for bill in bills:
            bill.opened |= bill.period[0] <= now
        in_order = sorted(bills, key=lambda bill: (bill.period[1], bill.subscription.name))
        for bill in [bill for bill in in_order if bill.closed]:
            if bill.plan and (bill.plan.corrections == "invoice" or self._is_last(bill)):
                self._write(bill, "correction", None, bill.period[1])
                self._alert_low(bill, bill.period[1], {})
        for bill in [bill for bill in in_order if not bill.closed and bill.period[1] <= now]:
            bill.closed = bool(self._lines(bill)) or self._matters(bill)
            if not bill.closed:
                continue
            self._write(bill, "period", None, bill.period[1])
            self._purse(bill).roll_over(bill.period[1])
            self._alert_low(bill, bill.period[1], {})
        for bill in [bill for bill in in_order if not bill.closed and bill.period[0] <= now]:
            self._cross(bill, {"tick": iso(now)}, now)

    def _matters(self, bill: Bill) -> bool:
        """Whether there is anything to close: usage, taken back or not, or prices that ask something without any."""
        plans = [segment.plan for segment in bill.subscription.segments(bill.period)]
        counted = any(bill.period[0] <= time < bill.period[1] for time in self._rated(bill.subscription))
        return counted or any(plan.asks_unused for plan in plans)

    def _is_last(self, bill: Bill) -> bool:
        end = bill.subscription.end
        return end is not None and self._bill(bill.subscription, end - 1).closed

    def bring_up(self) -> None:
        """Without a tick: gauges are integrated to the greatest event time of all."""
        self.brought = max(self.greatest.values(), default=None)
        if self.brought is not None and (self.now is None or self.now < self.brought):
            for customer in self.subscriptions:
                self._watch(customer, {"tick": iso(self.brought)}, self.brought)

    # Outputs

    def _write(self, bill: Bill, kind: str, because: dict[str, Any] | None, closing: int) -> None:
        if bill.plan is None:
            return
        lines, more = self._unbilled(bill)
        capped = {bill.key: more}
        if kind != "correction":
            closed = [
                b for b in self.bills.values() if b.subscription is bill.subscription and b.closed and b is not bill
            ]
            for other in sorted(closed, key=lambda other: other.period):
                if other.plan and other.plan.corrections == "next":
                    late, capped[other.key] = self._unbilled(other)
                    lines += late
        if not lines:
            return
        customer = self.customers.get(bill.subscription.customer) or {}
        taxes = self._taxes(customer.get("taxes") or [])
        sums = settle(lines, bill.plan, self._purse(bill), taxes, capped, bill.key, closing)
        shown = [
            {key: value for key, value in line.items() if key not in ("value", "taxes", "bill")}
            | {"amount": show(line["value"])}
            for line in lines
        ]
        self.invoices.append({**bill.head(), "kind": kind, "because": because, "lines": shown, **sums})

    def _unbilled(self, bill: Bill) -> tuple[list[dict[str, Any]], Fraction]:
        """What the lines of a period, to the cent, come to beyond what was billed; and the maximum's part of it."""
        plan = bill.plan
        assert plan is not None
        now = {line.key: line for line in self._lines(bill)}
        found = []
        for key in sorted(bill.known.keys() | now.keys(), key=lambda key: self._order(bill, key)):
            line = now.get(key)
            due = plan.rounded(line.amount) if line else NOUGHT
            part, bill.billed[key] = due - bill.billed.get(key, NOUGHT), due
            about = bill.known[key] = line or bill.known[key]
            if part:
                found.append(
                    {
                        "charge": about.name,
                        "dimensions": dict(about.group),
                        "period": _span(about.segment[:2]),
                        "quantity": show(line.quantity) if line else "0",
                        "value": part,
                        "taxes": self._taxes(about.charge.get("taxes")),
                        "bill": bill.key,
                    }
                )
        found += self._own_line(bill, "overage", self._overage(bill))
        charged = sum((value for key, value in bill.billed.items() if key != ("minimum",)), NOUGHT)
        most = plan.terms["maximum"]
        capped = NOUGHT if most is None else max(NOUGHT, charged - plan.rounded(amount(most)))
        more, bill.capped = capped - bill.capped, capped
        found += self._own_line(bill, "minimum", self._true_up(bill, charged - capped))
        return found, more

    def _order(self, bill: Bill, key: tuple[Any, ...]) -> tuple[Any, ...]:
        segment = next(s for s in bill.subscription.segments(bill.period) if s.start == key[0])
        group = [(value is not None, value or "") for _, value in key[2]]
        return key[0], list(segment.plan.charges).index(key[1]), group

    def _own_line(self, bill: Bill, name: str, due: Fraction) -> list[dict[str, Any]]:
        part, bill.billed[(name,)] = due - bill.billed.get((name,), NOUGHT), due
        about = {"charge": name, "dimensions": {}, "period": _span(bill.period), "quantity": None}
        return [{**about, "value": part, "taxes": None, "bill": bill.key}] if part else []

    def _commitment(self, bill: Bill) -> tuple[Fraction, bool] | None:
        """The commitment of a closed period, to the cent, and whether the difference to it is billed."""
        wanted = commitment(bill.plan.terms["minimum"]) if bill.plan else None
        if wanted is None or bill.plan is None or not bill.closed or bill.is_trial:
            return None
        whole = bill.subscription.whole(bill.period)
        share = Fraction(bill.period[1] - bill.period[0], whole) if wanted.get("prorate") else 1
        due = bill.plan.rounded(half_up(amount(wanted["amount"]) * share, TINY))
        return due, wanted.get("true_up") is not False

    def _overage(self, bill: Bill) -> Fraction:
        wanted, factor = self._commitment(bill), bill.plan.terms["overage_factor"] if bill.plan else None
        if wanted is None or factor is None or bill.plan is None:
            return NOUGHT
        charged = sum((value for key, value in bill.billed.items() if len(key) > 1), NOUGHT)
        return bill.plan.rounded(max(NOUGHT, charged - wanted[0]) * (amount(factor) - 1))

    def _true_up(self, bill: Bill, charged: Fraction) -> Fraction:
        wanted = self._commitment(bill)
        return max(NOUGHT, wanted[0] - charged) if wanted and wanted[1] else NOUGHT

    def _taxes(self, taxes: list[dict[str, Any]] | None) -> Any:
        """Taxes as they are charged, those that name a document filled in; None stays None."""
        rates = self.book.get("tax_rates") or {}
        return None if taxes is None else [{**rates.get(tax.get("id"), {}), **tax} for tax in taxes]

    def _purse(self, bill: Bill) -> Purse:
        name = bill.subscription.customer
        if name not in self.purses:
            self.purses[name] = Purse(name, self.customers.get(name) or {}, self.book)
        return self.purses[name]

    def line_items(self) -> list[dict[str, Any]]:
        """Every line item as it stands now."""
        return [
            {
                **bill.head(),
                "period": _span(line.segment[:2]),
                "price_book": line.segment.plan.book,
                "price_version": line.segment.plan.version,
                "charge": line.name,
                "meter": line.charge.get("meter"),
                "dimensions": dict(line.group),
                "quantity": show(line.quantity),
                "amount": show(line.amount),
                "events": len(line.uses),
                "first_event": iso(min(use.time for use in line.uses)) if line.uses else None,
                "last_event": iso(max(use.time for use in line.uses)) if line.uses else None,
                "tiers": line.tiers,
            }
            for several in self.subscriptions.values()
            for subscription in several
            for bill in self._bills_until(subscription, self._horizon(subscription.customer))
            for line in self._lines(bill)
        ]


def _value(meter: dict[str, Any], data: Any) -> Any:
    """What one event brings to a meter. Raises: NoValue."""
    if meter["aggregate"] == "unique_count":
        name = name_of(look(data, meter["value"]))
        if name is None:
            raise NoValue("missing_value")
        return name
    value = Fraction(1) if meter["aggregate"] == "count" else value_of(meter["value"], data)
    value = converted_value(meter, value)
    if not fits(value):
        raise NoValue("out_of_range")
    return value


def _level(alert: tuple[str, dict[str, Any]]) -> tuple[Fraction, Fraction, str]:
    """Alerts of one event stand by level, then by the amount that it is of; a budget's before a threshold's."""
    kind, because = alert
    return amount(because["level"]), amount(because["threshold"]), kind


def _span(period: Any) -> dict[str, str]:
    return {"start": iso(period[0]), "end": iso(period[1])}

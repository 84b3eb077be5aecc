"""Agreements: which prices hold for a subscription at which moment, worked out from the documents of a catalogue.

Documents are plain mappings, as they stand in the log. Times are microseconds, amounts scaled. Nothing here counts.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from schemas.numbers import ONE, divide_half_up
from schemas.period import Calendar, make_calendar
from schemas.times import parse_time
from taximeter.audit.conditions import Number, scaled

Document = dict[str, Any]
DEFAULT = "default"
PERIODIC = ("flat", "one_time")
BOOK_TERMS = ("minimum", "maximum", "overage_factor", "thresholds", "budget")
FOREVER = 2**62


def read_documents(payload: str) -> Document:
    """The documents of a catalogue entry; numbers of free form keep their text."""
    found: Document = json.loads(payload, parse_int=Number, parse_float=Number)
    return found


def merge_documents(before: Document, fresh: Document) -> Document:
    """Documents are added and changed; one that is not named again stays in force."""
    kinds = dict.fromkeys([*before, *fresh])
    return {
        kind: fresh.get(kind) or before.get(kind)
        if kind == "default_subscription"
        else {**(before.get(kind) or {}), **(fresh.get(kind) or {})}
        for kind in kinds
    }


class Plan:
    """The prices and terms in force: one version of a price book under one phase, overrides laid over it."""

    def __init__(self, book: str, version: int, body: Document, overrides: list[Document], phase: int, trial: bool):
        self.book, self.version, self.phase, self.trial = book, version, phase, trial
        self.charges: dict[str, Document] = {name: dict(charge) for name, charge in body["charges"].items()}
        self.terms: Document = {name: body.get(name) for name in BOOK_TERMS}
        for laid in overrides:
            for name, keys in (laid.get("charges") or {}).items():
                if name in self.charges:
                    self.charges[name].update(keys)
            self.terms.update({name: laid[name] for name in BOOK_TERMS if laid.get(name) is not None})
        self.currency: str = body["currency"]
        self.rounding: Any = body.get("rounding", "half_up")
        self.tax_rounding: str = body.get("tax_rounding", "per_invoice")
        self.carry_usage: bool = body.get("carry_usage", True)
        self.corrections: str = body.get("corrections", "invoice")

    @property
    def state(self) -> tuple[Any, ...]:
        """What begins a new segment where it changes."""
        return self.phase, self.book, self.version, self.trial

    @property
    def asks_unused(self) -> bool:
        """Whether something may be due in a period without usage."""
        if self.trial:
            return False
        return self.terms["minimum"] is not None or any(
            charge["price"]["model"] in PERIODIC or bills_nought(charge) for charge in self.charges.values()
        )


def reading_of(charge: Document) -> str:
    """How a charge reads usage: equal where units of one may go on under the other."""
    return json.dumps([charge.get("meter"), charge.get("group_by") or [], _structure(charge["price"])])


def _structure(price: Document | None) -> Any:
    if price is None:
        return None
    if price["model"] == "matrix":
        cells = [[cell["match"], _structure(cell["price"])] for cell in price["cells"]]
        return ["matrix", cells, _structure(price.get("otherwise"))]
    if price["model"] == "schedule":
        windows = [[w.get("days"), w.get("hours"), _structure(w["price"])] for w in price["windows"]]
        return ["schedule", price.get("timezone"), windows, _structure(price.get("otherwise"))]
    return [price["model"], price.get("amount")] if price["model"] in ("percentage", "dynamic") else "total"


def bills_nought(charge: Document) -> bool:
    """Whether a charge of usage is due without any."""
    return bool(charge.get("bill_zero_usage")) or charge.get("minimum") is not None


class Segment(NamedTuple):
    """A stretch `[start, end)` of a billing period under one plan."""

    start: int
    end: int
    plan: Plan


class Period(NamedTuple):
    """A billing period: the calendar's, cut at the subscription's start and end. `whole`: the calendar's length."""

    start: int
    end: int
    whole: int


@dataclass
class Agreement:
    """How one subscription (or all the default ones that are alike) is billed."""

    terms: Document
    customer: Document
    books: Document
    start: int | None = field(init=False)
    end: int = field(init=False)
    zone: str = field(init=False)
    calendar: Calendar = field(init=False)

    def __post_init__(self) -> None:
        terms = self.terms
        self.start = parse_time(terms["start"]) if "start" in terms else None
        self.end = parse_time(terms["end"]) if terms.get("end") else FOREVER
        self.zone = terms.get("timezone") or self.customer.get("timezone") or "UTC"
        anchor = terms.get("anchor")
        anchor = int(anchor) if isinstance(anchor, Number) else anchor
        self.calendar = make_calendar(terms.get("period", "month"), anchor, self.zone, self.start)
        self.phases = [(parse_time(phase["start"]), phase) for phase in terms.get("phases") or []]
        self.pauses = [
            (parse_time(pause["start"]), parse_time(pause["end"]) if pause.get("end") else FOREVER)
            for pause in terms.get("pauses") or []
        ]
        self.trial_end = parse_time(terms["trial_end"]) if terms.get("trial_end") else -FOREVER
        self.moments = sorted(self._moments())
        self._plans: dict[Any, Plan] = {}
        self._segments: dict[int, list[Segment]] = {}

    def _moments(self) -> set[int]:
        """Every time at which the plan may change."""
        found = {time for pause in self.pauses for time in pause} | {start for start, _ in self.phases}
        found |= {self.trial_end} | ({self.start} if self.start is not None else set())
        names = {self.terms["price_book"], *(phase.get("price_book") for _, phase in self.phases)}
        for name in names - {None}:
            found |= {
                parse_time(body["effective_from"]) for body in bodies(self.books[name]) if "effective_from" in body
            }
        return found

    def plan_at(self, time: int) -> Plan | None:
        """The plan in force; None before, after, in a pause, and before the price book has prices."""
        if time >= self.end or (self.start is not None and time < self.start):
            return None
        if any(start <= time < end for start, end in self.pauses):
            return None
        name, overrides, trial, at = self.terms["price_book"], self.terms.get("overrides") or {}, False, 0
        for number, (start, phase) in enumerate(self.phases, 1):
            if start <= time:
                at, name, overrides = number, phase.get("price_book") or name, phase.get("overrides") or {}
                trial = bool(phase.get("trial"))
        trial = trial or time < self.trial_end
        begun = [
            (number, body)
            for number, body in enumerate(bodies(self.books[name]), 1)
            if "effective_from" not in body or parse_time(body["effective_from"]) <= time
        ]
        if not begun:
            return None
        version, body = begun[-1]
        key = (at, name, version, trial)
        if key not in self._plans:
            laid = [self.customer.get("overrides") or {}, overrides]
            self._plans[key] = Plan(name, version, body, laid, at, trial)
        return self._plans[key]

    def period_at(self, time: int) -> Period:
        """The billing period that holds a time."""
        start, end = self.calendar.containing(time)
        return Period(max(start, self.start) if self.start is not None else start, min(end, self.end), end - start)

    def periods(self, first: int, last: int) -> Iterator[Period]:
        """The billing periods from the one that holds `first` to the one that holds `last`."""
        for start, end in pairwise(self.calendar.starts(first, last)):
            found = Period(start if self.start is None else max(start, self.start), min(end, self.end), end - start)
            if found.start < found.end and found.start <= last:
                yield found

    def segments(self, period: Period) -> list[Segment]:
        """The stretches of a period in which one plan holds; pauses are in none."""
        if period.start not in self._segments:
            cuts = [period.start, *(time for time in self.moments if period.start < time < period.end), period.end]
            found: list[Segment] = []
            for start, end in pairwise(cuts):
                plan = self.plan_at(start)
                if plan is None:
                    continue
                if found and found[-1].end == start and found[-1].plan.state == plan.state:
                    found[-1] = Segment(found[-1].start, end, plan)
                else:
                    found.append(Segment(start, end, plan))
            self._segments[period.start] = found
        return self._segments[period.start]

    def terms_of(self, period: Period) -> Plan | None:
        """The plan whose terms a bill has: the last that is no trial, else the last."""
        plans = [segment.plan for segment in self.segments(period)]
        billed = [plan for plan in plans if not plan.trial] or plans
        return billed[-1] if billed else None

    def carried(self, segments: list[Segment], at: int, charge: str) -> list[int]:
        """The earlier segments of a period whose units of a charge stay used in a later one."""
        own = reading_of(segments[at].plan.charges[charge])
        found: list[int] = []
        for place in reversed(range(at)):
            before, after = segments[place].plan, segments[place + 1].plan
            same = before.version == after.version or before.trial
            if before.book != after.book or not (after.carry_usage or same):
                break
            earlier = before.charges.get(charge)
            if before.trial or earlier is None:
                continue
            if reading_of(earlier) != own:
                break
            found.append(place)
        return found[::-1]

    def first_force(self, book: str, first: int) -> int | None:
        """When a price book first takes force (no trial) in a subscription that begins at `first`."""
        for time in [first, *(time for time in self.moments if time > first)]:
            plan = self.plan_at(time)
            if plan is not None and plan.book == book and not plan.trial:
                return time
        return None

    def fee(self, period: Period, at: int, charge: Document, asked: int, first: int) -> int | None:
        """What a charge for the period itself comes to in one of its segments; None: it is not asked there."""
        segments = self.segments(period)
        segment = segments[at]
        if charge["price"]["model"] == "one_time":
            force = self.first_force(segment.plan.book, first)
            return asked if force is not None and segment.start <= force < segment.end else None
        billed = [s.end - s.start for s in segments if not s.plan.trial]
        before = sum(s.end - s.start for s in segments[:at] if not s.plan.trial)
        whole = period.whole if charge.get("prorate") else sum(billed)
        after = before + segment.end - segment.start
        return divide_half_up(asked * after, whole) - divide_half_up(asked * before, whole)


def bodies(book: Document) -> list[Document]:
    """The versions of a price book, the first one first."""
    found: list[Document] = book.get("versions") or [book]
    return found


def bounded_fee(charge: Document, exact: int) -> int:
    """A fee after the charge's own discount, maximum and minimum."""
    discount = charge.get("discount") or {}
    if discount.get("percent") is not None:
        exact = divide_half_up(exact * (100 * ONE - scaled(discount["percent"])), 100 * ONE)
    if exact > 0 and discount.get("amount") is not None:
        exact = max(0, exact - scaled(discount["amount"]))
    if charge.get("maximum") is not None:
        exact = min(exact, scaled(charge["maximum"]))
    if charge.get("minimum") is not None:
        exact = max(exact, scaled(charge["minimum"]))
    return exact


class Book:
    """One catalogue, whole: who has which subscriptions under it."""

    def __init__(self, documents: Document) -> None:
        self.documents = documents
        self.meters: dict[str, Document] = documents.get("meters") or {}
        self.books: Document = documents.get("price_books") or {}
        self.customers: Document = documents.get("customers") or {}
        self.own: dict[str, list[str]] = {}
        for name, terms in (documents.get("subscriptions") or {}).items():
            self.own.setdefault(terms["customer"], []).append(name)
        self._agreements: dict[tuple[str, str], Agreement] = {}
        self._default: Agreement | None = None

    def subscriptions(self, customer: str) -> list[tuple[str, Agreement]]:
        """A customer's subscriptions under this catalogue, by name."""
        who = self.customers.get(customer) or {}
        names = self.own.get(customer)
        if names is None:
            terms = self.documents.get("default_subscription")
            return [(DEFAULT, self._default_of(customer, who, terms))] if terms else []
        return [(name, self._agreement(name, who, self.documents["subscriptions"][name])) for name in names]

    def _default_of(self, customer: str, who: Document, terms: Document) -> Agreement:
        if not who.get("overrides") and not who.get("timezone"):
            if self._default is None:
                self._default = Agreement(terms, {}, self.books)
            return self._default
        return self._agreement(f"{DEFAULT} {customer}", who, terms)

    def _agreement(self, key: str, who: Document, terms: Document) -> Agreement:
        found = self._agreements.get((key, ""))
        if found is None:
            found = self._agreements[key, ""] = Agreement(terms, who, self.books)
        return found

    def charged_meters(self) -> set[str]:
        """The meters that some charge of some price book reads."""
        return {
            charge["meter"]
            for book in self.books.values()
            for body in bodies(book)
            for charge in body["charges"].values()
            if charge.get("meter")
        }

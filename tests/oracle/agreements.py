"""Subscriptions of the oracle: which prices hold at which moment, and how a billing period is cut into segments.

Readings:
- A phase without a `price_book` keeps the book in force before it; one without `overrides` has none (the
  subscription's own stand only before the first phase). A customer's overrides hold through all of it.
- A customer's override of a charge that a book does not have is no concern of that book.
- Before the first version's `effective_from` there are no prices: nothing is covered, and the period still begins at
  the subscription's start.
- In a trial a charge counts and prices nothing: its line is one total, whatever its price would tell apart.
- A new segment begins where phase, version, trial or pause change, even if the prices stay the same.
- `one_time` is due in the first segment of the price book that is no trial; a charge that a later version brings in
  is not due any more.
- The terms of a bill are those of its last segment that is no trial; a bill of nothing but trials has no levels and no
  minimum.
"""

from fractions import Fraction
from typing import Any, NamedTuple

from tests.oracle.calendars import moment, period_of, terms_of
from tests.oracle.reading import half_even, half_up

MINOR_DIGITS = {"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3, "ISK": 0, "JPY": 0, "KRW": 0}
MINOR_DIGITS |= {"CLP": 0, "VND": 0, "XAF": 0, "XOF": 0, "PYG": 0, "UGX": 0}
BOOK_TERMS = ("minimum", "maximum", "overage_factor", "thresholds", "budget")


class Plan:
    """The prices and terms in force: one version of a price book under one phase, overrides laid over it."""

    def __init__(self, book: str, version: int, body: dict[str, Any], overrides: list[Any], phase: int, trial: bool):
        self.book, self.version, self.phase, self.trial = book, version, phase, trial
        self.charges = {name: dict(charge) for name, charge in body["charges"].items()}
        self.terms = {name: body.get(name) for name in BOOK_TERMS}
        for changed in overrides:
            for name, keys in (changed.get("charges") or {}).items():
                if name in self.charges:
                    self.charges[name] |= keys
            self.terms |= {name: changed[name] for name in BOOK_TERMS if changed.get(name) is not None}
        for name, charge in self.charges.items() if trial else ():
            if charge.get("meter"):
                kept = {key: charge[key] for key in ("meter", "group_by") if key in charge}
                self.charges[name] = {**kept, "price": {"model": "nothing"}}
        self.currency = body["currency"]
        self.carry_usage = body.get("carry_usage", True)
        self.corrections = body.get("corrections", "invoice")
        self.tax_rounding = body.get("tax_rounding", "per_invoice")
        self.cent = Fraction(1, 10 ** MINOR_DIGITS.get(self.currency, 2))
        self.to_cents = half_even if body.get("rounding") == "half_even" else half_up

    def rounded(self, value: Fraction) -> Fraction:
        """An amount as it stands on an invoice."""
        return self.to_cents(value, self.cent)

    @property
    def asks_unused(self) -> bool:
        """Whether something is due in a period without usage."""
        charges = [] if self.trial else self.charges.values()
        asks = ("bill_zero_usage", "minimum")
        return any(not charge.get("meter") or any(charge.get(word) for word in asks) for charge in charges) or (
            self.terms["minimum"] is not None and not self.trial
        )

    @property
    def state(self) -> tuple[Any, ...]:
        """What makes a new segment where it changes."""
        return self.phase, self.book, self.version, self.trial


class Segment(NamedTuple):
    """A stretch `[start, end)` of a billing period under one plan."""

    start: int
    end: int
    plan: Plan


class Subscription:
    """One customer's agreement: its timeline of plans, and its periods."""

    def __init__(self, name: str, customer: str, terms: dict[str, Any], who: dict[str, Any], books: dict[str, Any]):
        self.name, self.customer, self._terms, self._who, self._books = name, customer, terms, who, books
        self.start = moment(terms["start"]) if "start" in terms else None
        self.end = moment(terms["end"]) if terms.get("end") else None
        self.zone = terms.get("timezone") or who.get("timezone") or "UTC"
        self.calendar = terms_of(terms.get("period", "month"), terms.get("anchor"), self.zone, self.start)
        self.phases = terms.get("phases") or []
        self.pauses = [
            (moment(p["start"]), moment(p["end"]) if p.get("end") else None) for p in terms.get("pauses") or []
        ]
        self.trial_end = moment(terms["trial_end"]) if terms.get("trial_end") else None
        self._at: dict[int, Plan | None] = {}
        self._plans: dict[Any, Plan] = {}
        self._segments: dict[tuple[int, int], list[Segment]] = {}
        self.moments = sorted(self._all_moments())

    def _all_moments(self) -> set[int]:
        found = {time for pause in self.pauses for time in pause if time is not None}
        found |= {moment(phase["start"]) for phase in self.phases}
        found |= {time for time in (self.trial_end, self.start) if time is not None}
        for body in (body for book in self._books.values() for body in bodies(book)):
            if body.get("effective_from"):
                found.add(moment(body["effective_from"]))
        return found

    def plan_at(self, time: int) -> Plan | None:
        """The plan in force at a time; None before, after, in a pause, and before the price book has prices."""
        if time not in self._at:
            self._at[time] = self._find_plan(time)
        return self._at[time]

    def _find_plan(self, time: int) -> Plan | None:
        if (self.start is not None and time < self.start) or (self.end is not None and time >= self.end):
            return None
        if any(start <= time and (end is None or time < end) for start, end in self.pauses):
            return None
        name, overrides = self._terms["price_book"], self._terms.get("overrides") or {}
        trial = self.trial_end is not None and time < self.trial_end
        at = 0
        for number, phase in enumerate(self.phases, 1):
            if moment(phase["start"]) <= time:
                at, name, overrides = number, phase.get("price_book") or name, phase.get("overrides") or {}
        if at:
            trial = trial or bool(self.phases[at - 1].get("trial"))
        begun = [
            (number, body)
            for number, body in enumerate(bodies(self._books[name]), 1)
            if not body.get("effective_from") or moment(body["effective_from"]) <= time
        ]
        if not begun:
            return None
        version, body = begun[-1]
        key = (at, name, version, trial)
        if key not in self._plans:
            laid_over = [self._who.get("overrides") or {}, overrides]
            self._plans[key] = Plan(name, version, body, laid_over, at, trial)
        return self._plans[key]

    def period(self, time: int) -> tuple[int, int]:
        """The billing period that holds a time: the calendar's, cut at the subscription's start and end."""
        begin, end = period_of(self.calendar, time)
        return (
            begin if self.start is None else max(begin, self.start),
            end if self.end is None else min(end, self.end),
        )

    def whole(self, period: tuple[int, int]) -> int:
        """The length of the whole calendar period that a billing period lies in."""
        begin, end = period_of(self.calendar, period[0])
        return end - begin

    def segments(self, period: tuple[int, int]) -> list[Segment]:
        """The stretches of a billing period in which one plan holds; pauses are in none."""
        if period not in self._segments:
            begins = [period[0], *(time for time in self.moments if period[0] < time < period[1])]
            found: list[Segment] = []
            for begin, end in zip(begins, [*begins[1:], period[1]], strict=True):
                plan = self.plan_at(begin)
                if plan is None:
                    continue
                if found and found[-1].end == begin and found[-1].plan.state == plan.state:
                    found[-1] = Segment(found[-1].start, end, plan)
                else:
                    found.append(Segment(begin, end, plan))
            self._segments[period] = found
        return self._segments[period]

    def first_force(self, book: str, first: int) -> int | None:
        """When a price book first takes force (no trial) in a subscription that begins at `first`."""
        for time in [first, *(time for time in self.moments if time > first)]:
            plan = self.plan_at(time)
            if plan is not None and plan.book == book and not plan.trial:
                return time
        return None


def bodies(book: dict[str, Any]) -> list[dict[str, Any]]:
    """The versions of a price book, the first one first."""
    return book.get("versions") or [book]


def commitment(minimum: Any) -> dict[str, Any] | None:
    """A price book's `minimum` in its long form."""
    return minimum if minimum is None or isinstance(minimum, dict) else {"amount": minimum}

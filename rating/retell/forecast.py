"""Forecast: what open periods will have come to at their ends, with a range. An estimate; what it rests on is said.

What is estimated is quantity, one total (`history.Series`) at a time; what a quantity costs is then asked of the
engine itself, on a copy: tiers, packages, free units, minimums, coupons, credits and taxes count as they will.

Methods, for totals that add up (`sum`, `count`):

- `linear`: what was counted since `from`, at the same rate to the end. `from` is the period's beginning or, for a
  subscription without any usage before it, its first event (at least one day ago).
- `seasonal`: for each hour that is left the mean of that hour of the week over the last eight weeks (or as many as
  there are, two at the least), in the subscription's time zone.

A gauge holds its level to the end. Any other total (a maximum, a percentile, a number of different values, ...) is held
as it stands.

The range: let s be the standard deviation, over the whole local days that the method rests on, of what a day counted
(`seasonal`: of how far it was from what the method expects of it), and r the days that are left. The total ends within
1.2816 * s * sqrt(r) of what is expected: four in five would, were days independent of each other and alike. Amounts at
the ends of the range are priced with all totals at their ends at once. With fewer than three whole days there is none.
"""

from fractions import Fraction
from math import isqrt
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from rating.billing import Biller
from rating.exact import int_of, wide_of
from rating.kept import Arrived
from rating.lines import leaf_of, shape_of
from rating.naming import Naming
from rating.retell.bill import draft_invoices
from rating.retell.history import ADDING, Counted, Series, hours, read_history, whole_days
from rating.retell.periods import lines_of, open_heads, rate_of
from rating.retell.remaining import share_of
from rating.retell.retold import Retold
from rating.slots import find_cells
from rating.state import State
from schemas.numbers import check_scaled, divide_half_up, format_scaled, parse_scaled
from schemas.output import Span
from schemas.period import Calendar
from schemas.times import DAY, format_time

Method = Literal["linear", "seasonal"]
METHODS: Final = ("auto", "linear", "seasonal")
WEEKS_MAX: Final = 8
SEASONAL_DAYS_MIN: Final = 14
RANGE_DAYS_MIN: Final = 3
SPREAD: Final = Fraction(12816, 10000)
"""So many standard deviations on each side hold four fifths of a normal distribution."""
ORDERED_EVENTS_MAX: Final = 100_000
"""Events that may be imagined for a price that asks something of each single event, in their order."""
_ENDS: Final = ("low", "expected", "high")


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A number so far, and at the period's end. `low` and `high` are absent together."""

    so_far: str
    expected: str
    low: str | None
    high: str | None


class ChargeForecast(msgspec.Struct, frozen=True, kw_only=True):
    """One charge over all its lines. `method`: `linear`, `seasonal`, `level` (gauges), `held`, or `flat`."""

    charge: str
    method: str
    quantity: Estimate
    amount: Estimate


class PeriodForecast(msgspec.Struct, frozen=True, kw_only=True):
    """One open period: `amount` is the unrounded sum of its charges, `bill` the total of all its invoices."""

    subscription: str
    period: Span
    currency: str
    method: Method
    since: str = msgspec.field(name="from")
    elapsed: str
    amount: Estimate
    bill: Estimate
    charges: list[ChargeForecast]


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """The forecasts of a customer's open periods."""

    customer: str
    estimate: bool
    now: str | None
    confidence: str
    periods: list[PeriodForecast]


class _Rest(NamedTuple):
    """What a series will still count: scaled; `half` None where no range can be told."""

    expected: Fraction
    half: int | None
    floor: int | None
    """What is left is never below it: 0 where nothing was ever taken off."""

    def at(self, end: str) -> int:
        """One end of the range."""
        away = {"low": -(self.half or 0), "expected": 0, "high": self.half or 0}[end]
        found = _half_up(self.expected) + away
        return found if self.floor is None else max(found, self.floor)


class _Outlook(NamedTuple):
    """What is known of one open period."""

    head: int
    bill: int
    since: int
    until: int
    method: Method
    rests: dict[Series, _Rest]


class HistoryTooShort(ValueError):
    """The method that was asked for needs more of the past."""


def forecast(retold: Retold, asked: str) -> Forecast:
    """What a customer's open periods will come to. `asked`: of `METHODS`. Raises: HistoryTooShort, TooManySteps,
    NumberError where a forecast does not fit.
    """
    state, now = retold.state, retold.now
    running = [head for head in open_heads(state, retold.number) if _runs(state, head, now)]
    outlooks = [_look(state, head, now, asked) for head in running]
    ends = {end: _Priced(retold, outlooks, end) for end in _ENDS}
    return Forecast(
        customer=retold.customer,
        estimate=True,
        now=format_time(now) if now > 0 else None,
        confidence="0.8",
        periods=[_period(retold, outlook, ends) for outlook in outlooks],
    )


def _runs(state: State, head: int, now: int) -> bool:
    return bool(state.bills["since"][head] < now < state.bills["until"][head])


# What will be counted -------------------------------------------------------------------------------------------------


def _look(state: State, head: int, now: int, asked: str) -> _Outlook:
    subscription = int(state.bills["subscription"][head])
    zone = state.calendar_of(subscription).zone
    begin, until = int(state.bills["since"][head]), int(state.bills["until"][head])
    past = read_history(state, min(begin, now - WEEKS_MAX * 7 * DAY))
    own = {series: one for series, one in past.items() if series.subscription == subscription and _adds(state, series)}
    first = min((one.times[0] for one in own.values()), default=now)
    since = begin if first < begin else max(begin, min(first, now - DAY))
    learned = max(Calendar("hour", zone, 1, 1).containing(first).start, now - WEEKS_MAX * 7 * DAY)
    enough = now - learned >= SEASONAL_DAYS_MIN * DAY
    if asked == "seasonal" and not enough:
        raise HistoryTooShort(
            f"found {(now - learned) // DAY} days of usage of a subscription, expected at least {SEASONAL_DAYS_MIN}"
        )
    method: Method = "seasonal" if asked == "seasonal" or (asked == "auto" and enough) else "linear"
    rests: dict[Series, _Rest] = {}
    if method == "linear":
        days = whole_days(since, now, zone)
        for series, counted in own.items():
            rests[series] = _linear(counted, days, since, now, until)
    else:
        season = _Season(learned, now, until, zone)
        for series, counted in own.items():
            rests[series] = season.rest(counted)
    bill = next((b for b in state.segments(head) if state.bills["start"][b] <= now < state.bills["end"][b]), head)
    return _Outlook(head, bill, since if method == "linear" else learned, until, method, rests)


def _adds(state: State, series: Series) -> bool:
    """Whether a series is a sum: of a meter that adds up."""
    charge = state.charges.values[series.charge]
    meters = {rate.meter for rate in state.catalogue.rates if rate.charge == charge}
    return bool(meters) and all(state.catalogue.meter(meter).aggregate.name in ADDING for meter in meters)


def _linear(counted: Counted, days: list[tuple[int, int]], since: int, now: int, until: int) -> _Rest:
    expected = Fraction(counted.between(since, now + 1) * (until - now), now - since)
    amounts = [counted.between(*day) for day in days]
    mean = Fraction(sum(amounts), len(amounts)) if amounts else Fraction(0)
    return _Rest(expected, _half([amount - mean for amount in amounts], until - now), _floor(counted))


class _Season:
    """The hours of the week that were, and those that are left."""

    def __init__(self, learned: int, now: int, until: int, zone: str) -> None:
        self._left = until - now
        self._edges: list[int] = []
        self._buckets: list[int] = []
        self._seen: dict[int, Fraction] = {}
        for begin, bucket, share in hours(learned, now, zone):
            self._edges.append(begin)
            self._buckets.append(bucket)
            self._seen[bucket] = self._seen.get(bucket, Fraction(0)) + share
        self._edges.append(now + 1)
        self._ahead: dict[int, Fraction] = {}
        for _, bucket, share in hours(now, until, zone):
            self._ahead[bucket] = self._ahead.get(bucket, Fraction(0)) + share
        self._spans = whole_days(learned, now, zone)
        self._days = [list(hours(*day, zone)) for day in self._spans]

    def rest(self, counted: Counted) -> _Rest:
        """What a series will still count."""
        places = np.searchsorted(np.array(counted.times, dtype=np.int64), np.array(self._edges, dtype=np.int64))
        sums: dict[int, int] = {}
        for bucket, first, last in zip(self._buckets, places.tolist(), places[1:].tolist(), strict=False):
            if last > first:
                sums[bucket] = sums.get(bucket, 0) + sum(counted.values[first:last])
        means = {bucket: whole / self._seen[bucket] for bucket, whole in sums.items()}
        expected = sum((means[b] * share for b, share in self._ahead.items() if b in means), Fraction(0))
        away = [
            counted.between(*span) - sum((means[b] * share for _, b, share in day if b in means), Fraction(0))
            for span, day in zip(self._spans, self._days, strict=True)
        ]
        return _Rest(expected, _half(away, self._left), _floor(counted))


def _floor(counted: Counted) -> int | None:
    return 0 if all(value >= 0 for value in counted.values) else None


def _half(away: list[Fraction], left: int) -> int | None:
    """Half the range: 1.2816 * s * sqrt(days left), in whole numbers."""
    if len(away) < RANGE_DAYS_MIN:
        return None
    variance = sum((one * one for one in away), Fraction(0)) / (len(away) - 1)
    return isqrt(int(SPREAD * SPREAD * variance * Fraction(left, DAY)))


def _half_up(number: Fraction) -> int:
    return divide_half_up(number.numerator, number.denominator)


# What it will cost ----------------------------------------------------------------------------------------------------


class _Priced:
    """The engine's answer to one end of the range: its state after the last of the open periods has been closed."""

    def __init__(self, retold: Retold, outlooks: list[_Outlook], end: str) -> None:
        copy = retold.copy()
        copy.imagined = True
        state = copy.state
        for outlook in outlooks:
            self._count(state, outlook, end)
        self.invoices = draft_invoices(copy, "end") if outlooks else []
        self.state = state

    def _count(self, state: State, outlook: _Outlook, end: str) -> None:
        now = max(outlook.since, int(state.bills["start"][outlook.bill]))
        for series, rest in outlook.rests.items():
            cell = _cell_for(state, outlook, series)
            if cell is not None:
                _add(state, cell, rest.at(end), now)
        biller = Biller(state)
        for bill in state.segments(outlook.head):
            for line in state.lines_of(bill):
                if rate_of(state, line) is not None and state.cells_of(line):
                    biller.rerate(line, 1)


def _cell_for(state: State, outlook: _Outlook, series: Series) -> int | None:
    """Where a series is counted from now on: a cell of the segment that holds the present; made where there is none.
    None where nothing prices it any more."""
    plan = int(state.bills["plan"][outlook.bill])
    size = state.lines.size
    same = (state.lines["charge"][:size] == series.charge) & (state.lines["combo"][:size] == series.combo)
    for line in np.flatnonzero(same & (state.lines["rate"][:size] >= 0)).tolist()[::-1]:
        bill = int(state.lines["bill"][line])
        if int(state.bills["subscription"][bill]) != series.subscription or not state.cells_of(line):
            continue
        shape = shape_of(state, line)
        rate = int(state.catalogue.plan_rates[plan, shape.index]) if plan >= 0 else -1
        if rate >= 0 and series.number < sum(shape.channels):
            one = np.array([outlook.bill])
            found = find_cells(state, shape, one, np.array([series.combo]), np.array([series.number]), np.array([rate]))
            return int(found[0])
    return None


def _add(state: State, cell: int, value: int, now: int) -> None:
    """Counts more on a cell. A price that asks something of single events gets as many as there were before, on
    average: events of equal size."""
    cells = state.cells
    line = int(cells["line"][cell])
    events, held = int(cells["events"][cell]), int_of(cells["value"][cell])
    cells["value"][cell] = wide_of(check_scaled(held + value))
    cells["events"][cell] = max(events, int(value != 0))
    rate = state.catalogue.rates[int(state.lines["rate"][line])]
    split = leaf_of(rate, int(cells["number"][cell]))[0].split
    if split is None or not split.ordered or value <= 0 or not events or held <= 0:
        return
    count = min(max(divide_half_up(events * value, held), 1), ORDERED_EVENTS_MAX)
    for at in range(count):
        size = value // count + (at < value % count)
        state.kept.add_ordered(cell, split, Arrived(now, 2**61 + at, size))


# What is answered -----------------------------------------------------------------------------------------------------


def _period(retold: Retold, outlook: _Outlook, ends: dict[str, _Priced]) -> PeriodForecast:
    state, head = retold.state, outlook.head
    naming = Naming(state)
    _, _, _, subscription = naming.who(head)
    period = naming.period(head)
    begin, until = int(state.bills["since"][head]), outlook.until
    spread = all(rest.half is not None for rest in outlook.rests.values())
    before = sum(
        parse_scaled(one.total)
        for one in retold.said.invoices
        if (one.subscription, one.period.start) == (subscription, period.start)
    )
    totals = {
        end: before
        + sum(
            parse_scaled(one.total)
            for one in priced.invoices
            if (one.subscription, one.period.start) == (subscription, period.start)
        )
        for end, priced in ends.items()
    }
    charges = _charges(state, outlook, ends, spread)
    sums = {end: sum(line.amount for line in lines_of(priced.state, head)) for end, priced in ends.items()}
    so_far = sum(line.amount for line in lines_of(state, head))
    return PeriodForecast(
        subscription=subscription,
        period=period,
        currency=state.terms_of(head).currency,
        method=outlook.method,
        since=format_time(outlook.since),
        elapsed=share_of(retold.now - begin, until - begin) or "0",
        amount=_estimate(so_far, sums, spread),
        bill=_estimate(before, totals, spread),
        charges=charges,
    )


def _charges(state: State, outlook: _Outlook, ends: dict[str, _Priced], spread: bool) -> list[ChargeForecast]:
    now = _by_charge(state, outlook.head)
    after = {end: _by_charge(priced.state, outlook.head) for end, priced in ends.items()}
    found: list[ChargeForecast] = []
    for charge in dict.fromkeys([*now, *after["expected"]]):
        parts = [
            _estimate(now.get(charge, (0, 0))[i], {end: after[end].get(charge, (0, 0))[i] for end in _ENDS}, spread)
            for i in range(2)
        ]
        method = _method(ends["expected"].state, outlook, charge)
        found.append(ChargeForecast(charge=charge, method=method, quantity=parts[0], amount=parts[1]))
    return found


def _method(state: State, outlook: _Outlook, charge: str) -> str:
    number = state.charges.find(charge)
    if any(series.charge == number for series in outlook.rests):
        return outlook.method
    rates = [rate for rate in state.catalogue.rates if rate.charge == charge]
    own = [line for line in lines_of(state, outlook.head) if line.charge == charge]
    if not any(line.usage for line in own):
        return "flat"
    gauges = any(state.catalogue.meter(rate.meter).gauge is not None for rate in rates)
    return "level" if gauges else "held"


def _by_charge(state: State, head: int) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for line in lines_of(state, head):
        quantity, amount = found.get(line.charge, (0, 0))
        found[line.charge] = quantity + line.quantity, amount + line.amount
    return found


def _estimate(so_far: int, ends: dict[str, int], spread: bool) -> Estimate:
    return Estimate(
        so_far=format_scaled(so_far),
        expected=format_scaled(ends["expected"]),
        low=format_scaled(min(ends.values())) if spread else None,
        high=format_scaled(max(ends.values())) if spread else None,
    )

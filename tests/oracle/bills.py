"""The line items of one billing period, worked out from all events at once. A pure look: nothing here is remembered.

Readings:
- A line of a later segment is what all units of the charge's carried segments come to under the segment's price, less
  what those of the earlier ones come to under it; both are rounded at the 12th digit, so that segments telescope. Its
  quantity is that of its own segment. A charge carries from an earlier segment in which it had the same meter.
- Units carry on within one price book. `carry_usage: false` starts again where the version changes, not after a pause.
- A flat amount (less its discount) is shared out by the length of the segments that are no trial; prorated, by the
  length of the whole calendar period. The shares are those of what has gone by so far, so that they telescope.
- A fee in advance exists, for every segment, from the first rated event of the period (taken back or not), or from the
  tick that opens the period.
- A gauge is the customer's: it has heard of every event that some subscription covered, also of one that came before
  this subscription or this charge.
- A gauge that holds a level when a segment begins is usage of that segment, from its first moment on.
- A charge is unused where no segment but a trial counted anything for it in the whole period. Its line has null for
  each of its dimensions and stands in the first segment (no trial) whose charge bills nought.
- Nothing of a flat amount, and no line, is asked for in a trial; its usage has a line with an amount of nought.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.oracle.aggregates import (
    NOUGHT,
    Gauge,
    Span,
    Use,
    converted_total,
    exact_quantity,
    time_unit,
)
from tests.oracle.agreements import Segment, Subscription
from tests.oracle.prices import PERIODIC, Leaf, Priced, Way, bounded, price_line, way_to
from tests.oracle.reading import TINY, amount, half_up

Group = tuple[tuple[str, str | None], ...]
Counted = dict[Group, dict[Way, Leaf]]
NOTHING_USED = Priced(NOUGHT, NOUGHT, [])


@dataclass
class Line:
    """One line item: what a charge comes to for one combination of its dimensions in one segment."""

    name: str
    charge: dict[str, Any]
    group: Group
    segment: Segment
    quantity: Fraction
    amount: Fraction
    tiers: list[dict[str, str]] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)

    @property
    def key(self) -> tuple[Any, ...]:
        """What the line is known by within its period."""
        return self.segment.start, self.name, self.group


@dataclass
class Facts:
    """What is known of a customer when a period is looked at.

    `uses`: of each meter, those that were not taken back. `horizon`: up to when gauges are integrated. `opened`: an
    event of the period was rated, or a tick has come to it. `first`: when the subscription began."""

    meters: dict[str, Any]
    uses: dict[str, list[Use]]
    horizon: int
    opened: bool
    first: int | None
    closed: bool


def lines_of(subscription: Subscription, period: Span, facts: Facts) -> list[Line]:
    """Every line item of a period, in order of segment, charge as written, dimensions (null first)."""
    return _Period(subscription, period, facts).lines()


class _Period:
    def __init__(self, subscription: Subscription, period: Span, facts: Facts) -> None:
        self.subscription, self.period, self.facts = subscription, period, facts
        self.segments = subscription.segments(period)

    def lines(self) -> list[Line]:
        found = []
        for at, segment in enumerate(self.segments):
            for name, charge in segment.plan.charges.items():
                if charge["price"]["model"] in PERIODIC:
                    found += self._fee(at, name, charge)
                else:
                    metered = self._metered(at, name, charge)
                    found += metered or self._unused(at, name, charge)
        return [line for line in found if line.quantity or line.amount]

    # Usage

    def _metered(self, at: int, name: str, charge: dict[str, Any]) -> list[Line]:
        segment, earlier = self.segments[at], self._carried(at, name)
        own = together = self._count(charge, [segment])
        before: Counted = {}
        if earlier and not segment.plan.trial:
            before, together = self._count(charge, earlier), self._count(charge, [*earlier, segment])
        found = []
        for group in sorted(together, key=lambda g: [(value is not None, value or "") for _, value in g]):
            all_units = price_line(charge, together[group])
            earlier_units = price_line(charge, before[group]) if group in before else NOTHING_USED
            uses = [use for leaf in own.get(group, {}).values() for use in leaf.uses]
            quantity = price_line(charge, own[group]).quantity if group in own else NOUGHT
            due = NOUGHT if segment.plan.trial else all_units.amount - earlier_units.amount
            found.append(Line(name, charge, group, segment, quantity, due, all_units.tiers, uses))
        return found

    def _carried(self, at: int, name: str) -> list[Segment]:
        """The earlier segments of the period whose units of a charge stay used in a segment."""
        meter, carried = self.segments[at].plan.charges[name].get("meter"), []
        for place in range(at):
            carried.append(self.segments[place])
            before, after = self.segments[place].plan, self.segments[place + 1].plan
            if before.book != after.book or (before.version != after.version and not after.carry_usage):
                carried = []
        return [s for s in carried if not s.plan.trial and s.plan.charges.get(name, {}).get("meter") == meter]

    def _count(self, charge: dict[str, Any], segments: list[Segment]) -> Counted:
        """Group -> leaf -> what a charge counted in some segments; only where there is anything."""
        meter = self.facts.meters[charge["meter"]]
        uses = self.facts.uses.get(charge["meter"], [])
        if meter["aggregate"] == "time_weighted":
            return self._integrate(charge, meter, uses, segments)
        sorted_out: dict[Group, dict[Way, list[Use]]] = defaultdict(lambda: defaultdict(list))
        for use in _inside(uses, segments):
            way = way_to(charge["price"], use.dimensions, use.time, self.subscription.zone)
            sorted_out[_group(charge, use.dimensions)][way].append(use)
        return {
            group: {way: Leaf(converted_total(meter, exact_quantity(meter, some)), some) for way, some in ways.items()}
            for group, ways in sorted_out.items()
        }

    def _integrate(
        self, charge: dict[str, Any], meter: dict[str, Any], uses: list[Use], segments: list[Segment]
    ) -> Counted:
        price, zone = charge["price"], self.subscription.zone
        unit = time_unit(meter, self.subscription.whole(self.period))
        pieces = [(s.start, min(s.end, self.facts.horizon)) for s in segments if s.start < self.facts.horizon]
        gauges: dict[Any, list[Use]] = defaultdict(list)
        for use in uses:
            gauges[(tuple(use.dimensions.items()), use.key)].append(use)
        totals: dict[Group, dict[Way, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
        events: dict[Group, dict[Way, list[Use]]] = defaultdict(lambda: defaultdict(list))
        for (dimensions, _), some in gauges.items():
            group, gauge = _group(charge, dict(dimensions)), Gauge(meter, some, zone)
            total = gauge.level_times_time(pieces)
            if total or any(gauge.level(s.start) for s in segments if s.start <= self.facts.horizon):
                totals[group][way_to(price, dict(dimensions), None, zone)] += total
            for use in _inside(some, segments):
                way = way_to(price, use.dimensions, use.time, zone)
                events[group][way].append(use)
                totals[group][way] += 0
        return {
            group: {way: Leaf(converted_total(meter, total / unit), events[group][way]) for way, total in ways.items()}
            for group, ways in totals.items()
        }

    # Without usage

    def _unused(self, at: int, name: str, charge: dict[str, Any]) -> list[Line]:
        segment = self.segments[at]
        if not self.facts.closed or segment.plan.trial or not _bills_nought(charge) or self._is_used(name):
            return []
        if any(_bills_nought(s.plan.charges.get(name, {})) and not s.plan.trial for s in self.segments[:at]):
            return []
        nought = {way_to(charge["price"], {}, None, self.subscription.zone): Leaf(NOUGHT, [])}
        due = price_line(charge, nought).amount
        group = tuple((key, None) for key in charge.get("group_by") or [])
        return [Line(name, charge, group, segment, NOUGHT, due)]

    def _is_used(self, name: str) -> bool:
        asking = [s for s in self.segments if not s.plan.trial and s.plan.charges.get(name, {}).get("meter")]
        return any(self._count(segment.plan.charges[name], [segment]) for segment in asking)

    def _fee(self, at: int, name: str, charge: dict[str, Any]) -> list[Line]:
        segment, in_advance = self.segments[at], charge.get("when") == "in_advance"
        if segment.plan.trial or not (self.facts.opened if in_advance else self.facts.closed):
            return []
        asked = bounded(charge, amount(charge["price"]["amount"]))
        if charge["price"]["model"] == "one_time":
            assert self.facts.first is not None
            force = self.subscription.first_force(segment.plan.book, self.facts.first)
            if force is None or not segment.start <= force < segment.end:
                return []
            return [Line(name, charge, (), segment, Fraction(1), asked)]
        billed = [s.end - s.start for s in self.segments if not s.plan.trial]
        before = sum(s.end - s.start for s in self.segments[:at] if not s.plan.trial)
        period = self.subscription.whole(self.period) if charge.get("prorate") else sum(billed)
        so_far = half_up(asked * Fraction(before + segment.end - segment.start, period), TINY)
        return [Line(name, charge, (), segment, Fraction(1), so_far - half_up(asked * Fraction(before, period), TINY))]


def _inside(uses: Iterable[Use], segments: list[Segment]) -> list[Use]:
    return [use for use in uses if any(s.start <= use.time < s.end for s in segments)]


def _group(charge: dict[str, Any], dimensions: dict[str, str | None]) -> Group:
    return tuple((key, dimensions[key]) for key in charge.get("group_by") or [])


def _bills_nought(charge: dict[str, Any]) -> bool:
    return bool(charge.get("bill_zero_usage")) or charge.get("minimum") is not None

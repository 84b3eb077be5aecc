"""Prices of time: fees and commitments for a part of a period, and prices that change inside one."""

from fractions import Fraction
from typing import Any, NamedTuple

from tests.cases.agreement import DAY, Agreement
from tests.cases.prices import CHARGE, flat, lay, unit
from tests.cases.reading import Case, Money
from tests.oracle.calendars import iso, moment
from tests.oracle.reading import number as exact
from tests.oracle.reading import show

Found = dict[str, Any]

_CALENDAR: dict[int, tuple[str, int | str, str]] = {
    7: ("week", 1, "2026-01-05"),
    28: ("month", 1, "2026-02-01"),
    29: ("month", 1, "2024-02-01"),
    30: ("month", 1, "2026-04-01"),
    31: ("month", 1, "2026-01-01"),
    90: ("quarter", "01-01", "2026-01-01"),
    91: ("quarter", "01-01", "2026-04-01"),
    92: ("quarter", "01-01", "2026-10-01"),
    365: ("year", "01-01", "2026-01-01"),
    366: ("year", "01-01", "2024-01-01"),
}
"""A billing period (unit, anchor, start) of so many days."""


class Part(NamedTuple):
    """A whole billing period `[start, end)` and how long the service lasts in it; microseconds."""

    unit: str
    anchor: int | str | None
    start: int
    end: int
    used: int

    @property
    def begin(self) -> int:
        """Where a service begins that lasts to the period's end (or longer than the period: where that begins)."""
        return max(self.start, self.end - self.used)

    def terms(self) -> dict[str, Any]:
        """A subscription's terms. A service of no length is a trial to the period's end."""
        found = {"period": self.unit} | ({"anchor": self.anchor} if self.anchor else {})
        if not self.used:
            return found | {"start": iso(self.start), "trial_end": iso(self.end)}
        if self.used > self.end - self.start:
            return found | {"start": iso(self.start), "end": iso(self.start + self.used)}
        return found | {"start": iso(self.begin)}


def part(used: str, full: str, seconds: int = DAY // 1_000_000) -> Part:
    """So many of so many days (or other units in seconds): of a period that is as long, else of a day that stands for
    one."""
    days = Fraction(full) * seconds / 86_400
    if days in _CALENDAR:
        unit_name, anchor, day = _CALENDAR[int(days)]
        start, whole = moment(f"{day}T00:00:00Z"), int(days) * DAY
        return Part(unit_name, anchor, start, start + whole, int(Fraction(used) * seconds * 1_000_000))
    start = moment("2026-01-01T00:00:00Z")
    return Part("day", None, start, start + DAY, int(DAY * Fraction(used) / Fraction(full)))


def of_case(case: Case) -> Part:
    """The part of a case's `period`."""
    period = case["period"]
    return part(period["used"], period["full"], {"day": 86_400, "second": 1}[period["unit"]])


def prorated_flat(case: Case) -> Found:
    """A fee for a part of a period: prorated by duration."""
    money, share = Money(case), of_case(case)
    agreement = Agreement(money.currency, terms=share.terms())
    agreement.charges[CHARGE] = flat(money.read(case["price"]["flat_fee"]), prorate=True)
    found = agreement.rate(iso(share.end))
    exactly = money.own(found.amount(CHARGE))
    cents = (case.get("rounding") or {}).get("currency") or (case.get("rounding") or {}).get("digits") == "0"
    return {"amount": money.own(found.closing.net) if cents else exactly, "unrounded": exactly}


def commitment(case: Case) -> Found:
    """A minimum laid over what has been charged: a line of its own, prorated where the period is."""
    money, price = Money(case), case["price"]
    proration = price.get("proration", {"numerator_days": "31", "denominator_days": "31"})
    share = part(proration["numerator_days"], proration["denominator_days"])
    agreement = Agreement(money.currency, iso(share.begin), terms=share.terms())
    agreement.meters["usage"] = {"event": "use", "aggregate": "sum", "value": "$.value"}
    agreement.charges[CHARGE] = unit("1")
    agreement.book["minimum"] = {"amount": money.read(price["minimum_amount"]), "prorate": "proration" in price}
    charged = money.read(case["usage"]["charged"])
    if exact(charged):
        agreement.use(charged)
    minimum = money.own(agreement.rate(iso(share.end)).closing.figure("minimum"))
    return {"amount": minimum} | ({} if exact(charged) else {"commitment_amount": minimum})


def change(case: Case) -> Found:
    """A price that changes inside a period: what differs from a period without the change.

    The credit is what the old price asks less for its shorter part, the charge what the new one asks for the rest.
    """
    money, share = Money(case), of_case(case)
    old, new = (
        show(Fraction(money.read(side["unit_price"])) * Fraction(side["quantity"]))
        for side in (case["price"]["old"], case["price"]["new"])
    )

    def asked(**phases: Any) -> tuple[Fraction, Fraction]:
        """What the invoice asks for the part under the old price, and for the part under the new one."""
        agreement = Agreement(money.currency, iso(share.start), terms=share.terms() | {"start": iso(share.start)})
        agreement.terms |= phases
        agreement.charges[CHARGE] = flat(old, prorate=True)
        found = agreement.rate(iso(share.end))
        later = {item["id"] for item in found.items if moment(item["period"]["start"]) >= share.begin}
        lines = [(line["line_item"] in later, Fraction(line["amount"])) for line in found.closing.lines]
        before = sum((amount for late, amount in lines if not late), Fraction(0))
        return before, found.closing.net - before

    unchanged, _ = asked()
    overrides = {"charges": {CHARGE: {"price": {"model": "flat", "amount": new}}}}
    before, after = asked(phases=[{"start": iso(share.begin), "overrides": overrides}])
    credit = before - unchanged
    return {"amount": money.own(credit + after), "credit": money.own(credit), "charge": money.own(after)}


def prorated_tiers(case: Case) -> Found:
    """Units that count for the part of the period that is left: a gauge's changes, integrated over the period.

    Each event comes when so much of the period is left as its units are prorated to.
    """
    share = part("30", "30")
    agreement = lay(case)
    agreement.start = iso(share.start)
    agreement.meters["usage"] |= {"aggregate": "time_weighted", "reads": "change", "unit": "period"}
    usage = case["usage"]
    for full, prorated in zip(usage["full_units"], usage["prorated_units"], strict=True):
        left = (share.end - share.start) * Fraction(prorated) / Fraction(full)
        assert left.denominator == 1
        agreement.use(full, time=iso(share.end - int(left)))
    items = agreement.rate(iso(share.end)).of(CHARGE)
    first = [item for item in items if moment(item["period"]["start"]) == share.start]
    return {"amount": sum((Fraction(item["amount"]) for item in first), Fraction(0))}

"""Price models of the oracle, in fractions. One function each, straight from the contracts.

A price is a tree: `matrix` and `schedule` hold prices, everything else is a *leaf* with a total of its own. A leaf
is named by its way through the tree, in the order written, `otherwise` last.

Readings:
- What no cell and no window prices costs nothing and still counts in the line's quantity.
- Every model but `unit` gives nought where what it comes to is below nought (`percentage` and `dynamic` after adding
  their events up).
- A percentage's allowance is used up as soon as it is reached exactly, so an event of nought after that pays the
  fixed amount. An allowance of nought is none. `amount_governs` drops `free_events` only where there is a
  `free_amount` and a `min_amount` or a `max_amount`.
- A discount of an amount takes nothing off what is below nought already; a percentage mirrors there.
- A value below nought is a correction under `percentage`: it takes its share back, without fixed amount, least and
  greatest, and does not touch the allowance.
- How `free_units` (or a discount in units) would come off a `percentage` or a `dynamic` price, nothing says: refused.
"""

from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from tests.oracle.aggregates import NOUGHT, Use
from tests.oracle.calendars import clock
from tests.oracle.expressions import NoValue, value_of
from tests.oracle.reading import TINY, amount, half_up, show

OTHERWISE = 10**9
"""The number of what stands in no cell and no window: it comes after all of them."""
NOTHING: dict[str, Any] = {"model": "nothing"}
PER_EVENT = ("percentage", "dynamic")
PERIODIC = ("flat", "one_time")
Way = tuple[int, ...]


class Leaf(NamedTuple):
    """What one leaf of a price is asked to price: its quantity, and the events behind it."""

    quantity: Fraction
    uses: list[Use]


class Priced(NamedTuple):
    """What a charge comes to for one line: both exact to the 12th digit, and the tiers that were entered."""

    quantity: Fraction
    amount: Fraction
    tiers: list[dict[str, str]]


def way_to(price: dict[str, Any], dimensions: dict[str, str | None], time: int | None, zone: str) -> Way:
    """The leaf that prices usage with these dimensions at a time. Usage of nought has neither: it is `otherwise`."""
    if price["model"] == "matrix":
        at, inner = _cell(price, dimensions)
    elif price["model"] == "schedule":
        at, inner = _window(price, time, price.get("timezone") or zone)
    else:
        return ()
    return at, *way_to(inner or NOTHING, dimensions, time, zone)


def leaf_of(price: dict[str, Any], way: Way) -> dict[str, Any]:
    """The price at the end of a way."""
    for at in way:
        inside = price["cells"] if price["model"] == "matrix" else price["windows"]
        price = (price.get("otherwise") or NOTHING) if at == OTHERWISE else inside[at]["price"]
    return price


def _cell(price: dict[str, Any], dimensions: dict[str, str | None]) -> tuple[int, Any]:
    best, most = (OTHERWISE, price.get("otherwise")), 0
    for index, cell in enumerate(price["cells"]):
        match = cell["match"]
        if len(match) > most and all(_named(dimensions.get(key), wanted) for key, wanted in match.items()):
            best, most = (index, cell["price"]), len(match)
    return best


def _named(value: str | None, wanted: Any) -> bool:
    return value is not None and value in [str(one) for one in (wanted if isinstance(wanted, list) else [wanted])]


DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _window(price: dict[str, Any], time: int | None, zone: str) -> tuple[int, Any]:
    if time is not None:
        local = clock(time).astimezone(ZoneInfo(zone))
        wall = local.strftime("%H:%M:%S.%f")
        for index, window in enumerate(price["windows"]):
            first, last = window.get("hours", "00:00-24:00").split("-")
            if DAYS[local.weekday()] in window.get("days", DAYS) and first <= wall < last:
                return index, window["price"]
    return OTHERWISE, price.get("otherwise")


def price_line(charge: dict[str, Any], leaves: dict[Way, Leaf]) -> Priced:
    """The price of one line from what each leaf counted.

    Free units (and a discount in units) come off first, from the leaves in the order written; then each leaf's model;
    then the discount, the charge's maximum, its minimum; at last the one rounding."""
    price, discount = charge["price"], charge.get("discount") or {}
    free = amount(charge.get("free_units", "0")) + amount(discount.get("units", "0"))
    exact, tiers = NOUGHT, []
    for way in sorted(leaves):
        inner, leaf = leaf_of(price, way), leaves[way]
        billed = leaf.quantity
        if free and inner["model"] in PER_EVENT:
            raise ValueError("nothing says how units come off a price of single events")
        if billed > 0:
            used_up = min(free, billed)
            free, billed = free - used_up, billed - used_up
        cost, entered = _model(inner, billed, leaf.uses, bool(charge.get("bill_zero_usage")))
        exact += cost
        tiers += entered
    return Priced(sum((leaf.quantity for leaf in leaves.values()), NOUGHT), bounded(charge, exact), tiers)


def bounded(charge: dict[str, Any], exact: Fraction) -> Fraction:
    """What is left of a model's amount after the charge's discount, maximum and minimum, rounded at the 12th digit."""
    discount = charge.get("discount") or {}
    exact -= exact * amount(discount.get("percent", "0")) / 100
    if exact > 0:
        exact = max(NOUGHT, exact - amount(discount.get("amount", "0")))
    if charge.get("maximum") is not None:
        exact = min(exact, amount(charge["maximum"]))
    if charge.get("minimum") is not None:
        exact = max(exact, amount(charge["minimum"]))
    return half_up(exact, TINY)


def _model(price: dict[str, Any], q: Fraction, uses: list[Use], zero: bool) -> tuple[Fraction, list[dict[str, str]]]:
    """(exact amount, tiers entered) of a quantity. `zero`: nought enters the first tier."""
    model = price["model"]
    if model == "nothing":
        return NOUGHT, []
    if model == "unit":
        return q * amount(price["unit_amount"]), []
    if model == "percentage":
        return max(NOUGHT, _percentage(price, uses)), []
    if model == "dynamic":
        brought = sum((_own_amount(price, use) for use in uses), NOUGHT)
        return max(NOUGHT, brought * amount(price.get("multiplier", "1"))), []
    if q < 0 or (q == 0 and not zero):
        return NOUGHT, []
    if model == "package":
        packages = Fraction(-(-q // amount(price["package_size"])))
        if price.get("round", "up") == "down":
            packages = Fraction(q // amount(price["package_size"]))
        if q == 0:
            packages = amount(price.get("zero_usage_packages", "0"))
        return packages * amount(price["package_amount"]), []
    if model in ("graduated", "graduated_percentage"):
        return _graduated(price["tiers"], q)
    if model == "stairstep" and price.get("method") == "graduated":
        entered = [tier for tier in _spans(price["tiers"]) if _is_entered(tier, q, price)]
        return sum((tier.flat for tier in entered), NOUGHT), [_shown(tier, NOUGHT, tier.flat) for tier in entered]
    if model in ("volume", "stairstep"):
        return _one_tier(price, q)
    raise ValueError(f"the oracle has no model {model!r}")


def _own_amount(price: dict[str, Any], use: Use) -> Fraction:
    """What an event of a `dynamic` price brings; one of an earlier segment was perhaps not asked: nothing."""
    try:
        return value_of(price["amount"], use.data)
    except NoValue:
        return NOUGHT


def _percentage(price: dict[str, Any], uses: list[Use]) -> Fraction:
    """The price of single events, in order of time, then of arrival."""
    rate, fixed = amount(price["rate"]), amount(price.get("fixed_amount", "0"))
    least, greatest = price.get("min_amount"), price.get("max_amount")
    events, money = int(price.get("free_events", 0)), amount(price.get("free_amount", "0"))
    if price.get("free_rule") == "amount_governs" and money and (least is not None or greatest is not None):
        events = 0
    free = bool(events or money)
    total, count, used = NOUGHT, 0, NOUGHT
    for use in sorted(uses, key=lambda use: (use.time, use.arrival)):
        above = use.value
        if above < 0:
            total += above * rate
            continue
        if free and ((events and count >= events) or (money and used >= money)):
            free = False
        if free:
            count, used = count + 1, used + use.value
            if not money or used <= money:
                continue
            above, free = used - money, False
        paid = above * rate + fixed
        if greatest is not None:
            paid = min(paid, amount(greatest))
        if least is not None:
            paid = max(paid, amount(least))
        total += paid
    return total


class _Tier(NamedTuple):
    above: Fraction
    up_to: Fraction | None
    unit: Fraction
    flat: Fraction
    most: Fraction | None


def _spans(tiers: list[dict[str, Any]]) -> list[_Tier]:
    spans: list[_Tier] = []
    above = NOUGHT
    for tier in tiers:
        up_to = amount(tier["up_to"]) if tier.get("up_to") is not None else None
        most = amount(tier["maximum_amount"]) if tier.get("maximum_amount") is not None else None
        unit = amount(tier.get("rate") or tier.get("unit_amount") or "0")
        spans.append(_Tier(above, up_to, unit, amount(tier.get("flat_amount", "0")), most))
        above = up_to or NOUGHT
    return spans


def _is_entered(tier: _Tier, q: Fraction, price: dict[str, Any]) -> bool:
    from_first_unit = price.get("bounds") == "from"
    return tier.above == 0 or q > tier.above or (from_first_unit and q == tier.above)


def _graduated(tiers: list[dict[str, Any]], q: Fraction) -> tuple[Fraction, list[dict[str, str]]]:
    total, entered = NOUGHT, []
    for tier in _spans(tiers):
        if not _is_entered(tier, q, {}):
            break
        inside = (q if tier.up_to is None else min(q, tier.up_to)) - tier.above
        cost = inside * tier.unit + tier.flat
        if tier.most is not None:
            cost = min(cost, tier.most)
        total += cost
        entered.append(_shown(tier, inside, cost))
    return total, entered


def _one_tier(price: dict[str, Any], q: Fraction) -> tuple[Fraction, list[dict[str, str]]]:
    tier = [tier for tier in _spans(price["tiers"]) if _is_entered(tier, q, price)][-1]
    cost = q * tier.unit + tier.flat
    return cost, [_shown(tier, q, cost)]


def _shown(tier: _Tier, inside: Fraction, cost: Fraction) -> dict[str, str]:
    shown = {"from": show(tier.above), "quantity": show(inside), "unit_amount": show(tier.unit)}
    if tier.up_to is not None:
        shown["up_to"] = show(tier.up_to)
    return shown | {"flat_amount": show(tier.flat), "amount": show(half_up(cost, TINY))}

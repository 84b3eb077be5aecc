"""Prices as SQL: which leaf of a price an event stands in, and what a leaf's quantity costs.

A price is a tree: `matrix` and `schedule` hold prices, all others are leaves with totals of their own. Leaves are
numbered in the order written, `otherwise` last. A cost is a pair of SQL texts, `hi` and `lo` (see `exact`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from itertools import pairwise
from math import gcd
from typing import Any, Final, NamedTuple

from schemas.numbers import ONE
from schemas.period import load_zone
from schemas.times import DAY, to_datetime
from taximeter.audit.agreements import Document
from taximeter.audit.conditions import scaled
from taximeter.audit.exact import Unreadable, literal, text

NOTHING: Final[Document] = {"model": "nothing"}
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MINUTE: Final = 60_000_000


class Cost(NamedTuple):
    """An amount as SQL, in units of 10^-12 and 10^-24."""

    hi: str
    lo: str


FREE: Final = Cost("0::HUGEINT", "0::HUGEINT")


@dataclass
class Tree:
    """A price, its leaves numbered. `leaf` is the SQL of the leaf that holds a row (`dims`, `time`)."""

    leaves: list[Document] = field(default_factory=list)
    leaf: str = ""
    unused: int = 0
    """The leaf of usage of nought, which has neither dimensions nor a time."""


def read_tree(price: Document, dimensions: list[str], span: tuple[int, int]) -> Tree:
    """`dimensions`: the meter's, in the order of the list `dims`. `span`: the times that rows can have.

    Raises: Unreadable where a model is not known.
    """
    tree = Tree()
    tree.leaf, tree.unused = _walk(price, dimensions, span, tree)
    return tree


def _walk(price: Document | None, dimensions: list[str], span: tuple[int, int], tree: Tree) -> tuple[str, int]:
    price = price or NOTHING
    if price["model"] not in ("matrix", "schedule"):
        tree.leaves.append(price)
        return str(len(tree.leaves) - 1), len(tree.leaves) - 1
    parts = price["cells"] if price["model"] == "matrix" else price["windows"]
    inside = [_walk(part["price"], dimensions, span, tree)[0] for part in parts]
    otherwise, unused = _walk(price.get("otherwise"), dimensions, span, tree)
    if price["model"] == "matrix":
        order = sorted(range(len(parts)), key=lambda at: (-len(parts[at]["match"]), at))
        conditions = {at: _matches(parts[at]["match"], dimensions) for at in order}
    else:
        minute = _minute_of_week(price.get("timezone") or "UTC", span)
        conditions = {at: _within(window, minute) for at, window in enumerate(parts)}
    cases = " ".join(f"WHEN {condition} THEN {inside[at]}" for at, condition in conditions.items())
    return f"CASE {cases} ELSE {otherwise} END", unused


def _matches(match: Document, dimensions: list[str]) -> str:
    parts = []
    for name, wanted in match.items():
        options = wanted if isinstance(wanted, list) else [wanted]
        listed = ", ".join(text(str(one).lower() if isinstance(one, bool) else str(one)) for one in options)
        parts.append(f"coalesce(dims[{dimensions.index(name) + 1}] IN ({listed}), false)")
    return "(" + " AND ".join(parts) + ")"


def _within(window: Document, minute: str) -> str:
    first, last = (_minutes(part) for part in window.get("hours", "00:00-24:00").split("-"))
    stretches = [(first, last)] if first < last else [(first, 1440), (1440, 1440 + last)]
    parts = []
    for day in window.get("days", _DAYS):
        for start, end in stretches:
            base = _DAYS.index(day) * 1440
            low, high = (base + start) % 10080, (base + start) % 10080 + end - start
            parts.append(f"({minute} >= {low} AND {minute} < {high})")
    return "(" + " OR ".join(parts) + ")"


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _minute_of_week(zone: str, span: tuple[int, int]) -> str:
    return f"((((time + {offset_at('time', zone, span)}) // {_MINUTE}) + {3 * 1440}) % 10080)"


def offset_at(time: str, zone: str, span: tuple[int, int]) -> str:
    """The SQL of how far a zone's clocks are ahead of UTC at a time, in microseconds."""
    changes = list(_changes(zone, span[0] // DAY, span[1] // DAY + 1))
    if len(changes) == 1:
        return str(changes[0][1])
    cases = " ".join(f"WHEN {time} < {later} THEN {offset}" for (_, offset), (later, _) in pairwise(changes))
    return f"(CASE {cases} ELSE {changes[-1][1]} END)"


@lru_cache(maxsize=256)
def _changes_known(zone: str, first: int, last: int) -> tuple[tuple[int, int], ...]:
    found = [(first * DAY, _offset(zone, first * DAY))]
    for day in range(first, last):
        low, high = day * DAY, (day + 1) * DAY
        if _offset(zone, high) == _offset(zone, low):
            continue
        after = _offset(zone, high)
        while high - low > 1_000_000:
            middle = (low + high) // 2_000_000 * 1_000_000
            low, high = (low, middle) if _offset(zone, middle) == after else (middle, high)
        found.append((high, after))
    return tuple(found)


def _changes(zone: str, first: int, last: int) -> Iterator[tuple[int, int]]:
    yield from _changes_known(zone, first, last)


def _offset(zone: str, time: int) -> int:
    offset = to_datetime(time).astimezone(load_zone(zone)).utcoffset() or timedelta()
    return offset // timedelta(microseconds=1)


# Leaves --------------------------------------------------------------------------------------------------------------


def is_per_event(price: Document) -> bool:
    """Whether a leaf prices single events."""
    return price["model"] in ("percentage", "dynamic")


def cost_of(price: Document, q: str, zero: bool) -> Cost:
    """What a quantity comes to under a leaf that prices totals. `zero`: nought enters the first tier."""
    model = price["model"]
    if model == "nothing":
        return FREE
    if model == "unit":
        return _product(q, scaled(price["unit_amount"]))
    if model == "package":
        found = _packages(price, q)
    elif model in ("graduated", "graduated_percentage"):
        found = _graduated(_tiers(price), q)
    elif model in ("volume", "stairstep"):
        found = _one_tier(price, q)
    else:
        raise Unreadable(f"the price model {model}")
    asked = f"({q}) > 0" + (f" OR ({q}) = 0" if zero else "")
    return Cost(f"(CASE WHEN {asked} THEN {found.hi} ELSE 0 END)", f"(CASE WHEN {asked} THEN {found.lo} ELSE 0 END)")


def _product(q: str, price: int) -> Cost:
    return Cost(f"product_hi({q}, {literal(price)})", f"product_lo({q}, {literal(price)})")


def _packages(price: Document, q: str) -> Cost:
    size, each = scaled(price["package_size"]), scaled(price["package_amount"])
    above = size - 1 if price.get("round", "up") == "up" else 0
    nought = literal(scaled(price.get("zero_usage_packages", "0")) // ONE)
    count = f"(CASE WHEN ({q}) = 0 THEN {nought} ELSE (({q}) + {literal(above)}) // {literal(size)} END)"
    return Cost(f"({count} * {literal(each)})", "0::HUGEINT")


class _Tier(NamedTuple):
    above: int
    up_to: int | None
    unit: int
    flat: int
    most: int | None


def _tiers(price: Document) -> list[_Tier]:
    found: list[_Tier] = []
    above = 0
    for tier in price["tiers"]:
        up_to = scaled(tier["up_to"]) if tier.get("up_to") is not None else None
        unit = scaled(tier.get("rate") or tier.get("unit_amount") or "0")
        most = scaled(tier["maximum_amount"]) if tier.get("maximum_amount") is not None else None
        found.append(_Tier(above, up_to, unit, scaled(tier.get("flat_amount") or "0"), most))
        above = up_to or 0
    return found


def _entered(tier: _Tier, q: str, price: Document) -> str:
    if tier.above == 0:
        return "true"
    return f"({q}) {'>=' if price.get('bounds') == 'from' else '>'} {literal(tier.above)}"


def _graduated(tiers: list[_Tier], q: str) -> Cost:
    his, los = [], []
    for tier in tiers:
        top = q if tier.up_to is None else f"least({q}, {literal(tier.up_to)})"
        part = _product(f"({top} - {literal(tier.above)})", tier.unit)
        hi, lo = f"({part.hi} + {literal(tier.flat)})", part.lo
        if tier.most is not None:
            lo = f"(CASE WHEN {hi} >= {literal(tier.most)} THEN 0 ELSE {lo} END)"
            hi = f"least({hi}, {literal(tier.most)})"
        entered = _entered(tier, q, {})
        his.append(f"(CASE WHEN {entered} THEN {hi} ELSE 0 END)")
        los.append(f"(CASE WHEN {entered} THEN {lo} ELSE 0 END)")
    return Cost("(" + " + ".join(his) + ")", "(" + " + ".join(los) + ")")


def _one_tier(price: Document, q: str) -> Cost:
    tiers = _tiers(price)
    if price.get("method") == "graduated":
        flats = [f"(CASE WHEN {_entered(tier, q, price)} THEN {literal(tier.flat)} ELSE 0 END)" for tier in tiers]
        return Cost("(" + " + ".join(flats) + ")", "0::HUGEINT")
    his, los = [], []
    for tier in reversed(tiers):
        part = _product(q, tier.unit)
        entered = _entered(tier, q, price)
        his.append(f"WHEN {entered} THEN {part.hi} + {literal(tier.flat)}")
        los.append(f"WHEN {entered} THEN {part.lo}")
    return Cost(f"(CASE {' '.join(his)} END)", f"(CASE {' '.join(los)} END)")


def percentage_of(price: Document) -> Cost:
    """What one event pays, from the columns `value`, `earlier_events` and `earlier_sum` (of values from nought)."""
    rate, fixed = scaled(price["rate"]), scaled(price.get("fixed_amount") or "0")
    least, greatest = price.get("min_amount"), price.get("max_amount")
    events, money = int(str(price.get("free_events") or 0)), scaled(price.get("free_amount") or "0")
    if price.get("free_rule") == "amount_governs" and money and (least is not None or greatest is not None):
        events = 0
    free = "false"
    if events or money:
        free = " AND ".join(
            [
                *([f"earlier_events < {events}"] if events else []),
                *([f"earlier_sum < {literal(money)}"] if money else []),
            ]
        )
    whole, above = _paid("value", rate, fixed, least, greatest), FREE
    crosses = "false"
    if money:
        crosses = f"(earlier_sum + value > {literal(money)})"
        above = _paid(f"(earlier_sum + value - {literal(money)})", rate, fixed, least, greatest)
    back = _product("value", rate)
    pick = "(CASE WHEN value < 0 THEN {0} WHEN NOT ({1}) THEN {2} WHEN {3} THEN {4} ELSE 0::HUGEINT END)".format
    return Cost(pick(back.hi, free, whole.hi, crosses, above.hi), pick(back.lo, free, whole.lo, crosses, above.lo))


def _paid(value: str, rate: int, fixed: int, least: Any, greatest: Any) -> Cost:
    part = _product(value, rate)
    hi, lo = f"({part.hi} + {literal(fixed)})", part.lo
    if greatest is not None:
        bound = literal(scaled(greatest))
        hi, lo = f"least({hi}, {bound})", f"(CASE WHEN {hi} >= {bound} THEN 0 ELSE {lo} END)"
    if least is not None:
        bound = literal(scaled(least))
        hi, lo = f"greatest({hi}, {bound})", f"(CASE WHEN {hi} < {bound} THEN 0 ELSE {lo} END)"
    return Cost(hi, lo)


def bounded(charge: Document, cost: Cost) -> str:
    """The SQL of a charge's amount: the price less the discount, between maximum and minimum, rounded once."""
    discount = charge.get("discount") or {}
    amount = f"rounded({cost.hi}, {cost.lo})"
    if discount.get("percent") is not None:
        kept, whole = 100 * ONE - scaled(discount["percent"]), 100 * ONE
        common = gcd(kept, whole)
        up, down = literal(kept // common), literal(whole // common)
        left = f"(({cost.hi}) * {up})"
        rest = f"(({left} % {down}) * {literal(ONE)} + ({cost.lo}) * {up})"
        amount = f"rounded_over({left} // {down}, {rest}, {down} * {literal(ONE)})"
    elif discount.get("amount") is not None:
        off = literal(scaled(discount["amount"]))
        amount = f"list_transform([{amount}], lambda a: CASE WHEN a > 0 THEN greatest(a - {off}, 0) ELSE a END)[1]"
    if charge.get("maximum") is not None:
        amount = f"least({amount}, {literal(scaled(charge['maximum']))})"
    if charge.get("minimum") is not None:
        amount = f"greatest({amount}, {literal(scaled(charge['minimum']))})"
    return amount

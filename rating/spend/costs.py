"""What a single subject, key or model has cost: a customer's line items shared out by usage.

Tiers, packages and minimums belong to a line item as a whole, so a part of it has no price of its own. Each line item's
amount is shared out in proportion to what was used, by largest remainder at the 12th digit: the shares sum to the line
item exactly. What no usage brought about (flat amounts, minimums without usage) stands under no name.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import msgspec

from rating.spend.parameters import Problem, invalid
from rating.spend.spending import ALL, Choice
from rating.spend.store import SpendStore, Whose
from rating.spend.usage import OWNERS, TOTAL, Question, columns_for, measure, read_meters, stretch
from schemas.catalogue import Meter
from schemas.faults import unknown
from schemas.numbers import format_scaled, parse_scaled
from schemas.output import LineItem
from schemas.times import parse_time

_ADDITIVE: Final = ("count", "sum", "time_weighted")
"""Where parts of the usage add up to the whole; elsewhere the events that counted are shared."""
_PAGE: Final = 1000
LINES_MAX: Final = 10_000
"""Line items that one question may share out."""
_LINE = msgspec.json.Decoder(LineItem)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What one name's usage has cost. `name` None: what no usage of any name brought about."""

    name: str | None
    currency: str
    amount: str
    events: int


class _Share(NamedTuple):
    name: str | None
    weight: int
    events: int


def costs(
    store: SpendStore, tenant: str, customer: str, by: str, period: Choice, catalogue: bytes | None, partition: int
) -> Mapping[str, Any]:
    """The members of the answer. `by`: `subject`, or a dimension. Raises: Problem."""
    meters = {} if catalogue is None else read_meters(catalogue)
    known = {name for meter in meters.values() for name in meter.dimensions} | {"subject"}
    if by not in known:
        raise invalid("by", unknown(by, sorted(known)))
    lines = _lines(store, tenant, customer, period)
    found: dict[tuple[str | None, str], tuple[int, int]] = {}

    def add(name: str | None, currency: str, amount: int, events: int) -> None:
        before = found.get((name, currency), (0, 0))
        found[name, currency] = before[0] + amount, before[1] + events

    for (meter_name, start, end, names), group in groupby(sorted(lines, key=_place), key=_place):
        meter = meters.get(meter_name or "")
        shares = {}
        # A line item may be older than what the meter's dimensions are now.
        if meter is not None and {by, *names} <= {*meter.dimensions, *OWNERS}:
            whose = Whose(tenant, (customer,))
            shares = _shares(store, whose, partition, meter, parse_time(start), parse_time(end), names, by)
        for line in group:
            own = shares.get(tuple(line.dimensions[name] for name in names), [])
            amount = parse_scaled(line.amount)
            for share, part in zip(own, share_out(amount, [share.weight for share in own]), strict=True):
                add(share.name, line.currency, part, share.events)
            if not own:
                add(None, line.currency, amount, line.events)
    rows = [
        Cost(name=name, currency=currency, amount=format_scaled(amount), events=events)
        for (name, currency), (amount, events) in sorted(
            found.items(), key=lambda item: (item[0][1], -item[1][0], item[0][0] is not None, item[0][0] or "")
        )
    ]
    return {"customer": customer, "by": by, "method": "share_of_usage", "costs": rows}


def share_out(amount: int, weights: Sequence[int]) -> list[int]:
    """A whole number in proportion to weights, by largest remainder, ties to the earlier. Sums to the number."""
    weights = [abs(weight) for weight in weights]
    whole = sum(weights)
    if not weights:
        return []
    if not whole:
        weights, whole = [1] * len(weights), len(weights)
    sign = -1 if amount < 0 else 1
    parts = [divmod(abs(amount) * weight, whole) for weight in weights]
    left = abs(amount) - sum(part for part, _ in parts)
    order = sorted(range(len(parts)), key=lambda at: (-parts[at][1], at))
    more = set(order[:left])
    return [sign * (part + (at in more)) for at, (part, _) in enumerate(parts)]


def _place(line: LineItem) -> tuple[str, str, str, tuple[str, ...]]:
    return line.meter or "", line.period.start, line.period.end, tuple(line.dimensions)


def _lines(store: SpendStore, tenant: str, customer: str, period: Choice) -> list[LineItem]:
    where: dict[str, str | int] = {"tenant": tenant, "customer": customer}
    if isinstance(period, int):
        where["period_start"] = period
    found: list[LineItem] = []
    after = None
    while rows := store.page("line_items", where, after, _PAGE):
        found += [_LINE.decode(row.body) for row in rows]
        after = rows[-1].place
        if len(found) > LINES_MAX:
            detail = f"found more than {LINES_MAX} line items, expected fewer: ask for one period"
            raise Problem(422, "Too much", "too_many_line_items", detail)
    if isinstance(period, int) or period == ALL:
        return found
    latest: dict[str, int] = {}
    for line in found:
        start = parse_time(line.period.start)
        latest[line.subscription] = max(start, latest.get(line.subscription, start))
    return [line for line in found if parse_time(line.period.start) == latest[line.subscription]]


def _shares(
    store: SpendStore,
    whose: Whose,
    partition: int,
    meter: Meter,
    start: int,
    end: int,
    names: tuple[str, ...],
    by: str,
) -> dict[tuple[str | None, ...], list[_Share]]:
    """Values of the line items' dimensions -> who has used how much of it."""
    newest = store.newest(whose, partition) if meter.aggregate == "time_weighted" else None
    question = Question(TOTAL, "UTC", start, end, tuple(dict.fromkeys((*names, by))), newest)
    events = store.events(whose, meter.event, *stretch(meter, question), columns=columns_for(meter, question))
    found: dict[tuple[str | None, ...], list[_Share]] = {}
    for window in measure(meter, events, question).windows:
        weight = parse_scaled(window.value) if meter.aggregate in _ADDITIVE else window.events
        share = _Share(window.dimensions[by], weight, window.events)
        found.setdefault(tuple(window.dimensions[name] for name in names), []).append(share)
    return found

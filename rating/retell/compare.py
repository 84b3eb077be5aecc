"""Two billing periods of a subscription side by side: by charge and by dimension, whole and up to the same share.

The period that runs is held against the one before it twice: against all of it, and against what it had come to when
the same share of its time had passed. The second is a question about a past moment (`as_of`): the usage whose own time
is before it, as it is known now.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import msgspec

from rating.naming import Naming
from rating.retell.periods import LineNow, heads_of, lines_of
from rating.retell.remaining import share_of
from rating.retell.retold import Retold
from rating.state import State
from schemas.numbers import format_scaled
from schemas.output import Span
from schemas.times import format_time

Choice = str | int
"""`current`, `previous` (the one before `period`), or the start of a period in microseconds."""
CURRENT: Final = "current"
PREVIOUS: Final = "previous"


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts of two periods: `difference = after - before`; `growth` is its share of `before`, rounded half up at the
    sixth digit, and null where `before` is nought."""

    before: str
    after: str
    difference: str
    growth: str | None


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One charge, or one value of a dimension. `same_share` is against the other period up to the same share of it."""

    charge: str | None = None
    dimension: str | None = None
    value: str | None = None
    whole: Change
    same_share: Change


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """One subscription: `period` is what comes after, `other` what it is held against. `share` of `period` has
    passed; up to `other_until` the same share of `other` had."""

    subscription: str
    currency: str
    period: Span
    other: Span
    share: str
    other_until: str
    whole: Change
    same_share: Change
    by_charge: list[Part]
    by_dimension: list[Part]


Past = Callable[[int], Retold]
"""The same customer as of a time."""


def compare(retold: Retold, period: Choice, other: Choice, past: Past) -> list[Comparison]:
    """One comparison for each subscription that has both periods (unrounded amounts of charges)."""
    state = retold.state
    by_subscription: dict[int, list[int]] = {}
    for head in sorted(heads_of(state, retold.number), key=lambda head: int(state.bills["since"][head])):
        by_subscription.setdefault(int(state.bills["subscription"][head]), []).append(head)
    found: list[Comparison] = []
    for heads in by_subscription.values():
        after = _choose(state, heads, period, retold.now)
        before = None if after is None else _choose(state, heads, other, retold.now, after)
        if after is not None and before is not None:
            found.append(_compare(retold, after, before, past))
    return sorted(found, key=lambda one: (one.subscription, one.period.start))


def _choose(state: State, heads: Sequence[int], choice: Choice, now: int, after: int | None = None) -> int | None:
    since = state.bills["since"]
    if choice == PREVIOUS:
        earlier = [head for head in heads if after is not None and since[head] < since[after]]
        return earlier[-1] if earlier else None
    if choice == CURRENT:
        begun = [head for head in heads if since[head] <= now]
        return begun[-1] if begun else None
    return next((head for head in heads if int(since[head]) == choice), None)


def _compare(retold: Retold, after: int, before: int, past: Past) -> Comparison:
    state = retold.state
    bills, naming = state.bills, Naming(state)
    begin, end = int(bills["since"][after]), int(bills["until"][after])
    other_begin, other_end = int(bills["since"][before]), int(bills["until"][before])
    passed = min(max(retold.now - begin, 0), end - begin)
    until = other_begin + (other_end - other_begin) * passed // (end - begin)
    now, whole = list(lines_of(state, after)), list(lines_of(state, before))
    then = whole if until == other_end else _lines_then(past(until), retold, before)
    _, _, _, subscription = naming.who(after)
    three = now, whole, then
    return Comparison(
        subscription=subscription,
        currency=state.terms_of(after).currency,
        period=naming.period(after),
        other=naming.period(before),
        share=share_of(passed, end - begin) or "0",
        other_until=format_time(until),
        whole=_change(_sum(whole), _sum(now)),
        same_share=_change(_sum(then), _sum(now)),
        by_charge=_parts(three, lambda line: [("charge", line.charge)]),
        by_dimension=_parts(three, lambda line: [("dimension", *pair) for pair in line.dimensions.items()]),
    )


def _lines_then(then: Retold, retold: Retold, head: int) -> list[LineNow]:
    """The lines of the same period in the past state."""
    name = retold.state.name_of(head)
    start = int(retold.state.bills["since"][head])
    for other in heads_of(then.state, then.number):
        bills = then.state.bills
        same = then.state.name_of(other) == name
        if same and int(bills["since"][other]) == start:
            return list(lines_of(then.state, other))
    return []


def _sum(lines: Iterable[LineNow]) -> int:
    return sum(line.amount for line in lines)


_Key = tuple[str | None, ...]
"""`("charge", name)` or `("dimension", name, value)`."""


def _parts(
    three: tuple[list[LineNow], list[LineNow], list[LineNow]], keys: Callable[[LineNow], Sequence[_Key]]
) -> list[Part]:
    sums: dict[_Key, list[int]] = {}
    for place, lines in enumerate(three):
        for line in lines:
            for key in keys(line):
                sums.setdefault(key, [0, 0, 0])[place] += line.amount
    found: list[Part] = []
    for key in sorted(sums, key=lambda key: [(text is not None, text or "") for text in key]):
        now, whole, then = sums[key]
        changed, same = _change(whole, now), _change(then, now)
        if key[0] == "charge":
            found.append(Part(charge=key[1], whole=changed, same_share=same))
        else:
            found.append(Part(dimension=key[1], value=key[2], whole=changed, same_share=same))
    return found


def _change(before: int, after: int) -> Change:
    return Change(
        before=format_scaled(before),
        after=format_scaled(after),
        difference=format_scaled(after - before),
        growth=share_of(after - before, before) if before else None,
    )

"""Spend by windows of time: what a customer's charges came to from one moment to the next.

Tiers make an hour's spend depend on what was used before it. So it is no sum over the hour's events: it is what the
charges had come to at its end less what they had come to at its beginning, each rated by the engine as of that moment.
The windows therefore sum to what the whole stretch has come to, whatever the prices.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from rating.retell.periods import heads_of, lines_of
from rating.retell.retold import Retold
from rating.spend.windows import Unit, window_of
from schemas.numbers import format_scaled
from schemas.period import Period
from schemas.times import format_time

WINDOWS_MAX: Final = 62
WORK_MAX: Final = 2_000_000
"""Events times moments that one question may rate."""

Past = Callable[[int], Retold]
"""The same customer as of a time."""
_Key = tuple[str, str]


class TooManyMoments(ValueError):
    """A question that would rate too much; the message says what was found and what was expected."""


class ChargeAmount(msgspec.Struct, frozen=True, kw_only=True):
    """What one charge came to in a window."""

    charge: str
    amount: str


class SpendWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What all charges of one currency came to in a half-open window, before minimums, coupons, credits and taxes."""

    start: str
    end: str
    currency: str
    amount: str
    by_charge: list[ChargeAmount]


def windows_of(retold: Retold, unit: Unit, zone: str, first: int | None, last: int | None) -> list[Period]:
    """The windows of a question: by default from the beginning of the oldest period that runs, up to now.

    Raises: TooManyMoments.
    """
    now = retold.now
    begun = [
        int(retold.state.bills["since"][head])
        for head in heads_of(retold.state, retold.number)
        if retold.state.bills["since"][head] <= now < retold.state.bills["until"][head]
    ]
    first = min(begun, default=now) if first is None else first
    last = now + 1 if last is None else last
    found: list[Period] = []
    at = first
    while at < last:
        window = window_of(at, unit, zone)
        found.append(Period(at, min(window.end, last)))
        at = window.end
        if len(found) > WINDOWS_MAX:
            raise TooManyMoments(f"found more than {WINDOWS_MAX} windows, expected longer ones, or `from` and `to`")
    if retold.events * (len(found) + 1) > WORK_MAX:
        raise TooManyMoments(
            f"found {retold.events} events of the customer and {len(found)} windows, expected at most {WORK_MAX} in "
            "their product: ask for fewer windows"
        )
    return found


def spend_series(windows: Sequence[Period], past: Past) -> list[SpendWindow]:
    """What each window came to; those in which nothing changed are left out."""
    found: list[SpendWindow] = []
    before = _totals(past(windows[0].start), windows[0].start) if windows else {}
    for window in windows:
        after = _totals(past(window.end), window.end)
        for currency in sorted({key[0] for key in (*before, *after)}):
            changed = {
                key[1]: after.get(key, 0) - before.get(key, 0)
                for key in sorted({*before, *after})
                if key[0] == currency and after.get(key, 0) != before.get(key, 0)
            }
            if changed:
                found.append(
                    SpendWindow(
                        start=format_time(window.start),
                        end=format_time(window.end),
                        currency=currency,
                        amount=format_scaled(sum(changed.values())),
                        by_charge=[
                            ChargeAmount(charge=charge, amount=format_scaled(amount))
                            for charge, amount in changed.items()
                        ],
                    )
                )
        before = after
    return found


def _totals(retold: Retold, until: int) -> dict[_Key, int]:
    """(currency, charge) -> what it has come to in all periods that began before a moment.

    What a period asks from its beginning on belongs to the window that begins there.
    """
    state, found = retold.state, dict[_Key, int]()
    for head in heads_of(state, retold.number):
        if state.bills["since"][head] >= until:
            continue
        currency = state.terms_of(head).currency
        for line in lines_of(state, head):
            found[currency, line.charge] = found.get((currency, line.charge), 0) + line.amount
    return found

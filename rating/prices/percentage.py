"""percentage: a share of each event's value, with a fixed amount, a least and a greatest for each, and some free."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec
import numpy as np
import polars as pl

from rating.prices.model import Brought, CompiledPrice, Leaf, PriceModel, Split, UsagePrice, check_not_negative, scaled
from rating.prices.tiers import NOTHING, Tier, TierTable
from schemas.faults import Faults, join
from schemas.limits import FREE_EVENTS_MAX
from schemas.numbers import ONE, SCALED_MAX

RATED, FIXED, LEAST, GREATEST, FREE = "rated", "fixed", "least", "greatest", "free"


class Running(NamedTuple):
    """What the events of a leaf have come to so far: how many were free, and what each channel holds.

    `free` and `rated` are sums of scaled values, the others count events.
    """

    free_events: int = 0
    free: int = 0
    rated: int = 0
    fixed: int = 0
    least: int = 0
    greatest: int = 0


@dataclass(frozen=True)
class EachEvent(Split):
    """What each event pays, by its value alone: the rate and the fixed amount, or the least, or the greatest.

    A value from nought up to `least_below` (exclusive) pays the least amount, one above `greatest_above` the greatest.
    Both are whole numbers of 10^-12, so that to compare with them is to compare the exact sums. A value below nought
    is a correction: it takes its share back, and there is no fixed amount, no least and no greatest for it.
    """

    channels: tuple[str, ...]
    least_below: int
    greatest_above: int

    def spread(self, value: pl.Series, extra: pl.Series | None) -> list[Brought]:
        above = value >= 0
        least = above & (value < self.least_below)
        greatest = above & (value > self.greatest_above)
        paid = ~least & ~greatest
        ones = {FIXED: paid & above, LEAST: least, GREATEST: greatest}
        brought: list[Brought] = []
        for name in self.channels:
            chosen = np.flatnonzero((paid & (value != 0) if name == RATED else ones[name]).to_numpy())
            brings = value.gather(chosen) if name == RATED else pl.repeat(ONE, len(chosen), dtype=pl.Int128, eager=True)
            brought.append(Brought(chosen, brings))
        return brought


@dataclass(frozen=True)
class AfterAllowance(EachEvent):
    """The same, once the allowance is used up: the first `free_events`, or the first events up to `free_amount`.

    Whichever is used up first ends both. A correction neither draws on the allowance nor gives back to it.
    """

    free_events: int | None
    free_amount: int | None
    ordered: bool = True

    def start(self) -> tuple[int, ...]:
        return Running()

    def feed(self, running: tuple[int, ...], values: Iterable[int]) -> tuple[int, ...]:
        now = Running(*running)
        values = list(values)
        below = sum(value for value in values if value < 0)
        now, paying = self._draw(now, [value for value in values if value >= 0])
        least = sum(value < self.least_below for value in paying)
        greatest = [value for value in paying if value > self.greatest_above]
        rated = sum(paying) - sum(greatest)
        if least:
            rated -= sum(value for value in paying if value < self.least_below)
        return now._replace(
            rated=now.rated + below + rated,
            fixed=now.fixed + len(paying) - least - len(greatest),
            least=now.least + least,
            greatest=now.greatest + len(greatest),
        )

    def _draw(self, now: Running, values: list[int]) -> tuple[Running, list[int]]:
        """What of the values (none below nought) the allowance holds, and those, or parts of them, that pay."""
        events = len(values) if self.free_events is None else self.free_events - now.free_events
        left = None if self.free_amount is None else self.free_amount - now.free
        if events <= 0 or left == 0 or not values:
            return now, values
        sums = list(accumulate(values[:events]))
        whole = len(sums) if left is None else bisect_left(sums, left)  # before the event that uses the amount up
        drawn = sums[whole - 1] if whole else 0
        paying = values[whole:]
        if left is not None and whole < len(sums):
            over = sums[whole] - left
            paying = [over, *paying[1:]] if over else paying[1:]
            whole, drawn = whole + (not over), left
        return now._replace(free_events=now.free_events + whole, free=now.free + drawn), paying

    def totals(self, running: tuple[int, ...]) -> list[int]:
        now = Running(*running)
        holds = {
            RATED: now.rated,
            FIXED: now.fixed * ONE,
            LEAST: now.least * ONE,
            GREATEST: now.greatest * ONE,
            FREE: now.free,
        }
        return [holds[name] for name in self.channels]


class Percentage(PriceModel, frozen=True, kw_only=True):
    """Each event pays `rate` (a share: 0.029 is 2.9 %) of its value and `fixed_amount`, together at least `min_amount`
    and at most `max_amount`. The first `free_events`, or the first events up to `free_amount` in all, are free:
    whichever is used up first ends both, or with `free_rule: amount_governs` and a least or greatest the amount alone.
    The event that crosses `free_amount` pays the rate on what is above it, and the whole fixed amount."""

    name: ClassVar[str] = "percentage"
    description: ClassVar[str] = "a share of each event's value, with a fixed amount for each event"

    rate: Decimal
    fixed_amount: Decimal = Decimal(0)
    free_events: Annotated[int, msgspec.Meta(ge=1, le=FREE_EVENTS_MAX)] | None = None
    free_amount: Decimal | None = None
    min_amount: Decimal | None = None
    max_amount: Decimal | None = None
    free_rule: Literal["first_limit", "amount_governs"] = "first_limit"

    def check(self, path: str, faults: Faults) -> None:
        for name in ("rate", "fixed_amount", "min_amount", "max_amount"):
            amount = getattr(self, name)
            if amount is not None:
                check_not_negative(amount, join(path, name), faults)
        if self.free_amount is not None and self.free_amount <= 0:
            faults.add(join(path, "free_amount"), f"found {self.free_amount}, expected more than nought")
        if self.min_amount is not None and self.max_amount is not None and self.min_amount > self.max_amount:
            message = f"found {self.min_amount}, expected at most the max_amount {self.max_amount}"
            faults.add(join(path, "min_amount"), message)

    def compile(self) -> CompiledPrice:
        asked = {
            RATED: scaled(self.rate),
            FIXED: scaled(self.fixed_amount),
            LEAST: scaled(self.min_amount or Decimal(0)),
            GREATEST: scaled(self.max_amount or Decimal(0)),
        }
        split = self._split()
        tables = tuple(TierTable((Tier(0, None, 0, asked.get(name, 0)),)) for name in split.channels)
        return UsagePrice((Leaf((NOTHING, *tables), (None, *split.channels), split),))

    def _split(self) -> EachEvent:
        least_below, greatest_above = self._bounds()
        free_events, free_amount = self.free_events, None if self.free_amount is None else scaled(self.free_amount)
        if self.free_rule == "amount_governs" and free_amount is not None and self._bounded:
            free_events = None
        free = free_events is not None or free_amount is not None
        # What no event can bring, or what costs nothing, has no channel.
        possible = {
            RATED: self.rate > 0,
            FIXED: self.fixed_amount > 0 and least_below <= SCALED_MAX and greatest_above >= least_below,
            LEAST: bool(self.min_amount) and least_below > 0,
            GREATEST: bool(self.max_amount) and greatest_above < SCALED_MAX,
            FREE: free,
        }
        channels = tuple(name for name, can in possible.items() if can)
        if free:
            return AfterAllowance(channels, least_below, greatest_above, free_events, free_amount)
        return EachEvent(channels, least_below, greatest_above)

    @property
    def _bounded(self) -> bool:
        return self.min_amount is not None or self.max_amount is not None

    def _bounds(self) -> tuple[int, int]:
        """The least value that pays no least amount, and the greatest that pays no greatest (see `EachEvent`)."""
        rate, fixed = scaled(self.rate), scaled(self.fixed_amount)
        least_below, greatest_above = 0, SCALED_MAX
        if self.min_amount is not None:
            short = scaled(self.min_amount) - fixed
            if short > 0:
                least_below = min(-(-short * ONE // rate), SCALED_MAX + 1) if rate else SCALED_MAX + 1
        if self.max_amount is not None:
            room = scaled(self.max_amount) - fixed
            if room < 0:
                greatest_above = -1
            elif rate:
                greatest_above = min(room * ONE // rate, SCALED_MAX)
        return least_below, greatest_above

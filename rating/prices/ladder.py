"""Tiers as price books write them, what is checked of them, and the two ways to compile them."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec

from rating.prices.model import check_not_negative, scaled
from rating.prices.tiers import Tier, TierTable
from schemas.faults import Faults, join
from schemas.limits import TIERS_MAX
from schemas.numbers import ONE, SCALED_MAX


class Step(NamedTuple):
    """What any written tier comes to, scaled. `most`: what the tier may come to."""

    up_to: int | None
    unit: int
    flat: int
    most: int | None = None


class TierStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tier: up to and with `up_to` (absent in the last one)."""

    up_to: Decimal | None = None
    unit_amount: Decimal = Decimal(0)
    flat_amount: Decimal = Decimal(0)

    def step(self) -> Step:
        """The tier in scaled numbers."""
        return Step(_bound(self.up_to), scaled(self.unit_amount), scaled(self.flat_amount))


class CappedStep(TierStep, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tier that comes to at most `maximum_amount`, its flat amount included."""

    maximum_amount: Decimal | None = None

    def step(self) -> Step:
        """The tier in scaled numbers."""
        most = None if self.maximum_amount is None else scaled(self.maximum_amount)
        return Step(_bound(self.up_to), scaled(self.unit_amount), scaled(self.flat_amount), most)


class RateStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tier of money: `rate` is a share of what it holds."""

    up_to: Decimal | None = None
    rate: Decimal = Decimal(0)
    flat_amount: Decimal = Decimal(0)

    def step(self) -> Step:
        """The tier in scaled numbers."""
        return Step(_bound(self.up_to), scaled(self.rate), scaled(self.flat_amount))


class FlatStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a stairstep: a flat amount for what it holds."""

    flat_amount: Decimal
    up_to: Decimal | None = None

    def step(self) -> Step:
        """The tier in scaled numbers."""
        return Step(_bound(self.up_to), 0, scaled(self.flat_amount))


Written = TierStep | RateStep | FlatStep


def compile_whole(written: Sequence[Written], lower_bounds: bool = False) -> TierTable:
    """The table in which all units stand in the tier that holds the total."""
    tiers: list[Tier] = []
    start = 0
    for up_to, unit, flat, _ in (tier.step() for tier in written):
        tiers.append(Tier(start, up_to, flat * ONE + unit * start, unit, flat))
        start = up_to or start
    return TierTable(tuple(tiers), zero_amount=tiers[0].base, whole=True, lower_bounds=lower_bounds)


def compile_each(written: Sequence[Written], lower_bounds: bool = False) -> TierTable:
    """The table in which each unit stands in its own tier: a tier's base is what all the tiers below it come to when
    they are full, and its own flat amount."""
    tiers: list[Tier] = []
    start, below = 0, 0
    for step in (tier.step() for tier in written):
        tiers.extend(_pieces(step, start, below))
        if step.up_to is not None:
            last = tiers[-1]
            start, below = step.up_to, last.base + last.unit_amount * (step.up_to - last.start)
    return TierTable(tuple(tiers), zero_amount=tiers[0].base, lower_bounds=lower_bounds)


def _pieces(step: Step, start: int, below: int) -> list[Tier]:
    """One tier, or the two of one that comes to its most before its end: quantities are whole numbers of 10^-12, so the
    last that costs no more than that is one of them, and whatever is above it costs the most."""
    up_to, unit, flat, most = step
    whole = Tier(start, up_to, below + flat * ONE, unit, flat)
    if most is None or (unit == 0 and flat <= most):
        return [whole]
    if flat >= most:
        return [Tier(start, up_to, below + most * ONE, 0, most)]
    full = start + (most - flat) * ONE // unit
    if full >= (SCALED_MAX if up_to is None else up_to):
        return [whole]
    above = Tier(full, up_to, below + most * ONE, 0)
    return [above] if full == start else [Tier(start, full, below + flat * ONE, unit, flat), above]


def _bound(up_to: Decimal | None) -> int | None:
    return None if up_to is None else scaled(up_to)


def check_tiers(tiers: Sequence[Written], path: str, faults: Faults) -> None:
    """Tiers rise from above nought, only the last is open, amounts are not below nought."""
    where = join(path, "tiers")
    if not tiers:
        faults.add(where, "found no tiers, expected at least one")
    if len(tiers) > TIERS_MAX:
        faults.add(where, f"found {len(tiers)} tiers, expected at most {TIERS_MAX}")
    before = Decimal(0)
    for i, tier in enumerate(tiers):
        at = join(where, i)
        last = i == len(tiers) - 1
        if tier.up_to is None and not last:
            faults.add(join(at, "up_to"), "missing: only the last tier is open above")
        elif tier.up_to is not None and last:
            faults.add(join(at, "up_to"), f"found {tier.up_to}, expected none: the last tier is open above")
        elif tier.up_to is not None:
            if tier.up_to <= before:
                faults.add(join(at, "up_to"), f"found {tier.up_to}, expected more than {before}: tiers must rise")
            before = max(before, tier.up_to)
        for name in ("unit_amount", "rate", "flat_amount", "maximum_amount"):
            amount = getattr(tier, name, None)
            if amount is not None:
                check_not_negative(amount, join(at, name), faults)

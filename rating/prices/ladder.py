"""The tiers of `graduated`, `volume` and `stairstep` as a price book writes them."""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from rating.prices.model import check_not_negative, scaled
from rating.prices.tiers import Tier, TierTable
from schemas.faults import Faults, join
from schemas.limits import TIERS_MAX
from schemas.numbers import ONE


class TierStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tier: up to and with `up_to` (absent in the last one)."""

    up_to: Decimal | None = None
    unit_amount: Decimal = Decimal(0)
    flat_amount: Decimal = Decimal(0)


class FlatStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One step of a stairstep: a flat amount for what it holds."""

    flat_amount: Decimal
    up_to: Decimal | None = None


def compile_whole(steps: Sequence[TierStep | FlatStep]) -> TierTable:
    """The table in which all units stand in the tier that holds the total."""
    tiers: list[Tier] = []
    start = 0
    for step in steps:
        unit = scaled(step.unit_amount) if isinstance(step, TierStep) else 0
        flat = scaled(step.flat_amount)
        up_to = None if step.up_to is None else scaled(step.up_to)
        tiers.append(Tier(start, up_to, flat * ONE + unit * start, unit, flat))
        start = up_to or start
    return TierTable(tuple(tiers), zero_amount=tiers[0].base, whole=True)


def check_tiers(tiers: Sequence[TierStep | FlatStep], path: str, faults: Faults) -> None:
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
        check_not_negative(tier.flat_amount, join(at, "flat_amount"), faults)
        if isinstance(tier, TierStep):
            check_not_negative(tier.unit_amount, join(at, "unit_amount"), faults)

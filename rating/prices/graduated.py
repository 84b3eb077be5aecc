"""graduated: each unit at its own tier, and the flat amount of every tier entered."""

from decimal import Decimal
from typing import ClassVar

from rating.prices.ladder import TierStep, check_tiers
from rating.prices.model import CompiledPrice, PriceModel, one_table, scaled
from rating.prices.tiers import Tier, TierTable
from schemas.faults import Faults
from schemas.numbers import ONE


class Graduated(PriceModel, frozen=True, kw_only=True):
    """Tier k's base is what all the tiers below it come to when they are full, and its own flat amount."""

    name: ClassVar[str] = "graduated"
    description: ClassVar[str] = "each unit at the amount of its own tier, with a flat amount for every tier entered"

    tiers: list[TierStep]

    def check(self, path: str, faults: Faults) -> None:
        check_tiers(self.tiers, path, faults)

    def compile(self) -> CompiledPrice:
        compiled: list[Tier] = []
        start, below = 0, 0
        for step in self.tiers:
            unit, flat = scaled(step.unit_amount), scaled(step.flat_amount)
            up_to = None if step.up_to is None else scaled(step.up_to)
            base = below + flat * ONE
            compiled.append(Tier(start, up_to, base, unit, flat))
            if up_to is not None:
                below, start = base + unit * (up_to - start), up_to
        return one_table(TierTable(tuple(compiled), zero_amount=scaled(self.tiers[0].flat_amount or Decimal(0)) * ONE))

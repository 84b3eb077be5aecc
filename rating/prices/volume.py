"""volume: all units at the tier that holds the total, and that tier's flat amount."""

from typing import ClassVar

from rating.prices.ladder import TierStep, check_tiers
from rating.prices.model import CompiledPrice, PriceModel, one_table, scaled
from rating.prices.tiers import Tier, TierTable
from schemas.faults import Faults
from schemas.numbers import ONE


class Volume(PriceModel, frozen=True, kw_only=True):
    """The amount may fall as the total rises into a cheaper tier."""

    name: ClassVar[str] = "volume"
    description: ClassVar[str] = "all units at the amount of the tier that holds the total"

    tiers: list[TierStep]

    def check(self, path: str, faults: Faults) -> None:
        check_tiers(self.tiers, path, faults)

    def compile(self) -> CompiledPrice:
        compiled: list[Tier] = []
        start = 0
        for step in self.tiers:
            unit, flat = scaled(step.unit_amount), scaled(step.flat_amount)
            up_to = None if step.up_to is None else scaled(step.up_to)
            compiled.append(Tier(start, up_to, flat * ONE + unit * start, unit, flat))
            start = up_to or start
        return one_table(TierTable(tuple(compiled), zero_amount=compiled[0].base, whole=True))

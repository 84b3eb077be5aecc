"""stairstep: the flat amount of the tier that holds the total."""

from typing import ClassVar

from rating.prices.ladder import FlatStep, check_tiers
from rating.prices.model import CompiledPrice, PriceModel, one_table, scaled
from rating.prices.tiers import Tier, TierTable
from schemas.faults import Faults
from schemas.numbers import ONE


class Stairstep(PriceModel, frozen=True, kw_only=True):
    """One amount for everything up to a step's end, another above it."""

    name: ClassVar[str] = "stairstep"
    description: ClassVar[str] = "one flat amount, by the tier that holds the total"

    tiers: list[FlatStep]

    def check(self, path: str, faults: Faults) -> None:
        check_tiers(self.tiers, path, faults)

    def compile(self) -> CompiledPrice:
        compiled: list[Tier] = []
        start = 0
        for step in self.tiers:
            flat = scaled(step.flat_amount)
            up_to = None if step.up_to is None else scaled(step.up_to)
            compiled.append(Tier(start, up_to, flat * ONE, 0, flat))
            start = up_to or start
        return one_table(TierTable(tuple(compiled), zero_amount=compiled[0].base, whole=True))

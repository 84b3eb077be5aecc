"""graduated_percentage: as graduated, of money: each part of the total at its own tier's rate."""

from typing import ClassVar

from rating.prices.ladder import RateStep, check_tiers, compile_each
from rating.prices.model import CompiledPrice, PriceModel, one_table
from schemas.faults import Faults


class GraduatedPercentage(PriceModel, frozen=True, kw_only=True):
    """Each tier comes to `rate` (a share: 0.029 is 2.9 %) of what it holds, and its `flat_amount`."""

    name: ClassVar[str] = "graduated_percentage"
    description: ClassVar[str] = "each part of an amount of money at the rate of its own tier"

    tiers: list[RateStep]

    def check(self, path: str, faults: Faults) -> None:
        check_tiers(self.tiers, path, faults)

    def compile(self) -> CompiledPrice:
        return one_table(compile_each(self.tiers))

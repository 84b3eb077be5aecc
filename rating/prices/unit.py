"""unit: every unit costs the same. A total below nought is a negative amount."""

from decimal import Decimal
from typing import ClassVar

from rating.prices.model import CompiledPrice, PriceModel, one_table, scaled
from rating.prices.tiers import Tier, TierTable


class Unit(PriceModel, frozen=True, kw_only=True):
    """`q * unit_amount`."""

    name: ClassVar[str] = "unit"
    description: ClassVar[str] = "every unit at the same amount"

    unit_amount: Decimal

    def compile(self) -> CompiledPrice:
        return one_table(TierTable((Tier(0, None, 0, scaled(self.unit_amount)),), below_nought="unit"))

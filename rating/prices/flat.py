"""flat: once a period, whatever is used."""

from decimal import Decimal
from typing import ClassVar

from rating.prices.model import CompiledPrice, FlatPrice, PriceModel, scaled


class Flat(PriceModel, frozen=True, kw_only=True):
    """`amount`, once a billing period, in advance or in arrears; prorated by time where the charge says so."""

    name: ClassVar[str] = "flat"
    description: ClassVar[str] = "one amount a period, whatever is used"
    of_usage: ClassVar[bool] = False

    amount: Decimal

    def compile(self) -> CompiledPrice:
        return FlatPrice(scaled(self.amount))

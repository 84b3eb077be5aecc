"""one_time: once in a subscription's life."""

from decimal import Decimal
from typing import ClassVar

from rating.prices.model import CompiledPrice, FlatPrice, PriceModel, scaled


class OneTime(PriceModel, frozen=True, kw_only=True):
    """`amount`, once, in the period in which the price book first takes force; never prorated."""

    name: ClassVar[str] = "one_time"
    description: ClassVar[str] = "one amount, once"
    of_usage: ClassVar[bool] = False

    amount: Decimal

    def compile(self) -> CompiledPrice:
        return FlatPrice(scaled(self.amount), once=True)

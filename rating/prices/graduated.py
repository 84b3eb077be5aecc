"""graduated: each unit at its own tier, and the flat amount of every tier entered."""

from typing import ClassVar

from rating.prices.ladder import CappedStep, check_tiers, compile_each
from rating.prices.model import CompiledPrice, PriceModel, one_table
from schemas.faults import Faults


class Graduated(PriceModel, frozen=True, kw_only=True):
    """Each tier comes to `unit_amount` times what it holds and its `flat_amount`, and to at most `maximum_amount`."""

    name: ClassVar[str] = "graduated"
    description: ClassVar[str] = "each unit at the amount of its own tier, with a flat amount for every tier entered"

    tiers: list[CappedStep]

    def check(self, path: str, faults: Faults) -> None:
        check_tiers(self.tiers, path, faults)

    def compile(self) -> CompiledPrice:
        return one_table(compile_each(self.tiers))

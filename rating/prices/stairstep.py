"""stairstep: the flat amount of the tier that holds the total."""

from typing import ClassVar

from rating.prices.ladder import FlatStep, check_tiers, compile_whole
from rating.prices.model import CompiledPrice, PriceModel, one_table
from schemas.faults import Faults


class Stairstep(PriceModel, frozen=True, kw_only=True):
    """One amount for everything up to a step's end, another above it."""

    name: ClassVar[str] = "stairstep"
    description: ClassVar[str] = "one flat amount, by the tier that holds the total"

    tiers: list[FlatStep]

    def check(self, path: str, faults: Faults) -> None:
        check_tiers(self.tiers, path, faults)

    def compile(self) -> CompiledPrice:
        return one_table(compile_whole(self.tiers))

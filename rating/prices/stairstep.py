"""stairstep: the flat amount of the tier that holds the total, or those of all the tiers entered."""

from typing import ClassVar, Literal

from rating.prices.ladder import FlatStep, check_tiers, compile_each, compile_whole
from rating.prices.model import CompiledPrice, PriceModel, one_table
from schemas.faults import Faults


class Stairstep(PriceModel, frozen=True, kw_only=True):
    """One amount for everything up to a step's end, another above it. With `method: graduated` the amounts of all steps
    entered add up; with `bounds: from` a step begins at its first unit and no longer holds its `up_to`."""

    name: ClassVar[str] = "stairstep"
    description: ClassVar[str] = "one flat amount, by the tier that holds the total"

    tiers: list[FlatStep]
    method: Literal["volume", "graduated"] = "volume"
    bounds: Literal["up_to", "from"] = "up_to"

    def check(self, path: str, faults: Faults) -> None:
        check_tiers(self.tiers, path, faults)

    def compile(self) -> CompiledPrice:
        table = compile_whole if self.method == "volume" else compile_each
        return one_table(table(self.tiers, self.bounds == "from"))

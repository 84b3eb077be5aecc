"""volume: all units at the tier that holds the total, and that tier's flat amount."""

from typing import ClassVar, Literal

from rating.prices.ladder import TierStep, check_tiers, compile_whole
from rating.prices.model import CompiledPrice, PriceModel, one_table
from schemas.faults import Faults


class Volume(PriceModel, frozen=True, kw_only=True):
    """The amount may fall as the total rises into a cheaper tier. With `bounds: from` a tier begins at its first unit
    and no longer holds its `up_to`."""

    name: ClassVar[str] = "volume"
    description: ClassVar[str] = "all units at the amount of the tier that holds the total"

    tiers: list[TierStep]
    bounds: Literal["up_to", "from"] = "up_to"

    def check(self, path: str, faults: Faults) -> None:
        check_tiers(self.tiers, path, faults)

    def compile(self) -> CompiledPrice:
        return one_table(compile_whole(self.tiers, self.bounds == "from"))

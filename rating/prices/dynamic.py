"""dynamic: each event brings its own price."""

from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import numpy as np
import polars as pl

from rating.prices.model import Brought, CompiledPrice, Leaf, PriceModel, Split, UsagePrice, check_not_negative, scaled
from rating.prices.tiers import NOTHING, Tier, TierTable
from schemas.faults import Faults, join
from schemas.paths import PathError, parse_path


@dataclass(frozen=True)
class OwnAmount(Split):
    """One further channel, `priced`: the sum of what the events say of themselves at the path `extra`."""

    extra: str

    def spread(self, value: pl.Series, extra: pl.Series | None) -> list[Brought]:
        assert extra is not None, f"the path {self.extra} has no column"
        at = np.flatnonzero((extra != 0).to_numpy())
        return [Brought(at, extra.gather(at))]


class Dynamic(PriceModel, frozen=True, kw_only=True):
    """The sum of the events' own amounts (`amount` is a path into each) times `multiplier`; the meter's quantity is
    shown and costs nothing."""

    name: ClassVar[str] = "dynamic"
    description: ClassVar[str] = "each event brings its own price"

    amount: str
    multiplier: Decimal = Decimal(1)

    def check(self, path: str, faults: Faults) -> None:
        try:
            parse_path(self.amount)
        except PathError as error:
            faults.add(join(path, "amount"), str(error))
        check_not_negative(self.multiplier, join(path, "multiplier"), faults)

    def compile(self) -> CompiledPrice:
        priced = TierTable((Tier(0, None, 0, scaled(self.multiplier)),))
        return UsagePrice((Leaf((NOTHING, priced), (None, "priced"), OwnAmount(self.amount)),))

"""package: usage is billed by whole packages."""

from decimal import Decimal
from typing import ClassVar, Literal

from rating.prices.model import CompiledPrice, PriceModel, check_not_negative, one_table, scaled
from rating.prices.tiers import Tier, TierTable
from schemas.faults import Faults, join


class Package(PriceModel, frozen=True, kw_only=True):
    """`ceil(q / package_size) * package_amount`; `round: down` bills only full packages."""

    name: ClassVar[str] = "package"
    description: ClassVar[str] = "whole packages of units, a begun one counted (or, with round: down, left out)"

    package_size: Decimal
    package_amount: Decimal
    round: Literal["up", "down"] = "up"

    def check(self, path: str, faults: Faults) -> None:
        if self.package_size <= 0:
            faults.add(join(path, "package_size"), f"found {self.package_size}, expected more than nought")
        check_not_negative(self.package_amount, join(path, "package_amount"), faults)

    def compile(self) -> CompiledPrice:
        tier = Tier(0, None, 0, scaled(self.package_amount), block=scaled(self.package_size))
        return one_table(TierTable((tier,), blocks_down=self.round == "down"))

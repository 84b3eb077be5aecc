"""package: usage is billed by whole packages."""

from decimal import Decimal
from typing import Annotated, ClassVar, Literal

import msgspec

from rating.prices.model import CompiledPrice, PriceModel, check_not_negative, one_table, scaled
from rating.prices.tiers import Tier, TierTable
from schemas.faults import Faults, join
from schemas.limits import ZERO_PACKAGES_MAX
from schemas.numbers import ONE


class Package(PriceModel, frozen=True, kw_only=True):
    """`ceil(q / package_size) * package_amount`; `round: down` bills only full packages. `zero_usage_packages`: how
    many nought is, where the charge bills it (`bill_zero_usage`)."""

    name: ClassVar[str] = "package"
    description: ClassVar[str] = "whole packages of units, a begun one counted (or, with round: down, left out)"

    package_size: Decimal
    package_amount: Decimal
    round: Literal["up", "down"] = "up"
    zero_usage_packages: Annotated[int, msgspec.Meta(ge=0, le=ZERO_PACKAGES_MAX)] = 0

    def check(self, path: str, faults: Faults) -> None:
        if self.package_size <= 0:
            faults.add(join(path, "package_size"), f"found {self.package_size}, expected more than nought")
        check_not_negative(self.package_amount, join(path, "package_amount"), faults)

    def compile(self) -> CompiledPrice:
        amount = scaled(self.package_amount)
        table = TierTable(
            (Tier(0, None, 0, amount, block=scaled(self.package_size)),),
            zero_amount=self.zero_usage_packages * amount * ONE,
            zero_blocks=self.zero_usage_packages,
            blocks_down=self.round == "down",
        )
        return one_table(table)

"""What a price model is: a document that reads its own parameters, checks them and compiles itself."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from rating.prices.tiers import TierTable
from schemas.faults import Faults
from schemas.numbers import parse_scaled


@dataclass(frozen=True, slots=True)
class Cell:
    """One total of its own inside a line item: usage whose dimensions match, and its tiers.

    `match` holds, for each dimension that is asked for, the texts of which one must be its value.
    """

    match: tuple[tuple[str, tuple[str, ...]], ...]
    table: TierTable


@dataclass(frozen=True, slots=True)
class UsagePrice:
    """A compiled price of usage. Cells are tried by most matching dimensions, then in the order written;
    usage that matches none is in the last one."""

    cells: tuple[Cell, ...]
    by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlatPrice:
    """A compiled price of the period itself; `amount` is scaled."""

    amount: int


CompiledPrice = UsagePrice | FlatPrice


class PriceModel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of one model as a price book writes them. One file for each model."""

    name: ClassVar[str]
    description: ClassVar[str]

    def check(self, path: str, faults: Faults) -> None:
        """Notes what is wrong beyond the types of the parameters."""

    def compile(self) -> CompiledPrice:
        """The compiled price. Only called where `check` noted nothing."""
        raise NotImplementedError


def one_table(table: TierTable) -> UsagePrice:
    """The price of a model that knows no dimensions."""
    return UsagePrice((Cell((), table),))


def scaled(value: Decimal) -> int:
    """The scaled number of a document's decimal (its reader has made sure that it fits)."""
    return parse_scaled(value)


def check_not_negative(value: Any, path: str, faults: Faults) -> None:
    """Notes a decimal that is below nought."""
    if value < 0:
        faults.add(path, f"found {value}, expected nought or more")

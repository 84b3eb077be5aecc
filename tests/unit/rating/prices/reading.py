"""Prices as a price book writes them: numbers stand as texts, whole numbers as they are."""

from typing import Any

from rating.prices import read_price
from rating.prices.model import FlatPrice, Leaf, UsagePrice
from rating.prices.tiers import TierTable
from schemas.faults import MISSING, Faults, Number
from schemas.numbers import format_scaled, parse_scaled


def written(value: Any) -> Any:
    """A value as the reader of documents hands it on: numbers kept as their texts."""
    if isinstance(value, dict):
        return {key: written(item) for key, item in value.items()}
    if isinstance(value, list):
        return [written(item) for item in value]
    return Number(str(value)) if isinstance(value, int) and not isinstance(value, bool) else value


def usage(**price: Any) -> UsagePrice:
    """The compiled price of usage."""
    faults = Faults()
    found = read_price(written(price), "price", faults)
    assert not faults, (price, faults)
    assert isinstance(found, UsagePrice)
    return found


def leaf(**price: Any) -> Leaf:
    """The one leaf of a price without cells and windows."""
    (only,) = usage(**price).leaves
    return only


def table(**price: Any) -> TierTable:
    """The one table of a price that asks something of the total alone."""
    (only,) = leaf(**price).tables
    return only


def flat(**price: Any) -> FlatPrice:
    """The compiled price of the period itself."""
    faults = Faults()
    found = read_price(price, "price", faults)
    assert not faults, (price, faults)
    assert isinstance(found, FlatPrice)
    return found


def faults_of(**price: Any) -> list[tuple[str, str]]:
    """Every fault of a price: its path and its message."""
    faults = Faults()
    found = read_price(written(price), "price", faults)
    assert (found is MISSING) == bool(faults)
    return [(fault.path, fault.message) for fault in faults]


def cost(of: TierTable, quantity: str, enter_at_nought: bool = False) -> str:
    """What a quantity costs."""
    return format_scaled(of.amount(parse_scaled(quantity), enter_at_nought))


def shown(of: TierTable, quantity: str, enter_at_nought: bool = False) -> list[tuple[str, str | None, str, str]]:
    """From, up to, quantity and amount of each tier in a breakdown."""
    found = of.breakdown(parse_scaled(quantity), enter_at_nought)
    return [(tier.start, tier.up_to, tier.quantity, tier.amount) for tier in found]

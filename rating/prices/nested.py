"""Prices inside a price: the leaves of all of them in one row, and a choice that finds the right one."""

from dataclasses import replace
from typing import Any

from rating.prices.model import ByDimensions, Choice, Leaf, UsagePrice
from rating.prices.tiers import NOTHING
from schemas.faults import Faults
from schemas.limits import LEAVES_MAX

OTHERWISE = -1
"""The label of what stands in no cell and no window."""


class Inside:
    """Collects the prices inside one price, in the order written; `otherwise` comes last."""

    def __init__(self, path: str, faults: Faults, depth: int) -> None:
        self.leaves: list[Leaf] = []
        self._path = path
        self._faults = faults
        self._depth = depth

    def add(self, price: dict[str, Any], path: str, label: int) -> Choice:
        """The choice among the leaves that the price brings; any where it is faulty (the fault is noted)."""
        from rating.prices import read_price  # the registry holds the models that call this

        compiled = read_price(price, path, self._faults, self._depth + 1)
        return self._take(compiled, label) if isinstance(compiled, UsagePrice) else 0

    def otherwise(self, price: dict[str, Any] | None, path: str) -> Choice:
        """The choice where no cell and no window holds; what stands in none costs nothing where there is no price."""
        if price is None:
            return self._take(UsagePrice((Leaf((NOTHING,)),)), OTHERWISE)
        return self.add(price, path, OTHERWISE)

    def check(self) -> None:
        """Notes where there are more leaves than a price may have."""
        if len(self.leaves) > LEAVES_MAX:
            message = f"found {len(self.leaves)} cells and windows in all, expected at most {LEAVES_MAX}"
            self._faults.add(self._path, message)

    def _take(self, price: UsagePrice, label: int) -> Choice:
        first = len(self.leaves)
        self.leaves.extend(replace(leaf, label=label) for leaf in price.leaves)
        return _shift(price.choice, first)


def _shift(choice: Choice, by: int) -> Choice:
    """The same choice among leaves that stand `by` places further on."""
    if isinstance(choice, int):
        return choice + by
    if isinstance(choice, ByDimensions):
        cells = tuple((match, _shift(inside, by)) for match, inside in choice.cells)
        return replace(choice, cells=cells, otherwise=_shift(choice.otherwise, by))
    windows = tuple((window, _shift(inside, by)) for window, inside in choice.windows)
    return replace(choice, windows=windows, otherwise=_shift(choice.otherwise, by))

"""matrix: the price depends on the usage's dimensions; each cell has a total of its own."""

from typing import Any, ClassVar

import msgspec

from rating.prices.model import ByDimensions, Choice, CompiledPrice, Match, PriceModel, UsagePrice
from rating.prices.nested import Inside
from schemas.faults import MISSING, Faults, Number, join, unknown
from schemas.limits import CELLS_MAX
from schemas.paths import text_of


class MatrixCell(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A price for usage whose dimensions have these values (one, or one of a list)."""

    match: dict[str, Any]
    price: dict[str, Any]


class Matrix(PriceModel, frozen=True, kw_only=True):
    """The cell with the most matching dimensions counts, the first written if several; an absent dimension matches
    no named value. Usage in no cell is in `otherwise`, and costs nothing where there is none."""

    name: ClassVar[str] = "matrix"
    description: ClassVar[str] = "a price for each combination of dimensions, any model of usage inside"

    by: list[str]
    cells: list[MatrixCell]
    otherwise: dict[str, Any] | None = None

    def build(self, path: str, faults: Faults, depth: int) -> CompiledPrice | Any:
        before = len(faults)
        if len(self.cells) > CELLS_MAX:
            faults.add(join(path, "cells"), f"found {len(self.cells)} cells, expected at most {CELLS_MAX}")
        if not self.by:
            faults.add(join(path, "by"), "found no dimension, expected at least one")
        inside = Inside(path, faults, depth)
        cells: list[tuple[Match, Choice]] = []
        for i, cell in enumerate(self.cells):
            at = join(join(path, "cells"), i)
            match = self._match(cell, join(at, "match"), faults)
            cells.append((match, inside.add(cell.price, join(at, "price"), i)))
        otherwise = inside.otherwise(self.otherwise, join(path, "otherwise"))
        inside.check()
        if len(faults) > before:
            return MISSING
        return UsagePrice(tuple(inside.leaves), ByDimensions(tuple(self.by), tuple(cells), otherwise))

    def _match(self, cell: MatrixCell, path: str, faults: Faults) -> Match:
        if not cell.match:
            faults.add(path, "found nothing to match, expected a dimension (or use otherwise)")
        for dimension, value in cell.match.items():
            where = join(path, dimension)
            if dimension not in self.by:
                faults.add(where, f"not in `by`: {unknown(dimension, self.by)}")
            if not _texts(value):
                faults.add(where, "expected a value or a list of values")
        return tuple((dimension, _texts(value)) for dimension, value in sorted(cell.match.items()))


def _texts(value: Any) -> tuple[str, ...]:
    """The texts of a value or a list of values as dimensions show them; empty where one is neither."""
    values = value if isinstance(value, list) else [value]
    texts: list[str] = []
    for item in values:
        if isinstance(item, bool):
            texts.append("true" if item else "false")
        elif isinstance(item, Number):
            texts.append(text_of(item.text))
        elif isinstance(item, str):
            texts.append(item)
        else:
            return ()
    return tuple(texts)

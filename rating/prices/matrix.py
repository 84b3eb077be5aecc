"""matrix: the price depends on the usage's dimensions; each cell has a total of its own."""

from typing import Any, ClassVar

import msgspec

from rating.prices.model import Cell, CompiledPrice, PriceModel, UsagePrice
from rating.prices.tiers import NOTHING
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

    def check(self, path: str, faults: Faults) -> None:
        if len(self.cells) > CELLS_MAX:
            faults.add(join(path, "cells"), f"found {len(self.cells)} cells, expected at most {CELLS_MAX}")
        if not self.by:
            faults.add(join(path, "by"), "found no dimension, expected at least one")
        for i, cell in enumerate(self.cells):
            at = join(join(path, "cells"), i)
            if not cell.match:
                faults.add(join(at, "match"), "found nothing to match, expected a dimension (or use otherwise)")
            for dimension, value in cell.match.items():
                where = join(join(at, "match"), dimension)
                if dimension not in self.by:
                    faults.add(where, f"not in `by`: {unknown(dimension, self.by)}")
                if not _texts(value):
                    faults.add(where, "expected a value or a list of values")
            self._inside(cell.price, join(at, "price"), faults)
        if self.otherwise is not None:
            self._inside(self.otherwise, join(path, "otherwise"), faults)

    def _inside(self, price: dict[str, Any], path: str, faults: Faults) -> Any:
        from rating.prices import read_price  # the registry holds this model too

        compiled = read_price(price, path, faults)
        if compiled is MISSING:
            return NOTHING
        if not isinstance(compiled, UsagePrice) or compiled.by:
            faults.add(join(path, "model"), f"found {price.get('model')!r}, expected a model of usage inside a cell")
            return NOTHING
        return compiled.cells[0].table

    def compile(self) -> CompiledPrice:
        none = Faults()
        cells = [
            Cell(tuple((k, _texts(v)) for k, v in sorted(cell.match.items())), self._inside(cell.price, "", none))
            for cell in self.cells
        ]
        otherwise = NOTHING if self.otherwise is None else self._inside(self.otherwise, "", none)
        return UsagePrice((*cells, Cell((), otherwise)), tuple(self.by))


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

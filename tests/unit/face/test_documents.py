"""What a change of the catalogue may do while periods are open."""

import pytest

from schemas.catalogue import Catalogue, CatalogueError, read_catalogue
from taximeter.documents import CatalogueInForce

BOOK = """
meters: {tokens: {event: use, aggregate: sum, value: $.n, dimensions: {model: $.model}}}
price_books:
  book:
    currency: USD
    charges:
      tokens:
        meter: tokens
        price: {model: matrix, by: [model], cells: [{match: {model: large}, price: {model: unit, unit_amount: 2}}],
                otherwise: {model: unit, unit_amount: 1}}
default_subscription: {price_book: book}
"""
MATRIX = BOOK[BOOK.index("{model: matrix") : BOOK.index("\ndefault")]


def _read(text: str) -> Catalogue:
    catalogue, faults = read_catalogue(text)
    assert catalogue is not None, faults
    return catalogue


async def _apply(text: str) -> list[bytes]:
    written: list[bytes] = []

    async def write(entry: bytes, records: list[tuple[bytes, bytes]]) -> dict[int, int]:
        written.append(entry)
        written.extend(value for _, value in records)
        return {0: len(written)}

    in_force = CatalogueInForce()
    await in_force.apply(_read(BOOK), write)
    written.clear()
    await in_force.apply(_read(text), write)
    return written


async def test_prices_may_change() -> None:
    assert await _apply(BOOK.replace("unit_amount: 2", "unit_amount: 3"))


@pytest.mark.parametrize(
    "changed",
    [
        BOOK.replace(MATRIX, "{model: unit, unit_amount: 1}"),
        BOOK.replace("meter: tokens\n", "meter: tokens\n        group_by: [model]\n"),
        BOOK.replace("aggregate: sum", "aggregate: max"),
        BOOK.replace("meter: tokens\n        price: " + MATRIX, "price: {model: flat, amount: 5}"),
    ],
    ids=["matrix to unit", "other groups", "other aggregate", "usage to flat"],
)
async def test_how_a_charge_reads_usage_may_not_change(changed: str) -> None:
    assert changed != BOOK
    with pytest.raises(CatalogueError, match=r"default_subscription\.tokens: found another reading"):
        await _apply(changed)

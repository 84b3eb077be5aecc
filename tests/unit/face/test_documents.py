"""What a change of the catalogue may do while periods are open."""

import msgspec
import pytest

from schemas.catalogue import Catalogue, CatalogueError, Filed, read_catalogue
from schemas.limits import DOCUMENT_VERSIONS_MAX
from streams.log import LogUnavailable
from taximeter.documents import CatalogueInForce, owner_of

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


# Versions -------------------------------------------------------------------------------------------------------------


def _record(name: str, **more: object) -> bytes:
    return msgspec.json.encode({"kind": "customers", "id": "acme", "document": {"name": name}, **more})


def _versions(records: list[bytes]) -> list[tuple[int | None, bytes]]:
    return [(one.version, bytes(one.document)) for one in CatalogueInForce(records).versions("customers", "acme")]


def test_records_from_before_there_were_versions_are_counted() -> None:
    records = [_record("a"), _record("b"), _record("b"), _record("a"), _record("c", version=4)]
    assert [number for number, _ in _versions(records)] == [1, 2, 3, 4]
    assert _versions(records)[2][1] == b'{"name":"a"}'


def test_a_version_stands_in_the_record_whatever_a_compaction_has_taken() -> None:
    assert _versions([_record("g", version=7)]) == [(7, b'{"name":"g"}')]
    assert _versions([_record("g", version=7), _record("h")])[-1] == (8, b'{"name":"h"}')


def test_of_two_writers_under_one_number_the_later_counts_for_every_reader() -> None:
    records = [_record("a", version=1), _record("b", version=2), _record("c", version=2)]
    assert _versions(records)[1:] == _versions(records[2:]) == [(2, b'{"name":"c"}')]
    assert _versions([*records, records[2]]) == _versions(records)


def test_so_many_versions_are_kept_and_no_more() -> None:
    records = [_record(str(number)) for number in range(DOCUMENT_VERSIONS_MAX + 5)]
    kept = _versions(records)
    assert len(kept) == DOCUMENT_VERSIONS_MAX
    assert (kept[0][0], kept[-1][0]) == (6, DOCUMENT_VERSIONS_MAX + 5)


async def test_a_change_that_could_not_be_written_is_not_in_force() -> None:
    async def write(entry: bytes, records: list[tuple[bytes, bytes]]) -> dict[int, int]:
        raise LogUnavailable("full")

    in_force = CatalogueInForce()
    with pytest.raises(LogUnavailable):
        await in_force.apply(_read(BOOK), write)
    assert in_force.ids("meters") == [] and in_force.get("meters", "tokens") is None


async def test_what_is_written_is_what_is_read_back() -> None:
    topic: list[bytes] = []

    async def write(entry: bytes, records: list[tuple[bytes, bytes]]) -> dict[int, int]:
        topic.extend(value for _, value in records)
        return {0: len(topic)}

    in_force = CatalogueInForce()
    await in_force.apply(_read(BOOK), write)
    applied = await in_force.apply(_read(BOOK.replace("unit_amount: 2", "unit_amount: 3")), write)
    assert [(change.change, change.now.version) for change in applied.changes] == [
        ("unchanged", 1), ("changed", 2), ("unchanged", 1),
    ]  # fmt: skip
    again = CatalogueInForce(topic)
    assert again.tag == in_force.tag and again.catalogue == in_force.catalogue
    in_force.add(msgspec.json.decode(value, type=Filed) for value in topic)
    assert again.versions("price_books", "book") == in_force.versions("price_books", "book")


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("price_books.a.charges.x", ("price_books", "a", "charges.x")),
        ("price_books.a.b.charges.x", ("price_books", "a.b", "charges.x")),
        ("price_books.a.b", ("price_books", "a.b", "")),
        ("price_books.a[0]", ("price_books", "a", "[0]")),
        ("default_subscription.anchor", ("default_subscription", "default", "anchor")),
        ("meters", None),
        ("price_books.c.charges", None),
    ],
)
def test_whose_fault_it_is(path: str, owner: tuple[str, str, str] | None) -> None:
    catalogue = _read("price_books: {a: {currency: USD, charges: {}}, a.b: {currency: USD, charges: {}}}")
    assert owner_of(path, catalogue) == owner

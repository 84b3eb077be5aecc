"""The price kernel: by columns the same amounts as one by one, whatever the model and however large the quantity."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rating.compiled import Tiers
from rating.exact import int128
from rating.kernel import find_tiers, rate_columns, reach_columns
from rating.prices import read_price
from rating.prices.model import UsagePrice
from rating.prices.tiers import TierTable
from schemas.faults import Faults, Number
from schemas.numbers import ONE, SCALED_MAX, NumberError, format_scaled, parse_scaled

MANY = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
SMALL = st.integers(0, 50 * ONE)
AMOUNTS = (
    st.sampled_from([0, 1, ONE, ONE // 100, 3, 333_333_333_333, 10**20, 10**30, SCALED_MAX])
    | SMALL
    | st.integers(0, SCALED_MAX)
)
SIZES = st.sampled_from([1, ONE, 10 * ONE, 3 * ONE // 10, SCALED_MAX, SCALED_MAX - 1]) | st.integers(1, SCALED_MAX)
QUANTITIES = st.integers(-20 * ONE, 200 * ONE) | st.integers(-SCALED_MAX, SCALED_MAX) | st.integers(-3, 3)


def compiled(price: dict[str, Any]) -> TierTable:
    """The table of a price as a book writes it."""
    faults = Faults()
    found = read_price(price, "price", faults)
    assert not faults, (price, faults)
    assert isinstance(found, UsagePrice)
    return found.leaves[0].tables[0]


@st.composite
def tables(draw: st.DrawFn, amounts: Any = AMOUNTS) -> TierTable:
    text = amounts.map(format_scaled)
    model = draw(st.sampled_from(["unit", "graduated", "graduated_percentage", "volume", "stairstep", "package"]))
    if model == "unit":
        amount = draw(text)
        return compiled({"model": model, "unit_amount": ("-" if draw(st.booleans()) else "") + amount})
    if model == "package":
        rounding = draw(st.sampled_from(["up", "down"]))
        size = format_scaled(draw(SIZES))
        price = {"model": model, "package_size": size, "package_amount": draw(text), "round": rounding}
        return compiled(price | {"zero_usage_packages": Number(str(draw(st.integers(0, 3))))})
    bounds = st.integers(1, 100 * ONE) | st.integers(1, SCALED_MAX)
    tiers: list[dict[str, str]] = [{"up_to": format_scaled(b)} for b in sorted(draw(st.sets(bounds, max_size=4)))]
    tiers.append({})
    for tier in tiers:
        if model != "stairstep":
            tier["rate" if model == "graduated_percentage" else "unit_amount"] = draw(text)
        if model == "stairstep" or draw(st.booleans()):
            tier["flat_amount"] = draw(text)
        if model == "graduated" and draw(st.booleans()):
            tier["maximum_amount"] = draw(text)
    price = {"model": model, "tiers": tiers}
    if model in ("volume", "stairstep"):
        price["bounds"] = draw(st.sampled_from(["up_to", "from"]))
    if model == "stairstep":
        price["method"] = draw(st.sampled_from(["volume", "graduated"]))
    return compiled(price)


def edges(table: TierTable) -> list[int]:
    """Quantities where something changes."""
    found = {0, 1, -1, ONE, SCALED_MAX, -SCALED_MAX}
    for tier in table.tiers:
        for edge in (tier.up_to, tier.block, tier.start + 2 * tier.block):
            found |= {edge - 1, edge, edge + 1} if edge else set()
    return [quantity for quantity in found if abs(quantity) <= SCALED_MAX]


Rows = list[tuple[int, int, bool]]


@st.composite
def rows(draw: st.DrawFn, amounts: Any = AMOUNTS) -> tuple[list[TierTable], Rows]:
    books = draw(st.lists(tables(amounts), min_size=1, max_size=4))
    found: Rows = []
    for number, table in enumerate(books):
        quantities = draw(st.lists(QUANTITIES, max_size=4)) + draw(st.lists(st.sampled_from(edges(table)), max_size=4))
        found.extend((number, quantity, draw(st.booleans())) for quantity in quantities)
    return books, draw(st.permutations(found))


def columns(found: Rows) -> tuple[Any, Any, Any]:
    table = np.array([t for t, _, _ in found], dtype=np.int64)
    return table, int128([q for _, q, _ in found]), np.array([e for _, _, e in found], dtype=np.bool_)


@MANY
@given(rows())
@example(([compiled({"model": "package", "package_size": "0.1", "package_amount": "1"})], [(0, 2 * 10**37, False)]))
@example(([compiled({"model": "package", "package_size": "9e25", "package_amount": "1"})], [(0, 9 * 10**37, False)]))
@example(([compiled({"model": "package", "package_size": "1e-12", "package_amount": "0"})], [(0, 10**30, False)]))
def test_by_columns_is_one_by_one(case: tuple[list[TierTable], Rows]) -> None:
    books, found = case
    tiers = Tiers.of(books)
    amounts = rate_columns(tiers, *columns(found))
    for row, (number, quantity, enter) in enumerate(found):
        table = books[number]
        try:
            amount = table.amount(quantity, enter)
        except NumberError:
            assert amounts.overflow[row], f"{table} overflows at {quantity}"
            continue
        assert not amounts.overflow[row], f"{table} does not overflow at {quantity}"
        assert amounts.amount[row] == amount, f"{table} at {quantity}"
        assert amount * ONE + amounts.rest[row] == table.exact(quantity, enter)


@MANY
@given(rows())
def test_each_quantity_finds_the_tier_that_holds_it(case: tuple[list[TierTable], Rows]) -> None:
    books, found = case
    tiers = Tiers.of(books)
    table, quantity, _ = columns(found)
    for (number, q, _), at in zip(found, find_tiers(tiers, table, quantity).tolist(), strict=True):
        tier = books[number].tiers[at - int(tiers.first[number])]
        lower = books[number].lower_bounds
        assert tier.up_to is None or q < tier.up_to or (q == tier.up_to and not lower) or q <= 0
        assert q > tier.start or (q == tier.start and lower) or tier.start == 0


MODEST = st.integers(0, 10**18)


@MANY
@given(rows(MODEST), st.lists(st.integers(0, 200 * ONE), min_size=1, max_size=10))
def test_reach_is_an_upper_bound_for_all_smaller_quantities(
    case: tuple[list[TierTable], Rows], smaller: list[int]
) -> None:
    """For every table that costs nothing below nought: from nought up to each quantity."""
    books, found = case
    found = [(number, quantity, enter) for number, quantity, enter in found if books[number].tiers[0].unit_amount >= 0]
    if not found:
        return
    reached = reach_columns(Tiers.of(books), *columns(found))
    for row, (number, quantity, _) in enumerate(found):
        if reached.overflow[row]:
            continue
        for less in [*smaller, *edges(books[number])]:
            if -(10**20) <= less <= quantity:
                assert reached.amount[row] >= books[number].amount(less), f"{books[number]}: {less} <= {quantity}"


@MANY
@given(tables(MODEST), st.lists(st.integers(0, 300 * ONE), min_size=2, max_size=20))
def test_a_monotone_table_never_falls(table: TierTable, quantities: list[int]) -> None:
    if table.monotone:
        amounts = [table.amount(q) for q in sorted([*quantities, *(e for e in edges(table) if 0 <= e <= 300 * ONE)])]
        assert amounts == sorted(amounts)


@MANY
@given(tables(MODEST), QUANTITIES.filter(lambda q: abs(q) < 10**20), st.booleans())
def test_the_tiers_that_are_shown_sum_to_the_amount(table: TierTable, quantity: int, enter: bool) -> None:
    shown = table.breakdown(quantity, enter)
    assert sum(parse_scaled(tier.amount) for tier in shown) == table.amount(quantity, enter)
    assert sum(parse_scaled(tier.quantity) for tier in shown) == (quantity if shown else 0)


@pytest.mark.parametrize("quantity", [0, -1, -SCALED_MAX])
def test_below_nought_only_unit_has_an_amount(quantity: int) -> None:
    unit = compiled({"model": "unit", "unit_amount": "1"})
    volume = compiled({"model": "volume", "tiers": [{"unit_amount": "1", "flat_amount": "5"}]})
    assert unit.amount(quantity) == quantity
    assert volume.amount(quantity) == 0


def test_no_rows_are_no_amounts() -> None:
    books = [compiled({"model": "unit", "unit_amount": "1"})]
    assert len(rate_columns(Tiers.of(books), *columns([])).amount) == 0

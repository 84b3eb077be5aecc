"""percentage and dynamic: what each event pays, on paper, and the laws: by columns as one by one, in any cut."""

from fractions import Fraction
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rating.prices.model import Leaf
from schemas.numbers import ONE, SCALED_MAX, divide_half_up, format_scaled, parse_scaled
from tests.unit.rating.prices.reading import leaf

CARD = {"rate": "0.0299", "min_amount": "1.75", "max_amount": "12", "free_rule": "amount_governs"}


def channels(of: Leaf, values: list[int]) -> dict[str | None, int]:
    """What each channel holds after these scaled values."""
    split = of.split
    assert split is not None
    if split.ordered:
        sums = split.totals(split.feed(split.start(), values))
    else:
        sums = [sum(b.value.to_list()) for b in split.spread(pl.Series(values, dtype=pl.Int128), None)]
    return dict(zip(of.names, [sum(values), *sums], strict=True))


def exact(of: Leaf, values: list[int]) -> int:
    """The leaf's amount, with 24 digits after the point."""
    held = channels(of, values)
    return sum(table.exact(held[name]) for name, table in zip(of.names, of.tables, strict=True))


def cost(of: Leaf, *values: str) -> str:
    return format_scaled(divide_half_up(exact(of, [parse_scaled(value) for value in values]), ONE))


@pytest.mark.parametrize(
    ("price", "values", "amount"),
    [
        # The rate, and a fixed amount for each.
        ({"rate": "0.029"}, ["1", "1", "1", "1"], "0.116"),
        ({"rate": "0.1"}, ["5"], "0.5"),
        ({"rate": "0.013", "fixed_amount": "2"}, ["50", "100", "250", "400"], "18.4"),
        ({"rate": "0.02", "fixed_amount": "1"}, ["1", "1"], "2.04"),
        ({"rate": "0", "fixed_amount": "1"}, ["7", "0"], "2"),
        ({"rate": "0"}, ["7"], "0"),
        ({"rate": "0.1", "fixed_amount": "1"}, [], "0"),
        # The least and the greatest hold for both together.
        (CARD, ["10", "80", "10000"], "16.142"),
        (CARD | {"fixed_amount": "2"}, ["10", "80", "10000"], "18.691"),
        ({"rate": "0.1", "min_amount": "1"}, ["10", "9.999999999999", "0"], "3"),
        ({"rate": "0.1", "max_amount": "1"}, ["10", "10.000000000001", "11"], "3"),
        ({"rate": "0.1", "fixed_amount": "5", "max_amount": "3"}, ["0", "1"], "6"),
        ({"rate": "0", "fixed_amount": "1", "min_amount": "3"}, ["0", "900"], "6"),
        ({"rate": "0", "fixed_amount": "1", "min_amount": "1", "max_amount": "1"}, ["0", "900"], "2"),
        ({"rate": "0.1", "max_amount": "0"}, ["0", "900"], "0"),
        # Free ones.
        ({"rate": "0.1", "fixed_amount": "1", "free_events": 2}, ["5", "0", "10"], "2"),
        ({"rate": "0.1", "fixed_amount": "1", "free_amount": "10"}, ["4", "6", "0"], "1"),
        ({"rate": "0.1", "fixed_amount": "1", "free_amount": "10"}, ["4", "7"], "1.1"),
        ({"rate": "0.01", "fixed_amount": "5", "free_amount": "15"}, ["4", "4", "4", "4", "10"], "10.11"),
        ({"rate": "0.01", "fixed_amount": "5", "free_events": 3, "free_amount": "15"}, ["10", "10", "10"], "10.15"),
        ({"rate": "0.1", "free_events": 1, "free_amount": "100"}, ["5", "10"], "1"),
        ({"rate": "0.1", "free_events": 2, "free_amount": "10"}, ["5", "5", "10"], "1"),
        (CARD | {"free_events": 2}, ["10", "80", "10000"], "12"),
        (CARD | {"free_amount": "30"}, ["10", "80", "10000"], "13.794"),
        (CARD | {"free_events": 3, "free_amount": "10000"}, ["10", "80", "10000"], "2.691"),
        # The amount governs only beside a least or a greatest.
        (
            {"rate": "0.1", "free_events": 1, "free_amount": "100", "free_rule": "amount_governs"},
            ["10", "10"],
            "1",
        ),
        ({"rate": "0.1", "free_events": 1, "free_amount": "100", "min_amount": "0"}, ["10", "10"], "1"),
        # The event that crosses pays at least the least amount for what is above.
        ({"rate": "0.1", "min_amount": "3", "free_amount": "10"}, ["11"], "3"),
        ({"rate": "0.1", "max_amount": "3", "free_amount": "10"}, ["11", "1000"], "3.1"),
        # A correction takes its share back, and neither draws on the allowance nor gives back to it.
        ({"rate": "0.1", "fixed_amount": "1", "min_amount": "2"}, ["100", "-10"], "10"),
        ({"rate": "0.1"}, ["10", "-30"], "0"),
        ({"rate": "0.1", "free_events": 1}, ["-10", "5", "30"], "2"),
        ({"rate": "0.1", "free_amount": "100"}, ["10", "-10", "200"], "10"),
    ],
)
def test_on_paper(price: dict[str, Any], values: list[str], amount: str) -> None:
    assert cost(leaf(model="percentage", **price), *values) == amount


def test_what_a_shared_total_of_events_holds() -> None:
    of = leaf(model="percentage", rate="0.1", fixed_amount="1", min_amount="2", max_amount="5", free_amount="3")
    assert of.names == (None, "rated", "fixed", "least", "greatest", "free")
    held = channels(of, [value * ONE for value in (1, 4, 20, 100, -2)])
    assert held == {
        None: 123 * ONE,
        "rated": 18 * ONE,
        "fixed": ONE,
        "least": ONE,
        "greatest": ONE,
        "free": 3 * ONE,
    }


@pytest.mark.parametrize(
    ("price", "names"),
    [
        ({"rate": "0.1"}, ("rated",)),
        ({"rate": "0"}, ()),
        ({"rate": "0", "fixed_amount": "2"}, ("fixed",)),
        ({"rate": "0", "fixed_amount": "2", "min_amount": "3"}, ("least",)),
        ({"rate": "0", "fixed_amount": "2", "min_amount": "2"}, ("fixed",)),
        ({"rate": "0.1", "fixed_amount": "2", "min_amount": "2"}, ("rated", "fixed")),
        ({"rate": "0.1", "fixed_amount": "2", "max_amount": "1"}, ("rated", "greatest")),
        ({"rate": "0.1", "min_amount": "1"}, ("rated", "least")),
        ({"rate": "0.1", "max_amount": "1"}, ("rated", "greatest")),
        ({"rate": "0.1", "free_events": 1}, ("rated", "free")),
    ],
)
def test_what_no_event_can_bring_has_no_channel(price: dict[str, Any], names: tuple[str, ...]) -> None:
    assert leaf(model="percentage", **price).names == (None, *names)


def test_only_an_allowance_asks_for_the_order() -> None:
    plain, free = leaf(model="percentage", rate="0.1"), leaf(model="percentage", rate="0.1", free_events=1)
    assert plain.split is not None and not plain.split.ordered
    assert free.split is not None and free.split.ordered
    assert plain.split.extra is None and free.split.extra is None


def test_equal_prices_split_alike() -> None:
    assert leaf(model="percentage", rate="0.1") == leaf(model="percentage", rate="0.10")
    assert hash(leaf(model="percentage", rate="0.1")) == hash(leaf(model="percentage", rate="0.10"))
    assert leaf(model="percentage", rate="0.1", free_events=1) != leaf(model="percentage", rate="0.1", free_events=2)


def test_dynamic_sums_the_events_own_amounts() -> None:
    of = leaf(model="dynamic", amount="$.cost", multiplier="1.2")
    assert of.split is not None and of.split.extra == "$.cost" and not of.split.ordered
    assert of.names == (None, "priced")
    (priced,) = of.split.spread(pl.Series([1, 2, 3], dtype=pl.Int128), pl.Series([5 * ONE, 0, 7], dtype=pl.Int128))
    assert priced.at.tolist() == [0, 2]
    assert priced.value.to_list() == [5 * ONE, 7]
    assert format_scaled(of.tables[1].amount(10 * ONE)) == "12"
    assert of.tables[1].amount(-10 * ONE) == 0
    assert of.tables[0].amount(10 * ONE) == 0


# The laws ------------------------------------------------------------------------------------------------------------

AMOUNTS = st.integers(0, 20 * ONE) | st.sampled_from([0, 1, ONE, 3 * ONE, SCALED_MAX]) | st.integers(0, SCALED_MAX)
RATES = st.sampled_from([0, 1, 29 * ONE // 1000, ONE // 3, ONE, SCALED_MAX]) | st.integers(0, ONE)
VALUES = (
    st.integers(-5 * ONE, 100 * ONE)
    | st.sampled_from([0, 1, ONE, 10 * ONE, -1])
    | st.integers(-SCALED_MAX, SCALED_MAX)
    | st.integers(0, 40).map(lambda n: n * ONE)
)


@st.composite
def prices(draw: st.DrawFn, free: bool) -> dict[str, Any]:
    price: dict[str, Any] = {"rate": draw(RATES)}
    if draw(st.booleans()):
        price["fixed_amount"] = draw(AMOUNTS)
    if draw(st.booleans()):
        price["min_amount"] = draw(AMOUNTS)
    if draw(st.booleans()):
        price["max_amount"] = max(draw(AMOUNTS), price.get("min_amount", 0))
    if free:
        which = draw(st.sampled_from(["events", "amount", "both"]))
        if which != "amount":
            price["free_events"] = draw(st.integers(1, 6))
        if which != "events":
            price["free_amount"] = draw(st.integers(1, 60).map(lambda n: n * ONE) | st.integers(1, SCALED_MAX))
        price["free_rule"] = draw(st.sampled_from(["first_limit", "amount_governs"]))
    return price


def compiled(price: dict[str, Any]) -> Leaf:
    texts = {k: format_scaled(v) for k, v in price.items() if k not in ("free_events", "free_rule")}
    return leaf(model="percentage", **price | texts)


def naive(price: dict[str, Any], values: list[int]) -> tuple[Fraction, Fraction]:
    """What the values at or above nought pay one by one, and what those below take back; in fractions."""
    rate, fixed = Fraction(price["rate"], ONE), Fraction(price.get("fixed_amount", 0), ONE)
    bounded = "min_amount" in price or "max_amount" in price
    events, amount = price.get("free_events"), price.get("free_amount")
    if amount is not None and bounded and price.get("free_rule") == "amount_governs":
        events = None
    live = events is not None or amount is not None
    drawn, count, paid, back = 0, 0, Fraction(0), Fraction(0)
    for value in values:
        if value < 0:
            back += rate * Fraction(value, ONE)
            continue
        rated: int | None = value
        if live:
            count += 1
            drawn += value
            rated = None
            if amount is not None and drawn >= amount:
                live, rated = False, drawn - amount or None
            if events is not None and count >= events:
                live = False
        if rated is None:
            continue
        sum_ = rate * Fraction(rated, ONE) + fixed
        if "min_amount" in price:
            sum_ = max(sum_, Fraction(price["min_amount"], ONE))
        if "max_amount" in price:
            sum_ = min(sum_, Fraction(price["max_amount"], ONE))
        paid += sum_
    return paid, back


def gross(of: Leaf, values: list[int]) -> Fraction:
    """The leaf's channels at their unit amounts, a total below nought included."""
    held = channels(of, values)
    return Fraction(sum(held[n] * t.tiers[0].unit_amount for n, t in zip(of.names, of.tables, strict=True)), ONE * ONE)


@settings(deadline=None, max_examples=300)
@given(st.booleans().flatmap(prices), st.lists(VALUES, max_size=25))
@example({"rate": ONE // 10, "free_amount": 10 * ONE, "free_events": 1}, [10 * ONE, 0])
@example({"rate": ONE // 10, "free_amount": 10 * ONE, "free_events": 1}, [11 * ONE, 0])
@example({"rate": ONE // 10, "free_amount": 10 * ONE, "free_events": 2}, [0, 0, 0])
@example({"rate": 7, "min_amount": 1, "max_amount": 2}, [0, ONE // 7, ONE // 7 + 1, 2 * ONE // 7, 2 * ONE // 7 + 1])
def test_together_as_one_by_one(price: dict[str, Any], values: list[int]) -> None:
    assert gross(compiled(price), values) == sum(naive(price, values))


@settings(deadline=None)
@given(prices(free=True), st.lists(VALUES, max_size=25), st.lists(st.integers(0, 25), max_size=4))
def test_fed_in_any_cut_it_is_the_same(price: dict[str, Any], values: list[int], cuts: list[int]) -> None:
    split = compiled(price).split
    assert split is not None
    ends = [*sorted(cuts), len(values)]
    running = split.start()
    for start, end in zip([0, *ends], ends, strict=False):
        running = split.feed(running, values[start:end])
    assert running == split.feed(split.start(), iter(values))
    assert all(type(number) is int for number in running)


@settings(deadline=None)
@given(prices(free=False), st.lists(VALUES, max_size=25))
def test_columns_bring_only_what_counts(price: dict[str, Any], values: list[int]) -> None:
    of = compiled(price)
    assert of.split is not None
    brought = of.split.spread(pl.Series(values, dtype=pl.Int128), None)
    assert len(brought) == len(of.names) - 1
    for each in brought:
        assert each.value.dtype == pl.Int128
        assert len(each.at) == len(each.value)
        assert 0 not in each.value.to_list()

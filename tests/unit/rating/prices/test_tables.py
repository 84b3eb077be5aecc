"""The models that ask something of the total alone, worked out on paper."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.numbers import ONE, SCALED_MAX, format_scaled
from tests.unit.rating.prices.reading import cost, flat, shown, table

STEPS = [{"up_to": "5", "flat_amount": "100"}, {"up_to": "10", "flat_amount": "50"}, {"flat_amount": "0"}]
VOLUME = [{"up_to": "100", "unit_amount": "2", "flat_amount": "10"}, {"unit_amount": "1"}]
RATES = [{"up_to": "10", "rate": "0.01", "flat_amount": "200"}, {"rate": "0.02", "flat_amount": "300"}]


def test_flat_comes_every_period_and_one_time_once() -> None:
    assert (flat(model="flat", amount="20").amount, flat(model="flat", amount="20").once) == (20 * ONE, False)
    assert (flat(model="one_time", amount="5").amount, flat(model="one_time", amount="5").once) == (5 * ONE, True)


@pytest.mark.parametrize(
    ("quantity", "amount"),
    [("-4", "0"), ("0", "0"), ("1", "200.01"), ("10", "200.1"), ("10.000000000001", "500.1"), ("60", "501.1")],
)
def test_graduated_percentage_takes_each_tiers_share(quantity: str, amount: str) -> None:
    assert cost(table(model="graduated_percentage", tiers=RATES), quantity) == amount


def test_graduated_percentage_at_nought_enters_the_first_tier() -> None:
    assert cost(table(model="graduated_percentage", tiers=RATES), "0", True) == "200"


@pytest.mark.parametrize(
    ("method", "bounds", "quantity", "amount"),
    [
        ("volume", "up_to", "5", "100"),
        ("volume", "up_to", "5.000000000001", "50"),
        ("volume", "from", "4.999999999999", "100"),
        ("volume", "from", "5", "50"),
        ("volume", "from", "10", "0"),
        ("graduated", "up_to", "3", "100"),
        ("graduated", "up_to", "5", "100"),
        ("graduated", "up_to", "7", "150"),
        ("graduated", "up_to", "1000", "150"),
        ("graduated", "from", "4.999999999999", "100"),
        ("graduated", "from", "5", "150"),
    ],
)
def test_stairstep_by_method_and_bounds(method: str, bounds: str, quantity: str, amount: str) -> None:
    assert cost(table(model="stairstep", tiers=STEPS, method=method, bounds=bounds), quantity) == amount


@pytest.mark.parametrize(
    ("bounds", "quantity", "amount"),
    [
        ("up_to", "100", "210"),
        ("up_to", "101", "101"),
        ("from", "99.999999999999", "209.999999999998"),
        ("from", "100", "100"),
        ("from", "0", "0"),
    ],
)
def test_volume_by_bounds(bounds: str, quantity: str, amount: str) -> None:
    assert cost(table(model="volume", tiers=VOLUME, bounds=bounds), quantity) == amount


def test_a_lower_bound_shows_the_tier_that_it_begins() -> None:
    of = table(model="volume", tiers=VOLUME, bounds="from")
    assert shown(of, "100") == [("100", None, "100", "100")]
    of = table(model="stairstep", tiers=STEPS, method="graduated", bounds="from")
    assert shown(of, "5") == [("0", "5", "5", "100"), ("5", "10", "0", "50")]
    of = table(model="stairstep", tiers=STEPS, method="graduated")
    assert shown(of, "5") == [("0", "5", "5", "100")]


@pytest.mark.parametrize(
    ("packages", "quantity", "enter", "amount"),
    [(0, "0", True, "0"), (2, "0", True, "10"), (2, "0", False, "0"), (2, "1", True, "5"), (2, "21", True, "15")],
)
def test_package_of_no_usage(packages: int, quantity: str, enter: bool, amount: str) -> None:
    of = table(model="package", package_size="10", package_amount="5", zero_usage_packages=packages)
    assert cost(of, quantity, enter) == amount


def test_packages_of_no_usage_are_shown() -> None:
    of = table(model="package", package_size="10", package_amount="5", zero_usage_packages=2)
    (tier,) = of.breakdown(0, True, cell=3, channel="x")
    assert (tier.quantity, tier.packages, tier.amount, tier.cell, tier.channel) == ("0", "2", "10", 3, "x")


def test_where_nought_costs_more_than_a_trace_the_amount_falls() -> None:
    of = table(model="package", package_size="10", package_amount="5", zero_usage_packages=2)
    assert not of.monotone
    assert of.peaks == [10 * ONE]
    assert table(model="package", package_size="10", package_amount="5", zero_usage_packages=1).monotone


def capped(most: str, unit: str = "1", flat_amount: str = "0", up_to: str | None = None) -> Any:
    tier = {"unit_amount": unit, "flat_amount": flat_amount, "maximum_amount": most}
    rest = [{"unit_amount": "2"}] if up_to else []
    return table(model="graduated", tiers=[tier | ({"up_to": up_to} if up_to else {}), *rest])


@pytest.mark.parametrize(
    ("of", "quantity", "amount"),
    [
        (capped("3"), "2", "2"),
        (capped("3"), "3", "3"),
        (capped("3"), "5", "3"),
        (capped("3", flat_amount="1"), "5", "3"),
        (capped("3", flat_amount="4"), "0.000000000001", "3"),
        (capped("3", unit="0", flat_amount="2"), "1000", "2"),
        (capped("0"), "7", "0"),
        (capped("3", up_to="10"), "10", "3"),
        (capped("3", up_to="10"), "11", "5"),
        (capped("30", up_to="10"), "11", "12"),
        (capped("10", up_to="10"), "11", "12"),
        (capped("1", unit="3"), "0.333333333333", "0.999999999999"),
        (capped("1", unit="3"), "0.333333333334", "1"),
        (capped("1", unit="3", up_to="10"), "12", "5"),
        (capped("1", unit="90000000000000"), "0.000000000001", "1"),
    ],
)
def test_a_tier_comes_to_its_maximum_at_most(of: Any, quantity: str, amount: str) -> None:
    assert cost(of, quantity) == amount
    assert of.monotone and of.columnar


def test_what_is_above_a_tiers_maximum_is_shown_as_free() -> None:
    assert shown(capped("3", up_to="10"), "12") == [
        ("0", "3", "3", "3"),
        ("3", "10", "7", "0"),
        ("10", None, "2", "4"),
    ]


def test_a_capped_flat_amount_at_nought() -> None:
    assert cost(capped("3", flat_amount="4"), "0", True) == "3"
    assert cost(capped("3", flat_amount="2"), "0", True) == "2"


def test_a_maximum_out_of_reach_splits_nothing() -> None:
    assert len(capped(format_scaled(SCALED_MAX), unit="0.000000000001").tiers) == 1


AMOUNTS = st.integers(0, 50 * ONE) | st.integers(0, 10**20)


@settings(deadline=None)
@given(
    st.lists(st.tuples(AMOUNTS, AMOUNTS, st.none() | AMOUNTS), min_size=1, max_size=4),
    st.sets(st.integers(1, 100 * ONE), min_size=3, max_size=3),
    st.integers(1, 200 * ONE),
)
def test_capped_tiers_are_the_lesser_of_both(
    tiers: list[tuple[int, int, int | None]], bounds: set[int], quantity: int
) -> None:
    ends: list[int | None] = [*sorted(bounds)[: len(tiers) - 1], None]
    written: list[dict[str, str]] = []
    expected, start = 0, 0
    for (unit, flat_amount, most), end in zip(tiers, ends, strict=True):
        tier = {"unit_amount": format_scaled(unit), "flat_amount": format_scaled(flat_amount)}
        tier |= {} if most is None else {"maximum_amount": format_scaled(most)}
        tier |= {} if end is None else {"up_to": format_scaled(end)}
        written.append(tier)
        if quantity > start:
            inside = (quantity if end is None else min(quantity, end)) - start
            exact = flat_amount * ONE + unit * inside
            expected += exact if most is None else min(exact, most * ONE)
        start = end or start
    assert table(model="graduated", tiers=written).exact(quantity) == expected

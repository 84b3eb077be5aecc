"""Every aggregation: by columns it says what it says one by one, over any cut; and its stated algebra holds."""

from fractions import Fraction

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.aggregates import AGGREGATES, Aggregate, Total
from rating.exact import int128
from schemas.numbers import ONE

Value = tuple[int, int]  # value, time
VALUES = st.lists(st.tuples(st.integers(-(10**30), 10**30) | st.integers(-3, 3), st.integers(0, 5)), max_size=20)
ALL = pytest.mark.parametrize("aggregate", AGGREGATES.values(), ids=list(AGGREGATES))
NONE = Total(0, 0, 0)


def by_steps(aggregate: Aggregate, values: list[Value], total: Total = NONE) -> Total:
    for value, time in values:
        # An event before the first one of its cell is not later than it: the first sets the time.
        total = aggregate.step(total if total.events else Total(0, 0, time), value, time)
    return total


def by_columns(aggregate: Aggregate, values: list[Value], total: Total = NONE) -> Total:
    """One batch folded and combined, as the fold of a batch does it."""
    if not values:
        return total
    frame = pl.DataFrame({"value": int128([v for v, _ in values]), "time": [t for _, t in values]})
    folded = frame.select(aggregate.fold().alias("value"), pl.col("time").max().alias("at"), pl.len().alias("added"))
    folded = folded.with_columns(
        value_old=int128(total.value), at_old=pl.lit(total.at), events_old=pl.lit(total.events)
    )
    done = folded.select(value=aggregate.combine(), at="at").row(0)
    at = max(done[1], total.at) if total.events else done[1]
    return Total(total.events + len(values), done[0], at)


@ALL
@settings(deadline=None)
@given(values=VALUES, cuts=st.lists(st.integers(0, 20), max_size=5))
def test_any_cut_into_batches_is_one_by_one(aggregate: Aggregate, values: list[Value], cuts: list[int]) -> None:
    edges = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    total = NONE
    for start, end in zip(edges, edges[1:], strict=False):  # noqa: RUF007
        total = by_columns(aggregate, values[start:end], total)
    assert total == by_steps(aggregate, values)


@ALL
@settings(deadline=None)
@given(values=VALUES.filter(bool))
def test_quantities_by_columns_are_those_one_by_one(aggregate: Aggregate, values: list[Value]) -> None:
    total = by_steps(aggregate, values)
    frame = pl.DataFrame({"value": int128(total.value), "events": [total.events]})
    assert frame.select(aggregate.quantities()).item() == aggregate.quantity(total)


def merged(aggregate: Aggregate, one: Total, other: Total) -> Total:
    """Two parts counted apart, joined: the second as if it were one batch that came after the first."""
    if not (one.events and other.events):
        return one if one.events else other
    frame = pl.DataFrame({"value": int128(other.value), "at": [other.at], "events": [one.events + other.events]})
    frame = frame.with_columns(value_old=int128(one.value), at_old=pl.lit(one.at), events_old=pl.lit(one.events))
    return Total(one.events + other.events, frame.select(aggregate.combine()).item(), max(one.at, other.at))


@ALL
@settings(deadline=None)
@given(values=VALUES, cut=st.integers(0, 20))
def test_parts_can_be_merged_where_it_says_so(aggregate: Aggregate, values: list[Value], cut: int) -> None:
    if aggregate.mergeable:
        one, other = by_steps(aggregate, values[:cut]), by_steps(aggregate, values[cut:])
        assert merged(aggregate, one, other) == by_steps(aggregate, values)


@ALL
@given(values=VALUES, last=st.tuples(st.integers(-(10**20), 10**20), st.integers(0, 5)))
def test_a_value_can_be_taken_back_where_it_says_so(aggregate: Aggregate, values: list[Value], last: Value) -> None:
    if aggregate.retractable and values:
        before, after = by_steps(aggregate, values), by_steps(aggregate, [*values, last])
        taken = Total(after.events - 1, after.value - last[0], before.at)
        assert aggregate.quantity(taken) == aggregate.quantity(before)


@ALL
@given(values=st.lists(st.tuples(st.integers(0, 10**20), st.integers(0, 5)), min_size=1, max_size=10))
def test_the_quantity_never_falls_where_it_says_so(aggregate: Aggregate, values: list[Value]) -> None:
    if aggregate.rising:
        seen = [aggregate.quantity(by_steps(aggregate, values[: i + 1])) for i in range(len(values))]
        assert seen == sorted(seen)


@given(values=VALUES.filter(bool))
def test_each_means_what_it_is_called(values: list[Value]) -> None:
    numbers = [value for value, _ in values]
    latest = max(enumerate(values), key=lambda item: (item[1][1], item[0]))[1][0]
    mean = Fraction(sum(numbers), len(numbers))
    rounded = int(abs(mean) + Fraction(1, 2)) * (1 if mean >= 0 else -1)
    expected = {"sum": sum(numbers), "min": min(numbers), "max": max(numbers), "latest": latest, "avg": rounded}
    for name, quantity in expected.items():
        assert AGGREGATES[name].quantity(by_steps(AGGREGATES[name], values)) == quantity
    ones = [(ONE, time) for _, time in values]
    assert AGGREGATES["count"].quantity(by_steps(AGGREGATES["count"], ones)) == len(values) * ONE


def test_every_aggregation_of_the_published_language_is_here() -> None:
    from typing import get_args

    from schemas.catalogue import Aggregate as Published

    assert set(AGGREGATES) == set(get_args(Published))
    assert all(aggregate.description for aggregate in AGGREGATES.values())

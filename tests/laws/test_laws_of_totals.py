"""Laws of the totals: whatever is thrown, every event is in one class, and the totals are what the tables hold.

The tables are looked at after every single step, not once a minute.
"""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rating.engine
from streams.sums import equations
from tests.oracle import thrown
from tests.oracle.engine import rate_raw
from tests.oracle.generate import Thrown, cases
from tests.oracle.throws import throws

THROWS = throws(15)


pytestmark = pytest.mark.usefixtures("always_reconciled")


def reconciles(case: Thrown, batch: int, dice: random.Random | None = None) -> None:
    """Rates a case; a difference that the engine finds is an error of the rater's."""
    looked = 0
    original = rating.engine.reconcile

    def counted(*arguments: object, **options: object) -> object:
        nonlocal looked
        assert options["tables"]
        looked += 1
        return original(*arguments, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating.engine, "reconcile", counted)
        rate_raw(*case, batch, None if dice is None else lambda: dice.random() < 0.3)
    assert looked


@THROWS
@given(cases(), st.sampled_from([1, 3, 1000]), st.randoms(use_true_random=False))
def test_random_catalogues_and_events(case: Thrown, batch: int, dice: random.Random) -> None:
    reconciles(case, batch, dice)


@THROWS
@given(thrown.corrected(), st.sampled_from([1, 4, 1000]), st.randoms(use_true_random=False))
def test_voids_and_corrections(case: Thrown, batch: int, dice: random.Random) -> None:
    reconciles(case, batch, dice)


@THROWS
@given(st.one_of(thrown.gauged(voids=True), thrown.segmented(), thrown.metered(), thrown.priced()))
def test_gauges_segments_meters_and_prices(case: Thrown) -> None:
    reconciles(case, 5)


def test_the_equations_are_those_of_the_counts() -> None:
    from streams.processor import Counts

    good = Counts(events=6, accepted=3, duplicates=2, conflicts=1, rated=1, unused=2)
    assert all(left == right for _, left, right in equations(good))
    assert any(left != right for _, left, right in equations(Counts(events=6, accepted=3, duplicates=2)))
    assert any(left != right for _, left, right in equations(Counts(events=3, accepted=3, rated=2)))

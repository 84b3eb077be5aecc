"""The engine against the oracle, for each group of features by itself."""

import random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import thrown, thrown_invoices
from tests.oracle.engine import differences, rate_raw, run_engine
from tests.oracle.generate import Thrown
from tests.oracle.oracle import rate
from tests.oracle.throws import throws

THROWS = throws(25)


def _agree(case: Thrown) -> None:
    found = differences(run_engine(*case, 1000), rate(*case))
    assert not found, "\n".join([*found, "", case.catalogue, *map(str, case.events), f"as of {case.as_of}"])


@THROWS
@given(thrown.priced())
def test_every_price_model(case: Thrown) -> None:
    _agree(case)


@THROWS
@given(thrown.metered())
def test_every_aggregation(case: Thrown) -> None:
    _agree(case)


@THROWS
@given(st.one_of(thrown.gauged(), thrown.gauged(voids=True)))
def test_gauges(case: Thrown) -> None:
    _agree(case)


@THROWS
@given(thrown.corrected())
def test_voids_and_corrections(case: Thrown) -> None:
    _agree(case)


@THROWS
@given(thrown.segmented())
def test_timelines(case: Thrown) -> None:
    _agree(case)


@THROWS
@given(thrown_invoices.settled())
def test_invoices(case: Thrown) -> None:
    _agree(case)


ALL = st.one_of(
    thrown.priced(),
    thrown.metered(),
    thrown.gauged(),
    thrown.corrected(),
    thrown.segmented(),
    thrown.gauged(voids=True),
    thrown_invoices.settled(),
)


@THROWS
@given(ALL, st.randoms(use_true_random=False))
def test_neither_cut_nor_restart_shows(case: Thrown, dice: random.Random) -> None:
    whole = _bytes(rate_raw(*case, 1))
    assert _bytes(rate_raw(*case, 3)) == whole
    assert _bytes(rate_raw(*case, 1000)) == whole
    assert _bytes(rate_raw(*case, 2, lambda: dice.random() < 0.5)) == whole


def _bytes(rated: Any) -> list[bytes]:
    parts = (rated.line_items, rated.invoices, rated.alerts, rated.rejections)
    return [msgspec.json.encode(one) for part in parts for one in part]

"""The audit against the real engine: golden cases, and cases by the dice. No difference, and little left out."""

import os
import tempfile
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.audit.running import audited, record, told
from tests.golden.golden import read_case
from tests.oracle import thrown, thrown_invoices
from tests.oracle.generate import Thrown
from tests.oracle.generate import cases as thrown_cases

MANY = "TAXIMETER_EXAMPLES" in os.environ
THROWS = settings(
    max_examples=int(os.environ.get("TAXIMETER_EXAMPLES", "8")),
    derandomize=not MANY,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
GOLDEN = Path(__file__).resolve().parents[1] / "golden"
FILES = sorted(GOLDEN.glob("*/*.txt"))
SOME = FILES if MANY else [path for _, group in groupby(FILES, lambda path: path.parent) for path in list(group)[:1]]
LEFT_OUT = {"corrections wait for the next invoice"}


@pytest.mark.parametrize("path", SOME, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden_cases(path: Path, tmp_path: Path) -> None:
    case = read_case(path)
    report = audited(record(case.catalogue, case.events, case.as_of), tmp_path)
    assert told(report) == []
    assert {why for _, why in report.not_audited} <= LEFT_OUT
    assert report.line_items >= len(case.expected["line items"])


def agree(case: Thrown) -> None:
    with tempfile.TemporaryDirectory() as folder:
        report = audited(record(case.catalogue, case[1], case.as_of), Path(folder))
    assert not told(report), "\n".join([*told(report), "", case.catalogue, *map(str, case[1]), f"as of {case.as_of}"])


@pytest.mark.slow
@THROWS
@given(st.one_of(thrown.priced(), thrown.metered(), thrown_cases()))
def test_prices_and_aggregations(case: Thrown) -> None:
    agree(case)


@pytest.mark.slow
@THROWS
@given(st.one_of(thrown.gauged(), thrown.gauged(voids=True), thrown.corrected()))
def test_gauges_voids_and_corrections(case: Thrown) -> None:
    agree(case)


@pytest.mark.slow
@THROWS
@given(st.one_of(thrown.segmented(), thrown_invoices.settled()))
def test_timelines_and_invoices(case: Thrown) -> None:
    agree(case)

"""Every golden case, through the engine and through the oracle: hand, oracle and engine must say the same."""

from collections import Counter
from pathlib import Path

import pytest

from tests.golden.golden import as_rows, read_case
from tests.oracle.engine import run_engine
from tests.oracle.oracle import rate

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/*.txt"))
NAMES = [str(path.relative_to(HERE).with_suffix("")) for path in FILES]
AGGREGATIONS = ["count", "sum", "min", "max", "avg", "latest", "unique_count", "time_weighted", "percentile"]
MODELS = ["flat", "unit", "graduated", "volume", "stairstep", "package", "matrix"]
MODELS += ["one_time", "percentage", "graduated_percentage", "dynamic", "schedule"]
AROUND = ["convert", "expressions", "discounts", "versions", "phases", "pauses", "trials", "overrides"]
AROUND += ["voids", "corrections", "seats", "calendars", "invoices", "minimum", "thresholds", "periods"]


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_oracle_agrees_with_the_hand(path: Path) -> None:
    case = read_case(path)
    assert as_rows(rate(case.catalogue, case.events, case.as_of)) == case.expected


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_engine_agrees_with_the_hand(path: Path) -> None:
    case = read_case(path)
    for batch in (1000, 1):
        assert as_rows(run_engine(case.catalogue, case.events, case.as_of, batch)) == case.expected


def test_every_aggregation_and_model_has_six_cases() -> None:
    count = Counter(path.parent.name for path in FILES)
    assert {name: count[name] for name in AGGREGATIONS + MODELS + AROUND if count[name] < 6} == {}

"""Every golden case, through the engine and through the oracle: hand, oracle and engine must say the same."""

from collections import Counter
from pathlib import Path

import msgspec
import pytest

from rating.catalogue import load_catalogue
from taximeter.rate_file import FileRater
from tests.cases.agreement import Tick
from tests.golden.golden import Case, as_rows, read_case
from tests.oracle.calendars import moment
from tests.oracle.engine import Outputs, run_engine
from tests.oracle.oracle import rate

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*/*.txt"))
NAMES = [str(path.relative_to(HERE).with_suffix("")) for path in FILES]
AGGREGATIONS = ["count", "sum", "min", "max", "avg", "latest", "unique_count"]
MODELS = ["flat", "unit", "graduated", "volume", "stairstep", "package", "matrix"]


BY_ORACLE = [path for path in FILES if path.parent.name != "invoices"]  # which it settles by rules of its own


def ticked(case: Case, batch: int) -> Outputs:
    """The engine's outputs where ticks stand among the events."""
    rater, waiting, number = FileRater(load_catalogue(case.catalogue)), list[bytes](), 0
    for one in [*case.events, None]:
        if isinstance(one, str):
            waiting.append(one.encode())
        if waiting and (len(waiting) == batch or not isinstance(one, str)):
            rater.add(waiting, list(range(number + 1, number + len(waiting) + 1)))
            number, waiting = number + len(waiting), []
        if isinstance(one, Tick):
            rater.finish(moment(one.time))
    rated = rater.finish(None if case.as_of is None else moment(case.as_of))
    assert not rated.rejections
    rows: Outputs = msgspec.to_builtins(
        {"line_items": rated.line_items, "invoices": rated.invoices, "alerts": rated.alerts, "rejections": []}
    )
    return rows


@pytest.mark.parametrize("path", BY_ORACLE, ids=lambda path: str(path.relative_to(HERE).with_suffix("")))
def test_oracle_agrees_with_the_hand(path: Path) -> None:
    case = read_case(path)
    assert as_rows(rate(case.catalogue, case.events, case.as_of)) == case.expected


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_engine_agrees_with_the_hand(path: Path) -> None:
    case = read_case(path)
    for batch in (1000, 1):
        if any(isinstance(one, Tick) for one in case.events):
            found = ticked(case, batch)
        else:
            found = run_engine(case.catalogue, case.events, case.as_of, batch)
        assert as_rows(found) == case.expected


def test_every_aggregation_and_model_has_six_cases() -> None:
    count = Counter(path.parent.name for path in FILES)
    assert {name: count[name] for name in AGGREGATIONS + MODELS if count[name] < 6} == {}

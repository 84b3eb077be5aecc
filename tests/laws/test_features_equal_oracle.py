"""The engine against the oracle, for each group of features by itself."""

import os

from hypothesis import HealthCheck, Phase, given, settings

from tests.oracle import thrown
from tests.oracle.engine import differences, run_engine
from tests.oracle.generate import Thrown
from tests.oracle.oracle import rate

THROWS = settings(
    max_examples=int(os.environ.get("TAXIMETER_EXAMPLES", "25")),
    derandomize="TAXIMETER_EXAMPLES" not in os.environ,
    deadline=None,
    phases=list(Phase) if os.environ.get("TAXIMETER_SHRINK") != "no" else [Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _agree(case: Thrown) -> None:
    found = differences(run_engine(*case), rate(*case))
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
@given(thrown.gauged())
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

"""Laws of voids among numbers at the edges: nothing stops the engine, and the cut into batches changes no answer."""

import os
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import rating.engine
import rating.stages
from rating.compiled import TIME_MIN
from tests.oracle import thrown_numbers
from tests.oracle.engine import canonical, run_engine
from tests.oracle.generate import Thrown

THROWS = settings(
    max_examples=int(os.environ.get("TAXIMETER_EXAMPLES", "40")),
    derandomize="TAXIMETER_EXAMPLES" not in os.environ,
    deadline=None,
    phases=list(Phase) if os.environ.get("TAXIMETER_SHRINK") != "no" else [Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True, scope="module")
def always() -> Iterator[None]:
    """The totals are held against the tables in every step: a difference is an error of the rater's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating.engine, "CHECK_EVERY", 2 * TIME_MIN)
        yield


@THROWS
@given(thrown_numbers.hard(), st.integers(2, 9), st.booleans(), st.randoms(use_true_random=False))
def test_the_cut_into_batches_changes_nothing(case: Thrown, batch: int, native: bool, dice: random.Random) -> None:
    one = canonical(run_engine(*case, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating.stages, "is_there", lambda: native)
        assert canonical(run_engine(*case, batch, lambda: dice.random() < 0.3)) == one
        assert canonical(run_engine(*case, 1000)) == one

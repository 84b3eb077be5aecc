"""Laws of voids among numbers at the edges: nothing stops the engine, and the cut into batches changes no answer."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rating.engine
import rating.stages
from tests.oracle import thrown_numbers
from tests.oracle.engine import canonical, run_engine
from tests.oracle.generate import Thrown
from tests.oracle.throws import throws

THROWS = throws(40)


pytestmark = pytest.mark.usefixtures("always_reconciled")


@THROWS
@given(thrown_numbers.hard(), st.integers(2, 9), st.booleans(), st.randoms(use_true_random=False))
def test_the_cut_into_batches_changes_nothing(case: Thrown, batch: int, native: bool, dice: random.Random) -> None:
    one = canonical(run_engine(*case, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating.stages, "is_there", lambda: native)
        assert canonical(run_engine(*case, batch, lambda: dice.random() < 0.3)) == one
        assert canonical(run_engine(*case, 1000)) == one

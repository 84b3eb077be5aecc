"""Memory of a long run: what a step made goes with the step, and what stays does not grow with the events of a period."""

import gc
import random

import pytest

from rating.engine import RatingEngine
from schemas.entry import Entry
from streams.processor import Step
from tests.laws.test_months_on_disk import write
from tests.unit.rating.engines import open_engine


def garbage_of(engine: RatingEngine, entry: Entry) -> tuple[Step, int]:
    """A step of one entry, and how many objects of it only the collector would find."""
    gc.collect()
    gc.freeze()  # what was there before is not looked through each time
    gc.disable()
    try:
        return engine.process([entry]), gc.collect()
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize("seed", range(3))
def test_what_a_step_made_goes_without_the_collector(seed: int) -> None:
    """Hosts make the collector rare: what holds itself would stay for hours, with the columns that it holds."""
    log = write(random.Random(seed), 60).entries
    open_engine().process(log)  # libraries make their tables at first use
    engine, said = open_engine(), 0
    for entry in log:
        step, garbage = garbage_of(engine, entry)
        said += len(step.outputs)
        assert garbage == 0, entry.kind
    assert said

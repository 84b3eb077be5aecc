"""What laws share."""

from collections.abc import Iterator

import pytest

import rating.engine
from rating.compiled import TIME_MIN


@pytest.fixture(scope="module")
def always_reconciled() -> Iterator[None]:
    """The totals are held against the tables in every step: a difference is an error of the rater's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating.engine, "CHECK_EVERY", 2 * TIME_MIN)
        yield

"""Durations: how long something took, counted into buckets, as Prometheus reads them."""

from bisect import bisect_left
from itertools import accumulate
from typing import Final

BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, float("inf"))
"""Seconds; each is the greatest that its bucket holds."""


class Durations:
    """Written by one thread, read by any."""

    def __init__(self) -> None:
        self.sum = 0.0
        self._counts = [0] * len(BOUNDS)

    def note(self, seconds: float) -> None:
        """One more."""
        self._counts[bisect_left(BOUNDS, seconds)] += 1
        self.sum += seconds

    @property
    def counts(self) -> dict[float, int]:
        """How many took at most so long; the last bound is infinite."""
        return dict(zip(BOUNDS, accumulate(self._counts), strict=True))

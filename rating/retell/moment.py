"""Two times of a question, kept apart: when usage was (`as_of`), and when it was known (`known_at`)."""

from typing import NamedTuple


class Moment(NamedTuple):
    """Which of the kept inputs a question is about. Microseconds since the epoch; None: no bound.

    `as_of`: usage whose own time is before it, whenever it arrived; the clock stands at it. `known_at`: what had
    arrived by then, it included: usage, voids, re-ratings, catalogues and ticks.
    """

    as_of: int | None = None
    known_at: int | None = None

    @property
    def past(self) -> bool:
        """Whether anything is left out."""
        return self.as_of is not None or self.known_at is not None


NOW = Moment()

"""unique_count: how many different values. Exact: every value seen is held, as 128 bits.

Parts cannot be merged from the counts alone, nor a value taken back.
"""

from typing import ClassVar

from rating.aggregates.aggregate import Aggregate


class UniqueCount(Aggregate):
    """The first event of a cell with a value brings 1, every later one nothing."""

    name: ClassVar[str] = "unique_count"
    description: ClassVar[str] = "how many different values"
    reads: ClassVar[str] = "text"
    mergeable: ClassVar[bool] = False
    rising: ClassVar[bool] = True

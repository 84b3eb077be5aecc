"""count: how many events. Parts can be merged, an event can be taken back."""

from typing import ClassVar

from rating.aggregates.aggregate import Aggregate


class Count(Aggregate):
    """Each event brings 1."""

    name: ClassVar[str] = "count"
    description: ClassVar[str] = "how many events"
    reads: ClassVar[str] = "nothing"
    retractable: ClassVar[bool] = True
    rising: ClassVar[bool] = True

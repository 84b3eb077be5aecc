"""sum: the values added up, exactly; a value below nought is a correction. Parts can be merged, a value taken back."""

from typing import ClassVar

from rating.aggregates.aggregate import Aggregate


class Sum(Aggregate):
    """Each event brings its value."""

    name: ClassVar[str] = "sum"
    description: ClassVar[str] = "the values added up"
    retractable: ClassVar[bool] = True
    rising: ClassVar[bool] = True

"""What a reader of the line items has in hand: the last revision of each line, held against what it should come to."""

from collections.abc import Callable, Sequence

import msgspec

from benchmarks.expected import Cost, summed
from schemas import topics
from streams.processor import Output


class Wrong(Exception):
    """The lines do not come to what the events cost."""


class Line(msgspec.Struct):
    """What is read of a line item."""

    customer: str
    charge: str
    amount: str
    events: int


class Book:
    """The last revision of each line item, as a reader of the topic keeps them."""

    def __init__(self) -> None:
        self._last: dict[bytes, bytes] = {}

    def add(self, outputs: Sequence[Output]) -> None:
        """Takes what a step says."""
        self._last.update((output.key, output.value) for output in outputs if output.topic == topics.LINE_ITEMS)

    def check(self, right: dict[str, Cost], counts: Callable[[str], bool] = lambda _: True) -> None:
        """Holds all lines against what they should come to by charge; `counts`: the customers that `right` speaks of.

        Raises: Wrong."""
        decode = msgspec.json.Decoder(Line).decode
        lines = (line for line in map(decode, self._last.values()) if counts(line.customer))
        found = summed((line.charge, line.events, line.amount) for line in lines)
        if found != right:
            charges = sorted(charge for charge in found.keys() | right.keys() if found.get(charge) != right.get(charge))
            raise Wrong("\n".join(f"{c}: found {found.get(c)}, expected {right.get(c)}" for c in charges))

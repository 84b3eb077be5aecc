"""A customer's billing periods in an engine's state: which are open, what their lines are, when something is due."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rating.compiled import TIME_MAX
from rating.exact import int_of
from rating.naming import Naming
from rating.state import State


class LineNow(NamedTuple):
    """What one line has come to (scaled)."""

    line: int
    charge: str
    dimensions: dict[str, str | None]
    quantity: int
    amount: int
    usage: bool
    """Whether usage makes it, and not the period itself."""


def heads_of(state: State, number: int | None) -> list[int]:
    """The first segments of all of a customer's periods, by end and then by subscription: the order of invoices."""
    if number is None:
        return []
    bills, size = state.bills, state.bills.size
    owner = state.subscriptions["customer"][bills["subscription"][:size]]
    return state.in_order(np.flatnonzero((owner == number) & (bills["head"][:size] == np.arange(size))).tolist())


def open_heads(state: State, number: int | None) -> list[int]:
    """Those of the periods that are not closed."""
    return [head for head in heads_of(state, number) if not state.bills["closed"][head]]


def next_due(state: State, number: int, lateness: int) -> int | None:
    """When the clock changes something for a customer next: a period begins, or is closed. None: never."""
    table = state.subscriptions
    mine = np.flatnonzero(table["customer"][: table.size] == number)
    begins = [int(at) for at in table["cursor"][mine] if at < TIME_MAX - 1]
    ends = [int(state.bills["until"][head]) + lateness for head in open_heads(state, number)]
    return min([*begins, *ends], default=None)


def lines_of(state: State, head: int) -> Iterator[LineNow]:
    """The lines of a period that come to anything, in the order in which they were made."""
    naming = Naming(state)
    for line in state.period_lines(head):
        quantity, amount = int_of(state.lines["quantity"][line]), int_of(state.lines["amount"][line])
        if quantity or amount:
            charge = state.charges.values[state.lines["charge"][line]]
            usage = bool(state.cells_of(line))
            yield LineNow(line, charge, naming.dimensions(line), quantity, amount, usage)


def rate_of(state: State, line: int) -> Any:
    """The rate of a line of usage; None for a flat charge, and for a charge that is gone."""
    number = int(state.lines["rate"][line])
    return state.catalogue.rates[number] if number >= 0 else None

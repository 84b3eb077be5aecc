"""Names: what bills and lines are called outside. An output's identity follows from what it means, and nothing else."""

from rating.compiled import Plan
from rating.state import State
from schemas.identity import output_id
from schemas.output import Span
from schemas.times import format_time


class Naming:
    """What a partition's bills and lines are called."""

    def __init__(self, state: State) -> None:
        self.state = state

    def who(self, bill: int) -> tuple[Plan, str, str, str]:
        """(plan, tenant, customer, subscription) of a bill."""
        tenant, subscription, customer, _ = self.state.name_of(bill)
        return self.state.plan_of(bill), tenant, customer, subscription

    def span(self, bill: int) -> Span:
        """The stretch of time of a segment."""
        return Span(format_time(int(self.state.bills["start"][bill])), format_time(int(self.state.bills["end"][bill])))

    def period(self, head: int) -> Span:
        """The whole billed period."""
        bills = self.state.bills
        return Span(format_time(int(bills["since"][head])), format_time(int(bills["until"][head])))

    def dimensions(self, line: int) -> dict[str, str | None]:
        """The `group_by` values of a line, by name."""
        state = self.state
        rate = int(state.lines["rate"][line])
        names = state.catalogue.rates[rate].group_by if rate >= 0 else ()
        values = state.combos.values[state.lines["combo"][line]]
        return dict(zip(names, values or [None] * len(names), strict=False))

    def line_id(self, line: int) -> str:
        """The identity of a line item: what it means, and nothing else."""
        state = self.state
        bill = int(state.lines["bill"][line])
        _, tenant, customer, subscription = self.who(bill)
        start = format_time(int(state.bills["start"][bill]))
        charge = state.charges.values[state.lines["charge"][line]]
        return output_id("li", tenant, customer, subscription, start, charge, *dimension_parts(self.dimensions(line)))


def dimension_parts(dimensions: dict[str, str | None]) -> list[str]:
    """The parts of a line's identity that say its group: an absent value is none of all texts."""
    parts: list[str] = []
    for name, value in dimensions.items():
        parts.extend((name, "0") if value is None else (name, "1", value))
    return parts


def sized(*parts: str) -> bytes:
    """What `schemas.identity.digest` takes the hash of, for identities that share their first or last parts."""
    raw = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4, "little") + part for part in raw)

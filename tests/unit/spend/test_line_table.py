"""The index is what a dictionary of line items would be."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import msgspec
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.spend.decode import Staged, stage
from rating.spend.index import SpendIndex
from schemas import topics
from schemas.numbers import SCALED_MAX, format_scaled
from tests.spend.records import Log, line

CUSTOMERS = ["", "a", "bé"]


class Said(NamedTuple):
    """A revision of a line item."""

    number: int
    revision: int
    amount: int
    events: int
    last: str | None

    @property
    def customer(self) -> str:
        return CUSTOMERS[self.number % len(CUSTOMERS)]

    @property
    def id(self) -> str:
        """Of the engine's form, nearly of it, and of any other."""
        return [f"li_{self.number:032x}", f"li_{self.number:031x}X", f"{self.number}"][self.number % 4 % 3]


AMOUNTS = st.sampled_from([0, 1, -1, 2**63, -(2**63) - 1, 2**64, SCALED_MAX, -SCALED_MAX])
LAST = st.sampled_from([None, "1970-01-01T00:00:00Z", "2026-11-02T00:00:00Z"])
SAYS = st.builds(Said, st.integers(0, 40), st.integers(1, 4), AMOUNTS, st.integers(0, 10**17), LAST)


@settings(deadline=None)
@given(st.lists(st.lists(SAYS, min_size=1, max_size=30), max_size=6))
def test_of_each_line_item_the_highest_revision_stays(batches: list[list[Said]]) -> None:
    index, newest = SpendIndex(), dict[int, Said]()
    index.whole = True
    for batch in batches:
        log = Log()
        for said in batch:
            if said.number not in newest or newest[said.number].revision < said.revision:
                newest[said.number] = said
            log.append(topics.LINE_ITEMS, _line(said))
        index.take(stage(log.records))
        for customer in CUSTOMERS:
            account = index.get(("default", customer))
            assert account is not None
            own = [said for said in newest.values() if said.customer == customer]
            found = [(one.charge, one.amount, one.events, one.last_event) for one in account.read().lines]
            assert sorted(found, key=str) == sorted((_shown(said) for said in own if said.amount), key=str)
            assert len(account) == len(own)


def _line(said: Said) -> msgspec.Struct:
    return line(
        said.id,
        said.revision,
        customer=said.customer,
        charge=f"charge-{said.number}",
        quantity="0",
        amount=format_scaled(said.amount),
        events=said.events,
        last_event=said.last,
    )


def _read(staged: Staged, name: str, _: Sequence[str]) -> list[pa.Table]:
    return [staged[name]] if name in staged else []


def _shown(said: Said) -> tuple[str, int, int, int | None]:
    last = {None: None, "1970-01-01T00:00:00Z": 0, "2026-11-02T00:00:00Z": 1_793_577_600_000_000}[said.last]
    return f"charge-{said.number}", said.amount, said.events, last


@settings(deadline=None)
@given(st.lists(st.tuples(SAYS, st.booleans()), max_size=60), st.integers(2_000, 12_000))
def test_who_is_let_go_and_read_again_has_all_of_it(story: list[tuple[Said, bool]], room: int) -> None:
    """Rows of the table go from one customer to another; who holds an account keeps what it was."""
    index, kept, newest = SpendIndex(bytes_max=room), Log(), dict[int, Said]()
    for said, asks in story:
        log = Log()
        log.append(topics.LINE_ITEMS, _line(said))
        kept.records += log.records
        if said.number not in newest or newest[said.number].revision < said.revision:
            newest[said.number] = said
        index.take(stage(log.records))
        if asks:
            lines = stage([one for one in kept.records if f'"customer":"{said.customer}"'.encode() in one.value])
            account = index.load(("default", said.customer), partial(_read, lines))
            mine = sorted(_shown(s) for s in newest.values() if s.customer == said.customer and s.amount)
            seen = [(one.charge, one.amount, one.events, one.last_event) for one in account.read().lines]
            assert sorted(seen, key=str) == sorted(mine, key=str)
            index.bytes_max = 0
            index._keep_bound()
            index.bytes_max = room
            assert len(index) == 0 and index.nbytes <= room
            again = [(one.charge, one.amount, one.events, one.last_event) for one in account.read().lines]
            assert again == seen

"""The journal's sums: what steps say of themselves must be what they add up to, from wherever the reading begins."""

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.journal import REPAIR, Batch, Done, Open, Record
from streams.processor import Counts, Summary
from streams.sums import Sums


@dataclass
class Writer:
    """Writes a journal as an engine would: each step of some events."""

    through: Counts = field(default_factory=Counts)
    position: int = 0
    epoch: int = 1

    def step(self, events: int, duplicates: int = 0, amount: int = 0) -> Batch:
        accepted = events - duplicates
        done = Counts(1, events, accepted, duplicates, rated=accepted, line_items=1, amount=str(amount))
        self.through = self.through.plus(done.carried())
        start, self.position = self.position, self.position + max(events, 1)
        summary = Summary(**msgspec.structs.asdict(done), through=self.through)
        return Batch(self.epoch, start, self.position, summary)


def journal(steps: list[tuple[int, int]]) -> list[Record]:
    writer = Writer()
    records: list[Record] = [Open(1, "a")]
    for events, amount in steps:
        batch = writer.step(events, events // 3, amount)
        records += [batch, Done(1, batch.end)]
    return records


STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(-(10**30), 10**30)), min_size=1, max_size=12)


@given(STEPS, st.integers(0, 30))
def test_a_journal_without_its_beginning_comes_to_the_same(steps: list[tuple[int, int]], cut: int) -> None:
    records = journal(steps)
    whole, rest = Sums.of(records), Sums.of(records[cut:])
    assert whole.wrong is None and whole.claims and whole.begun == 0
    assert whole.counts.amount == str(sum(amount for _, amount in steps))
    if rest.begun >= 0:
        assert (rest.counts, rest.position, rest.wrong) == (whole.counts, whole.position, None)
        assert rest.base.plus(rest.counts.minus(rest.base)) == whole.counts


@given(STEPS)
def test_folding_some_of_it_again_changes_nothing(steps: list[tuple[int, int]]) -> None:
    batches = [record for record in journal(steps) if isinstance(record, Batch)]
    sums = Sums.of(batches)
    for batch in batches:
        assert sums.add(batch) == sums


@pytest.mark.parametrize(
    "change",
    [{"accepted": 2}, {"duplicates": 5}, {"amount": "8"}, {"rated": 1}, {"events": 9, "duplicates": 5}],
    ids=str,
)
def test_a_step_that_says_something_else_is_found(change: dict[str, object]) -> None:
    records = journal([(4, 5), (4, 6), (4, 7)])
    batch = records[3]
    assert isinstance(batch, Batch)
    records[3] = msgspec.structs.replace(batch, summary=msgspec.structs.replace(batch.summary, **change))
    wrong = Sums.of(records).wrong
    assert wrong is not None and wrong.position == 8
    assert wrong.expected != wrong.found and str(wrong.found) in str(wrong)


def test_a_missing_step_is_found() -> None:
    records = journal([(4, 5), (4, 6), (4, 7)])
    wrong = Sums.of(records[:3] + records[5:]).wrong
    assert wrong is not None and (wrong.what, wrong.expected, wrong.found) == ("the beginning of a step", "4", "8")


def test_a_claim_that_does_not_hold_its_equations_is_found() -> None:
    claimed = Counts(entries=1, events=3, accepted=3, rated=2)
    wrong = Sums().add(Batch(1, 0, 3, Summary(**msgspec.structs.asdict(claimed), through=claimed))).wrong
    assert wrong is not None and "rated" in wrong.what


def test_what_a_fenced_owner_wrote_does_not_count() -> None:
    first, second = Writer(), Writer(epoch=2)
    records = [Open(1, "a"), Open(2, "b"), second.step(4), first.step(9)]
    assert Sums.of(records).counts.events == 4


def test_a_processor_without_totals_is_added_up_and_not_compared() -> None:
    sums = Sums().add(Batch(1, 0, 3, Summary(entries=1, events=3)))
    assert (sums.claims, sums.wrong, sums.counts.events) == (False, None, 3)


@given(STEPS, STEPS)
def test_after_a_repair_the_sums_begin_anew(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    writer = Writer()
    steps = [writer.step(events, 0, amount) for events, amount in [*before, *after]]
    lost = len(before) - 1  # a step whose record cannot be read
    damaged = [*steps[:lost], *steps[len(before) :]]
    assert (Sums.of(damaged).wrong is None) == (lost == 0)
    later = [msgspec.structs.replace(step, epoch=4) for step in steps[len(before) :]]
    repaired = Sums.of([*steps[:lost], Open(2, f"{REPAIR}7"), Open(3, f"{REPAIR}7"), Open(4, "a"), *later])
    assert repaired.wrong is None and repaired.claims
    assert repaired.counts == Sums.of(steps).counts

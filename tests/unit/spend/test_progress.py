"""How far the outputs that have been read reach into the source."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.spend.progress import PENDING_MAX, Progress
from streams.journal import Batch, Done, Open, Record
from streams.processor import Summary

LINES, BILLS = "taximeter.line-items", "taximeter.invoices"


def read(lines: int, bills: int = 0) -> dict[str, int]:
    return {LINES: lines, BILLS: bills}


def test_done_counts_once_its_outputs_are_read() -> None:
    progress = Progress().fold([Open(1, "a"), Done(1, 10, {LINES: 3})])
    assert progress.settle(read(2)).through == 0
    assert progress.settle(read(3)).through == 10


def test_done_without_outputs_waits_for_those_before_it() -> None:
    progress = Progress().fold([Done(1, 10, {LINES: 3}), Done(1, 20)])
    assert progress.settle(read(0)).through == 0
    assert progress.settle(read(3)).through == 20


def test_done_waits_for_every_topic() -> None:
    progress = Progress().fold([Done(1, 10, {LINES: 3, BILLS: 1})])
    assert progress.settle(read(9, 0)).through == 0
    assert progress.settle(read(3, 1)).through == 10


def test_done_does_not_wait_for_topics_that_nobody_reads() -> None:
    assert Progress().fold([Done(1, 10, {"taximeter.other": 5})]).settle(read(0)).through == 10


def test_an_owner_whose_epoch_is_over_says_nothing() -> None:
    records: list[Record] = [Open(1, "a"), Done(1, 10), Open(2, "b"), Done(1, 99), Done(2, 20)]
    assert Progress().fold(records).settle(read(0)).through == 20
    assert Progress().fold(records[:4]).settle(read(0)).through == 10


def test_batches_say_nothing_of_outputs() -> None:
    progress = Progress().fold([Batch(1, 0, 10, Summary())])
    assert (progress.through, progress.pending, progress.done) == (0, (), 0)


def test_a_journal_that_has_lost_its_beginning_is_read_too() -> None:
    assert Progress().fold([Done(7, 90)]).settle(read(0)).through == 90


def test_through_does_not_go_back() -> None:
    progress = Progress().fold([Done(1, 10)]).settle(read(0))
    assert progress.fold([Done(1, 5), Open(2, "b"), Done(2, 10)]).settle(read(0)).through == 10


def test_thousands_that_wait_become_few_and_never_come_early() -> None:
    progress = Progress()
    for number in range(1, 5001):
        progress = progress.fold([Done(1, number, {LINES: number})])
    assert len(progress.pending) <= PENDING_MAX
    for lines in (0, 1, 1700, 4999):
        assert progress.settle(read(lines)).through <= lines
    assert progress.settle(read(5000)).through == 5000
    assert progress.settle(read(4000)).through >= 3900


FEW = st.integers(0, 3)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 5), FEW, FEW), max_size=30), st.lists(st.tuples(FEW, FEW, FEW), max_size=60))
def test_any_order_of_reading_ends_the_same_and_is_never_early(
    steps: list[tuple[int, int, int]], reads: list[tuple[int, int, int]]
) -> None:
    """A step takes some entries in and puts some outputs out; journal and outputs are read in any interleaving, and
    what is left of them at last."""
    records, needs, end, lines, bills = [], {0: (0, 0)}, 0, 0, 0
    for entries, more_lines, more_bills in steps:
        end, lines, bills = end + entries, lines + more_lines, bills + more_bills
        emitted = {t: n for t, n, more in ((LINES, lines, more_lines), (BILLS, bills, more_bills)) if more}
        records.append(Done(1, end, emitted))
        needs[end] = lines, bills
    progress, at, seen_lines, seen_bills = Progress(), 0, 0, 0
    for count, more_lines, more_bills in [*reads, (len(records), lines, bills)]:
        progress = progress.fold(records[max(0, at - 1) : at + count])
        at = min(len(records), at + count)
        seen_lines, seen_bills = min(lines, seen_lines + more_lines), min(bills, seen_bills + more_bills)
        progress = progress.settle(read(seen_lines, seen_bills))
        assert needs[progress.through][0] <= seen_lines and needs[progress.through][1] <= seen_bills
        again = msgspec.json.decode(msgspec.json.encode(progress), type=Progress)
        assert again == progress
    assert progress.through == end

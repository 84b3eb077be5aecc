"""Laws of a damaged journal: the source that it spoke of is known, and nothing is called done that was not."""

import random

import pytest

from streams.journal import Batch, Done, Journal, JournalError, Open, Record
from streams.mending import Cut, Damage, Item, Mended, mend
from streams.processor import Summary


def history(seed: int, steps: int, zombies: bool) -> list[Record]:
    """What owners write, one after the other; some end between a batch and its `Done`, some write on when over."""
    chance = random.Random(seed)
    records: list[Record] = []
    journal = Journal()
    for _ in range(steps):
        old_epoch, old_position = journal.epoch, journal.position
        write(records, journal, Open(journal.epoch + 1, f"w{journal.epoch}"))
        if zombies and old_epoch and chance.random() < 0.5:
            write(records, journal, Batch(old_epoch, old_position, old_position + 7, Summary(entries=7)))
        if journal.pending:
            write(records, journal, Done(journal.epoch, journal.position))
        for _ in range(chance.randrange(4)):
            end = journal.position + chance.randrange(1, 5)
            write(records, journal, Batch(journal.epoch, journal.position, end, Summary(entries=end)))
            if chance.random() < 0.8:
                write(records, journal, Done(journal.epoch, journal.position))
            else:
                break
    return records


def write(records: list[Record], journal: Journal, record: Record) -> None:
    records.append(record)
    journal.apply(record)


def fold(records: list[Record]) -> Journal:
    journal = Journal()
    for record in records:
        journal.apply(record)
    return journal


def damaged(records: list[Record], lost: set[int]) -> list[Item]:
    return [(n, Damage(n, "") if n in lost else record) for n, record in enumerate(records)]


def check(mended: Mended, records: list[Record]) -> None:
    """What must hold whatever is lost."""
    truth = fold(records)
    done = max((record.end for record in records if isinstance(record, Done)), default=0)
    position = 0
    for cut in mended.cuts:
        assert cut.start == position < cut.end
        position = cut.end
        assert not cut.done or cut.end <= done, "called done, and may never have been emitted"
    assert mended.position == position
    assert mended.epoch > truth.epoch


@pytest.mark.parametrize("zombies", [False, True])
def test_whatever_is_lost_the_source_is_covered_without_a_gap_and_nothing_is_done_that_was_not(zombies: bool) -> None:
    mended_to_the_end = 0
    for seed in range(3000):
        records = history(seed, 4, zombies)
        chance = random.Random(-seed)
        lost = set(chance.sample(range(len(records)), min(chance.randrange(4), len(records))))
        mended = mend(damaged(records, lost), 0, 0)
        check(mended, records)
        truth = fold(records)
        if not zombies:
            assert mended.position <= truth.position
        if not mended.tail and not zombies:
            assert mended.position == truth.position
            mended_to_the_end += bool(lost)
        if not lost:
            assert all(cut.summary is not None for cut in mended.cuts)
    assert zombies or mended_to_the_end > 1000


def test_a_lost_batch_between_two_has_its_cut_and_its_done_makes_it_done() -> None:
    records = [Open(1, "a"), Batch(1, 0, 5, Summary()), Done(1, 5), Batch(1, 5, 9, Summary()), Done(1, 9),
               Batch(1, 9, 12, Summary())]  # fmt: skip
    assert mend(damaged(records, {3}), 0, 0).cuts[1] == Cut(5, 9, None, True)
    assert mend(damaged(records, {3, 4}), 0, 0).cuts[1] == Cut(5, 9, None, False)
    assert mend(damaged(records, {5}), 0, 0) == Mended(mend(damaged(records[:5], set()), 0, 0).cuts, 9, 3, 1)


def test_behind_a_lost_open_what_two_owners_worked_in_is_covered_once() -> None:
    records = [Open(1, "a"), Batch(1, 0, 5, Summary()), Done(1, 5), Open(2, "b"), Batch(1, 5, 8, Summary()),
               Batch(2, 5, 6, Summary())]  # fmt: skip
    found = mend(damaged(records, {3}), 0, 0)
    assert [(cut.start, cut.end, cut.done) for cut in found.cuts] == [(0, 5, True), (5, 8, False)]
    further = [*records, Done(2, 6), Batch(2, 6, 10, Summary()), Done(2, 10)]
    found = mend(damaged(further, {3}), 0, 0)
    assert [(cut.start, cut.end, cut.done) for cut in found.cuts] == [(0, 5, True), (5, 8, True), (8, 10, True)]
    assert found.epoch > 2


def test_an_epoch_is_above_all_that_may_have_been_opened() -> None:
    records: list[Record] = [Open(1, "a"), Open(2, "b"), Open(3, "c")]
    assert mend(damaged(records, {1, 2}), 0, 0).epoch > 3


def test_a_gap_that_no_damage_explains_is_refused() -> None:
    with pytest.raises(JournalError, match="nothing is damaged"):
        mend([(0, Open(1, "a")), (1, Batch(1, 5, 9, Summary()))], 0, 0)
    with pytest.raises(JournalError, match="never opened"):
        mend([(0, Batch(1, 0, 9, Summary()))], 0, 0)


def test_without_its_beginning_the_journal_says_up_to_where_the_source_was_worked_in() -> None:
    found = mend([(7, Batch(3, 40, 50, Summary())), (8, Done(3, 50))], 0, 0, begins_later=True)
    assert found.cuts == [Cut(0, 40, None, True, one_step=False), Cut(40, 50, Summary(), True)]
    assert found.epoch == 4

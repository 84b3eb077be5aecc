"""The spend store reads the journal to know how far it is: damage there makes it say so later, never earlier."""

import pytest

from rating.spend.decode import journal_records
from rating.spend.progress import Progress
from rating.spend.store import StoreError
from schemas.topics import JOURNAL
from streams.journal import Done, Open, Record, encode_record
from streams.log import TopicRecord


def stored(records: list[Record], damaged: int) -> list[TopicRecord]:
    values = [encode_record(record) for record in records]
    values[damaged] = values[damaged][:-1] + bytes((values[damaged][-1] ^ 1,))
    return [TopicRecord(JOURNAL, 0, at, at + 1, b"", value) for at, value in enumerate(values)]


@pytest.mark.parametrize("damaged", range(5))
def test_a_damaged_record_is_passed_over_and_nothing_is_said_too_early(damaged: int) -> None:
    records: list[Record] = [Open(1, "a"), Done(1, 10), Open(2, "b"), Done(2, 20), Done(2, 30)]
    for read in range(len(records) + 1):
        truth = Progress().fold(records[:read]).settle({}).through
        found = Progress().fold(journal_records(stored(records, damaged)[:read])).settle({}).through
        assert found <= truth
    assert (found == truth) == (damaged != 4)


def test_an_epoch_whose_opening_is_damaged_still_ends_the_one_before() -> None:
    records: list[Record] = [Open(1, "a"), Open(2, "b"), Done(2, 20), Done(1, 99)]
    assert Progress().fold(journal_records(stored(records, 1))).settle({}).through == 20


def test_a_record_that_nobody_wrote_stops_the_store() -> None:
    with pytest.raises(StoreError, match=r"taximeter\.journal, partition 0, offset 7"):
        journal_records([TopicRecord(JOURNAL, 0, 7, 8, b"", b'{"type": "closed"}')])

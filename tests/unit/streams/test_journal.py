"""Laws of the journal's rule: who reads it comes to the same state, whatever a stopped owner wrote late."""

import zlib
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.journal import (
    Batch,
    Done,
    Journal,
    JournalError,
    Open,
    Place,
    Record,
    RecordDamaged,
    Verdict,
    decode_record,
    encode_record,
)
from streams.processor import Summary


def fold(records: Iterable[Record]) -> tuple[Journal, list[Batch]]:
    """The journal after the records, and the batches that counted."""
    journal = Journal()
    counted = []
    for record in records:
        if journal.apply(record) is Verdict.APPLIED and isinstance(record, Batch):
            counted.append(record)
    return journal, counted


def state(journal: Journal) -> tuple[int, str, int, list[Batch], dict[str, int]]:
    return journal.epoch, journal.writer, journal.position, journal.pending, journal.emitted


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """What owners write who never meet: each epoch goes on where the one before stopped, at any of its steps."""
    records: list[Record] = []
    position = 0
    for epoch in range(1, draw(st.integers(1, 4)) + 1):
        records.append(Open(epoch, f"w{epoch}"))
        for _ in range(draw(st.integers(0, 4))):
            end = position + draw(st.integers(1, 5))
            records.append(Batch(epoch, position, end, Summary(entries=end - position)))
            position = end
            if draw(st.booleans()):
                records.append(Done(epoch, end, {"lines": end}))
    return records


@st.composite
def histories_with_zombies(draw: st.DrawFn) -> tuple[list[Record], list[Record]]:
    """A history, and the same with records of earlier epochs strewn in behind the barrier that ended them."""
    clean = draw(histories())
    strewn = list(clean)
    for _ in range(draw(st.integers(0, 8))):
        place = draw(st.integers(1, len(strewn)))
        epoch = max((record.epoch for record in strewn[:place] if isinstance(record, Open)), default=0)
        late_epoch = draw(st.integers(0, epoch - 1)) if epoch else 0
        start = draw(st.integers(0, 40))
        late: Record = draw(
            st.sampled_from(
                [
                    Batch(late_epoch, start, start + draw(st.integers(1, 9)), Summary()),
                    Done(late_epoch, start, {"lines": 999}),
                    Open(late_epoch, "zombie"),
                ]
            )
        )
        strewn.insert(place, late)
    return clean, strewn


@given(histories_with_zombies())
def test_late_records_of_a_stopped_owner_change_nothing(pair: tuple[list[Record], list[Record]]) -> None:
    clean, strewn = pair
    assert state(fold(strewn)[0]) == state(fold(clean)[0])
    assert fold(strewn)[1] == fold(clean)[1]


@given(histories(), st.data())
def test_a_record_twice_changes_nothing(records: list[Record], data: st.DataObject) -> None:
    doubled = []
    for record in records:
        doubled += [record] * data.draw(st.integers(1, 3))
    assert state(fold(doubled)[0]) == state(fold(records)[0])
    assert fold(doubled)[1] == fold(records)[1]


@given(histories())
def test_the_batches_that_count_cover_the_source_without_gap_or_overlap(records: list[Record]) -> None:
    journal, counted = fold(records)
    ends = [0, *(batch.end for batch in counted)]
    assert [batch.start for batch in counted] == ends[:-1]
    assert journal.position == ends[-1]
    assert journal.pending == [batch for batch in counted if batch in journal.pending], "pending is a part, in order"


@given(histories(), st.data())
def test_going_on_from_a_snapshot_is_going_on(records: list[Record], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(records)))
    before, _ = fold(records[:cut])
    after = Journal(before.epoch, before.writer, before.position)
    after.pending = list(before.pending)
    for record in records[cut:]:
        after.apply(record)
    whole, _ = fold(records)
    assert (after.epoch, after.writer, after.position, after.pending) == state(whole)[:4]


@given(histories(), st.integers(1, 5), st.integers(1, 5))
def test_a_gap_stops(records: list[Record], gap: int, length: int) -> None:
    journal, _ = fold(records)
    start = journal.position + gap
    with pytest.raises(JournalError, match=f"expected one from {journal.position}"):
        journal.apply(Batch(journal.epoch, start, start + length, Summary()))


def test_of_two_writers_in_one_epoch_the_first_has_it() -> None:
    journal = Journal()
    assert journal.apply(Open(1, "a")) is Verdict.APPLIED
    assert journal.apply(Open(1, "b")) is Verdict.FENCED
    assert journal.writer == "a"


def test_a_record_of_an_epoch_that_nobody_opened_stops() -> None:
    journal, _ = fold([Open(1, "a")])
    with pytest.raises(JournalError, match="epoch 2 while epoch 1"):
        journal.apply(Batch(2, 0, 5, Summary()))


@given(histories())
def test_records_survive_the_wire(records: list[Record]) -> None:
    assert [decode_record(encode_record(record)) for record in records] == records


@given(histories())
def test_records_of_the_first_format_are_still_read(records: list[Record]) -> None:
    assert [decode_record(msgspec.json.encode(record)) for record in records] == records


@given(histories(), st.data())
def test_a_record_with_a_changed_bit_is_damaged_wherever_the_bit_is(records: list[Record], data: st.DataObject) -> None:
    value = bytearray(encode_record(data.draw(st.sampled_from(records or [Open(1, "a")]))))
    bit = data.draw(st.integers(0, 8 * len(value) - 1))
    value[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RecordDamaged, match=r"taximeter\.journal/3, offset 77: found .*, expected"):
        decode_record(bytes(value), Place("taximeter.journal", 3, 77))


@given(histories(), st.data())
def test_a_record_that_was_cut_off_is_damaged(records: list[Record], data: st.DataObject) -> None:
    value = encode_record(data.draw(st.sampled_from(records or [Open(1, "a")])))
    with pytest.raises(RecordDamaged):
        decode_record(value[: data.draw(st.integers(0, len(value) - 1))])


def test_a_whole_record_of_a_newer_format_is_refused_by_its_version() -> None:
    body = b"whatever a later version writes"
    value = b"\x02" + zlib.crc32(body, zlib.crc32(b"\x02")).to_bytes(4, "big") + body
    with pytest.raises(JournalError, match="format version 2, this program reads up to 1") as refused:
        decode_record(value)
    assert not isinstance(refused.value, RecordDamaged)

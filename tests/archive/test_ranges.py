"""What names of files say of the log: order, overlaps, gaps."""

from hypothesis import given
from hypothesis import strategies as st

from rating.archive.ranges import Cut, coverage, cut_of


def test_a_name_is_its_cut() -> None:
    cut = Cut(3, 120, 4096)
    assert cut_of(f"events/day=2026-11-01/{cut.name}") == cut
    assert cut_of("events/day=2026-11-01/notes.parquet") is None
    assert cut_of(f"entries/{cut.name}.77.tmp") is None


def test_a_cut_within_another_is_not_read() -> None:
    found = coverage([Cut(0, 0, 10), Cut(0, 2, 5), Cut(0, 10, 12)])[0]
    assert (found.begin, found.end, found.gaps) == (0, 12, ())
    assert [(part.cut, part.first, part.end) for part in found.parts] == [
        (Cut(0, 0, 10), 0, 10), (Cut(0, 10, 12), 10, 12),
    ]  # fmt: skip


def test_overlaps_are_read_once_and_gaps_are_named() -> None:
    found = coverage([Cut(1, 5, 9), Cut(1, 7, 20), Cut(1, 30, 31)])[1]
    assert [(part.first, part.end) for part in found.parts] == [(5, 9), (9, 20), (30, 31)]
    assert (found.begin, found.end, found.gaps) == (5, 31, ((20, 30),))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=1))
def test_each_offset_is_read_once_and_none_is_lost(spans: list[tuple[int, int]]) -> None:
    cuts = [Cut(0, first, first + size) for first, size in spans]
    found = coverage(cuts)[0]
    read = [offset for part in found.parts for offset in range(part.first, part.end)]
    assert read == sorted({offset for cut in cuts for offset in range(cut.first, cut.end)})
    assert all(part.cut.first <= part.first < part.end <= part.cut.end for part in found.parts)
    missing = {offset for first, end in found.gaps for offset in range(first, end)}
    assert sorted([*read, *missing]) == list(range(found.begin, found.end))

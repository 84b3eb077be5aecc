"""Room for what grows: what is held stays, what is new is nought, and what is large does not move."""

import numpy as np
import pytest

from rating import room
from rating.index import HashIndex
from rating.room import longer, noughts
from rating.table import Table

LARGE = 1 << 19  # int64: the 4 MiB from which on there is much more room than was asked for


def test_what_is_large_gets_more_room_and_does_not_move_within_it() -> None:
    column = noughts(LARGE, np.int64)
    column[:LARGE] = np.arange(LARGE)
    assert longer(column, 2 * LARGE, LARGE) is column
    assert not column[LARGE:].any() and len(noughts(16, np.int64)) == 16
    further = longer(column, len(column) + 1, LARGE)
    assert further is not column and len(further) > 2 * len(column)
    assert (further[:LARGE] == np.arange(LARGE)).all() and not further[LARGE : 2 * LARGE].any()


def test_rows_keep_their_width() -> None:
    pairs = noughts(3, np.uint64, (2,))
    pairs[:] = [[1, 2], [3, 4], [5, 6]]
    assert longer(pairs, 5, 2).tolist()[:5] == [[1, 2], [3, 4], [0, 0], [0, 0], [0, 0]]


def test_a_system_that_gives_no_address_space_gives_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_TIMES", (1 << 30, 1 << 29))  # petabytes
    column = noughts(LARGE, np.int64)
    assert len(column) == LARGE and not column.any()


def test_a_table_keeps_its_rows_while_it_grows() -> None:
    table = Table({"one": (np.int64, 1), "wide": (np.int64, 2)})
    for part in range(40):
        first = table.extend(10_000)
        assert first == 10_000 * part
        assert not table["one"][first : table.size].any() and not table["wide"][first : table.size].any()
        table["one"][first : table.size] = table["wide"][first : table.size, 1] = np.arange(first, table.size)
    assert (table["one"][: table.size] == np.arange(400_000)).all()
    assert (table["wide"][: table.size, 1] == np.arange(400_000)).all()


def test_a_large_index_finds_its_keys_after_growing_in_place() -> None:
    keys = np.random.default_rng(5).integers(0, 2**64, size=(600_000, 2), dtype=np.uint64)
    index, numbers = HashIndex(), np.arange(len(keys), dtype=np.uint32)
    for rows in np.array_split(np.arange(len(keys)), 12):
        new, differs = index.enter(keys[rows], numbers[rows])
        assert new.all() and not differs.any()
    assert (index.values[index.find(keys)] == numbers).all()
    assert (index.find(keys ^ np.uint64(1)) < 0).all() and len(index) == len(keys)

"""Sheets of the ledger: which rows lie in files, when a file goes, and what a damaged one or a full disk does."""

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rating.engine import RatingEngine, RatingProcessor, RatingSettings
from rating.ledger import Events, Ledger
from rating.sheets import shelf
from rating.sheets.sheet import Sheet, SheetRefused
from rating.sheets.shelf import Shelf
from rating.work import Background, ByHand
from tests.unit.rating.engines import Log, event
from tests.unit.rating.test_identities import full_disk

ROWS = 600
BOOK = """
meters: {units: {event: use, aggregate: sum, value: $.n}}
price_books: {book: {currency: USD, charges: {units: {meter: units, price: {model: unit, unit_amount: 1}}}}}
default_subscription: {price_book: book, period: month}
"""


class Tended:
    """A ledger by itself on a shelf."""

    def __init__(self, folder: Path, worker: Background | ByHand) -> None:
        self.worker, self.folder = worker, folder
        self.shelf = Shelf(folder, ROWS, worker, retry_seconds=0)
        self.ledger = Ledger(self.shelf)
        self.number = 0

    def append(self, cell: int, count: int = ROWS, gauge: bool = False) -> None:
        """As many rows of one cell, and what an engine does after a step."""
        names = np.arange(self.number, self.number + count, dtype=np.uint64)
        self.number += count
        events = Events(np.stack([names << np.uint64(40), names], axis=1), names.astype(np.int64))
        value = np.zeros((count, 2), np.int64)
        at = np.arange(count)
        self.ledger.append(events, at, np.full(count, cell), value, np.zeros(count, np.int64) if gauge else None)
        self.tend()

    def tend(self) -> None:
        """What an engine does after a step."""
        if self.shelf.is_full:
            part = self.ledger.seal(1)
            assert part is not None
            self.shelf.seal([part])
        if isinstance(self.worker, ByHand):
            self.worker.work(9)
        self.shelf.tend()

    def drop(self, *cells: int) -> None:
        """Periods are closed for good."""
        found = [len(self.ledger.of_cells(np.array([cell]))) for cell in cells]
        self.ledger.drop(np.array(cells), np.array(found))

    def counts(self, *cells: int) -> list[int]:
        """How many rows count in each of some cells."""
        return [len(self.ledger.of_cells(np.array([cell]))) for cell in cells]

    def on_disk(self) -> int:
        """How many files there are."""
        return len(list(self.folder.glob("*.rows")))


@pytest.fixture
def tended(tmp_path: Path) -> Tended:
    """A ledger with its folder."""
    return Tended(tmp_path, ByHand())


def test_what_is_sealed_takes_no_memory_and_at_most_60_bytes_on_disk(tended: Tended) -> None:
    for cell in range(5):
        tended.append(cell)
    assert tended.ledger.nbytes == 0
    assert tended.shelf.file_bytes <= 60 * 5 * ROWS
    assert tended.counts(*range(6)) == [ROWS] * 5 + [0]


def test_a_file_goes_with_the_last_of_its_rows_that_counts(tended: Tended) -> None:
    tended.append(0, 2 * ROWS)
    for cell in (1, 2, 3):
        tended.append(cell)
    moved = tended.ledger.of_cells(np.array([1]))[:1]
    tended.ledger.move(moved, np.array([3]))
    tended.drop(0, 1)
    assert tended.counts(0, 1, 2, 3) == [0, 0, ROWS, ROWS + 1]
    assert tended.on_disk() == 3
    assert tended.ledger.dropped == 2 * ROWS
    tended.append(5, 3 * ROWS)
    tended.ledger.take_back(moved)
    tended.drop(2, 3, 5)
    assert tended.on_disk() == 0
    assert tended.ledger.counted == 8 * ROWS - 1


def test_rows_of_gauges_stay(tended: Tended) -> None:
    tended.append(0, gauge=True)
    tended.append(1)
    tended.append(2, 2 * ROWS)
    tended.drop(0, 1, 2)
    assert tended.counts(0, 1, 2) == [ROWS, 0, 0]
    assert tended.on_disk() == 1


def test_few_rows_or_a_smaller_half_are_not_worth_it(tended: Tended) -> None:
    tended.append(0, 900)
    tended.drop(0)
    assert tended.counts(0) == [900]
    tended.append(1, 900)
    tended.drop(0)
    assert tended.counts(0) == [900]
    tended.append(0, 1)
    tended.drop(0)
    assert tended.counts(0, 1) == [0, 900]


def test_files_that_a_snapshot_names_stay_until_the_next(tended: Tended) -> None:
    tended.append(0)
    tended.append(1)
    names = tended.shelf.name_files()
    tended.drop(0, 1)
    assert list(tended.shelf.files()) == names
    assert tended.on_disk() == len(names) == 2
    assert tended.shelf.name_files() == []
    assert tended.on_disk() == 0


def test_a_full_disk_keeps_rows_in_memory_and_is_asked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tended = Tended(tmp_path, ByHand())
    with full_disk(), caplog.at_level(logging.WARNING):
        for cell in range(4):
            tended.append(cell)
        assert tended.on_disk() == 0
        assert tended.counts(0, 1, 2, 3) == [ROWS] * 4
        again = Ledger.load(tended.ledger.dump())
        assert len(again.of_cells(np.arange(4))) == 4 * ROWS
    tended.tend()
    tended.tend()
    tended.append(4)
    assert tended.ledger.nbytes == 0
    assert tended.counts(0, 1, 2, 3, 4) == [ROWS] * 5
    assert [one for one in caplog.messages if "the disk takes" in one]


# Merges --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def merged_soon() -> Iterator[None]:
    """Three files in a row are too many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "MANY", 3)
        patch.setattr(shelf, "MERGED_AT_ONCE", 3)
        patch.setattr(shelf, "SMALL", 2 * ROWS)
        yield


@pytest.mark.usefixtures("merged_soon")
def test_small_files_become_one_and_large_ones_stay(tended: Tended) -> None:
    for cell in range(9):
        tended.append(cell)
    tended.tend()
    assert tended.on_disk() == 3
    assert tended.counts(*range(10)) == [ROWS] * 9 + [0]
    every = tended.ledger.of_cells(np.arange(9))
    assert tended.ledger.read("time", every).tolist() == list(range(9 * ROWS))
    assert tended.shelf.file_bytes <= 60 * 9 * ROWS


@pytest.mark.usefixtures("merged_soon")
def test_what_is_taken_back_or_moves_while_files_are_merged_is_so_afterwards(tended: Tended) -> None:
    for cell in (0, 1, 2):
        tended.append(cell)
    assert len(tended.worker) == 1  # type: ignore[arg-type]
    tended.ledger.take_back(tended.ledger.of_cells(np.array([0]))[:5])
    moved = tended.ledger.of_cells(np.array([2]))[-3:]
    tended.ledger.move(moved, np.full(3, 1))
    tended.tend()
    assert tended.on_disk() == 1
    assert tended.counts(0, 1, 2) == [ROWS - 5, ROWS + 3, ROWS - 3]
    found = tended.ledger.of_cells(np.array([1]))
    assert tended.ledger.read("time", found).tolist()[-4:] == [2 * ROWS - 1, *range(3 * ROWS - 3, 3 * ROWS)]
    assert tended.ledger.counted == 3 * ROWS - 5


def test_a_file_half_of_whose_rows_count_no_more_is_written_again(tended: Tended) -> None:
    tended.append(7, 10, gauge=True)
    tended.append(1, 2 * ROWS - 10)
    before = tended.shelf.file_bytes
    tended.drop(1)
    tended.tend()
    tended.tend()
    assert tended.counts(1, 7) == [0, 10]
    assert tended.shelf.file_bytes < before / 20
    assert tended.on_disk() == 1


def test_what_has_moved_out_of_a_cell_before_it_was_over_outlives_it(tended: Tended) -> None:
    tended.append(0, 4 * ROWS)
    tended.ledger.move(tended.ledger.of_cells(np.array([0]))[-3:], np.full(3, 1))
    tended.ledger.move(tended.ledger.of_cells(np.array([0]))[:2], np.full(2, 2))
    tended.drop(0, 2)
    tended.tend()
    tended.tend()
    found = tended.ledger.of_cells(np.array([0, 1, 2]))
    assert tended.ledger.read("time", found).tolist() == list(range(4 * ROWS - 3, 4 * ROWS))
    assert tended.shelf.file_bytes < 1000
    assert tended.ledger.counted == 4 * ROWS


@pytest.mark.usefixtures("merged_soon")
def test_files_of_a_snapshot_outlive_their_merge_until_the_next(tended: Tended) -> None:
    for cell in (0, 1, 2):
        tended.append(cell)
    serial, names, dumped = tended.shelf.serial, tended.shelf.name_files(), tended.ledger.dump()
    tended.tend()
    assert tended.on_disk() == 4
    assert list(tended.shelf.files()) == names
    again = Shelf(tended.shelf.folder, ROWS)
    again.open(serial, names)
    assert len(Ledger.load(dumped, again).of_cells(np.arange(3))) == 3 * ROWS
    assert tended.on_disk() == 3  # what came later is made again


@pytest.mark.usefixtures("merged_soon")
def test_a_full_disk_leaves_files_unmerged_and_is_asked_again(tended: Tended) -> None:
    for cell in (0, 1, 2):
        tended.append(cell)
    with full_disk():
        tended.tend()
    assert tended.on_disk() == 3
    tended.tend()
    tended.tend()
    assert tended.on_disk() == 1
    assert tended.counts(0, 1, 2) == [ROWS] * 3


@pytest.mark.usefixtures("merged_soon")
def test_an_end_in_the_middle_of_a_merge_leaves_the_files_that_were(tended: Tended) -> None:
    for cell in (0, 1, 2):
        tended.append(cell)
    tended.shelf.close()
    assert tended.on_disk() == 3
    assert tended.counts(0, 1, 2) == [ROWS] * 3


def test_a_thread_writes_and_does_not_fall_behind(tmp_path: Path) -> None:
    tended = Tended(tmp_path, Background())
    for cell in range(40):
        tended.append(cell)
    assert tended.ledger.nbytes <= 6 * ROWS * 48
    assert tended.counts(*range(40)) == [ROWS] * 40
    tended.shelf.close()


@pytest.mark.parametrize("at", [0, 4, 30, 70, -1])
def test_a_damaged_file_is_brought_again_or_refused(tended: Tended, at: int) -> None:
    tended.append(0)
    [(name, path)] = [(name, path) for name in tended.shelf.name_files() for path in [tended.shelf.files()[name]]]
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[at] ^= 1
    path.write_bytes(bytes(damaged[:-1] if at == -1 else damaged))
    with pytest.raises(LookupError):
        Shelf(path.parent).open(0, [name])
    other = Shelf(path.parent)
    other.open(0, [name], lambda _, to: to.write_bytes(whole) and None)
    assert path.read_bytes() == whole
    path.write_bytes(bytes(damaged[:-1] if at == -1 else damaged))
    if at != 30:  # in what fills the header up
        with pytest.raises(SheetRefused, match=r"damaged|format version"):
            Sheet(path)


def feed(engine: RatingEngine, log: Log, since: int = 0) -> None:
    """The entries of a log from a place on."""
    for entry in log.entries[since:]:
        engine.process([entry])


def test_an_engine_s_snapshot_holds_what_is_in_memory_and_names_the_rest(tmp_path: Path) -> None:
    processor = RatingProcessor(RatingSettings(folder=tmp_path, rows_in_memory=100), worker=ByHand())
    log = Log().catalogue(BOOK)
    for pack in range(20):
        log.events([event(f"e{pack}-{i}", "2026-11-05T00:00:00Z") for i in range(55)])
    engine = processor.open(0, None)
    feed(engine, log)
    worker = processor._worker
    assert isinstance(worker, ByHand)
    worker.work(99)
    engine.process([])
    snapshot = engine.snapshot()
    [[_, dumped]] = msgspec.msgpack.decode(snapshot)["tenants"]
    assert dumped["ledger"]["rows"][0] == 0
    names = {name for name, *_ in dumped["ledger"]["sealed"]}
    assert names == set(engine.files()) and len(names) == 10


def test_what_was_sealed_after_the_last_snapshot_is_made_again(tmp_path: Path) -> None:
    processor = RatingProcessor(RatingSettings(folder=tmp_path, rows_in_memory=100), worker=ByHand())
    worker = processor._worker
    assert isinstance(worker, ByHand)
    log = Log().catalogue(BOOK)
    for pack in range(20):
        log.events([event(f"e{pack}-{i}", "2026-11-05T00:00:00Z") for i in range(55)])
    engine = processor.open(0, None)
    feed(engine, log, 0)
    worker.work(99)
    engine.process([])
    named = set(path.name for path in (tmp_path / "00000").glob("*.rows"))
    again = processor.open(0, None)
    assert not list((tmp_path / "00000").glob("*.rows"))
    feed(again, log)
    worker.work(99)
    again.process([])
    assert set(path.name for path in (tmp_path / "00000").glob("*.rows")) == named
    assert len(again.state.ledger) == 1100

"""The ledger on disk says what it says in memory: by itself, and through the whole engine."""

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.ledger import Events, Ledger
from rating.sheets.sheet import SPEC
from rating.sheets.shelf import Shelf
from rating.work import ByHand
from streams.snapshots import Snapshot, SnapshotStore
from tests.golden.golden import as_rows, read_case
from tests.golden.test_golden import FILES, NAMES
from tests.laws.tiny_sheets import tiny_sheets
from tests.oracle import thrown
from tests.oracle.engine import rate_raw, run_engine
from tests.oracle.generate import Thrown, cases
from tests.oracle.throws import throws

THROWS = throws(40)
CELLS = 6
EXTREMES = [0, 1, -1, 2**63 - 1, -(2**63)]


@pytest.fixture(autouse=True, scope="module")
def always() -> Iterator[None]:
    with tiny_sheets(many=4, merged_at_once=3, small=30, piece=3):
        yield


# By itself -----------------------------------------------------------------------------------------------------------


class OnDisk:
    """The ledgers of two tenants on one shelf, which may crash, move, and find their files elsewhere."""

    def __init__(self, folder: Path, rows_max: int) -> None:
        self.folder, self.rows_max = folder, rows_max
        self.store = SnapshotStore(folder / "snapshots")
        self.moves = self.saved = 0
        self.worker = ByHand()
        self.shelf = Shelf(folder / "shelf-0", rows_max, self.worker)
        self.ledgers = [Ledger(self.shelf), Ledger(self.shelf)]

    def tend(self, worked: int) -> None:
        """What an engine does after a step."""
        self.worker.work(worked)
        if self.shelf.is_full:
            self.shelf.seal(part for ledger in self.ledgers if (part := ledger.seal(1)) is not None)
        self.shelf.tend()

    def restore(self, moves: int) -> None:
        """A crash right after a snapshot, with what was under way; `moves`: 1: another machine goes on, 2: and all of
        it stays in memory there."""
        self.saved += 1
        serial, names, dumped = self.shelf.serial, self.shelf.name_files(), [ledger.dump() for ledger in self.ledgers]
        assert all(path.name == name for name, path in self.shelf.files().items())
        self.store.save("rating", 0, Snapshot(self.saved, 0, 1, b"", self.shelf.files()))
        self.moves += moves > 0
        self.worker = ByHand()
        self.shelf = Shelf(None if moves == 2 else self.folder / f"shelf-{self.moves}", self.rows_max, self.worker)
        with tempfile.TemporaryDirectory() as temporary:
            self.shelf.open(serial, names, lambda name, to: self.store.fetch("rating", 0, name, to), Path(temporary))
            self.ledgers = [Ledger.load(one, self.shelf) for one in dumped]
        self.shelf.name_files()
        assert moves != 2 or not self.shelf.files()


def told(ledger: Ledger) -> list[Any]:
    """Everything that a ledger answers, but for the numbers of rows and where they lie."""
    asked = [np.arange(CELLS), np.array([4, 1]), *(np.array([cell]) for cell in range(CELLS))]
    names = np.array([key_of(name) for name in range(40)], dtype=np.uint64)
    found = [ledger.of_cells(cells) for cells in asked] + [ledger.of_events(names), ledger.of_events(names[7:8])]
    rows = [[ledger.read(name, some).tolist() for name in SPEC] for some in found]
    backwards = found[0][::-1]
    return [*rows, ledger.counted, ledger.gone, [ledger.read(name, backwards).tolist() for name in SPEC]]


def key_of(name: int) -> tuple[int, int]:
    """Identities, some of which share a half or begin alike."""
    return (name % 3 << 32) + name % 5 if name < 15 else name * 0x9E3779B97F4A7C15 % 2**64, name // 2


APPEND = st.tuples(
    st.just("append"),
    st.integers(0, 1),
    st.lists(
        st.tuples(st.integers(0, 39), st.integers(0, CELLS - 1), st.sampled_from(EXTREMES), st.booleans()),
        min_size=2,
        max_size=9,
    ),
)
STEPS = st.lists(
    st.one_of(
        APPEND,
        APPEND,
        st.tuples(st.just("void"), st.integers(0, 1), st.integers(0, 39), st.booleans()),
        st.tuples(st.just("move"), st.integers(0, 1), st.integers(0, CELLS - 1), st.integers(0, CELLS - 1)),
        st.tuples(st.just("drop"), st.integers(0, 1), st.lists(st.integers(0, CELLS - 1), min_size=2, unique=True)),
        st.tuples(st.just("restore"), st.sampled_from([0, 0, 1, 2])),
    ),
    min_size=6,
    max_size=25,
)


@settings(THROWS, max_examples=4 * THROWS.max_examples)
@given(STEPS, st.sampled_from([1, 4, 8, 20]), st.integers(0, 2))
def test_a_ledger_on_disk_answers_as_one_in_memory(steps: list[Any], rows_max: int, worked: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk = OnDisk(Path(folder), rows_max)
        memory = [Ledger(), Ledger()]
        for step in steps:
            if step[0] == "restore":
                disk.restore(step[1])
            else:
                one, other = memory[step[1]], disk.ledgers[step[1]]
                change(one, step)
                change(other, step)
            disk.tend(worked)
            assert [told(ledger) for ledger in disk.ledgers] == [told(ledger) for ledger in memory]


def change(ledger: Ledger, step: Any) -> None:
    """One step of a ledger's life."""
    if step[0] == "append":
        append(ledger, step[2])
    elif step[0] == "void":
        rows = ledger.of_events(np.array([key_of(step[2])], dtype=np.uint64))
        cells = ledger.read("cell", rows)
        ledger.take_back(rows)
        if step[3]:
            ledger.put_back(rows, cells)
    elif step[0] == "move":
        rows = ledger.of_cells(np.array([step[2]]))[::2]
        ledger.move(rows, np.full(len(rows), step[3]))
    else:
        cells = np.array(step[2], dtype=np.int64)
        ledger.drop(cells, np.array([len(ledger.of_cells(cells[at : at + 1])) for at in range(len(cells))], np.int64))


def append(ledger: Ledger, rows: list[tuple[int, int, int, bool]]) -> None:
    """Rows as a batch brings them: gauges apart, as a cell shows gauges or does not, and then in another order."""
    events = Events(
        np.array([key_of(name) for name, *_ in rows], dtype=np.uint64).reshape(-1, 2),
        np.array([value for _, _, value, _ in rows], dtype=np.int64),
    )
    for level in (False, True):
        at = np.array([i for i, row in enumerate(rows) if row[3] == level], dtype=np.int64)
        cell = np.array(
            [rows[i][1] // 3 + 4 * level for i in at.tolist()], dtype=np.int32
        )  # a cell shows gauges or not
        value = np.array([[rows[i][2], -rows[i][1]] for i in at.tolist()], dtype=np.int64).reshape(-1, 2)
        ledger.append(events, at, cell, value, at % 2 if level else None)
    ledger.arrange(np.arange(len(rows))[::-1])


# Through the engine --------------------------------------------------------------------------------------------------


class Sometimes(ByHand):
    """Writes at some time after it is asked to."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice

    def submit(self, job: Any) -> None:
        """Takes a job on, and does some of those that wait."""
        super().submit(job)
        self.work(self._dice.randrange(3))


def on_disk(dice: random.Random, folder: str, rows: int) -> dict[str, Any]:
    """Settings of an engine that has hardly any memory, and often goes on from its snapshot."""
    return {
        "restart": lambda: dice.random() < 0.3,
        "worker": Sometimes(dice),
        "folder": Path(folder),
        "identities_in_memory": 3,
        "rows_in_memory": rows,
    }


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_golden_cases(path: Path, tmp_path: Path) -> None:
    case = read_case(path)
    told = run_engine(case.catalogue, case.events, case.as_of, 2, **on_disk(random.Random(1), str(tmp_path), 3))
    assert as_rows(told) == case.expected


@THROWS
@given(
    st.one_of(cases(), thrown.corrected(), thrown.gauged(voids=True), thrown.segmented(), thrown.metered()),
    st.sampled_from([1, 3, 1000]),
    st.sampled_from([1, 8]),
    st.sampled_from([0, 2**60]),
    st.randoms(use_true_random=False),
)
def test_an_engine_with_its_ledger_on_disk_says_the_same(
    case: Thrown, batch: int, rows: int, corrections: int, dice: random.Random
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk = rate_raw(*case, batch, corrections=corrections, **on_disk(dice, folder, rows))
    assert disk == rate_raw(*case, batch, corrections=corrections)

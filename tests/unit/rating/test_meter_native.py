"""The compiled steps between an event and its total, each against its twin in Python."""

from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rating.texts
from native.library import is_loaded
from rating import cells, slots
from rating.compiled import Shape
from rating.identities import bloom, run
from rating.identities.bloom import Filter, Probes
from rating.identities.run import RADIX_FROM, Rows, RunRefused, starts_of, write_run
from rating.state import State
from rating.texts import Texts
from schemas.paths import TEXTS

pytestmark = pytest.mark.skipif(not is_loaded(), reason="the compiled library is not there")
UNHURRIED = settings(max_examples=50, deadline=None)


# Lines and cells -----------------------------------------------------------------------------------------------------

BILLS = 5
ASKED = st.tuples(st.integers(0, BILLS - 1), st.integers(0, 3), st.integers(0, 6), st.integers(-1, 9))


@UNHURRIED
@given(
    st.lists(st.tuples(st.sampled_from("abl"), st.lists(ASKED, max_size=40)), max_size=6),
    st.integers(0, 2**30),
)
def test_lines_and_cells_are_found_or_made_alike(batches: list[tuple[str, list[tuple[int, ...]]]], far: int) -> None:
    """Two shapes of one charge, and lines without cells; `far`: groups whose numbers are large."""
    found, states = [], []
    for names in ((), [name for name in vars(slots) if name.startswith("_NATIVE_")]):
        with pytest.MonkeyPatch.context() as patch:
            for name in names:
                patch.setattr(slots, name, None)
            held = State(0, 1, "default")
            held.bills.extend(BILLS)
            held.bills["line"][:BILLS] = -1
            for kind, batch in batches:
                bill, combo, number, rate = np.array(batch, dtype=np.int64).reshape(-1, 4).T.copy()
                combo = np.where(combo == 3, far, combo)
                if kind == "l":
                    found.append(slots.find_lines(held, bill, held.charges.number("charge"), combo, rate).tolist())
                else:
                    shape = cast(Shape, SimpleNamespace(signature=kind, charge="charge"))
                    found.append(slots.find_cells(held, shape, bill, combo, number, rate).tolist())
            states.append(held)
    one, twin = states
    assert found[: len(batches)] == found[len(batches) :]
    for name in ("bills", "lines", "cells"):
        assert getattr(one, name).size == getattr(twin, name).size
        assert getattr(one, name).dump() == getattr(twin, name).dump()
    for name in ("line_index", "cell_index"):
        assert len(getattr(one, name)) == len(getattr(twin, name))
        expected = [part.tolist() for part in getattr(twin, name).ordered()]
        assert [part.tolist() for part in getattr(one, name).ordered()] == expected
    for line in range(one.lines.size):
        chain = [(int(one.cells["number"][cell]), cell) for cell in one.cells_of(line)]
        assert chain == sorted(chain)


# Combinations of codes -----------------------------------------------------------------------------------------------


@UNHURRIED
@given(st.data(), st.lists(st.integers(1, 40), min_size=1, max_size=4), st.integers(1, 50))
def test_rows_are_grouped_alike(data: st.DataObject, sizes: list[int], rows: int) -> None:
    dice = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    columns = [dice.integers(-1, size - 1, size=rows, endpoint=False).astype(np.int32) for size in sizes]
    chosen = np.flatnonzero(dice.random(rows) < 0.8)
    found = cells._combine(chosen, columns, sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "_NATIVE_COMBINE", None)
        expected = cells._combine(chosen, columns, sizes)
    assert [part.tolist() for part in found] == [part.tolist() for part in expected]


# Texts ---------------------------------------------------------------------------------------------------------------


@UNHURRIED
@given(
    st.lists(
        st.lists(st.lists(st.text(max_size=20) | st.sampled_from(["", "a" * 8, "a" * 16, "ü" * 8]), max_size=30)),
        max_size=5,
    )
)
def test_texts_are_known_by_number_in_the_order_in_which_they_came(batches: list[list[list[str]]]) -> None:
    texts, twin, numbers = Texts(), Texts(), dict[str, int]()
    for batch in batches:
        columns = [pa.array(column, pa.string()).dictionary_encode().cast(TEXTS) for column in batch if column]
        if columns:
            found = texts.codes([*columns, columns[0].slice(1)])
            assert found is not None
            fresh = list(dict.fromkeys(text for one in columns for text in one.to_pylist() if text not in numbers))
            numbers.update(zip(fresh, count(len(numbers))))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(rating.texts, "_NATIVE_ENTER", None)
                twin.extend(fresh)
            rows = [text for column in batch if column for text in column] + columns[0].to_pylist()[1:]
            assert found.tolist() == [numbers[text] for text in rows]
    loaded, asked = Texts.load(texts.dump()), [*reversed(numbers), "none of them"]
    assert loaded.dump() == twin.dump()
    for one in (texts, loaded):
        assert list(one) == [one[number] for number in range(len(one))] == list(numbers)
        assert one.find_all(asked).tolist() == [*range(len(one))[::-1], -1]
        assert one.find("none of them") is None and [one.find(text) for text in numbers] == list(range(len(one)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rating.texts, "_NATIVE_FIND", None)
        assert twin.find_all(asked).tolist() == [*range(len(numbers))[::-1], -1]


def test_many_texts_are_found_again() -> None:
    texts = Texts()
    names = [f"customer-{number:07}" for number in range(30_000)]
    for part in range(0, len(names), 4000):
        column = pa.array(names[: part + 4000]).dictionary_encode().cast(TEXTS)
        found = texts.codes([column])
        assert found is not None and found.tolist() == list(range(min(len(names), part + 4000)))


# Identities on disk --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 300, RADIX_FROM + 5])
@pytest.mark.parametrize("near", [False, True])
def test_runs_and_filters_answer_alike(tmp_path: Path, count: int, near: bool) -> None:
    """`near`: hundreds of keys share the first 48 bits of their leads, or all 64 of them."""
    dice = np.random.default_rng(count)
    keys = dice.integers(0, 2**64, size=(count, 2), dtype=np.uint64)
    if near:
        some = min(count // 2, 300)
        keys[:some, 0] = np.uint64(2**64 - 7) - dice.integers(0, 3, size=some).astype(np.uint64)
    rows = Rows(keys[:, 0], keys[:, 1], dice.integers(0, 2**32, size=count).astype(np.uint32)).ordered()
    written = write_run(tmp_path, 3, starts_of(rows.leads), [rows])
    asked = np.concatenate([keys, keys ^ np.uint64(1), dice.integers(0, 2**64, size=(500, 2), dtype=np.uint64)])
    asked[-1] = keys[0, 0], keys[0, 1] ^ np.uint64(1)
    held, contents = written.find(asked)
    perhaps = written.filter.rows(Probes(asked[:, 0]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "_NATIVE_FIND", None)
        patch.setattr(bloom, "_NATIVE_ROWS", None)
        twin = written.find(asked)
        assert (held.tolist(), contents.tolist()) == (twin[0].tolist(), twin[1].tolist())
        assert sorted(perhaps.tolist()) == sorted(written.filter.rows(Probes(asked[:, 0])).tolist())
    assert held[:count].all() and set(np.flatnonzero(held).tolist()) <= set(perhaps.tolist())


@UNHURRIED
@given(st.lists(st.integers(0, 2**64 - 1), max_size=80), st.lists(st.integers(0, 2**64 - 1), max_size=80))
def test_filters_of_few_keys(held: list[int], asked: list[int]) -> None:
    filter = Filter(len(held))
    filter.add(np.sort(np.array(held, dtype=np.uint64)))
    leads = np.array(held + asked, dtype=np.uint64)
    found = filter.rows(Probes(leads)).tolist()
    assert found[: len(held)] == list(range(len(held)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bloom, "_NATIVE_ROWS", None)
        assert sorted(filter.rows(Probes(leads)).tolist()) == found


def test_a_directory_that_points_beyond_the_end_is_refused(tmp_path: Path) -> None:
    leads = np.arange(5, dtype=np.uint64)
    written = write_run(tmp_path, 3, starts_of(leads), [Rows(leads, leads, leads.astype(np.uint32))])
    written._directory = np.array([0, 1000], dtype=np.uint32)
    with pytest.raises(RunRefused, match="its directory points beyond its end"):
        written.find(np.ones((1, 2), dtype=np.uint64))

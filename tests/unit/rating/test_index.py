"""The hash index against a plain dict: whatever is added, it finds what a dict finds, and the first row wins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rating.index import HashIndex, Keys

WORDS = st.sampled_from([0, 1, 2, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15])
KEYS = st.lists(st.tuples(WORDS, WORDS), max_size=30)


def keys_of(pairs: list[tuple[int, int]]) -> Keys:
    return np.array(pairs, dtype=np.uint64).reshape(-1, 2)


class Twin:
    """An index and the dict that it must agree with; values are numbers in the order of first appearance."""

    def __init__(self, capacity: int = 1024) -> None:
        self.index, self.dict = HashIndex(capacity), dict[tuple[int, int], int]()

    def add(self, pairs: list[tuple[int, int]]) -> None:
        keys = keys_of(pairs)
        before = keys.copy()
        places, new = self.index.add(keys)
        for row, pair in enumerate(pairs):
            assert new[row] == (pair not in self.dict), f"row {row}, {pair}"
            self.dict.setdefault(pair, len(self.dict))
        fresh = np.flatnonzero(new)
        self.index.values[places[fresh]] = [self.dict[pairs[row]] for row in fresh.tolist()]
        assert self.index.values[places].tolist() == [self.dict[pair] for pair in pairs]
        assert (keys == before).all()

    def check(self, pairs: list[tuple[int, int]]) -> None:
        places = self.index.find(keys_of(pairs))
        found = [int(self.index.values[place]) if place >= 0 else None for place in places.tolist()]
        assert found == [self.dict.get(pair) for pair in pairs]
        assert len(self.index) == len(self.dict)


@given(st.lists(KEYS, max_size=6), KEYS)
def test_an_index_agrees_with_a_dict(batches: list[list[tuple[int, int]]], asked: list[tuple[int, int]]) -> None:
    twin = Twin()
    for batch in batches:
        twin.add(batch)
        twin.check(asked)
    keys, values = twin.index.items()
    assert sorted(values.tolist()) == list(range(len(twin.dict)))
    again = HashIndex.of(keys, values)
    found = again.find(keys_of(list(twin.dict)))
    assert again.values[found].tolist() == list(twin.dict.values())
    assert ((again.find(keys_of(asked)) >= 0) == [pair in twin.dict for pair in asked]).all()


@pytest.mark.parametrize("seed", range(3))
def test_many_keys_with_repeats_and_growth(seed: int) -> None:
    dice = np.random.default_rng(seed)
    twin = Twin(1)
    pool = dice.integers(0, 2**64, size=(60_000, 2), dtype=np.uint64, endpoint=False)
    pool[0] = 0
    pool[1:20_000, 1] = 0  # many that differ in one half only
    pool[20_000:40_000, 0] = np.arange(20_000)
    pool[20_000:40_000, 1] = 7
    for _ in range(12):
        rows = dice.integers(0, len(pool), size=int(dice.integers(1, 9000)))
        twin.add([tuple(pair) for pair in pool[rows].tolist()])
    twin.check([tuple(pair) for pair in pool.tolist()])
    assert twin.index.nbytes < 120 * len(twin.dict)


def test_of_equal_rows_the_first_is_new() -> None:
    index = HashIndex()
    _, new = index.add(keys_of([(5, 5), (0, 0), (5, 5), (0, 0), (6, 5)]))
    assert new.tolist() == [True, True, False, False, True]
    _, new = index.add(keys_of([(6, 5), (7, 7)]))
    assert new.tolist() == [False, True]


def test_the_key_of_noughts_is_a_key_like_others() -> None:
    index = HashIndex()
    assert index.find(keys_of([(0, 0)])).tolist() == [-1]
    places, _ = index.add(keys_of([(0, 0)]))
    index.values[places] = 42
    assert index.values[index.find(keys_of([(0, 0)]))].tolist() == [42]
    assert index.find(keys_of([(0, 1), (1, 0)])).tolist() == [-1, -1]
    keys, values = index.items()
    again = HashIndex.of(keys, values)
    assert again.values[again.find(keys_of([(0, 0)]))].tolist() == [42]


def test_nothing_added_is_nothing_held() -> None:
    index = HashIndex()
    places, new = index.add(keys_of([]))
    assert (len(places), len(new), len(index)) == (0, 0, 0)
    assert len(index.items()[0]) == 0


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4000))
def test_the_same_keys_in_the_same_order_give_the_same_places(seed: int, count: int) -> None:
    keys = np.random.default_rng(seed).integers(0, 50, size=(count, 2), dtype=np.uint64)
    one, other = HashIndex(), HashIndex()
    assert (one.add(keys)[0] == other.add(keys.copy())[0]).all()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 200))
def test_what_is_ordered_does_not_show_how_the_index_grew(seed: int, count: int) -> None:
    """All keys want the last places: what finds none goes on at the beginning."""
    pool = np.random.default_rng(seed).integers(0, 2**64, size=(count * 8, 2), dtype=np.uint64)
    keys = pool[np.argsort(HashIndex()._home(pool))[-count:]]
    values = np.arange(count, dtype=np.uint32) // 2
    whole, grown = HashIndex.of(keys, values), HashIndex()
    for at in reversed(range(count)):
        grown.enter(keys[at : at + 1], values[at : at + 1])
    for one in (whole, grown, HashIndex.of(*grown.ordered())):
        assert [part.tolist() for part in one.ordered()] == [part.tolist() for part in whole.ordered()]


def test_memory_stays_within_36_bytes_a_key() -> None:
    index = HashIndex()
    keys = np.random.default_rng(1).integers(1, 2**63, size=(200_000, 2), dtype=np.uint64)
    for part in np.array_split(keys, 20):
        index.add(part)
    assert 28 <= index.nbytes / len(index) <= 36

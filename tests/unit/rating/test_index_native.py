"""The compiled index and its twin in Python: the same keys, values and growth, and the same rows are new. Where a key
stands is each one's own: no result shows it."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.library import is_loaded
from rating import index as module
from rating.index import HashIndex, Keys

pytestmark = pytest.mark.skipif(not is_loaded(), reason="the compiled library is not there")


@contextmanager
def by_the_twin() -> Iterator[None]:
    """Within it the index runs in Python."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in vars(module) if name.startswith("_NATIVE_")]:
            patch.setattr(module, name, None)
        yield


def same(one: HashIndex, twin: HashIndex) -> None:
    """Both hold the same, in as many places."""
    assert (len(one), len(one._keys)) == (len(twin), len(twin._keys))
    assert [part.tolist() for part in one.ordered()] == [part.tolist() for part in twin.ordered()]


WORDS = st.sampled_from([0, 1, 2, 3, 2**63, 2**64 - 1, 0x9E3779B97F4A7C15])
BATCHES = st.lists(st.lists(st.tuples(WORDS, WORDS, st.integers(0, 2)), max_size=40), max_size=6)


def column(batch: list[tuple[int, int, int]]) -> tuple[Keys, np.ndarray]:  # type: ignore[type-arg]
    keys = np.array([pair[:2] for pair in batch], dtype=np.uint64).reshape(-1, 2)
    return keys, np.array([pair[2] for pair in batch], dtype=np.uint32)


@settings(deadline=None)
@given(BATCHES, st.booleans())
def test_few_keys_that_come_again(batches: list[list[tuple[int, int, int]]], enters: bool) -> None:
    run_both([column(batch) for batch in batches], enters)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2000), max_size=4), st.booleans(), st.booleans())
def test_many_keys_that_collide(seed: int, sizes: list[int], enters: bool, near: bool) -> None:
    """`near`: all of them have their homes in a few places, so that long stretches are full."""
    dice = np.random.default_rng(seed)
    batches = []
    for size in sizes:
        pool = dice.integers(0, 2**64, size=(size + 64, 2), dtype=np.uint64)
        if near:
            homes = HashIndex()._home(pool)  # the last ones: what finds no place there goes on at the beginning
            pool = pool[homes >= np.sort(homes)[-4]]
        keys = pool[dice.integers(0, len(pool), size=size)]
        batches.append((keys, dice.integers(0, 3, size=size).astype(np.uint32)))
    run_both(batches, enters)


def run_both(batches: list[tuple[Keys, np.ndarray]], enters: bool) -> None:  # type: ignore[type-arg]
    one, twin = HashIndex(), HashIndex()
    for keys, values in batches:
        if enters:
            found = one.enter(keys, values)
            with by_the_twin():
                expected = twin.enter(keys, values)
            assert [part.tolist() for part in found] == [part.tolist() for part in expected]
        else:
            new = added(one, keys, values)
            with by_the_twin():
                assert new == added(twin, keys, values)
        same(one, twin)
        asked = np.concatenate([keys, keys ^ np.uint64(1)])
        held = looked_up(one, asked)
        with by_the_twin():
            assert held == looked_up(twin, asked)


def added(index: HashIndex, keys: Keys, values: np.ndarray) -> list[tuple[bool, int]]:  # type: ignore[type-arg]
    """Adds keys; new ones get their rows' values. For each row whether it is new, and the value that is held then."""
    places, new = index.add(keys)
    index.values[places[new]] = values[new]
    return list(zip(new.tolist(), index.values[places].tolist(), strict=True))


def looked_up(index: HashIndex, keys: Keys) -> list[int | None]:
    """The value of each key, None where it is not held."""
    return [int(index.values[place]) if place >= 0 else None for place in index.find(keys).tolist()]

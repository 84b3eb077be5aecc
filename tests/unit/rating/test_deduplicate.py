"""Deduplication: the first counts, another content is a conflict, the window is never shorter than promised."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rating.deduplicate import Deduplicator
from schemas.times import DAY, HOUR

Event = tuple[int, int, int]  # identity, content, arrived
EVENTS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 2), st.integers(0, 120)), max_size=40)
CUTS = st.lists(st.integers(0, 40), max_size=6)


def check(held: Deduplicator, events: list[Event]) -> list[str]:
    identity = np.array([(i, 77) for i, _, _ in events], dtype=np.uint64).reshape(-1, 2)
    content = np.array([c for _, c, _ in events], dtype=np.uint32)
    arrived = np.array([a for _, _, a in events], dtype=np.int64)
    fresh, conflict = held.check(identity, content, arrived)
    assert not (fresh & conflict).any()
    words = {(True, False): "first", (False, True): "conflict", (False, False): "duplicate"}
    return [words[bool(f), bool(c)] for f, c in zip(fresh, conflict, strict=True)]


def in_pieces(held: Deduplicator, events: list[Event], cuts: list[int]) -> list[str]:
    edges = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
    return [word for a, b in itertools.pairwise(edges) for word in check(held, events[a:b])]


@given(EVENTS, CUTS)
def test_the_first_counts_and_every_later_one_is_known(events: list[Event], cuts: list[int]) -> None:
    seen: dict[int, int] = {}
    expected = []
    for identity, content, _ in events:
        known = seen.setdefault(identity, content) if identity in seen else None
        expected.append("first" if known is None else "duplicate" if known == content else "conflict")
        seen.setdefault(identity, content)
    timed = [(i, c, a * HOUR) for i, c, a in events]
    assert in_pieces(Deduplicator(), timed, cuts) == expected
    assert in_pieces(Deduplicator(None), [(i, c, a * 90 * DAY) for i, c, a in events], cuts) == expected


@given(EVENTS, CUTS, st.sampled_from([1, 7, 10, 35]))
def test_the_answer_does_not_depend_on_the_cut(events: list[Event], cuts: list[int], window: int) -> None:
    timed = [(i, c, a * DAY) for i, c, a in events]
    whole, pieces = Deduplicator(window), Deduplicator(window)
    assert (
        check(whole, timed) == in_pieces(pieces, timed, cuts) == in_pieces(Deduplicator(window), timed, list(range(40)))
    )


def test_after_a_long_silence_the_answer_does_not_depend_on_the_cut() -> None:
    events = [(1, 1, 0), (2, 1, 100 * DAY), (1, 1, 100 * DAY)]
    assert check(Deduplicator(), events) == in_pieces(Deduplicator(), events, [1, 2])


@given(EVENTS, st.sampled_from([1, 7, 10, 35]))
def test_nothing_is_forgotten_within_the_window(events: list[Event], window: int) -> None:
    held = Deduplicator(window)
    first: dict[int, int] = {}
    latest = 0
    for identity, content, arrived in events:
        latest = max(latest, arrived * HOUR * 20)
        [word] = check(held, [(identity, content, latest)])
        if word == "first":
            assert identity not in first or latest - first[identity] >= window * DAY
            first[identity] = latest


@pytest.mark.parametrize("begin", [0, 3 * DAY, 7 * DAY - 1, 7 * DAY, 20_000 * DAY + 5])
def test_the_window_is_35_to_42_days(begin: int) -> None:
    held = Deduplicator()
    assert check(held, [(1, 1, begin)]) == ["first"]
    assert check(held, [(2, 1, begin + 35 * DAY - 1), (1, 1, begin + 35 * DAY - 1)]) == ["first", "duplicate"]
    held = Deduplicator()
    check(held, [(1, 1, begin)])
    check(held, [(2, 1, begin + 42 * DAY)])
    assert check(held, [(1, 1, begin + 42 * DAY)]) == ["first"]


def test_buckets_are_dropped_whole() -> None:
    held = Deduplicator()
    for day in range(200):
        check(held, [(day * 10 + i, 1, day * DAY) for i in range(10)])
        assert len(held) <= 10 * 42
    assert held.nbytes < 10 * 2**20


@given(EVENTS, EVENTS, st.sampled_from([None, 1, 35]))
def test_what_was_dumped_and_loaded_answers_the_same(before: list[Event], after: list[Event], window: Any) -> None:
    one = Deduplicator(window)
    check(one, [(i, c, a * DAY) for i, c, a in before])
    other = Deduplicator(window)
    other.load(one.dump())
    assert len(other) == len(one)
    later = [(i, c, a * DAY + 60 * DAY) for i, c, a in after]
    assert check(one, later) == check(other, later)


def test_an_identity_takes_at_most_67_bytes() -> None:
    held = Deduplicator()
    check(held, [(i, 1, DAY) for i in range(100_000)])
    assert len(held) == 100_000
    assert held.nbytes <= 67 * 100_000

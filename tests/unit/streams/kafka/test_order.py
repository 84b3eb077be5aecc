"""Laws of the order of messages: the processor sees each once and in order, whatever the consumer brings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.order import Order, Verdict


def follow(order: Order, position: int, offsets: list[int]) -> tuple[list[int], list[Verdict]]:
    """The offsets taken from `position` on, and all verdicts."""
    taken = []
    verdicts = []
    for offset in offsets:
        verdicts.append(order.judge(position, offset))
        if verdicts[-1] is Verdict.TAKE:
            taken.append(offset)
            position = offset + 1
    return taken, verdicts


@given(st.lists(st.integers(0, 20), max_size=60))
def test_what_is_taken_follows_without_gap(offsets: list[int]) -> None:
    taken, _ = follow(Order(), 0, offsets)
    assert taken == list(range(len(taken)))


@given(st.integers(0, 10), st.integers(1, 5), st.integers(0, 10))
def test_after_a_seek_back_what_was_fetched_before_is_dropped_and_the_rest_taken(
    position: int, gap: int, stale: int
) -> None:
    found = position + gap
    fetched_before = list(range(found, found + 1 + stale))
    after_the_seek = list(range(position, found + stale + 3))
    taken, verdicts = follow(Order(), position, fetched_before + after_the_seek)
    assert taken == after_the_seek
    assert verdicts.count(Verdict.GAP) == 1
    assert verdicts.count(Verdict.BEHIND_GAP) == stale


@given(st.integers(0, 10), st.integers(1, 5), st.integers(0, 10))
def test_the_same_gap_after_a_seek_back_is_told(position: int, gap: int, stale: int) -> None:
    found = position + gap
    _, verdicts = follow(Order(), position, [*range(found, found + 1 + stale), found])
    assert verdicts[0] is Verdict.GAP
    assert verdicts[-1] is Verdict.SAME_GAP


def test_another_gap_later_is_a_new_one() -> None:
    order = Order()
    _, verdicts = follow(order, 0, [2, 0, 1, 2, 5, 3, 4])
    assert [v for v in verdicts if v in (Verdict.GAP, Verdict.SAME_GAP)] == [Verdict.GAP, Verdict.GAP]
    assert order.gaps == 2


@pytest.mark.parametrize("offset", [0, 4])
def test_a_repeated_message_is_dropped_and_counted(offset: int) -> None:
    order = Order()
    assert order.judge(5, offset) is Verdict.REPEATED
    assert order.repeated == 1

"""native/src/deliveries.c with a librdkafka that is made up here: what it is given, and what its reports do."""

import ctypes
from ctypes import c_int, c_int32, c_int64, c_size_t, c_void_p

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.library import is_loaded
from streams.kafka import native_wire
from streams.kafka.native_wire import _Begun, _runs, _Send
from streams.kafka.wire import Message, MessageBlock, Sending, ends_of, singles
from tests.unit.streams.blocks import block, blocks

pytestmark = pytest.mark.skipif(not is_loaded(), reason="the library is left out")

PRODUCE = ctypes.CFUNCTYPE(c_int, c_void_p, c_int32, c_int, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p)
LAST_ERROR = ctypes.CFUNCTYPE(c_int)
COPY = 2


class Report(ctypes.Structure):
    """`rd_kafka_message_t`."""

    _fields_ = [
        ("err", c_int),
        ("topic", c_void_p),
        ("partition", c_int32),
        ("value", c_void_p),
        ("value_size", c_size_t),
        ("key", c_void_p),
        ("key_size", c_size_t),
        ("offset", c_int64),
        ("slot", c_void_p),
    ]


def begun(*messages: Message | MessageBlock) -> _Begun:
    return _Begun(Sending(messages, None))  # type: ignore[arg-type]  # nobody waits


def send(call: _Begun, start: int, room: int) -> tuple[list[int], int, list[tuple[bytes | None, bytes]], list[int]]:
    """Taken of each run, the error, keys and values in order, and the slots' addresses; `room` records are taken."""
    given: list[tuple[bytes | None, bytes]] = []
    slots: list[int] = []

    def produce(
        topic: int, partition: int, flags: int, value: int, size: int, key: int, key_size: int, slot: int
    ) -> int:
        assert (topic, partition, flags) == (77, 3, COPY)
        if len(given) == room:
            return -1
        found = None if key is None else ctypes.string_at(key, key_size)
        given.append((found, ctypes.string_at(value, size)))
        slots.append(slot)
        return 0

    keep = PRODUCE(produce), LAST_ERROR(lambda: -184)
    functions = [ctypes.cast(one, c_void_p) for one in keep]
    assert native_wire._SEND is not None
    taken: list[int] = []
    for run in call.runs:
        at = max(run.first, start)
        where = call.slots[at:].ctypes.data
        request = _Send(*functions, 77, run.partition, run.end - at, run.values, run.keys, where, 0)
        taken.append(native_wire._SEND(ctypes.byref(request)))
        if request.error:
            break
    return taken, request.error, given, slots


def report(slot: int, offset: int, error: int = 0) -> None:
    assert native_wire._DELIVERED is not None
    native_wire._DELIVERED(None, ctypes.byref(Report(err=error, offset=offset, slot=slot)), None)


MESSAGES = tuple(Message("t", 3, key, value) for key, value in ((b"a\0b", b"one"), (None, b""), (b"", b"th\0ree")))


def test_records_go_out_in_order_and_whole() -> None:
    taken, error, given, _ = send(begun(*MESSAGES), 0, room=9)
    assert (taken, error) == ([3], 0)
    assert given == [(message.key, message.value) for message in MESSAGES]


def test_what_a_full_queue_does_not_take_is_said() -> None:
    call = begun(*MESSAGES)
    taken, error, given, _ = send(call, 0, room=2)
    assert (taken, error, len(given)) == ([2], -184, 2)
    _, error, rest, _ = send(call, 2, room=2)
    assert (error, rest) == (0, [(b"", b"th\0ree")])


def test_reports_come_in_any_order() -> None:
    call = begun(*MESSAGES)
    _, _, _, slots = send(call, 0, room=9)
    for slot, offset in ((slots[2], 12), (slots[0], 10)):
        report(slot, offset)
    assert (call.missing, call.offsets) == (1, [10, -1, 12])
    report(slots[1], -1001, error=-192)
    assert call.header.tolist() == [0, -192, 1]  # nothing missing, the error, of the second


def test_of_an_ended_producer_no_report_is_waited_for() -> None:
    call = begun(*MESSAGES)
    _, _, _, slots = send(call, 0, room=2)
    call.pushed = 2
    report(slots[0], 5)
    call.fall_silent()
    assert (call.missing, call.silent) == (2, 1)  # the third is still to be pushed, to the next producer
    call.abandoned = True
    call.fall_silent()
    assert call.missing == call.silent


def test_runs_are_cut_where_the_place_changes() -> None:
    places = [("a", 0), ("a", 0), ("a", 1), ("b", 1), ("b", 1), ("a", 0)]
    found = list(_runs([topic for topic, _ in places], [partition for _, partition in places]))
    assert found == [(("a", 0), 0, 2), (("a", 1), 2, 3), (("b", 1), 3, 5), (("a", 0), 5, 6)]


ANY = st.lists(
    st.builds(Message, st.just("t"), st.just(3), st.none() | st.binary(max_size=9), st.binary(max_size=300))
    | st.builds(MessageBlock, st.just(3), blocks("t")),
    min_size=1,
    max_size=6,
)


@settings(max_examples=200, deadline=None)
@given(ANY, st.data())
def test_blocks_go_out_as_their_records(messages: list[Message | MessageBlock], data: st.DataObject) -> None:
    call, ones = begun(*messages), singles(messages)
    _, error, given, slots = send(call, 0, room=len(ones))
    assert (error, given) == (0, [(one.key, one.value) for one in ones])
    for at in data.draw(st.permutations(range(len(ones)))):
        report(slots[at], 100 + at)
    assert (call.missing, call.offsets) == (0, [99 + end for end in ends_of(messages)])


def test_a_full_queue_may_cut_a_block() -> None:
    records = [(b"%d" % n, b"value" * n) for n in range(5)]
    call = begun(MESSAGES[0], MessageBlock(3, block("t", records)), MESSAGES[1])
    taken, error, given, _ = send(call, 0, room=3)
    assert (taken, error) == ([1, 2], -184)
    call.runs = call.runs[1:]
    taken, error, rest, _ = send(call, 3, room=9)
    assert (taken, error) == ([3, 1], 0)
    assert given[1:] + rest[:-1] == records
    assert call.sending.message_of(5) is call.sending.messages[1]
    assert call.sending.message_of(6) is call.sending.messages[2]

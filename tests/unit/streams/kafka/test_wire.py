"""Messages and blocks of them: their records, one by one."""

from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.producer import _encoded
from streams.kafka.wire import (
    _RECORD_BYTES,
    _REQUEST_BYTES,
    Message,
    MessageBlock,
    Sending,
    ends_of,
    requests_of,
    singles,
)
from tests.unit.streams.blocks import block, blocks

ONE, LAST = Message("a", 0, None, b"1"), Message("b", 2, b"k4", b"4")
MANY = MessageBlock(1, block("b", [(b"k2", b"2"), (b"k3", b"")]))
SINGLES = [ONE, Message("b", 1, b"k2", b"2"), Message("b", 1, b"k3", b""), LAST]


def test_a_block_is_its_records() -> None:
    assert singles([ONE, MANY, LAST]) == SINGLES
    assert ends_of([ONE, MANY, LAST]) == [1, 3, 4]


def test_each_record_has_its_message() -> None:
    sending = Sending([ONE, MANY, LAST], None)  # type: ignore[arg-type]  # nobody waits
    assert [sending.message_of(record) for record in range(sending.count)] == [ONE, MANY, MANY, LAST]


def test_a_block_is_translated_value_by_value() -> None:
    found = [_encoded(message, lambda topic, value: topic.encode() * 9 + value) for message in (ONE, MANY, LAST)]
    assert singles(found) == [one._replace(value=one.topic.encode() * 9 + one.value) for one in SINGLES]
    assert ends_of(found) == [1, 3, 4]


messages = st.lists(
    st.builds(Message, st.sampled_from("ab"), st.just(1), st.none() | st.binary(max_size=30), st.binary(max_size=300))
    | blocks("b").map(lambda block: MessageBlock(1, block)),
    max_size=8,
)


@given(messages, st.integers(0, 1500))
def test_a_request_holds_what_it_has_room_for(messages: list[Message | MessageBlock], room: int) -> None:
    requests = [singles(request) for request in requests_of(messages, _REQUEST_BYTES + room)]
    assert [record for request in requests for record in request] == singles(messages)
    for number, request in enumerate(requests):
        size = sum(map(bytes_of, request))
        assert len(request) == 1 or 0 < size <= room
        assert number == 0 or bytes_of(request[0]) + sum(map(bytes_of, requests[number - 1])) > room  # had no room


def bytes_of(record: Message) -> int:
    return len(record.key or b"") + len(record.value) + _RECORD_BYTES

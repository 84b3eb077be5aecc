"""Messages and blocks of them: their records, one by one."""

from streams.kafka.producer import _encoded
from streams.kafka.wire import Message, MessageBlock, Sending, ends_of, singles
from tests.unit.streams.blocks import block

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

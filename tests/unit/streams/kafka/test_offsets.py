"""Where a partition ends, asked while its leader is only just chosen."""

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.kafka.admin import offsets_of
from streams.log import LogUnavailable

PLACE = TopicPartition("taximeter.invoices", 2)


class Asked:
    """A consumer whose broker gives these answers, one after the other, and then the last for ever."""

    def __init__(self, *answers: int | tuple[int, int] | None) -> None:
        self._answers = list(answers)
        self.times = 0

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int] | None:
        assert (place, timeout) == (PLACE, 0.3)
        self.times += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, int):
            raise KafkaException(KafkaError(answer))
        return answer


def test_a_topic_made_a_moment_ago_is_asked_again() -> None:
    asked = Asked(KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE, (3, 7))
    assert offsets_of(cast(Consumer, asked), PLACE, 0.3) == (3, 7)
    assert asked.times == 3


@pytest.mark.parametrize(
    ("answer", "message", "times"),
    [
        (KafkaError.NOT_LEADER_FOR_PARTITION, "cannot ask Kafka for the end of taximeter.invoices: ", range(2, 6)),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, "cannot ask Kafka for the end of taximeter.invoices: ", range(1, 2)),
        (None, "Kafka does not say within 0.3 s where taximeter.invoices ends", range(1, 2)),
    ],
)
def test_what_does_not_pass_is_said(answer: int | None, message: str, times: range) -> None:
    asked = Asked(answer)
    with pytest.raises(LogUnavailable, match=message):
        offsets_of(cast(Consumer, asked), PLACE, 0.3)
    assert asked.times in times

"""How steps are paced."""

import pytest

from streams.kafka.ownership import StepLimits
from streams.pace import pause


@pytest.mark.parametrize(
    ("fill", "took_s", "expected"),
    [
        (0.0, 0.004, 0.004),  # little has come: the next may come soon
        (0.1, 0.06, 0.06),
        (0.1, 3.0, 0.1),  # never longer than was said
        (0.49, 0.05, 0.05),
        (0.5, 0.05, 0.0),  # much waits: on with it
        (2.0, 3.0, 0.0),
    ],
)
def test_a_pause_is_as_long_as_the_step_was(fill: float, took_s: float, expected: float) -> None:
    assert pause(fill, took_s, 0.1) == expected


def test_of_kafkas_steps_the_messages_count() -> None:
    limits = StepLimits(entries=128, pause_s=0.5, wait_s=0.25)
    assert [limits.pause(entries, 0.375) for entries in (1, 63, 64, 128)] == [0.125, 0.125, 0.0, 0.0]
    assert StepLimits(pause_s=0.0).pause(1, 0.15) == 0.0


def test_what_the_next_step_waits_anyway_is_no_more_pause() -> None:
    limits = StepLimits(pause_s=0.5, wait_s=0.25)
    assert [limits.pause(1, took_s) for took_s in (0.125, 0.25, 0.375, 9.0)] == [0.0, 0.0, 0.125, 0.25]

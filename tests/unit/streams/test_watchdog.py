"""The watchdog, with a clock of the test's own: what hangs is found, what only takes long is not."""

import subprocess
import sys
from dataclasses import dataclass, field

from streams.watchdog import EXIT_STALLED, Reading, Stall, Watchdog


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Bench:
    """A watchdog that looks once a second, at one probe."""

    reading: Reading = field(default_factory=lambda: Reading(0, True, "processing at position 7"))
    clock: Clock = field(default_factory=Clock)
    stalls: list[Stall] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dog = Watchdog(10.0, self.stalls.append, self.clock)
        self.dog.watch("partition 3", lambda: self.reading)

    def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.now += 1.0
            self.dog.look()


def test_what_has_work_and_does_not_move_is_a_stall() -> None:
    bench = Bench()
    bench.wait(11)
    assert not bench.stalls
    bench.wait(1)
    [stall] = bench.stalls
    assert stall.name == "partition 3" and stall.seconds > 10
    assert str(stall) == "partition 3 has stood still for 11 s: processing at position 7"


def test_who_waits_for_work_may_wait_for_ever() -> None:
    bench = Bench(Reading(0, False, "waiting"))
    bench.wait(1000)
    assert not bench.stalls and not bench.dog.standing()


def test_work_that_lasts_is_not_shot_as_long_as_it_moves() -> None:
    bench = Bench()
    for step in range(100):
        bench.reading = Reading(step, True, "restoring")
        bench.wait(9)
    assert not bench.stalls


def test_work_that_comes_after_a_long_wait_has_its_whole_time() -> None:
    bench = Bench(Reading(0, False, "waiting"))
    bench.wait(50)
    bench.reading = Reading(0, True, "processing")
    bench.wait(10)
    assert not bench.stalls
    bench.wait(2)
    assert bench.stalls


def test_a_process_that_was_stopped_itself_is_not_to_blame() -> None:
    bench = Bench()
    bench.wait(3)
    bench.clock.now += 3600.0
    bench.wait(7)
    assert not bench.stalls
    bench.wait(5)
    assert bench.stalls


def test_what_is_near_its_end_is_told_before() -> None:
    bench = Bench()
    bench.wait(7)
    assert not bench.dog.near()
    bench.wait(2)
    assert [stall.name for stall in bench.dog.near()] == ["partition 3"]


def test_by_default_it_says_what_and_where_shows_the_stacks_and_ends() -> None:
    program = """
import threading, time
from streams.watchdog import Reading, Watchdog
def the_thread_that_hangs():
    time.sleep(60)
threading.Thread(target=the_thread_that_hangs, daemon=True).start()
dog = Watchdog(0.2)
dog.watch("partition 5", lambda: Reading(1, True, "saving a snapshot at position 99"))
dog.start()
time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == EXIT_STALLED
    assert "stopping: partition 5 has stood still for" in done.stderr
    assert "saving a snapshot at position 99" in done.stderr
    assert "the_thread_that_hangs" in done.stderr

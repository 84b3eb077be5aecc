"""The ordered crash: at the ordered place and passing, and nowhere else."""

import os
import subprocess
import sys

import pytest

from streams.faults_hook import EXIT_STATUS

PROGRAM = """
from streams.faults_hook import fault
for passing in range(5):
    fault("after_read")
    fault("after_done")
    print(passing, flush=True)
"""


def run(order: str) -> tuple[int, int, str]:
    """The status, how many passings it lived through, and what it complained of."""
    environment = {**os.environ, "TAXIMETER_FAULT": order}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    return done.returncode, len(done.stdout.splitlines()), done.stderr


@pytest.mark.parametrize(
    ("order", "status", "lived"),
    [("", 0, 5), ("after_done", EXIT_STATUS, 0), ("after_read:3", EXIT_STATUS, 2), ("after_read:9", 0, 5)],
)
def test_it_crashes_as_ordered(order: str, status: int, lived: int) -> None:
    assert run(order)[:2] == (status, lived)


def test_an_unknown_place_is_refused() -> None:
    status, lived, complaint = run("after_lunch:1")
    assert (status, lived) == (1, 0)
    assert "after_lunch" in complaint

"""`taximeter serve` is killed in a loop, and finds its newest snapshots torn: all that it bills stays right.

The short form of `make chaos` for the embedded log: the same process, clients, faults and comparison.
"""

from pathlib import Path

import pytest

from benchmarks.chaos.embedded import Embedded
from benchmarks.chaos.embedded_faults import kill_serve, start_second, tear_snapshots
from benchmarks.chaos.row import Row

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def test_kills_and_torn_snapshots_change_nothing_and_a_second_process_is_refused(tmp_path: Path) -> None:
    row = Row("short")
    with Embedded(tmp_path / "run", rate=200) as embedded:
        embedded.load.start()
        kill_serve(embedded, row, 2)
        tear_snapshots(embedded, row, 1)
        start_second(embedded, row, 1)
        embedded.check(row)
    assert row.kills == 3 and row.events
    assert row.right, f"{row.broken}\n{row.findings}\n" + "\n".join(row.findings.examples)

"""`taximeter serve` and `taximeter load` as they are used: the whole Alibaba trace over HTTP, rated to the last digit.

However the file is cut, repeated, shuffled or interrupted, what comes out is the same.
"""

import random
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.inputs import BOOK, MAPPING, Trace, write_events
from tests.end_to_end.outputs import (
    DECEMBER,
    JANUARY,
    Outputs,
    Queries,
    check_against_sql,
    check_identical,
    check_same_but_positions,
    check_same_in_any_order,
)
from tests.end_to_end.processes import Processes, free_port

pytestmark = pytest.mark.slow


def test_what_is_answered_over_http_is_what_sql_says(plain: Outputs, calculated: Any, trace: Trace) -> None:
    check_against_sql(plain, calculated, trace.ids)


def test_a_file_that_is_sent_twice_counts_once(processes: Processes, plain: Outputs, trace: Trace) -> None:
    serve, url = processes.start_serve(BOOK)
    processes.load(url, trace.path, "--mapping", MAPPING)
    processes.load(url, trace.path, "--mapping", MAPPING)
    check_identical(_closed(url), plain)
    serve.stop()


def test_the_cut_into_batches_changes_nothing(
    processes: Processes, plain: Outputs, trace: Trace, tmp_path: Path
) -> None:
    serve, url = processes.start_serve(BOOK)
    processes.load(url, write_events(tmp_path / "first.ndjson", trace.events[:2000]), "--batch", 1)
    processes.load(url, write_events(tmp_path / "rest.ndjson", trace.events[2000:]), "--batch", 10_000)
    check_identical(_closed(url), plain)
    serve.stop()


def test_order_changes_only_when_levels_are_crossed(
    processes: Processes, plain_closed: Outputs, trace: Trace, tmp_path: Path
) -> None:
    shuffled = random.Random(2026).sample(trace.events, len(trace.events))
    half = len(shuffled) // 2
    serve, url = processes.start_serve(BOOK)
    clients = [
        processes.start_load(url, write_events(tmp_path / f"{n}.ndjson", events), "--batch", 500)
        for n, events in enumerate((shuffled[:half], shuffled[half:]))
    ]
    for client in clients:
        processes.finish(client)
    check_same_in_any_order(_closed(url, JANUARY), plain_closed)
    serve.stop()


def test_a_server_that_is_killed_twice_loses_nothing_and_counts_nothing_twice(
    processes: Processes, plain: Outputs, trace: Trace
) -> None:
    moments = random.randrange(500, 6_000), random.randrange(7_000, 12_000)
    print(f"killed once the answers included the events {moments}")
    port = free_port()
    serve, url = processes.start_serve(BOOK, port)
    client = processes.start_load(url, trace.path, "--mapping", MAPPING, "--batch", 50)
    for moment in moments:
        with Queries(url) as queries:
            queries.wait(f"0:{moment}")
        serve.kill()
        assert client.running, f"the load was over before the server was killed\n{processes.tails()}"
        serve, _ = processes.start_serve(BOOK, port)
    processes.finish(client)
    check_same_but_positions(_closed(url), plain)
    serve.stop()


def _closed(url: str, time: str = DECEMBER) -> Outputs:
    """Everything, once the periods that ended before are closed."""
    with Queries(url) as queries:
        return queries.outputs_at(time)

"""What the end-to-end tests share: the trace, what SQL makes of it, and one plain run of the embedded engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.alibaba.expected import expected
from tests.alibaba.trace import find_trace, read_events
from tests.end_to_end.inputs import BOOK, MAPPING, Trace
from tests.end_to_end.outputs import DECEMBER, JANUARY, Outputs, Queries
from tests.end_to_end.processes import Processes


@pytest.fixture(scope="session")
def trace() -> Trace:
    path = find_trace()
    return Trace(path, *read_events(path))


@pytest.fixture(scope="session")
def calculated(trace: Trace) -> dict[str, list[dict[str, Any]]]:
    """What the trace costs, by SQL alone."""
    return expected(trace.path)


@pytest.fixture(scope="session")
def plain_by_time(trace: Trace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outputs]:
    """What `taximeter serve` makes of the file, sent once, in order, in batches of 1,000; by the time that it is."""
    with Processes(tmp_path_factory.mktemp("plain")) as processes:
        serve, url = processes.start_serve(BOOK)
        processes.load(url, trace.path, "--mapping", MAPPING)
        with Queries(url) as queries:
            outputs = {time: queries.outputs_at(time) for time in (DECEMBER, JANUARY)}
        serve.stop()
    return outputs


@pytest.fixture(scope="session")
def plain(plain_by_time: dict[str, Outputs]) -> Outputs:
    """The same, with November closed and December open."""
    return plain_by_time[DECEMBER]


@pytest.fixture(scope="session")
def plain_closed(plain_by_time: dict[str, Outputs]) -> Outputs:
    """The same, with everything closed."""
    return plain_by_time[JANUARY]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    """The processes of one test. What they logged is shown where the test fails."""
    with Processes(tmp_path) as processes:
        yield processes
    print(processes.tails())

"""`ingest`, two `rate` workers and `spend` on Kafka, as they are used: the whole Alibaba trace.

The same line items and invoices as `taximeter serve` and as SQL, whoever dies and however the events come in.
"""

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from schemas import topics
from streams.log import decode_position
from tests.end_to_end.inputs import BOOK, MAPPING, Trace, write_events
from tests.end_to_end.kafka import Deployment, highest_revisions
from tests.end_to_end.outputs import DECEMBER, Outputs, Queries, check_against_sql, check_same, check_same_but_positions
from tests.end_to_end.processes import Processes

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
def deployment(kafka_bootstrap: str, processes: Processes) -> Deployment:
    return Deployment(kafka_bootstrap, processes, BOOK)


def test_four_processes_on_kafka_answer_what_one_process_does(
    deployment: Deployment, plain: Outputs, calculated: Any, trace: Trace
) -> None:
    deployment.processes.load(deployment.door, trace.path, "--mapping", MAPPING)
    outputs = _closed(deployment)
    check_same_but_positions(outputs, plain)
    check_against_sql(outputs, calculated, trace.ids)
    _check_topics(deployment, outputs)
    for process in deployment.processes.all:
        if process.running:
            process.stop()


def test_a_worker_that_is_killed_changes_nothing(deployment: Deployment, plain: Outputs, trace: Trace) -> None:
    moment, number = random.randrange(50, 500), random.randrange(2)
    print(f"worker {number} was killed when the answers included {moment} messages")
    client = deployment.processes.start_load(deployment.door, trace.path, "--mapping", MAPPING, "--batch", 100)
    with Queries(deployment.spend) as queries:
        deployment.processes.until(lambda: queries.through() >= moment, f"{moment} messages are rated", 60)
        deployment.workers[number].kill()
        reached = queries.through()
    deployment.workers[number] = deployment.start_worker()
    deployment.processes.finish(client)
    outputs = _closed(deployment, after=reached)
    check_same_but_positions(outputs, plain)
    _check_topics(deployment, outputs)


def test_events_written_straight_to_kafka_are_rated_as_well(
    deployment: Deployment, plain: Outputs, trace: Trace, tmp_path: Path
) -> None:
    first, rest = trace.events[:4000], trace.events[4000:]
    different = len(set(trace.ids[:4000]))
    deployment.produce(first)
    with Queries(deployment.spend) as queries:
        deployment.processes.until(lambda: queries.events() >= different, f"{different} events are rated", 60)
        assert queries.events() == different
    deployment.processes.load(deployment.door, write_events(tmp_path / "rest.ndjson", rest))
    outputs = _closed(deployment)
    check_same_but_positions(outputs, plain)
    _check_topics(deployment, outputs)


def _closed(deployment: Deployment, after: int = 0) -> Outputs:
    """Everything, once November is closed. `after`: messages that were rated before a kill."""
    with Queries(deployment.door) as door, Queries(deployment.spend) as spend:
        position = door.tick(DECEMBER)
        assert after < sum(decode_position(position).values()), "all had been rated before the kill"
        return spend.outputs(position)


def _check_topics(deployment: Deployment, outputs: Outputs) -> None:
    """What a plain consumer of the topics makes of them is what `spend` answers."""
    items = highest_revisions(deployment.consume(topics.LINE_ITEMS))
    said = [value for value in items.values() if not _nought(msgspec.json.decode(value))]
    check_same(sorted(outputs["line_items"]), sorted(said), "line items, on the topic and in the answers")
    invoices = highest_revisions(deployment.consume(topics.INVOICES))
    check_same(sorted(outputs["invoices"]), sorted(invoices.values()), "invoices, on the topic and in the answers")


def _nought(item: dict[str, Any]) -> bool:
    return item["quantity"] == "0" and item["amount"] == "0"

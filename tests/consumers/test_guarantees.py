"""What docs/consumers.md promises of the topics, looked at on topics that a real deployment has written."""

import json
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from schemas import topics
from taximeter.publish import FOLDER
from tests.consumers.deployment import Fed
from tests.consumers.topics import read_all
from tests.end_to_end.kafka import PARTITIONS

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]

KINDS = {"line-item": topics.LINE_ITEMS, "invoice": topics.INVOICES, "alert": topics.ALERTS}


class Record(NamedTuple):
    partition: int
    key: bytes
    value: bytes

    @property
    def output(self) -> dict[str, Any]:
        return json.loads(self.value)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def records(fed: Fed) -> dict[str, list[Record]]:
    """Kind -> everything on its topic, after a worker was killed while it had work and others took over."""
    killed = fed.deployment.workers[0]
    fed.live(late=8)
    killed.kill()
    fed.deployment.workers[0] = fed.deployment.start_worker()
    fed.live(late=8)
    fed.outputs(fed.live())
    found = {}
    for kind, topic in KINDS.items():
        found[kind] = [Record(*one) for one in read_all(fed.bootstrap, fed.prefix + topic, PARTITIONS)]
        assert found[kind]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_value_is_as_its_schema_says(kind: str, records: dict[str, list[Record]]) -> None:
    validator = Draft202012Validator(json.loads((FOLDER / f"{kind}.v1.json").read_text()))
    for record in records[kind]:
        validator.validate(record.output)


@pytest.mark.parametrize("kind", KINDS)
def test_identity_the_key_is_the_id_and_a_revision_has_one_content(kind: str, records: dict[str, list[Record]]) -> None:
    contents: dict[tuple[str, int], bytes] = {}
    for record in records[kind]:
        output = record.output
        assert record.key == output["id"].encode()
        assert contents.setdefault((output["id"], output.get("revision", 1)), record.value) == record.value


@pytest.mark.parametrize("kind", KINDS)
def test_order_a_customer_has_one_partition_and_revisions_rise_there(
    kind: str, records: dict[str, list[Record]]
) -> None:
    partitions: dict[str, set[int]] = defaultdict(set)
    told: dict[str, list[int]] = defaultdict(list)
    for record in records[kind]:
        partitions[record.output["customer"]].add(record.partition)
        told[record.output["id"]].append(record.output.get("revision", 1))
    assert {len(found) for found in partitions.values()} == {1}
    # What is told again after a take-over is told from some revision on to the end: the last is the highest.
    assert all(revisions[-1] == max(revisions) for revisions in told.values())
    if kind == "line-item":
        assert max(len(set(revisions)) for revisions in told.values()) > 1


def test_finality_an_issued_invoice_never_changes(records: dict[str, list[Record]]) -> None:
    told: dict[str, set[bytes]] = defaultdict(set)
    for record in records["invoice"]:
        told[record.output["id"]].add(record.value)
        assert (record.output["revision"], record.output["status"]) == (1, "issued")
    assert {len(values) for values in told.values()} == {1}
    assert {record.output["kind"] for record in records["invoice"]} == {"threshold", "period", "correction"}


def test_the_invoices_of_a_closed_period_sum_to_its_line_items(records: dict[str, list[Record]]) -> None:
    """To the cent: what comes late is on a correction."""
    lines: dict[str, dict[str, Any]] = {}
    for record in records["line-item"]:
        if lines.get(record.output["id"], {"revision": 0})["revision"] < record.output["revision"]:
            lines[record.output["id"]] = record.output
    invoices = {record.output["id"]: record.output for record in records["invoice"]}
    billed: dict[str, Decimal] = defaultdict(Decimal)
    for invoice in invoices.values():
        for line in invoice["lines"]:
            if line["line_item"] is not None:
                billed[line["line_item"]] += Decimal(line["amount"])
    assert len(billed) > 100
    for id, amount in billed.items():
        assert amount == Decimal(lines[id]["amount"]).quantize(Decimal("0.01"), ROUND_HALF_UP), lines[id]

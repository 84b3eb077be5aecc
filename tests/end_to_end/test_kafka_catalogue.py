"""The catalogue on Kafka: every door answers the same versions, and no change made at one is lost at another."""

import uuid
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.processes import Processes
from tests.face.running import BOOK, event

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def test_two_doors_and_one_started_later_agree(kafka_bootstrap: str, processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "book.yaml").write_text(BOOK)
    kafka = ("--bootstrap", kafka_bootstrap, "--prefix", f"cat-{uuid.uuid4().hex[:8]}.", "--partitions", 2)
    started = processes.start("ingest", "ingest", "--port", 0, "--catalogue", tmp_path / "book.yaml", *kafka)
    first = httpx.Client(base_url=processes.ready(started), timeout=30)
    second = httpx.Client(
        base_url=processes.ready(processes.start("ingest", "ingest", "--port", 0, *kafka)), timeout=30
    )
    for number, door in enumerate((first, second, first, second), 2):
        # Whoever wrote last, the other door knows it when it is asked to change it.
        answer = door.put("/v1/customers/acme", json={"name": f"{number}"}, headers={"if-match": f'"{number - 1}"'})
        assert answer.status_code == 200, answer.text
        assert answer.json()["version"] == number and answer.json()["position"].count(":") == 2
    assert first.put("/v1/customers/acme", json={}, headers={"if-match": '"4"'}).status_code == 412
    third = httpx.Client(base_url=processes.ready(processes.start("ingest", "ingest", "--port", 0, *kafka)), timeout=30)
    assert third.get("/v1/customers/acme").json() == second.get("/v1/customers/acme").json()
    assert third.get("/v1/catalogue").headers["etag"] == second.get("/v1/catalogue").headers["etag"]
    body = '{"events": [' + event("a") + "]}"
    simulated = third.post("/v1/simulate", content=body, headers={"content-type": "application/json"}).json()
    assert simulated["accepted"] == 1
    for client in (first, second, third):
        client.close()

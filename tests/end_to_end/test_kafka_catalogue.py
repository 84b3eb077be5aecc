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
    # Another tenant's documents of the same ids are others, at every door.
    for door, price in ((first, "3"), (second, "4")):
        body = '{"subjects": ["team-' + price + '"]}'
        json_type = {"content-type": "application/json"}
        assert door.put("/v1/customers/acme?tenant=two", content=body, headers=json_type).status_code in (200, 201)
    for door in (first, second):
        assert door.get("/v1/customers/acme").json()["version"] == 5
    fourth = httpx.Client(
        base_url=processes.ready(processes.start("ingest", "ingest", "--port", 0, *kafka)), timeout=30
    )
    for door in (second, fourth):
        found = door.get("/v1/customers/acme?tenant=two").json()
        assert (found["version"], found["document"]["subjects"]) == (2, ["team-4"])
        assert door.get("/v1/price-books?tenant=two").json()["price_books"] == []
    fourth.close()
    for client in (first, second, third):
        client.close()

"""`taximeter status` on Kafka: of each process, of the topics when all are gone, and of a journal tampered with."""

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from confluent_kafka import Producer

from schemas import topics
from streams.journal import REPAIR, Batch, Open, encode_record
from streams.processor import Counts, Summary
from tests.end_to_end.kafka import PARTITIONS, Deployment
from tests.end_to_end.processes import Processes, free_port
from tests.face.running import BOOK, event, taximeter

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def status(*words: object) -> tuple[int, dict[str, Any]]:
    done = taximeter("status", "--json", *map(str, words))
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.timeout(200)
def test_every_process_and_the_topics_alone_say_the_same(
    kafka_bootstrap: str, processes: Processes, tmp_path: Path
) -> None:
    (tmp_path / "book.yaml").write_text(BOOK)
    deployment = Deployment(kafka_bootstrap, processes, tmp_path / "book.yaml")
    port = free_port()
    watched = processes.start(
        "rate", "rate", "--snapshots", "snapshots", "--tick", "1s", "--health-port", port, *deployment._kafka
    )
    deployment.workers.append(watched)
    deployment.wait_owned()
    events = [event(f"{n}", subject=f"customer-{n % 40}") for n in range(400)]
    body = "\n".join([*events, *events[:30]])
    answer = httpx.post(
        deployment.door + "/v1/events", content=body, headers={"content-type": "application/x-ndjson"}, timeout=30
    )
    assert answer.status_code == 200, answer.text
    position = {"position": answer.json()["position"], "wait_ms": 30_000}
    assert httpx.get(deployment.spend + "/v1/line-items", params=position, timeout=40).status_code == 200

    url = f"http://127.0.0.1:{port}"
    ready = httpx.get(url + "/health/ready", timeout=30)
    assert ready.status_code == 200 and ready.json()["conditions"]["caught_up"], ready.text
    assert httpx.get(url + "/health/live", timeout=30).json() == {"status": "live"}
    code, worker = status("--url", url)
    assert code == 0 and worker["host"] == "kafka worker" and worker["partitions"]
    assert 'taximeter_reconciled{partition="' in httpx.get(url + "/metrics", timeout=30).text
    door = httpx.get(deployment.door + "/metrics", timeout=30).text
    assert 'taximeter_door_events_total{verdict="accepted"} 400.0' in door
    code, spend = status("--url", deployment.spend)
    assert code == 0 and spend["host"] == "spend"
    assert sum(one["totals"]["events"] for one in spend["partitions"]) == 430

    for process in (*deployment.workers, *processes.all):
        if process.running:
            process.kill()
    outside = ("--bootstrap", kafka_bootstrap, "--prefix", deployment._prefix, "--partitions", PARTITIONS)
    code, found = status(*outside)
    assert code == 0 and found["host"] == "kafka topics", found
    totals = [one["totals"] for one in found["partitions"]]
    assert sum(one["events"] for one in totals) == 430
    assert sum(one["accepted"] for one in totals) == sum(one["rated"] for one in totals) == 400
    assert sum(one.get("duplicates", 0) for one in totals) == 30
    assert all(one["writer"] and one["epoch"] and one["end"] >= one["position"] for one in found["partitions"])

    _tamper(kafka_bootstrap, deployment, partition=1)
    code, found = status(*outside, "--whole-journal")
    assert code == 1 and not found["reconciled"]
    [finding] = found["partitions"][1]["differences"]
    assert finding["what"] == "journal: accepted" and finding["expected"] != finding["found"]
    assert "does not reconcile" in taximeter("status", *map(str, outside)).stdout

    _append(kafka_bootstrap, deployment, 0, b"\x01torn")
    [finding] = status(*outside)[1]["partitions"][0]["differences"]
    assert finding["what"].startswith("journal: the record at offset") and "found 5 bytes" in finding["found"]
    epoch = found["partitions"][0]["epoch"]
    _append(kafka_bootstrap, deployment, 0, encode_record(Open(epoch + 1, f"{REPAIR}1")))
    assert "differences" not in status(*outside)[1]["partitions"][0], "a repair has left it behind"


def _tamper(bootstrap: str, deployment: Deployment, partition: int) -> None:
    """One more step in the journal, which claims one event too many."""
    one = status(*deployment._kafka)[1]["partitions"][partition]
    through = msgspec.convert(one["totals"], Counts)
    wrong = msgspec.structs.replace(through, entries=through.entries + 1, accepted=through.accepted + 1)
    step = Batch(one["epoch"], one["position"], one["position"] + 1, Summary(entries=1, through=wrong))
    _append(bootstrap, deployment, partition, encode_record(step))


def _append(bootstrap: str, deployment: Deployment, partition: int, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce(deployment._prefix + topics.JOURNAL, value, key=b"%d" % partition, partition=partition)
    assert producer.flush(10) == 0

"""The archive and the audit on Kafka: a killed archiver, a catch-up, and a line item that somebody has changed."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer

from schemas import topics
from schemas.identity import partition_of
from tests.end_to_end.kafka import PARTITIONS, Deployment
from tests.end_to_end.processes import ROOT, Process, Processes
from tests.face.running import BOOK, event

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(240)]


def send(door: str, events: list[str]) -> None:
    headers = {"content-type": "application/x-ndjson"}
    answer = httpx.post(f"{door}/v1/events", content="\n".join(events), headers=headers, timeout=30)
    assert answer.status_code == 200 and answer.json()["rejected"] == 0, answer.text


def test_what_kafka_holds_is_archived_and_audited(kafka_bootstrap: str, processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "book.yaml").write_text(BOOK)
    running = Deployment(kafka_bootstrap, processes, tmp_path / "book.yaml")
    kafka = ("--bootstrap", kafka_bootstrap, "--prefix", running._prefix, "--partitions", PARTITIONS)

    def events(first: int) -> list[str]:
        return [event(f"{n}", subject=f"customer-{n % 7}") for n in range(first, first + 200)]

    def audit() -> tuple[int, dict]:  # type: ignore[type-arg]
        words = ["audit", "--archive", "archive", "--lateness", "0", "--json", *kafka]
        command = [sys.executable, "-m", "taximeter", *map(str, words)]
        run = subprocess.run(
            command,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if not run.stdout:
            assert "covers nothing" in run.stderr, run.stderr
            return run.returncode, {"events": 0, "not_audited": ["everything"]}
        return run.returncode, json.loads(run.stdout)

    def archiver() -> Process:
        return processes.start("archive", "archive", "--to", "archive", "--every", "1s", *kafka)

    send(running.door, events(0))
    killed = archiver()
    processes.until(lambda: any((tmp_path / "archive").rglob("*.parquet")), "a first file is there", 40)
    killed.kill()
    send(running.door, [*events(200), *events(100)])  # the last hundred of the first, and the first of these, again
    assert httpx.post(f"{running.door}/v1/ticks", json={"time": "2026-12-02T00:00:00Z"}, timeout=30).status_code == 200
    later = archiver()
    processes.until(lambda: audit()[1]["events"] == 600, "the archive covers everything", 60)
    processes.until(lambda: not audit()[1]["not_audited"], "the engine has seen everything", 60)
    status, report = audit()
    assert (status, report["differences"], report["not_audited"]) == (0, [], [])
    assert (report["events"], report["duplicates"], report["invoices"]) == (600, 200, 7)

    lines = [json.loads(value) for value in running.consume(topics.LINE_ITEMS) if b'"customer-3"' in value]
    line = max(lines, key=lambda line: line["revision"])
    changed = line | {"revision": 10**9, "amount": "1234"}
    producer = Producer({"bootstrap.servers": kafka_bootstrap})
    partition = partition_of("default", "customer-3", PARTITIONS)
    value = json.dumps(changed).encode()
    producer.produce(running._prefix + topics.LINE_ITEMS, value, line["id"].encode(), partition=partition)
    assert producer.flush(20) == 0
    send(running.door, [event("later", "2026-12-05T00:00:00Z", subject="customer-3")])
    processes.until(lambda: bool(audit()[1].get("differences")), "the changed line item is found", 90)
    later.stop()
    (difference,) = audit()[1]["differences"]
    assert difference["id"] == line["id"]
    assert {"name": "amount", "expected": line["amount"], "found": "1234"} in difference["fields"]

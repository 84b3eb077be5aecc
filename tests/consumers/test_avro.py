"""Outputs in Avro by a schema registry: written so, read by others, read by ourselves, and never dropped."""

import io
import json
import struct
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import fastavro
import httpx
import pytest
from confluent_kafka import Producer

from schemas import topics
from tests.consumers.deployment import BOOK, Fed
from tests.consumers.registry import SchemaRegistry
from tests.consumers.topics import read_all
from tests.end_to_end.kafka import PARTITIONS, Deployment
from tests.end_to_end.outputs import Queries
from tests.end_to_end.processes import Process, Processes
from tests.face.running import taximeter
from tests.notifications.receiver import SECRET, Receiver

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(280)]


class InAvro(Deployment):
    """A deployment whose workers write Avro, and whose spend store reads it."""

    def __init__(self, bootstrap: str, processes: Processes, book: Path, registry: SchemaRegistry) -> None:
        self.registry = registry
        super().__init__(bootstrap, _WithRegistry(processes, registry), book)  # type: ignore[arg-type]

    def start_worker(self) -> Process:
        return self.processes.start("rate", "rate", "--format", "avro", *self.periods, *self._kafka)

    periods = ("--snapshots", "snapshots", "--tick", 0, "--lateness", 0)


class _WithRegistry:
    """Processes, where those that read or write outputs are told of the registry."""

    def __init__(self, processes: Processes, registry: SchemaRegistry) -> None:
        self._processes, self._registry = processes, registry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processes, name)

    def start(self, name: str, *arguments: object) -> Process:
        told = ("--schema-registry", self._registry.url) if name in ("rate", "spend", "webhooks") else ()
        return self._processes.start(name, *arguments, *told)


@pytest.fixture(scope="module")
def registry(broker_module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SchemaRegistry]:
    with SchemaRegistry(broker_module, tmp_path_factory.mktemp("registry")) as registry:
        yield registry


def test_outputs_in_avro_are_what_they_are_in_json(
    kafka_bootstrap: str, registry: SchemaRegistry, tmp_path: Path
) -> None:
    with Processes(tmp_path) as processes:
        running = InAvro(kafka_bootstrap, processes, BOOK, registry)
        fed = Fed(kafka_bootstrap, processes, running)
        for late in (0, 8):
            position = fed.live(late)
        said = fed.outputs(position)
        assert len(said["invoices"]) > 20 and said["alerts"]

        # A reader that knows nothing of ours: the registry's schema, and fastavro.
        for topic, name in (
            (topics.LINE_ITEMS, "line_items"), (topics.INVOICES, "invoices"), (topics.ALERTS, "alerts"),
        ):  # fmt: skip
            latest = registry.get(f"/subjects/{running._prefix}{topic}-value/versions/latest")
            highest: dict[str, Any] = {}
            for _, key, value in read_all(kafka_bootstrap, running._prefix + topic, PARTITIONS):
                magic, id = struct.unpack(">bI", value[:5])
                assert (magic, id) == (0, latest["id"])  # type: ignore[index]
                schema = json.loads(registry.get(f"/schemas/ids/{id}")["schema"])  # type: ignore[index]
                datum: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), fastavro.parse_schema(schema), None)
                assert datum["id"].encode() == key
                if datum.get("revision", 1) > highest.get(key, {"revision": 0}).get("revision", 1):
                    highest[key] = datum
                highest.setdefault(key, datum)
            amount = {"line_items": "amount", "invoices": "total", "alerts": "spend"}[name]
            assert {one["id"]: one[amount] for one in highest.values()} == {
                one["id"]: Decimal(one[amount]) for one in said[name]
            }
            one = next(iter(highest.values()))
            assert one["period"]["start"].isoformat().startswith("2026-11-") and one["period"]["start"].tzinfo

        # Webhooks have the JSON, letter by letter as a deployment in JSON would have it.
        with Receiver() as receiver:
            file = tmp_path / "endpoints.yaml"
            file.write_text(f"endpoints: {{a: {{url: '{receiver.url}', secrets: [{SECRET}], start: beginning}}}}\n")
            words = ("run", "--endpoints", file, "--data", tmp_path / "queue", *running._kafka)
            running.processes.start("webhooks", "webhooks", *words)
            calls = receiver.wait_for(len(said["invoices"]) + len(said["alerts"]))
            told = {call.content["data"]["id"]: call.content["data"] for call in calls}
            assert told == {one["id"]: one for name in ("invoices", "alerts") for one in said[name]}

        _audit(running, processes, tmp_path, registry)
        _without_the_registry(running, processes, tmp_path)


def _audit(running: Deployment, processes: Processes, folder: Path, registry: SchemaRegistry) -> None:
    """The audit finds nothing to object to; without the registry it says what it needs."""
    archiver = processes.start("archive", "archive", "--to", "archive", "--every", "1s", *running._kafka)
    words = ("audit", "--archive", str(folder / "archive"), "--lateness", "0", *map(str, running._kafka))
    deadline = time.monotonic() + 60
    while (done := taximeter(*words, "--json", "--schema-registry", registry.url, cwd=folder)).returncode:
        assert time.monotonic() < deadline, done.stdout[-2000:] + done.stderr
        time.sleep(1)
    report = json.loads(done.stdout)
    assert report["differences"] == [] and report["invoices"] > 20
    done = taximeter(*words, cwd=folder)
    assert done.returncode == 1
    assert "taximeter.line-items holds Avro: give --schema-registry, as the workers have it" in done.stderr
    archiver.stop()


def _without_the_registry(running: Deployment, processes: Processes, folder: Path) -> None:
    """A spend store that is not told of it says so and ends; it has passed nothing over."""
    blind = processes.start("blind", "spend", "--port", 0, "--data", "blind", *running._kafka)
    assert blind.wait(60) == 1 and "holds Avro: give --schema-registry" in blind.log


def test_a_worker_that_cannot_register_does_not_start(
    kafka_bootstrap: str, registry: SchemaRegistry, tmp_path: Path
) -> None:
    prefix = f"refused-{time.time_ns()}."
    kafka = ("--bootstrap", kafka_bootstrap, "--prefix", prefix, "--snapshots", str(tmp_path / "snapshots"))

    def said(*words: str) -> str:
        done = taximeter("rate", *kafka, "--format", "avro", *words, timeout=60)
        assert done.returncode == 1, done.stderr
        return done.stderr

    assert "found --format avro, expected --schema-registry with it" in said()
    assert "expected a URL such as https://user:password@registry:8081" in said("--schema-registry", "registry:8081")
    gone = said("--schema-registry", "http://me:secret@127.0.0.1:1")
    assert "the schema registry at http://127.0.0.1:1 does not answer" in gone and "secret" not in gone
    subject = f"{prefix}{topics.INVOICES}-value"
    other = {"type": "record", "name": "taximeter.Invoice", "fields": [{"name": "id", "type": "int"}]}
    body = {"schema": json.dumps(other)}
    assert httpx.post(f"{registry.url}/subjects/{subject}/versions", json=body, timeout=10).status_code == 200
    rule = httpx.put(f"{registry.url}/config/{subject}", json={"compatibility": "BACKWARD"}, timeout=10)
    assert rule.status_code == 200
    refused = said("--schema-registry", registry.url)
    assert f"answered 409 to POST /subjects/{subject}/versions" in refused


def test_a_topic_may_hold_both(kafka_bootstrap: str, registry: SchemaRegistry, tmp_path: Path) -> None:
    """A deployment that turns to Avro: what stood in JSON stays, and everything is read."""
    with Processes(tmp_path) as processes:
        running = Deployment(kafka_bootstrap, _WithRegistry(processes, registry), BOOK)  # type: ignore[arg-type]
        fed = Fed(kafka_bootstrap, processes, running)
        before = fed.outputs(fed.live())
        for worker in running.workers:
            worker.stop()
        running.workers = [
            running.processes.start("rate", "rate", "--format", "avro", *InAvro.periods, *running._kafka)
        ]
        after = fed.outputs(fed.live(late=5))
        heads = {value[:1] for _, _, value in read_all(kafka_bootstrap, running._prefix + topics.INVOICES, PARTITIONS)}
        assert heads == {b"{", b"\0"}
        assert {one["id"] for one in before["invoices"]} < {one["id"] for one in after["invoices"]}
        _repair(running, registry, tmp_path)
        again = processes.start(
            "again", "spend", "--port", 0, "--data", "again", "--schema-registry", registry.url, *running._kafka
        )
        with Queries(processes.ready(again)) as queries, Queries(running.spend) as first:
            position = fed.live()
            assert queries.outputs(position) == first.outputs(position)


def _repair(running: Deployment, registry: SchemaRegistry, folder: Path) -> None:
    """The end of each journal is damaged: the repair reads what stands in Avro, and writes no other format."""
    (worker,) = running.workers
    worker.stop()
    producer = Producer({"bootstrap.servers": running._bootstrap, "enable.idempotence": True})
    for partition in range(PARTITIONS):
        producer.produce(running._prefix + topics.JOURNAL, b"spoiled", b"%d" % partition, partition=partition)
    assert producer.flush(30) == 0
    before = len(read_all(running._bootstrap, running._prefix + topics.LINE_ITEMS, PARTITIONS))
    words = ("repair", *map(str, running._kafka), "--snapshots", "snapshots", "--lateness", "0")
    blind = taximeter(*words, cwd=folder)
    assert (blind.returncode, "holds Avro: give --schema-registry" in blind.stderr) == (1, True), blind.stdout
    done = taximeter(*words, "--format", "avro", "--schema-registry", registry.url, cwd=folder, timeout=120)
    assert done.returncode == 0 and "All that was damaged is mended." in done.stdout, done.stdout + done.stderr
    after = read_all(running._bootstrap, running._prefix + topics.LINE_ITEMS, PARTITIONS)
    assert {value[:1] for _, _, value in after[before:]} <= {b"\0"}
    running.workers = [running.processes.start("rate", "rate", "--format", "avro", *InAvro.periods, *running._kafka)]

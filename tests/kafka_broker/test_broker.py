"""infra/kafka/broker.py: one real broker through its life, and the errors that a newcomer meets."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import AdminClient, NewTopic

SCRIPT = Path(__file__).resolve().parents[2] / "infra" / "kafka" / "broker.py"


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script as a user runs it, with `environment` over the present one."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)


def create_topic(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=2, replication_factor=1)])[topic].result(timeout=30)


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True})
    failures: list[KafkaError] = []
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(30) == 0
    assert failures == []


def consume(bootstrap: str, topic: str, count: int, group: str) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    values: list[bytes] = []
    deadline = time.monotonic() + 60
    while len(values) < count and time.monotonic() < deadline:
        values += [message.value() for message in consumer.consume(count, timeout=1) if not message.error()]
    consumer.close()
    return sorted(values)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.kafka
def test_what_was_acknowledged_survives_kill_and_stop(new_broker: Callable[..., Any]) -> None:
    broker = new_broker()
    address = broker.bootstrap
    create_topic(address, "survivors")
    values = [b"%04d" % number for number in range(1_000)]
    produce(address, "survivors", values[:500])

    broker.kill()
    assert not broker.is_running()
    broker.restart()
    produce(address, "survivors", values[500:])
    broker.stop()
    broker.restart()

    assert broker.bootstrap == address
    assert consume(address, "survivors", len(values), "after") == values


@pytest.mark.kafka
def test_topics_are_not_made_by_mistake(kafka_bootstrap: str) -> None:
    if os.environ.get("KAFKA_BOOTSTRAP"):
        pytest.skip("the broker that KAFKA_BOOTSTRAP names has settings of its own")
    producer = Producer({"bootstrap.servers": kafka_bootstrap, "topic.metadata.propagation.max.ms": 500})
    refusals: list[str] = []
    producer.produce("misspelt", b"", on_delivery=lambda error, _: refusals.append(error.name()))
    producer.flush(30)
    assert refusals == ["UNKNOWN_TOPIC_OR_PART"]
    assert "misspelt" not in AdminClient({"bootstrap.servers": kafka_bootstrap}).list_topics(timeout=30).topics


@pytest.mark.kafka
def test_command_line_from_start_to_stop(tmp_path: Path) -> None:
    data = tmp_path / "data"
    try:
        started = run("start", "--port", "0", "--data", data)
        assert started.returncode == 0, started.stderr
        address = started.stdout.strip()
        assert address.startswith("127.0.0.1:")
        create_topic(address, "kept")
        assert run("status", "--data", data).stdout.startswith(f"serving: {address}")

        again = run("start", "--port", "0", "--data", data)
        assert (again.returncode, again.stdout) == (0, started.stdout)
        assert "already running" in again.stderr
    finally:
        stopped = run("stop", "--data", data)
    assert stopped.returncode == 0, stopped.stderr
    assert run("status", "--data", data).returncode == 1
    assert run("stop", "--data", data).returncode == 0, "stopping twice is no error"


@pytest.mark.kafka
def test_a_broker_ends_with_the_process_that_started_it(tmp_path: Path, broker_module: ModuleType) -> None:
    program = (
        f"import sys, time; sys.path.insert(0, {str(SCRIPT.parent)!r}); from broker import Broker\n"
        f"Broker({str(tmp_path)!r}).start(); print('up', flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        broker = broker_module.Broker(tmp_path)
        assert broker.is_running()
        process.send_signal(signal.SIGKILL)
    assert wait_until(lambda: not broker.is_running())


@pytest.mark.kafka
def test_a_start_that_fails_shows_what_kafka_said(broker_module: ModuleType, tmp_path: Path) -> None:
    broker = broker_module.Broker(tmp_path, settings={"num.io.threads": "many"})
    with pytest.raises(broker_module.BrokerError, match=r"num\.io\.threads"):
        broker.start()
    assert not broker.is_running()


@pytest.mark.kafka
def test_a_second_broker_on_the_same_data_is_refused(new_broker: Callable[..., Any], broker_module: ModuleType) -> None:
    first = new_broker()
    with pytest.raises(broker_module.BrokerError, match=f"already runs on .*{first.bootstrap}"):
        broker_module.Broker(first.data_dir).start()
    assert first.is_running()


@pytest.mark.kafka
def test_a_taken_port_is_named(broker_module: ModuleType, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(broker_module.BrokerError, match=rf"Port {port} .* is taken.*--port 0"):
            broker_module.Broker(tmp_path, port=port).start()


def test_a_stranger_with_the_recorded_process_id_is_left_alone(broker_module: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "broker.json").write_text(f'{{"pid": {os.getpid()}, "port": 19092}}')
    broker = broker_module.Broker(tmp_path)
    assert not broker.is_running()
    broker.kill()  # would end this test run


def test_missing_java_is_explained(tmp_path: Path) -> None:
    answer = run("start", "--port", "0", "--data", tmp_path / "data", PATH=str(tmp_path), JAVA_HOME="")
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: Kafka needs Java 17 or newer, and no `java` was found. Install")
    assert not (tmp_path / "data").exists()


def test_old_java_is_explained(tmp_path: Path) -> None:
    old = tmp_path / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    answer = run("fetch", PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}", JAVA_HOME="")
    assert answer.returncode == 1
    assert "is Java 11" in answer.stderr


@pytest.mark.kafka
def test_missing_maven_is_explained(tmp_path: Path) -> None:
    java = shutil.which("java")
    assert java is not None
    (tmp_path / "java").symlink_to(Path(java).resolve())
    answer = run("fetch", "--jars", tmp_path / "jars", PATH=str(tmp_path), JAVA_HOME="")
    assert answer.returncode == 1
    assert "error: Fetching Kafka's jars needs Maven, and no `mvn` was found" in answer.stderr


@pytest.mark.kafka
def test_a_damaged_jar_is_named(broker_module: ModuleType, tmp_path: Path) -> None:
    sound = broker_module.Jars()
    sound.fetch()
    damaged = broker_module.Jars(tmp_path / "jars")
    shutil.copytree(sound.folder / "lib", damaged.folder / "lib")
    shutil.copy(sound.list, damaged.list)
    assert damaged.fault() is None

    victim = next((damaged.folder / "lib").glob("kafka-clients-*.jar"))
    victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.raises(broker_module.BrokerError, match=rf"{victim.name} is damaged.* fetch"):
        broker_module.Broker(tmp_path / "data", jars=damaged.folder).start()

    victim.unlink()
    assert damaged.fault() == f"{victim.name} is missing"

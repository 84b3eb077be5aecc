"""SASL and TLS against a real broker: every process, with both Kafka clients, by the same options."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from streams.kafka.admin import TopicError, ensure_topics
from streams.kafka.settings import KafkaSettings
from tests.access.certificates import Authority
from tests.end_to_end.processes import READY_S, Processes
from tests.face.running import BOOK, event
from tests.kafka.deployment import NEEDED

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]

USER, PASSWORD = "alice", "alice-secret"
_JAAS = "org.apache.kafka.common.security"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def broker(broker_module: Any, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A broker that listens with TLS, with SASL, and with both."""
    server = authority.issue("broker")
    keystore = server.cert.with_suffix(".both")
    keystore.write_text(server.key.read_text() + server.cert.read_text())
    settings = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.pair.cert),
        "listener.name.tls.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
    }
    for listener in ("sasl", "both"):
        settings[f"listener.name.{listener}.plain.sasl.jaas.config"] = (
            f'{_JAAS}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        )
        for mechanism in ("scram-sha-256", "scram-sha-512"):
            settings[f"listener.name.{listener}.{mechanism}.sasl.jaas.config"] = (
                f"{_JAAS}.scram.ScramLoginModule required;"
            )
    listeners = {"TLS": "SSL", "SASL": "SASL_PLAINTEXT", "BOTH": "SASL_SSL"}
    folder = tmp_path_factory.mktemp("secured")
    with broker_module.Broker(folder, settings=settings, listeners=listeners, scram={USER: PASSWORD}) as broker:
        yield broker


def security(kind: str, authority: Authority, folder: Path, password: str = PASSWORD) -> tuple[str, list[str]]:
    """The listener, and the options `--security` for it. Passwords stand in files."""
    secret = folder / "password"
    secret.write_text(password + "\n")
    trust = f"ssl.ca.location={authority.pair.cert}"
    if kind == "mutual TLS":
        client = authority.issue("client")
        names = [f"ssl.certificate.location={client.cert}", f"ssl.key.location={client.key}"]
        return "TLS", ["security.protocol=SSL", trust, *names]
    sasl = [f"sasl.mechanisms={kind.split(maxsplit=1)[0]}", f"sasl.username={USER}", f"sasl.password=@{secret}"]
    if kind.endswith("TLS"):
        return "BOTH", ["security.protocol=SASL_SSL", trust, *sasl]
    return "SASL", ["security.protocol=SASL_PLAINTEXT", *sasl]


@pytest.mark.parametrize("kind", ["PLAIN", "SCRAM-SHA-512 over TLS", "mutual TLS"])
def test_from_the_door_to_the_spend_query(kind: str, broker: Any, authority: Authority, tmp_path: Path) -> None:
    listener, names = security(kind, authority, tmp_path)
    properties = tmp_path / "kafka.properties"
    properties.write_text("# as librdkafka has them\n\n" + "\n".join(names) + "\n")
    book = tmp_path / "book.yaml"
    book.write_text(BOOK)
    prefix = "".join(filter(str.isalnum, kind)) + "."
    kafka = ("--bootstrap", broker.address(listener), "--prefix", prefix, "--security", f"@{properties}")
    with Processes(tmp_path) as processes:
        ingest = processes.start("ingest", "ingest", "--port", 0, "--catalogue", book, "--max-ahead", 0, *kafka)
        rate = processes.start("rate", "rate", "--snapshots", "snapshots", "--tick", 0, *kafka)
        spend = processes.start("spend", "spend", "--port", 0, "--data", "spend", *kafka)
        door, queries = processes.ready(ingest), processes.ready(spend)
        processes.until(lambda: rate.partitions() == [0, 1, 2, 3] or not rate.running, "ownership", READY_S)
        answer = httpx.post(
            f"{door}/v1/events", content=event("e1"), headers={"content-type": "application/json"}, timeout=30
        )
        assert answer.status_code == 200, answer.text
        seen = httpx.get(
            f"{queries}/v1/customers/acme/spend",
            params={"position": answer.json()["position"], "wait_ms": 30_000},
            timeout=60,
        )
        assert seen.status_code == 200, seen.text + processes.tails()
        assert seen.json()["currencies"][0]["total"] == "1.01"
        rate.stop()
        ingest.stop()
        spend.stop()


@pytest.mark.parametrize("kind", ["PLAIN", "SCRAM-SHA-256 over TLS"])
def test_a_wrong_password_is_said_and_comes_to_nothing(
    kind: str, broker: Any, authority: Authority, tmp_path: Path
) -> None:
    from taximeter.options import read_security

    listener, names = security(kind, authority, tmp_path, password="wrong")
    settings = KafkaSettings(broker.address(listener), prefix="wrong.", security=read_security(names))
    with pytest.raises(TopicError, match="cannot ask Kafka"):
        ensure_topics(settings, NEEDED)

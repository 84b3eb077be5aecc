"""How to reach Kafka, and the numbers that every process must agree on."""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_AIOKAFKA_NAMES: Final = {
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
}
_SSL_NAMES: Final = frozenset(
    {
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "enable.ssl.certificate.verification",
    }
)


_logger = logging.getLogger("librdkafka")
"""It would write to standard error by itself, past our format."""


@dataclass(frozen=True)
class KafkaSettings:
    """One Kafka cluster as Taximeter uses it. All processes of a deployment have the same."""

    bootstrap: str
    """`host:port`, several with commas."""
    prefix: str = ""
    """Stands before every topic's and group's name, so that deployments can share a cluster."""
    partitions: int = 4
    """Of `taximeter.events` and all topics in step with it. Never changed in place."""
    replication: int = 1
    """Copies of each partition. Production: 3."""
    min_insync: int = 1
    """Copies that must have a record before it counts as written (`acks=all`). Production: 2."""
    session_timeout_s: float = 6.0
    """A worker that is silent for so long loses its partitions."""
    heartbeat_s: float = 1.5
    delivery_timeout_s: float = 10.0
    """A record that is not durable by then has failed: the caller is told so."""
    message_bytes_max: int = 4 * 1024 * 1024
    retention_days: int = 40
    """How long topics that are kept by time hold a record. Longer than the deduplication window and than the age of
    the oldest snapshot: a restore reads the source and the journal from there."""
    security: Mapping[str, str] = field(default_factory=dict, repr=False)
    """librdkafka's names: `security.protocol`, `sasl.mechanisms`, `sasl.username`, `sasl.password`, `ssl.ca.location`,
    `ssl.certificate.location`, `ssl.key.location`, `ssl.key.password`."""

    schema_registry: str = field(default="", repr=False)
    """URL, `user:password@` in it where it wants them. Needed to write outputs in Avro, and to read such."""
    avro: bool = False
    """Line items, invoices and alerts are written in Avro (`streams.kafka.avro`) in place of JSON."""

    def __post_init__(self) -> None:
        if self.avro and not self.schema_registry:
            raise ValueError("found --format avro, expected --schema-registry with it")
        unknown = set(self.security) - set(_AIOKAFKA_NAMES) - _SSL_NAMES
        if unknown:
            known = sorted(set(_AIOKAFKA_NAMES) | _SSL_NAMES)
            raise ValueError(f"Kafka security: found {sorted(unknown)}, expected some of {known}")
        if self.partitions < 1 or not 1 <= self.min_insync <= self.replication:
            raise ValueError(
                f"found partitions={self.partitions}, min_insync={self.min_insync}, replication={self.replication}; "
                "expected partitions >= 1 and 1 <= min_insync <= replication"
            )
        if self.heartbeat_s * 3 > self.session_timeout_s:
            raise ValueError(
                f"found heartbeat_s={self.heartbeat_s}, expected at most a third of "
                f"session_timeout_s={self.session_timeout_s}"
            )

    def topic(self, name: str) -> str:
        """The name that the cluster knows a topic by."""
        return self.prefix + name

    def confluent(self) -> dict[str, Any]:
        """What every librdkafka client needs."""
        return {"bootstrap.servers": self.bootstrap, **self.security, "logger": _logger}

    def aiokafka(self) -> dict[str, Any]:
        """What every aiokafka client needs. Raises: OSError where a certificate cannot be read."""
        named = {_AIOKAFKA_NAMES[name]: value for name, value in self.security.items() if name in _AIOKAFKA_NAMES}
        named = {name: value.upper() if name == "security_protocol" else value for name, value in named.items()}
        context = self.ssl_context()
        return {"bootstrap_servers": self.bootstrap, **named, **({"ssl_context": context} if context else {})}

    def ssl_context(self) -> ssl.SSLContext | None:
        """TLS as `security` has it; None where the protocol has none. Raises: OSError."""
        if "SSL" not in self.security.get("security.protocol", "").upper().replace("SASL_PLAINTEXT", ""):
            return None
        context = ssl.create_default_context(cafile=self.security.get("ssl.ca.location"))
        if "ssl.certificate.location" in self.security:
            context.load_cert_chain(
                self.security["ssl.certificate.location"],
                self.security.get("ssl.key.location"),
                self.security.get("ssl.key.password"),
            )
        if self.security.get("enable.ssl.certificate.verification", "true").lower() == "false":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

"""Outputs in Avro at Kafka's edge: written so where a deployment wants it, read so wherever they stand so.

Inside, a value is always its JSON, letter by letter as the engine made it: the engine, the journal, the stores and the
webhooks know nothing of this. On the wire: a nought byte, the schema's id in the registry (four bytes), the datum. JSON
never begins with a nought byte, so a topic may hold both.
"""

import io
import struct
import threading
from functools import cache
from typing import Any, Final

import fastavro
import msgspec

from schemas.avro import SCHEMA_TYPES, bare, from_datum, schema_of, to_datum
from streams.kafka.registry import Registry
from streams.kafka.settings import KafkaSettings
from streams.log import LogUnavailable

_HEAD: Final = struct.Struct(">bI")
_MAGIC: Final = b"\0"


class AvroError(LogUnavailable):
    """A value cannot be read or written; the message says which and what helps."""


class Translation:
    """Between a value's JSON and its Avro, for one registry. Threads may share it."""

    def __init__(self, url: str, prefix: str) -> None:
        """`prefix`: of the topics, as the subjects have it (`PREFIXtaximeter.invoices-value`)."""
        self._registry = Registry(url)
        self._prefix = prefix
        self._lock = threading.Lock()
        self._plain: dict[str, Any] = {topic: bare(schema_of(topic)) for topic in SCHEMA_TYPES}
        self._ours: dict[str, Any] = {topic: fastavro.parse_schema(plain) for topic, plain in self._plain.items()}
        self._ids: dict[str, int] = {}
        self._theirs: dict[int, tuple[Any, Any]] = {}

    def register(self) -> None:
        """Makes our schemas known, so that `encode` asks nobody. Raises: RegistryError."""
        with self._lock:
            for topic in SCHEMA_TYPES:
                if topic not in self._ids:
                    self._ids[topic] = self._registry.register(f"{self._prefix}{topic}-value", schema_of(topic))

    def encode(self, topic: str, value: bytes) -> bytes:
        """JSON -> Avro, after `register`. A topic that is never in Avro, and an empty value, stay as they are."""
        if topic not in SCHEMA_TYPES or not value:
            return value
        out = io.BytesIO()
        out.write(_HEAD.pack(0, self._ids[topic]))
        fastavro.schemaless_writer(out, self._ours[topic], to_datum(topic, value))
        return out.getvalue()

    def decode(self, topic: str, value: bytes) -> bytes:
        """Avro -> JSON. Raises: RegistryError, AvroError."""
        try:
            _, id = _HEAD.unpack_from(value)
            plain, theirs = self._schema(id)
            ours = None if plain == self._plain[topic] else self._ours[topic]  # resolving two costs time
            return from_datum(topic, fastavro.schemaless_reader(io.BytesIO(value[_HEAD.size :]), theirs, ours))
        except (struct.error, ValueError, KeyError, EOFError, TypeError, msgspec.MsgspecError) as error:
            raise AvroError(
                f"a value of {topic} begins with a nought byte and is no Avro of ours: {error!r}"
            ) from error

    def _schema(self, id: int) -> tuple[Any, Any]:
        """The schema of an id without its logical types, as JSON and parsed."""
        with self._lock:
            if id not in self._theirs:
                plain = bare(self._registry.schema(id))
                self._theirs[id] = plain, fastavro.parse_schema(plain)
            return self._theirs[id]


@cache
def _translation(url: str, prefix: str) -> Translation:
    return Translation(url, prefix)


def writing(settings: KafkaSettings) -> Translation | None:
    """What a producer needs, with our schemas registered; None where values stay JSON. Blocks.

    Raises: RegistryError."""
    if not settings.avro:
        return None
    translation = _translation(settings.schema_registry, settings.prefix)
    translation.register()
    return translation


def is_avro(topic: str, value: bytes) -> bool:
    """Whether a value that was read is to be translated."""
    return value[:1] == _MAGIC and topic in SCHEMA_TYPES


def read_value(settings: KafkaSettings, topic: str, value: bytes) -> bytes:
    """The JSON of a value that `is_avro`. May block, for the first of a schema. Raises: RegistryError, AvroError."""
    if not settings.schema_registry:
        raise AvroError(f"{settings.topic(topic)} holds Avro: give --schema-registry, as the workers have it")
    return _translation(settings.schema_registry, settings.prefix).decode(topic, value)

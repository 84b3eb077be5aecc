"""The envelope of the source log: every input of the engine is an entry of one partition's log, in one order.

Two bytes lead the value: the format's version and the kind. Kinds: a pack of usage events (Arrow IPC, which names its
tenant), a tick (JSON `{"time": …}`, of all tenants), a re-rating (JSON, `Rerate`), and catalogue documents, in two
forms: those of the tenant `default` stand as they are (`C`: JSON, see `schemas.catalogue`), those of any other with
its name (`D`: JSON `{"tenant": …, "catalogue": {…}}`).
"""

from typing import Final, NamedTuple

import msgspec

from schemas.access import DEFAULT_TENANT
from schemas.times import format_time, parse_time

ENTRY_VERSION: Final = 1
EVENTS: Final = ord("E")
TICK: Final = ord("T")
CATALOGUE: Final = ord("C")
TENANT_CATALOGUE: Final = ord("D")
RERATE: Final = ord("R")
KINDS: Final = (EVENTS, TICK, CATALOGUE, TENANT_CATALOGUE, RERATE)
CATALOGUES: Final = (CATALOGUE, TENANT_CATALOGUE)
"""Both forms of catalogue documents; `decode_catalogue` reads either."""


class EntryError(ValueError):
    """A value that is no entry of this or an earlier version."""


class Entry(NamedTuple):
    """One entry of a partition's log.

    `offset` is its own position, `end` that of the entry after it. Where the log numbers events (the embedded
    one), a pack of n events has `end == offset + n` and its i-th event stands at `offset + i`; where it numbers
    messages (Kafka), `end == offset + 1` and all its events stand at `offset`.
    `value` is the whole envelope.
    """

    offset: int
    end: int
    value: bytes

    @property
    def kind(self) -> int:
        """One of `KINDS`. Raises: EntryError."""
        if len(self.value) < 2 or self.value[0] != ENTRY_VERSION or self.value[1] not in KINDS:
            raise EntryError(f"entry at offset {self.offset}: found the header {self.value[:2]!r}, expected version 1")
        return self.value[1]

    @property
    def payload(self) -> memoryview:
        """What stands behind the header."""
        return memoryview(self.value)[2:]


def encode_entry(kind: int, payload: bytes) -> bytes:
    """The value that a log holds for an entry of this kind."""
    return bytes((ENTRY_VERSION, kind)) + payload


def encode_tick(time: int) -> bytes:
    """A tick: the statement that it is now `time` (microseconds). A tick never turns the clock back."""
    return encode_entry(TICK, msgspec.json.encode({"time": format_time(time)}))


def decode_tick(payload: bytes | memoryview) -> int:
    """The time of a tick, in microseconds."""
    return parse_time(msgspec.json.decode(payload, type=dict[str, str])["time"])


class Documents(msgspec.Struct, frozen=True):
    """Catalogue documents (JSON) and whose they are."""

    tenant: str
    catalogue: msgspec.Raw


def encode_catalogue(tenant: str, documents: bytes) -> bytes:
    """The entry by which a tenant's documents (a catalogue as JSON) take force."""
    if tenant == DEFAULT_TENANT:
        return encode_entry(CATALOGUE, documents)
    return encode_entry(TENANT_CATALOGUE, msgspec.json.encode(Documents(tenant, msgspec.Raw(documents))))


def decode_catalogue(kind: int, payload: bytes | memoryview) -> Documents:
    """Whose documents an entry of one of `CATALOGUES` brings, and the documents."""
    if kind == CATALOGUE:
        return Documents(DEFAULT_TENANT, msgspec.Raw(payload))
    return msgspec.json.decode(payload, type=Documents)


class Rerate(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename={"since": "from", "until": "to"}):
    """What was billed is rated again: the billing periods of a customer that begin in `[since, until)`.

    Under the prices that are in force where the entry stands or, with `price_book`, under that book from then on. `id`
    and `reason` are for those who look at it later. Times are texts (RFC 3339); without `until` there is no end.
    """

    customer: str
    since: str
    until: str | None = None
    price_book: str | None = None
    id: str = ""
    reason: str = ""
    tenant: str = DEFAULT_TENANT


def encode_rerate(asked: Rerate) -> bytes:
    """The entry for one customer's partition."""
    return encode_entry(RERATE, msgspec.json.encode(asked))


def decode_rerate(payload: bytes | memoryview) -> Rerate:
    """What a re-rating asks for."""
    return msgspec.json.decode(payload, type=Rerate)

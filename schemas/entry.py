"""The envelope of the source log: every input of the engine is an entry of one partition's log, in one order.

Two bytes lead the value: the format's version and the kind. Kinds: a pack of usage events (Arrow IPC), a tick
(JSON `{"time": …}`), catalogue documents (JSON, see `schemas.catalogue`), a re-rating (JSON, `Rerate`).
"""

from typing import Final, NamedTuple

import msgspec

from schemas.times import format_time, parse_time

ENTRY_VERSION: Final = 1
EVENTS: Final = ord("E")
TICK: Final = ord("T")
CATALOGUE: Final = ord("C")
RERATE: Final = ord("R")
KINDS: Final = (EVENTS, TICK, CATALOGUE, RERATE)


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
        """`EVENTS`, `TICK`, `CATALOGUE` or `RERATE`. Raises: EntryError."""
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


def encode_rerate(asked: Rerate) -> bytes:
    """The entry for one customer's partition."""
    return encode_entry(RERATE, msgspec.json.encode(asked))


def decode_rerate(payload: bytes | memoryview) -> Rerate:
    """What a re-rating asks for."""
    return msgspec.json.decode(payload, type=Rerate)

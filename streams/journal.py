"""The journal: which part of the source has been worked in, under which owner. One for each partition.

A snapshot and this journal say everything that a restart must know: the processor is deterministic, so the state
after a batch follows from the snapshot and the source, and the journal holds only the cuts (`start`, `end`), what each
step came to (`summary`, checked on replay) and how far the outputs have been emitted (`done`).

**The commit, in numbered steps** (hosts name them in their bodies; the simulator crashes between every two):

1. read entries `[start, end)` of the source;
2. process them: the state moves on in memory, the outputs stand ready;
3. append `Batch` to the journal and wait until it is durable;
4. check the fence: nothing of a newer epoch stands before it, else stop;
5. emit the outputs and wait until all are durable;
6. append `Done`;
7. now and then: write a snapshot;
8. acknowledge the source (a courtesy: the position is always taken from the journal).

**Ownership**: read the journal to its end; append `Open(epoch + 1, writer)`; read up to it. Who stands first in an
epoch owns the partition until the next. What an earlier owner wrote before that barrier counts, what it writes after
is ignored by everyone, for ever. Then replay the source up to the journal's position, emit what was not `Done`, go on.
"""

import zlib
from collections.abc import Callable
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from streams.processor import Summary

RECORD_VERSION: Final = 1
"""0 was plain JSON, without a checksum; it is still read."""

REPAIR: Final = "repair-"
"""How the names of writers begin who open an epoch to leave damaged records behind (`streams.mending`)."""


class Open(msgspec.Struct, frozen=True, tag="open"):
    """A writer takes the partition."""

    epoch: int
    writer: str


class Batch(msgspec.Struct, frozen=True, tag="batch"):
    """A step over the source's entries `[start, end)`."""

    epoch: int
    start: int
    end: int
    summary: Summary


class Done(msgspec.Struct, frozen=True, tag="done", omit_defaults=True):
    """All outputs of every batch up to `end` are durable; `emitted` is, by topic, the offset after the last of them."""

    epoch: int
    end: int
    emitted: dict[str, int] = {}


Record = Open | Batch | Done

_DECODER = msgspec.msgpack.Decoder(Open | Batch | Done)
_ENCODER = msgspec.msgpack.Encoder()
_JSON_DECODER = msgspec.json.Decoder(Open | Batch | Done)
_HEADER_BYTES: Final = 5


class JournalError(RuntimeError):
    """The journal contradicts itself: a broken invariant. The message says what was and what should be."""


class RecordDamaged(JournalError):
    """A record's bytes are not those that were written. The message says where, what was found and expected."""


class RecordUnknown(RecordDamaged):
    """Bytes that no checksum calls damaged, and that are no record nonetheless: of version 0, or nobody's of ours."""


class Place(NamedTuple):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}, offset {self.offset}"


def encode_record(record: Record) -> bytes:
    """A record as the journal holds it: the format's version (one byte), a CRC-32 of the version and the body (four
    bytes, big-endian), the body as MessagePack."""
    body = _ENCODER.encode(record)
    return bytes((RECORD_VERSION,)) + _checksum(RECORD_VERSION, body).to_bytes(4, "big") + body


def decode_record(value: bytes, place: Place | None = None) -> Record:
    """A record, from any version of its format. `place` is for the message.

    Raises: RecordDamaged; JournalError on a whole record of a newer format.
    """
    where = "a record" if place is None else str(place)
    if value[:1] == b"{":
        return _decode(_JSON_DECODER.decode, value, where)
    if len(value) <= _HEADER_BYTES:
        raise RecordDamaged(f"{where}: found {len(value)} bytes, expected more than {_HEADER_BYTES}")
    version, expected, body = value[0], int.from_bytes(value[1:_HEADER_BYTES], "big"), value[_HEADER_BYTES:]
    found = _checksum(version, body)
    if found != expected:
        raise RecordDamaged(f"{where}: found the checksum {found:08x}, expected {expected:08x}")
    if version > RECORD_VERSION:
        raise JournalError(
            f"{where}: found a record of format version {version}, this program reads up to {RECORD_VERSION}: "
            "run the version of Taximeter that wrote it, or a later one"
        )
    return _decode(_DECODER.decode, body, where)


def _decode(decode: Callable[[bytes], Record], body: bytes, where: str) -> Record:
    try:
        return decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordUnknown(f"{where}: found bytes that are no record ({error}), expected one") from error


def _checksum(version: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(bytes((version,))))


class Verdict(Enum):
    """What the rule says of a record."""

    APPLIED = "applied"
    FENCED = "fenced"  # of an epoch that is over
    REPEATED = "repeated"  # it has been applied before


class Journal:
    """The state of one partition's journal: the fold of the rule over its records. The same live and on restore."""

    def __init__(self, epoch: int = 0, writer: str = "", position: int = 0) -> None:
        self.epoch = epoch
        self.writer = writer
        self.position = position
        """The offset of the first source entry that no batch holds yet."""
        self.pending: list[Batch] = []
        """Batches whose outputs are not known to be emitted."""
        self.emitted: dict[str, int] = {}

    def apply(self, record: Record) -> Verdict:
        """Folds one record in, or says why it does not count. Raises: JournalError on a gap."""
        if record.epoch < self.epoch:
            return Verdict.FENCED
        if isinstance(record, Open):
            if record.epoch == self.epoch:
                return Verdict.FENCED
            self.epoch, self.writer = record.epoch, record.writer
            return Verdict.APPLIED
        if record.epoch > self.epoch:
            raise JournalError(f"found a record of epoch {record.epoch} while epoch {self.epoch} was open: {record}")
        if isinstance(record, Done):
            self.pending = [batch for batch in self.pending if batch.end > record.end]
            self.emitted.update(record.emitted)
            return Verdict.APPLIED
        if record.end <= self.position:
            return Verdict.REPEATED
        if record.start != self.position:
            raise JournalError(f"found a batch from {record.start}, expected one from {self.position}: {record}")
        self.position = record.end
        self.pending.append(record)
        return Verdict.APPLIED

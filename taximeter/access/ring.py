"""The keys in force, in memory: folded from their records, asked by the layer in front of every route."""

import hashlib
import hmac
import logging
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import msgspec

from schemas.access import Access
from taximeter.access.keys import (
    KEY_TEXT,
    Key,
    KeyRecord,
    Record,
    RevokedRecord,
    SecretRecord,
    decode_record,
    until_of,
)

_logger = logging.getLogger(__name__)

WhyNot = Literal["unknown", "expired", "revoked"]
_GRANTED_MAX: Final = 100_000


@dataclass(slots=True)
class _Parts:
    about: KeyRecord | None = None
    secrets: dict[str, SecretRecord] = field(default_factory=dict)
    revoked: str | None = None


class KeyRing:
    """What the records come to. A thread may add while others ask."""

    def __init__(self) -> None:
        self._parts: dict[str, _Parts] = {}
        self._granted: dict[bytes, tuple[Access, int]] = {}
        self.changes = 0
        """How often records have come in. What was found at one count holds until it is another, or time is up."""
        self._lock = threading.Lock()

    def add(self, values: Iterable[bytes]) -> None:
        """Takes records, later ones over earlier ones. One that cannot be read is said in the log and passed over."""
        with self._lock:
            for value in values:
                try:
                    self._fold(decode_record(value))
                except msgspec.MsgspecError as error:
                    _logger.error("a record of the API keys cannot be read, and is passed over: %s", error)
            self._granted = {}  # a new one: who is granting at this moment fills the old one in vain
            self.changes += 1  # last: who has read the count before may have seen a part of the records

    def _fold(self, record: Record) -> None:
        parts = self._parts.setdefault(record.id if isinstance(record, KeyRecord) else record.key, _Parts())
        if isinstance(record, KeyRecord):
            parts.about = record
        elif isinstance(record, SecretRecord):
            parts.secrets[record.digest] = record
        elif isinstance(record, RevokedRecord):
            parts.revoked = record.at

    @property
    def empty(self) -> bool:
        """Whether there never was a key: revoked and expired ones count."""
        return not self._parts

    def key(self, id: str) -> Key | None:
        """One key, whatever its state."""
        with self._lock:
            parts = self._parts.get(id)
            if parts is None or parts.about is None:
                return None
            secrets = sorted(parts.secrets.values(), key=lambda one: (one.created, one.digest))
            return Key(about=parts.about, secrets=tuple(secrets), revoked=parts.revoked)

    def keys(self, tenant: str | None = None) -> list[Key]:
        """All keys, or those of one tenant, in the order in which they were made."""
        found = [key for id in list(self._parts) if (key := self.key(id)) is not None]
        chosen = [key for key in found if tenant is None or key.about.tenant == tenant]
        return sorted(chosen, key=lambda key: (key.about.created, key.about.id))

    def any_valid(self, now: int) -> bool:
        """Whether anybody could come in at all, at a time in microseconds."""
        return any(key.state(now) == "valid" for key in self.keys())

    def access(self, text: bytes, now: int) -> Access | WhyNot:
        """What a presented key may do at a time in microseconds, or why it may not."""
        found = self.grant(text, now)
        return found if isinstance(found, str) else found[0]

    def grant(self, text: bytes, now: int) -> tuple[Access, int] | WhyNot:
        """The same, and until when (microseconds).

        What was found once is found again by the digest alone, until a record comes in.
        """
        digest = hashlib.sha256(text).digest()
        granted = self._granted  # before the records are looked at: see `add`
        found = granted.get(digest)
        if found is not None and now < found[1]:
            return found
        access = self._look_up(text, digest.hex(), now)
        if isinstance(access, tuple) and len(granted) < _GRANTED_MAX:
            granted[digest] = access
        return access

    def _look_up(self, text: bytes, digest: str, now: int) -> tuple[Access, int] | WhyNot:
        match = KEY_TEXT.match(text.decode("latin-1"))
        key = None if match is None else self.key(match[1])
        if key is None:
            return "unknown"
        # Every secret is compared, each in constant time.
        same = [one for one in key.secrets if hmac.compare_digest(one.digest, digest)]
        if not same:
            return "unknown"
        if key.revoked is not None:
            return "revoked"
        until = until_of(key, same[0])
        if until <= now:
            return "expired"
        about = key.about
        return Access(tenant=about.tenant, scopes=frozenset(about.scopes), key=about.id), until


class KeyStore(Protocol):
    """Where keys are kept. `ring` follows it, changes of other processes within a second included."""

    ring: KeyRing

    async def append(self, records: Iterable[Record]) -> None:
        """Keeps records; returns when they are durable and in the ring. Raises: KeysUnavailable."""
        ...


class KeysUnavailable(RuntimeError):
    """The store of the keys cannot be read or did not take a change; the message says why."""

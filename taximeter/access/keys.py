"""API keys: what is kept of them, and how they come about.

A key is `tmk_<id>_<secret>`: 12 and 64 hexadecimal digits. The id finds it, the secret is 32 random bytes. Only the
SHA-256 of the whole text is kept: there is nothing to guess in it, so a slow hash would protect nothing more.

What is kept is a set of *records*, each with a name of its own: `ID` (the key), `ID/secret/DIGEST` (one of its secrets,
several while it is being rotated) and `ID/revoked`. Records are added and replaced, never taken away, so changes of
several processes at once add up in any order, and a revoked key stays revoked whatever else is written.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec

from schemas.access import SCOPES, KeyScope
from schemas.identity import IDENTIFIER
from schemas.times import TimeError, format_time, parse_time

PREFIX: Final = "tmk"
NAME_LENGTH_MAX: Final = 128
KEY_TEXT: Final = re.compile(r"tmk_([0-9a-f]{12})_[0-9a-f]{64}\Z", re.ASCII)
"""What a scanner for leaked keys may look for."""
_ID_BYTES, _SECRET_BYTES = 6, 32


class KeyRefused(ValueError):
    """A key cannot be made or changed as asked; the message names the field, what was found and what was expected."""


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="key", omit_defaults=True):
    """A key as it was made; it never changes. Times are RFC 3339."""

    id: str
    tenant: str
    name: str
    scopes: tuple[KeyScope, ...]
    created: str
    expires: str | None = None


class SecretRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="secret", omit_defaults=True):
    """One secret of a key: the SHA-256 of the key's text in hexadecimal digits. `until`: when it stops being valid."""

    key: str
    digest: str
    created: str
    until: str | None = None


class RevokedRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="record", tag="revoked"):
    """A key has been revoked, for good."""

    key: str
    at: str


Record = KeyRecord | SecretRecord | RevokedRecord
_DECODER: Final = msgspec.json.Decoder(Record)


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """A key with all that was recorded of it."""

    about: KeyRecord
    secrets: tuple[SecretRecord, ...]
    revoked: str | None = None

    def state(self, now: int) -> str:
        """`valid`, `expired` or `revoked`, at a time in microseconds."""
        if self.revoked is not None:
            return "revoked"
        return "valid" if any(until_of(self, one) > now for one in self.secrets) else "expired"


def until_of(key: Key, secret: SecretRecord) -> int:
    """When a secret stops being valid, in microseconds: its own end, or the key's."""
    ends = [parse_time(end) for end in (key.about.expires, secret.until) if end is not None]
    return min(ends, default=_NEVER)


_NEVER: Final = 2**63 - 1


def record_name(record: Record) -> str:
    """What a record is kept under: a later one of the same name replaces it."""
    if isinstance(record, KeyRecord):
        return record.id
    return f"{record.key}/revoked" if isinstance(record, RevokedRecord) else f"{record.key}/secret/{record.digest}"


def encode_record(record: Record) -> bytes:
    """A record as the stores keep it: JSON."""
    return msgspec.json.encode(record)


def decode_record(value: bytes) -> Record:
    """The other way. Raises: msgspec.MsgspecError."""
    return _DECODER.decode(value)


def digest_of(text: str) -> str:
    """What is kept of a key's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_key(
    tenant: str, name: str, scopes: Sequence[str], now: int, expires: int | None = None
) -> tuple[str, list[Record]]:
    """A new key's text, which is shown once, and its records. Times in microseconds. Raises: KeyRefused."""
    if not IDENTIFIER.match(tenant):
        raise KeyRefused(f"tenant: found {tenant[:60]!r}, expected 1 to 128 letters, digits and . _ - : @ /")
    if not 0 < len(name) <= NAME_LENGTH_MAX or not name.isprintable():
        raise KeyRefused(f"name: found {name[:60]!r}, expected 1 to {NAME_LENGTH_MAX} printable characters")
    if not scopes or (unknown := set(scopes) - set(SCOPES)):
        found = sorted(unknown) if scopes else "none"
        raise KeyRefused(f"scopes: found {found}, expected some of {', '.join(SCOPES)}")
    if expires is not None and expires <= now:
        raise KeyRefused(f"expires: found {format_time(expires)}, expected a time that is to come")
    id = secrets.token_hex(_ID_BYTES)
    about = KeyRecord(
        id=id,
        tenant=tenant,
        name=name,
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created=format_time(now),
        expires=None if expires is None else format_time(expires),
    )
    text, secret = _make_secret(id, now)
    return text, [about, secret]


def rotate(key: Key, now: int, grace: int) -> tuple[str, list[Record]]:
    """A new secret's text, and the records that bring it in and end the others after `grace` (microseconds).

    Raises: KeyRefused where the key is revoked or has expired: another one must be made.
    """
    if key.state(now) != "valid":
        raise KeyRefused(f"the key {key.about.id} is {key.state(now)}: make another one")
    text, fresh = _make_secret(key.about.id, now)
    ending = [
        msgspec.structs.replace(one, until=format_time(now + grace))
        for one in key.secrets
        if until_of(key, one) > now + grace
    ]
    return text, [fresh, *ending]


def revoke(key: Key, now: int) -> list[Record]:
    """The record that ends a key; nothing where it is revoked already."""
    return [] if key.revoked is not None else [RevokedRecord(key=key.about.id, at=format_time(now))]


def shown(key: Key, now: int) -> dict[str, object]:
    """A key as lists show it: nothing of its secrets but since and until when they are valid."""
    about = msgspec.structs.asdict(key.about) | {"scopes": list(key.about.scopes)}
    about = {name: value for name, value in about.items() if value is not None}
    valid = [
        {"created": one.created} | ({} if one.until is None else {"until": one.until})
        for one in key.secrets
        if until_of(key, one) > now
    ]
    ended = {} if key.revoked is None else {"revoked": key.revoked}
    return about | ended | {"state": key.state(now), "secrets": valid if key.revoked is None else []}


def read_expiry(text: str | None) -> int | None:
    """An RFC 3339 time in microseconds. Raises: KeyRefused."""
    try:
        return None if text is None else parse_time(text)
    except TimeError as error:
        raise KeyRefused(f"expires: {error}") from None


def _make_secret(id: str, now: int) -> tuple[str, SecretRecord]:
    text = f"{PREFIX}_{id}_{secrets.token_hex(_SECRET_BYTES)}"
    return text, SecretRecord(key=id, digest=digest_of(text), created=format_time(now))

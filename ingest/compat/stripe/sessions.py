"""Sessions of the meter event stream: tokens that say for which tenant they were made, and until when.

A token is signed and kept nowhere. The secret is the process's own by default, so its tokens end with it; processes
that stand behind one address are given the same secret.
"""

import base64
import binascii
import hmac
import secrets
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from ingest.compat.stripe.answers import error
from schemas.times import SECOND

LIFETIME_S: Final = 15 * 60
_PREFIX: Final = "mes_"
_EXPIRED: Final = "the session is over, or was made by another process: open a new one"


class Session(NamedTuple):
    """An open session. Times are microseconds."""

    id: str
    token: str
    created: int
    expires: int


class _Claims(msgspec.Struct, frozen=True, array_like=True):
    tenant: str
    expires: int
    id: str


_CLAIMS: Final = msgspec.json.Decoder(_Claims)


class Sessions:
    """Makes tokens and reads them."""

    def __init__(self, secret: bytes | None = None) -> None:
        """`secret`: 32 random bytes; None: of this process only."""
        self._secret = secret or secrets.token_bytes(32)

    def open(self, tenant: str, now: int) -> Session:
        """A session that is good for `LIFETIME_S` from now (microseconds)."""
        expires, id = now + LIFETIME_S * SECOND, f"mes_session_{secrets.token_hex(12)}"
        claims = msgspec.json.encode(_Claims(tenant, expires, id))
        return Session(id, f"{_PREFIX}{_text(claims)}.{_text(self._sign(claims))}", now, expires)

    def tenant_of(self, token: str, now: int) -> str:
        """The tenant that a token was made for. Raises: Refused (401), as Stripe's client knows it."""
        try:
            claims_text, _, signature = token.removeprefix(_PREFIX).partition(".")
            claims = _bytes(claims_text)
            if token.startswith(_PREFIX) and hmac.compare_digest(self._sign(claims), _bytes(signature)):
                found = _CLAIMS.decode(claims)
                if now < found.expires:
                    return found.tenant
        except (binascii.Error, UnicodeEncodeError, ValueError):
            pass
        raise error(401, "temporary_session_expired", "billing_meter_event_session_expired", _EXPIRED)

    def _sign(self, claims: bytes) -> bytes:
        return hmac.digest(self._secret, claims, sha256)


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)

"""The signature of a message, by the Standard Webhooks specification 1.0 (symmetric, `v1`)."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

_PREFIX: Final = "whsec_"
_BYTES_MIN, _BYTES_MAX = 24, 64


class SecretError(ValueError):
    """A text that is no secret. The message does not show it."""


def make_secret() -> str:
    """A new one."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def read_secret(text: str) -> bytes:
    """The key that a secret stands for. Raises: SecretError."""
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        raise SecretError("found a text that is not base64, expected whsec_ and 24 to 64 bytes in base64") from None
    if not text.startswith(_PREFIX) or not _BYTES_MIN <= len(key) <= _BYTES_MAX:
        raise SecretError(f"found {len(key)} bytes, expected whsec_ and {_BYTES_MIN} to {_BYTES_MAX} bytes in base64")
    return key


def sign(message_id: str, timestamp: int, body: bytes, keys: Sequence[str]) -> dict[str, str]:
    """The headers of a message that is sent at `timestamp` (seconds). A signature for each secret."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.digest(read_secret(key), signed, sha256) for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join("v1," + base64.b64encode(digest).decode() for digest in digests),
    }

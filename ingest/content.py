"""What a request's headers say of its body: which form it has, and how it is compressed.

Rules: CloudEvents HTTP protocol binding 1.0, sections 3.1 to 3.3. Content types are compared without case and
parameters; a request with `ce-specversion` whose content type is not `application/cloudevents…` is in binary mode;
no content type at all means JSON.
"""

import zlib
from collections.abc import Sequence
from email.message import Message
from enum import Enum

import pyarrow as pa

from schemas.limits import BODY_BYTES_MAX

Headers = Sequence[tuple[bytes, bytes]]
"""Names (in any case) and values, as ASGI has them."""


class BodyRefused(Exception):
    """A request that cannot be read as a whole: no event of it was taken. `status` is the HTTP status.

    `code` is a word for programs: one of `schemas.rejection.Code`, or `unsupported_media_type`, `invalid_encoding`.
    """

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class Form(Enum):
    """How events stand in a body."""

    ONE = "one event"
    ARRAY = "an array of events"
    EITHER = "an event or an array of events"
    LINES = "an event on each line"
    BINARY = "the data of an event"


_FORMS = {
    "application/cloudevents+json": Form.ONE,
    "application/cloudevents-batch+json": Form.ARRAY,
    "application/json": Form.EITHER,
    "application/x-ndjson": Form.LINES,
    "application/ndjson": Form.LINES,
    "application/jsonl": Form.LINES,
}
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})


def header(headers: Headers, name: bytes) -> str | None:
    """The value of the first header of that (lower case) name."""
    for found, value in headers:
        if found == name or found.lower() == name:
            return value.decode("latin-1").strip()
    return None


def form_of(headers: Headers) -> Form:
    """The form of the body. Raises: BodyRefused (415)."""
    content_type = header(headers, b"content-type") or ""
    media_type = content_type.partition(";")[0].strip().lower()
    if not media_type.startswith("application/cloudevents") and header(headers, b"ce-specversion") is not None:
        return Form.BINARY
    if not media_type:
        return Form.EITHER
    form = _FORMS.get(media_type)
    if form is None:
        expected = ", ".join(_FORMS)
        raise BodyRefused(415, "unsupported_media_type", f"found the content type {media_type!r}, expected {expected}")
    if ";" in content_type:
        _check_charset(content_type)
    return form


def _check_charset(content_type: str) -> None:
    message = Message()
    message["content-type"] = content_type
    charset = message.get_content_charset("utf-8")
    if charset not in _CHARSETS:
        raise BodyRefused(415, "unsupported_media_type", f"found the charset {charset!r}, expected utf-8")


def inflate(body: bytes, headers: Headers, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """The body without its content encoding, at most `bytes_max` bytes.

    Raises: BodyRefused (400 broken encoding, 413 too large, 415 an encoding that is not known).
    """
    encoding = (header(headers, b"content-encoding") or "identity").lower()
    if encoding in ("gzip", "x-gzip"):
        return _unzip(body, bytes_max, "gzip", 16 + zlib.MAX_WBITS)
    if encoding == "deflate":
        return _unzip(body, bytes_max, "deflate", zlib.MAX_WBITS)
    if encoding == "zstd":
        return _unzstd(body, bytes_max)
    if encoding != "identity":
        detail = f"found the content encoding {encoding!r}, expected gzip, deflate, zstd or none"
        raise BodyRefused(415, "unsupported_media_type", detail)
    if len(body) > bytes_max:
        raise too_large(bytes_max)
    return body


def too_large(bytes_max: int) -> BodyRefused:
    """What is said of a body above the bound."""
    return BodyRefused(413, "too_large", f"found a body of more than {bytes_max} bytes, expected at most as many")


def _unzip(body: bytes, bytes_max: int, name: str, wbits: int) -> bytes:
    """All members of a body that zlib reads; stops as soon as the bound is passed."""
    parts: list[bytes] = []
    size = 0
    try:
        while True:
            member = zlib.decompressobj(wbits=wbits)
            parts.append(member.decompress(body, bytes_max - size + 1))
            size += len(parts[-1])
            if size > bytes_max:
                raise too_large(bytes_max)
            if not member.eof:
                raise BodyRefused(400, "invalid_encoding", f"found a {name} body that ends too early")
            body = member.unused_data
            if not body.rstrip(b"\0"):
                return b"".join(parts)
    except zlib.error as error:
        raise BodyRefused(400, "invalid_encoding", f"found a body that is no {name}: {error}") from None


def _unzstd(body: bytes, bytes_max: int) -> bytes:
    """All frames of a zstd body; stops as soon as the bound is passed."""
    try:
        with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
            found: bytes = stream.read(bytes_max + 1)
    except OSError as error:
        raise BodyRefused(400, "invalid_encoding", f"found a body that is no zstd: {error}") from None
    if len(found) > bytes_max:
        raise too_large(bytes_max)
    return found

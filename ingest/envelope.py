"""One CloudEvent at a time, attribute by attribute: the slow path, which says what is wrong and keeps extensions.

The fast path of `ingest.parse` takes only what this would take, and takes the same of it.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec

from ingest.columns import ABSENT, Event, Fault
from ingest.json_text import deeper_than, more_names_than, repeated_name, why_not_json
from ingest.times import check_time
from schemas.limits import (
    EVENT_BYTES_MAX,
    EVENT_DEPTH_MAX,
    EVENT_FIELDS_MAX,
    EVENT_TEXT_LENGTH_MAX,
    EXTENSIONS_BYTES_MAX,
    EXTENSIONS_MAX,
)
from schemas.rejection import Code
from schemas.times import TimeError

REQUIRED: Final = ("id", "source", "type", "subject")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
"""Characters that CloudEvents 1.0 does not allow in an attribute (section 3.2)."""

_KNOWN: Final = frozenset(
    (*REQUIRED, "specversion", "time", "datacontenttype", "dataschema", "data", "data_base64"),
)
_EXTENSION_NAME = re.compile(r"[a-z0-9]{1,20}\Z", re.ASCII)
_JSON_TYPE = re.compile(
    r"\s*(?:application/json|text/json|[\w.+-]+/[\w.+-]+\+json)\s*(?:;.*)?\Z", re.ASCII | re.IGNORECASE
)
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text_decoder = msgspec.json.Decoder(str)

Attributes = dict[str, bytes]
"""Name -> the value's JSON text."""


class WrongEvent(Exception):
    """An event that is refused; the fault says why, `id` and `source` which it is, as far as they could be read."""

    def __init__(self, code: Code, path: str | None, message: str) -> None:
        super().__init__(message)
        self.fault = Fault(code, path, message)
        self.id: str | None = None
        self.source: str | None = None


def read_event(text: bytes) -> Event:
    """The event that a JSON text says (structured mode). Raises: WrongEvent."""
    attributes = _read_object(text, "invalid_json", None)
    try:
        _check_size(attributes)
        if (name := repeated_name(text)) is not None:
            code: Code = "invalid_data" if name.startswith("data.") else "invalid_json"
            raise WrongEvent(code, name, f"found the name {name!r} twice in one object, expected it once")
        return _read_attributes({name: bytes(raw) for name, raw in attributes.items()})
    except WrongEvent as wrong:
        wrong.id, wrong.source = _readable(attributes.get("id")), _readable(attributes.get("source"))
        raise


def read_binary(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Event:
    """The event of a request in binary mode: attributes in `ce-` headers, data in the body. Raises: WrongEvent."""
    attributes: Attributes = {}
    try:
        for raw_name, raw_value in headers:
            name = raw_name.decode("latin-1").lower()
            if name == "content-type":
                attributes["datacontenttype"] = msgspec.json.encode(raw_value.decode("latin-1"))
            elif name.startswith("ce-"):
                _add_header(attributes, name[3:], raw_value)
        if body.strip():
            _read_object(body, "invalid_data", "data")
            if (repeated := repeated_name(body)) is not None:
                place = f"data.{repeated}"
                raise WrongEvent(
                    "invalid_data", place, f"found the name {place!r} twice in one object, expected it once"
                )
            attributes["data"] = body.strip(b" \t\r\n")
        return _read_attributes(attributes)
    except WrongEvent as wrong:
        wrong.id, wrong.source = _readable(attributes.get("id")), _readable(attributes.get("source"))
        raise


def _add_header(attributes: Attributes, name: str, value: bytes) -> None:
    if name in ("data", "data_base64", "datacontenttype"):
        raise WrongEvent("invalid_event", name, f"found the header ce-{name}, expected the body and its Content-Type")
    if name in attributes:
        raise WrongEvent("invalid_event", name, f"found the header ce-{name} twice, expected it once")
    try:
        attributes[name] = msgspec.json.encode(unquote_to_bytes(value).decode())
    except UnicodeDecodeError:
        raise WrongEvent("invalid_event", name, f"found {value[:60]!r}, expected percent-encoded UTF-8") from None


def _read_object(text: bytes, code: Code, path: str | None) -> dict[str, msgspec.Raw]:
    """The names of a JSON object (the event; its data where `path` is given) and their values. Raises: WrongEvent."""
    allowed = EVENT_DEPTH_MAX + (path is None)
    if deeper_than(text, allowed):
        raise WrongEvent("invalid_data", "data", f"found more than {EVENT_DEPTH_MAX} levels, expected at most as many")
    try:
        attributes = _object_decoder.decode(text)
        text.decode()
        return attributes
    except msgspec.ValidationError:
        wrong: Code = "invalid_event" if path is None else code
        raise WrongEvent(wrong, path, f"found {_kind(text)}, expected an object") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise WrongEvent(code, path, why_not_json(text, error)) from None


def _read_attributes(attributes: Attributes) -> Event:
    """Checks the values one by one; null is the same as absent. Raises: WrongEvent."""
    attributes = {name: text for name, text in attributes.items() if text != b"null"}
    _check_specversion(attributes)
    id, source, type, subject = (_required(attributes, name) for name in REQUIRED)
    time, micros = _read_time(attributes)
    return Event(id, source, type, subject, time, micros, _read_data(attributes), _read_extensions(attributes))


def _check_size(attributes: Mapping[str, msgspec.Raw]) -> None:
    """Refuses what is far beyond any bound before it costs more time. Raises: WrongEvent."""
    sizes = {name: len(memoryview(raw)) for name, raw in attributes.items()}
    if sum(sizes.values()) > 2 * EVENT_BYTES_MAX:
        largest = max(sizes, key=lambda name: sizes[name])
        message = f"found {sizes[largest]} bytes, expected at most {EVENT_BYTES_MAX}"
        raise WrongEvent("too_large", largest[:60], message)


def _check_specversion(attributes: Attributes) -> None:
    found = attributes.get("specversion")
    if found == b'"1.0"':
        return
    if found is None:
        raise WrongEvent("invalid_event", "specversion", 'found nothing, expected "1.0"')
    if _readable(found) != "1.0":
        raise WrongEvent("invalid_event", "specversion", f'found {_show(found)}, expected "1.0"')


def _required(attributes: Attributes, name: str) -> str:
    value = _text(attributes, name)
    if value is None:
        raise WrongEvent("invalid_event", name, "found nothing, expected a text that is not empty")
    return value


def _text(attributes: Attributes, name: str) -> str | None:
    """A text attribute that is not empty, within its limit; None where it is absent. Raises: WrongEvent."""
    raw = attributes.get(name)
    if raw is None:
        return None
    value = _readable(raw)
    if not value:
        raise WrongEvent("invalid_event", name, f"found {_show(raw)}, expected a text that is not empty")
    if len(value) > EVENT_TEXT_LENGTH_MAX:
        message = f"found {len(value)} characters, expected at most {EVENT_TEXT_LENGTH_MAX}"
        raise WrongEvent("too_large", name, message)
    if control := CONTROL.search(value):
        message = f"found the control character U+{ord(control[0]):04X}, expected none"
        raise WrongEvent("invalid_event", name, message)
    return value


def _read_time(attributes: Attributes) -> tuple[str | None, int]:
    """The time's text and its microseconds. Raises: WrongEvent."""
    raw = attributes.get("time")
    if raw is None:
        return None, ABSENT
    value = _readable(raw)
    if value is None:
        raise WrongEvent("invalid_time", "time", f"found {_show(raw)}, expected an RFC 3339 time as text")
    try:
        return value, check_time(value)
    except TimeError as error:
        raise WrongEvent("invalid_time", "time", str(error)) from None


def _read_data(attributes: Attributes) -> bytes:
    """The data's text, `{}` where there is none. Raises: WrongEvent."""
    content_type = _text(attributes, "datacontenttype")
    if content_type is not None and not _JSON_TYPE.match(content_type):
        message = f"found {content_type!r}, expected application/json"
        raise WrongEvent("invalid_event", "datacontenttype", message)
    data, path = attributes.get("data"), "data"
    if "data_base64" in attributes:
        if data is not None:
            raise WrongEvent("invalid_data", "data_base64", "found data and data_base64, expected one of them")
        data, path = _decode_base64(attributes["data_base64"]), "data_base64"
    if data is None:
        return b"{}"
    if not data.startswith(b"{"):
        raise WrongEvent("invalid_data", path, f"found {_show(data)}, expected a JSON object")
    if len(data) > EVENT_BYTES_MAX:
        raise WrongEvent("too_large", path, f"found {len(data)} bytes, expected at most {EVENT_BYTES_MAX}")
    if more_names_than(data, EVENT_FIELDS_MAX):
        raise WrongEvent("too_large", path, f"found more than {EVENT_FIELDS_MAX} names, expected at most as many")
    return data


def _decode_base64(raw: bytes) -> bytes:
    """The JSON object that stands in `data_base64`. Raises: WrongEvent."""
    try:
        data = base64.b64decode(_text_decoder.decode(raw), validate=True).strip(b" \t\r\n")
    except (msgspec.ValidationError, binascii.Error, ValueError):
        raise WrongEvent("invalid_data", "data_base64", f"found {_show(raw)}, expected base64 as text") from None
    try:
        _read_object(data, "invalid_data", "data_base64")
    except WrongEvent as wrong:
        message = f"{wrong.fault.message}; only JSON data can be metered"
        raise WrongEvent("invalid_data", "data_base64", message) from None
    if (repeated := repeated_name(data)) is not None:
        message = f"found the name {repeated!r} twice in one object, expected it once"
        raise WrongEvent("invalid_data", f"data_base64.{repeated}", message)
    return data


def _read_extensions(attributes: Attributes) -> str | None:
    """The extension attributes (and `dataschema`) as a JSON object's text, names sorted. Raises: WrongEvent."""
    kept: dict[str, Any] = {}
    for name in sorted(attributes.keys() - _KNOWN):
        if not _EXTENSION_NAME.match(name):
            message = f"found the attribute {name[:60]!r}, expected a name of 1 to 20 letters a-z and digits"
            raise WrongEvent("invalid_event", name[:60], message)
        raw = attributes[name]
        if raw[:1] in b"{[":
            raise WrongEvent("invalid_event", name, f"found {_show(raw)}, expected a text, a number or a flag")
        kept[name] = _text_decoder.decode(raw) if raw[:1] == b'"' else msgspec.Raw(raw)
    if len(kept) > EXTENSIONS_MAX:
        raise WrongEvent(
            "too_large", None, f"found {len(kept)} extension attributes, expected at most {EXTENSIONS_MAX}"
        )
    if (schema := _text(attributes, "dataschema")) is not None:
        kept["dataschema"] = schema
    if not kept:
        return None
    text = msgspec.json.encode(kept)
    if len(text) > EXTENSIONS_BYTES_MAX:
        message = f"found extension attributes of {len(text)} bytes, expected at most {EXTENSIONS_BYTES_MAX}"
        raise WrongEvent("too_large", None, message)
    return text.decode()


def _readable(raw: bytes | msgspec.Raw | None) -> str | None:
    """The text of a JSON string; None for everything else."""
    try:
        return _text_decoder.decode(bytes(raw)) if raw is not None else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _kind(text: bytes) -> str:
    kinds = {b"[": "a list", b'"': "a text", b"t": "a flag", b"f": "a flag", b"n": "nothing"}
    return kinds.get(text.strip()[:1], "a number")


def _show(raw: bytes) -> str:
    if raw[:1] in b"{[":
        return "an object" if raw[:1] == b"{" else "a list"
    text = raw.decode(errors="replace")
    return text if len(text) <= 60 else text[:57] + "..."

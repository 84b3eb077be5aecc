"""Rejected events, mended and sent again: which events make good for a rejection.

What never went in is sent as it should have been, under its own id. What is in the log has used up its identity, and
other meters may have counted it: then a void takes it back, and the mended event comes under an id of its own,
`<old>+mend.1`, in the same request. Ids follow from the old ones alone, so doing it twice changes nothing. Both say by
the extension attribute `mends` which rejection they make good, and the void by whom.

Texts of numbers stay as they are: no value passes through a float.
"""

import re
from typing import Final, NamedTuple

import msgspec

from ingest.envelope import REQUIRED
from schemas.event import VOID_TYPE
from schemas.rejection import EXPLAINED, MENDS, Code

_MENDED_ID: Final = re.compile(r"(.*)\+mend\.(\d{1,6})\Z", re.DOTALL)
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_encode = msgspec.json.Encoder().encode


class MendRefused(ValueError):
    """A rejection that cannot be made good as asked. `code`: `mend_required`, `no_event`, `invalid_mend`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be sent in place of a rejected event; nothing: the event as it came.

    `event`: a whole CloudEvent. `merge`: what is changed of it, as a JSON Merge Patch (RFC 7396). `replace`: for a
    conflict, whether this event takes the place of the first one. `reason` is kept in the void.
    """

    event: msgspec.Raw = msgspec.Raw(b"null")
    merge: msgspec.Raw = msgspec.Raw(b"null")
    replace: bool = False
    reason: str = ""


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """What is needed of a rejection."""

    id: str
    code: Code
    event: msgspec.Raw
    meter: str | None = None


class Mend(NamedTuple):
    """The texts of the events that make good, in the order to send them, and the identity of the mended one."""

    events: list[bytes]
    source: str
    id: str
    voids: bool


def mend(rejected: Rejected, change: Change) -> Mend:
    """What to send. Whether the door takes it is the door's to say. Raises: MendRefused."""
    if rejected.code == "rerate_refused":
        raise MendRefused("no_event", f"{rejected.id}: found a re-rating, expected the rejection of a usage event")
    old = _fields(rejected.event)
    new = _changed(rejected.id, old, change)
    used_up = EXPLAINED[rejected.code].used_up
    if change.replace and rejected.code != "conflict":
        raise MendRefused(
            "invalid_mend", f"replace: found true, expected it only where the code is conflict: {rejected.id}"
        )
    if not used_up:
        new[MENDS] = _raw(rejected.id)
        return Mend([_encode(new)], _said(new, "source"), _said(new, "id"), False)
    assert old is not None  # the engine shows an event whole
    source, id = _said(old, "source"), _said(old, "id")
    base, number = _next(id)
    new["id"], new[MENDS] = _raw(f"{base}+mend.{number}"), _raw(rejected.id)
    voids = rejected.code != "conflict" or change.replace
    named = {"source": source, "id": id, "reason": change.reason or "mended"}
    by = {"source": new["source"], "id": new["id"]} if "source" in new else None
    attributes = {"specversion": "1.0", "id": f"{base}+void.{number}", "source": source, "type": VOID_TYPE}
    # It goes where the old one went, by its subject.
    void = {**attributes, "subject": old.get("subject"), MENDS: rejected.id, "data": {**named, "by": by}}
    events = [_encode(void)] if voids else []
    return Mend([*events, _encode(new)], _said(new, "source"), _said(new, "id"), voids)


def _changed(id: str, old: dict[str, msgspec.Raw] | None, change: Change) -> dict[str, msgspec.Raw]:
    if bytes(change.event) != b"null":
        given = _fields(change.event)
        if given is None:
            raise MendRefused("invalid_mend", "event: found no JSON object, expected a CloudEvent")
        return _merged(given, change.merge)
    if old is None:
        raise MendRefused(
            "mend_required", f"{id}: what is kept of the event is no JSON object: give the mended event whole"
        )
    return _merged(old, change.merge)


def _merged(event: dict[str, msgspec.Raw], patch: msgspec.Raw) -> dict[str, msgspec.Raw]:
    if bytes(patch) == b"null":
        return dict(event)
    if _fields(patch) is None:
        raise MendRefused("invalid_mend", "merge: found no JSON object, expected a JSON Merge Patch")
    found = _fields(merge_patch(msgspec.Raw(_encode(event)), patch))
    assert found is not None
    return found


def merge_patch(target: msgspec.Raw | None, patch: msgspec.Raw) -> msgspec.Raw:
    """RFC 7396 over texts: what the patch does not name stays letter by letter."""
    changes = _fields(patch)
    if changes is None:
        return patch
    found = (None if target is None else _fields(target)) or {}
    for name, value in changes.items():
        if bytes(value) == b"null":
            found.pop(name, None)
        else:
            found[name] = merge_patch(found.get(name), value)
    return msgspec.Raw(_encode(found))


def _next(id: str) -> tuple[str, int]:
    """What a mended event's id begins with, and its number: a mended one that is mended again counts on."""
    match = _MENDED_ID.match(id)
    return (id, 1) if match is None else (match[1], int(match[2]) + 1)


def _said(event: dict[str, msgspec.Raw], name: str) -> str:
    """A text of an event. Raises: MendRefused where there is none."""
    try:
        return _text.decode(bytes(event[name]))
    except (KeyError, msgspec.MsgspecError):
        expected = ", ".join(REQUIRED)
        raise MendRefused("mend_required", f"{name}: found no text, expected an event with {expected}") from None


def _fields(raw: msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    try:
        return {name: msgspec.Raw(bytes(value)) for name, value in _object.decode(bytes(raw)).items()}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _raw(value: str) -> msgspec.Raw:
    return msgspec.Raw(_encode(value))

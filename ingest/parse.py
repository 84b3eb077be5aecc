"""Bodies of requests -> events as columns, and every wrong event by name.

Three paths give the same answer. The *compiled* one (`native/src/parse.c`) reads a body into a table and leaves out the
events that are not beyond doubt; those, and all where it is not built, are read here. The *fast* path reads many events
at once into typed structs and takes them only if there is nothing odd about any: no unknown attribute, nothing out of
bounds, no name twice. What does not fit goes to the *slow* one (`ingest.envelope`), event by event, which says what is
wrong, and keeps extension attributes.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ingest.columns import Events, Parsed, Refused
from ingest.content import BodyRefused, Form, Headers, form_of, inflate
from ingest.envelope import CONTROL, WrongEvent, read_binary, read_event
from ingest.json_text import deeper_than, more_names_than, split_array, why_not_json
from ingest.table import DATA, EXTENSIONS, ID, MICROS, SOURCE, SUBJECT, TIME, TYPE, WORDS, Table
from ingest.times import parse_times
from native.library import function
from schemas.limits import (
    BATCH_EVENTS_MAX,
    EVENT_BYTES_MAX,
    EVENT_DEPTH_MAX,
    EVENT_FIELDS_MAX,
    EVENT_TEXT_LENGTH_MAX,
    EXTENSIONS_BYTES_MAX,
    EXTENSIONS_MAX,
    TIME_MAX_YEAR,
    TIME_MIN_YEAR,
)

_WHITE: Final = b" \t\r\n"
_CHUNK: Final = 64
"""Events that go the slow way together because of one of them."""

_TABLE_MIN: Final = 24
"""For fewer events numpy takes longer to begin than to count."""

_FIELDS_BYTES_MIN: Final = 5 * EVENT_FIELDS_MAX
"""Bytes that more names than allowed take at least: a name, its quotes, a colon, a value and a comma."""

_PLAIN_BYTES_MIN: Final = 64
"""Bytes that a plain event takes at least: its five attributes' names and a character for each."""

_TABLE_EVENTS_MIN: Final = 8
"""For fewer events a table takes longer to begin than the lists to fill."""

_ARRAY, _TEXTS, _LINES = 0, 1, 2
_LIMITS: Final = np.array(
    [
        EVENT_TEXT_LENGTH_MAX, EVENT_BYTES_MAX, EVENT_DEPTH_MAX, EVENT_FIELDS_MAX, EXTENSIONS_MAX, EXTENSIONS_BYTES_MAX,
        TIME_MIN_YEAR, TIME_MAX_YEAR,
    ],
    np.int64,
)  # fmt: skip

_parse = function(
    "tx_parse", ctypes.c_int64, ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p,
    ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p,
)  # fmt: skip

_Text = Annotated[str, Meta(min_length=1, max_length=EVENT_TEXT_LENGTH_MAX)]


class _Plain(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """An event without extension attributes, its data as text."""

    id: _Text
    source: _Text
    type: _Text
    subject: _Text
    specversion: Literal["1.0"]
    time: str | None = None
    datacontenttype: Literal["application/json"] | None = None
    data: msgspec.Raw = msgspec.Raw(b"{}")


_array_decoder = msgspec.json.Decoder(list[_Plain])
_plain_decoder = msgspec.json.Decoder(_Plain)
# Numbers with a fraction or an exponent stay as they were written, so that what is read can be written back.
_data_decoder = msgspec.json.Decoder(list[dict[str, Any]], float_hook=msgspec.Raw)
_raws_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_encode = msgspec.json.Encoder().encode


def parse(body: bytes, headers: Headers) -> Parsed:
    """The events of one request's body. Raises: BodyRefused where the body cannot be read as a whole."""
    form = form_of(headers)
    body = inflate(body, headers)
    if form is Form.BINARY:
        return _parse_binary(body, headers)
    if form is Form.LINES:
        return parse_lines(body)
    text = body.strip(_WHITE)
    if text.startswith(b"[") and form is not Form.ONE:
        return parse_array(text)
    if text.startswith(b"{") and form is not Form.ARRAY:
        return _parse_single(text)
    raise _wrong_form(text, form)


def _parse_single(text: bytes) -> Parsed:
    """The one event of a body. Raises: BodyRefused where it is no JSON: then there is no event to refuse."""
    parsed = parse_texts([text])
    for _, fault, *_ in parsed.refused:
        if fault.code == "invalid_json" and fault.path is None:
            raise BodyRefused(400, "invalid_json", fault.message)
    return parsed


def parse_array(text: bytes) -> Parsed:
    """The events of a JSON array. Raises: BodyRefused."""
    table = _read_table(text, _ARRAY, min(len(text) // _PLAIN_BYTES_MIN, BATCH_EVENTS_MAX))
    if table is not None:
        return _complete(table)
    events = _read_plain(text, lambda: _array_decoder.decode(text), lambda: (text, len(text)))
    if events is not None:
        _check_count(len(events))
        return Parsed(events, [], len(events))
    try:
        texts = [bytes(raw) for raw in _raws_decoder.decode(text)]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        split = split_array(text)
        if split is None:
            raise BodyRefused(400, "invalid_json", why_not_json(text, error)) from None
        texts = split
    return parse_texts(texts)


def parse_lines(body: bytes) -> Parsed:
    """The events of newline-delimited JSON; blank lines are passed over. Raises: BodyRefused (413)."""
    room = min(body.count(b"\n") + 1, BATCH_EVENTS_MAX)
    numbers = np.empty(room, np.int64)
    table = _read_table(body, _LINES, room, numbers)
    if table is not None:
        return _complete(table)._replace(lines=numbers[: len(table)].tolist())
    lines = [line.strip(_WHITE) for line in body.split(b"\n")]
    found = [number for number, line in enumerate(lines, 1) if line]
    return parse_texts([line for line in lines if line])._replace(lines=found)


def parse_texts(texts: Sequence[bytes]) -> Parsed:
    """Events that each are a JSON text of their own, broken ones included. Raises: BodyRefused (413)."""
    _check_count(len(texts))
    if len(texts) < _TABLE_EVENTS_MIN:
        return _parse_texts(texts)
    sizes = np.fromiter(map(len, texts), np.int64, len(texts))
    table = _read_table(b"\n".join(texts), _TEXTS, len(texts), sizes)
    return _parse_texts(texts) if table is None else _complete(table)


# The compiled path --------------------------------------------------------------------------------


def _read_table(text: bytes, form: int, room: int, numbers: NDArray[np.int64] | None = None) -> Table | None:
    """A row for each event of a body; of one that is odd the row says nothing but where its text stands, as its data.

    `numbers`: the texts' lengths, or where the lines' numbers go. None where the body is not read as a whole, as where
    it has more than `room` events, or where the compiled half is not used.
    """
    if _parse is None or room < _TABLE_EVENTS_MIN:
        return None
    rows, side = np.empty((room, WORDS), np.int64), np.empty(len(text), np.uint8)
    count = _parse(
        text, len(text), form, None if numbers is None else numbers.ctypes.data, rows.ctypes.data, room,
        side.ctypes.data, _LIMITS.ctypes.data,
    )  # fmt: skip
    return None if count < 0 else Table(rows[:count], (text, side))


def _complete(table: Table) -> Parsed:
    """All events of a table, the odd ones read by the other paths."""
    odd = np.flatnonzero(table.sizes(ID) == 0)
    if not len(odd):
        return Parsed(Events(table=table), [], len(table))
    found, refused, _, _ = _parse_texts(table.take(odd).column("data"))
    good = odd[found.at]
    for column, texts in ((ID, found.id), (SOURCE, found.source), (TYPE, found.type), (SUBJECT, found.subject)):
        table.put(good, column, [text.encode() for text in texts])
    for column, some in ((TIME, found.time), (EXTENSIONS, found.extensions)):
        table.put(good, column, [None if text is None else text.encode() for text in some])
    table.put(good, DATA, found.data)
    table.rows[good, MICROS] = found.micros
    placed = [one._replace(at=int(odd[one.at])) for one in refused]
    right = np.delete(np.arange(len(table)), np.array([one.at for one in placed], np.int64))
    return Parsed(Events(table=table.take(right)), placed, len(table))


# The slow path ------------------------------------------------------------------------------------


def _parse_texts(texts: Sequence[bytes]) -> Parsed:
    """As `parse_texts`, in Python."""
    events = _read_plain_texts(texts)
    if events is not None:
        return Parsed(events, [], len(texts))
    events, refused = Events.empty(), list[Refused]()
    for start in range(0, len(texts), _CHUNK):
        chunk = texts[start : start + _CHUNK]
        plain = _read_plain_texts(chunk) if len(texts) > _CHUNK else None
        if plain is not None:
            events.extend(plain, start)
        else:
            for at, text in enumerate(chunk, start):
                _read_one(at, text, events, refused)
    return Parsed(events, refused, len(texts))


def _read_one(at: int, text: bytes, events: Events, refused: list[Refused]) -> None:
    """The slow path of one event."""
    try:
        events.append(at, read_event(text))
    except WrongEvent as wrong:
        refused.append(Refused(at, wrong.fault, text, wrong.id, wrong.source))


def _parse_binary(body: bytes, headers: Headers) -> Parsed:
    events, refused = Events.empty(), list[Refused]()
    try:
        events.append(0, read_binary(headers, body))
    except WrongEvent as wrong:
        refused.append(Refused(0, wrong.fault, _show_binary(headers, body), wrong.id, wrong.source))
    return Parsed(events, refused, 1)


def _show_binary(headers: Headers, body: bytes) -> bytes:
    """A request in binary mode as its rejection shows it: the attributes' texts, and the data's."""
    shown = {
        name[3:].decode("latin-1").lower(): value.decode(errors="replace")
        for name, value in headers
        if name.lower().startswith(b"ce-")
    }
    return _encode({**shown, "data": body.decode(errors="replace")})


def _check_count(count: int) -> None:
    if count > BATCH_EVENTS_MAX:
        raise BodyRefused(413, "too_large", f"found {count} events in one request, expected at most {BATCH_EVENTS_MAX}")


def _wrong_form(text: bytes, form: Form) -> BodyRefused:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
        text.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return BodyRefused(400, "invalid_json", why_not_json(text, error))
    found = {b"[": "an array", b"{": "an object"}.get(text[:1], "neither object nor array")
    return BodyRefused(400, "invalid_json", f"found {found}, expected {form.value}")


# The fast path ------------------------------------------------------------------------------------


def _read_plain_texts(texts: Sequence[bytes]) -> Events | None:
    """The fast path over texts that should each be one event.

    Each begins with `{` and ends with `}`. Inside a JSON value `}` is never followed by `{`, so the end of a text is
    the end of a value, and as many values as texts means one in each.
    """
    if not all(text[:1] == b"{" and text[-1:] == b"}" for text in texts):
        return None
    joined = b"\n".join(texts)
    events = _read_plain(
        joined, lambda: _plain_decoder.decode_lines(joined), lambda: (b"[%b]" % b",".join(texts), len(joined) + 2)
    )
    return events if events is not None and len(events) == len(texts) else None


def _read_plain(
    text: bytes, read: Callable[[], list[_Plain]], as_array: Callable[[], tuple[bytes, int]]
) -> Events | None:
    """The events of `text` if all are plain and right, else None. `as_array`: the text as a JSON array, and its bytes.

    What was read, written back, is as long as the text without white space only if nothing was lost in reading: no
    name stood twice. (Each number and each text is written in the fewest bytes that say it, so a loss is not made up
    for; a text with escapes that need not be there goes the slow way.)
    """
    try:
        plain = read()
        data = [bytes(event.data) for event in plain]
        together = b"[%b]" % b",".join(data)
        values = _data_decoder.decode(together)
        written = len(_encode(plain)) - len(together) + len(_encode(values))
        array, length = as_array()
        if written != length and written != len(msgspec.json.format(array, indent=-1)):
            return None
        return _columns(text, plain, data)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
        return None


def _columns(text: bytes, plain: Sequence[_Plain], data: list[bytes]) -> Events | None:
    """The columns of plain events; None where one of them is out of bounds. Raises: TimeError (a ValueError)."""
    time = [event.time for event in plain]
    events = Events(
        list(range(len(plain))),
        [event.id for event in plain],
        [event.source for event in plain],
        [event.type for event in plain],
        [event.subject for event in plain],
        time,
        parse_times(time),
        data,
        [None] * len(plain),
    )
    if not plain:
        return events
    longest = max(map(len, data))
    if longest > EVENT_BYTES_MAX or _too_deep(text, data) or _has_control(text, events):
        return None
    if longest > _FIELDS_BYTES_MIN and any(more_names_than(item, EVENT_FIELDS_MAX) for item in data):
        return None
    return events


def _too_deep(text: bytes, data: list[bytes]) -> bool:
    """Whether any data nests too deep: looks closely only where there are enough brackets for that."""
    if len(data) < _TABLE_MIN:
        brackets = text.count(b"{") + text.count(b"[")
    else:  # `[` and `{` differ in one bit
        brackets = int(np.count_nonzero((np.frombuffer(text, dtype=np.uint8) & 0xDF) == ord("[")))
    opened = 2 * len(data) - data.count(b"{}")  # by the events and their data (which may be absent)
    if brackets <= opened + EVENT_DEPTH_MAX - 1:
        return False
    return any(deeper_than(item, EVENT_DEPTH_MAX) for item in data)


def _has_control(text: bytes, events: Events) -> bool:
    """Whether an attribute holds a control character: only with an escape, or beyond ASCII's printable part."""
    if b"\\" not in text and text.isascii() and b"\x7f" not in text:
        return False
    columns = (events.id, events.source, events.type, events.subject)
    return any(CONTROL.search("".join(column)) is not None for column in columns)

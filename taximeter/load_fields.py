"""Makes a CloudEvent's JSON text out of a row: the mapping compiled to one function for each field."""

import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import msgspec

from schemas.period import load_zone
from schemas.times import TimeError, format_time, from_datetime, parse_time
from taximeter.load_mapping import UNIX, Mapping, Rule
from taximeter.load_rows import Row

HASH_DIGITS: Final = 32
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?\Z", re.ASCII)
_BOOLEANS: Final = {"true": "true", "1": "true", "yes": "true", "false": "false", "0": "false", "no": "false"}
_encode = msgspec.json.Encoder().encode
_decode_text = msgspec.json.Decoder(str).decode

Text = Callable[[Row], str | None]
"""The text of a field; None for a null. Raises: RowRefused."""


class RowRefused(ValueError):
    """A row of which no event can be made; the message says what was found where, and what was expected."""


class EventMaker:
    """Rows -> events. `columns`: what must be read of each row, and what wants it; `whole`: and all of its text."""

    def __init__(self, mapping: Mapping, json: bool) -> None:
        """`json`: the values of rows are JSON texts."""
        rules = dict(mapping.rules())
        self.columns = {column: f"{path}" for path, rule in rules.items() for column in rule.reads()}
        self.whole = any(rule.hash == "row" for rule in rules.values())
        self._nulls = frozenset(mapping.nulls)
        self._json = json
        self._places = {column: place for place, column in enumerate(self.columns)}
        self._envelope: list[tuple[str, str, Text]] = []
        self._data: list[tuple[str, Text]] = []
        for path, rule in rules.items():
            group, _, name = path.partition(".")
            text = self._time(path, rule) if path == "event.time" else self._text(path, rule)
            if group == "event":
                self._envelope.append((path, _encode(name).decode(), text))
            else:
                self._data.append((_encode(name).decode(), self._value(path, rule, text)))

    def make(self, row: Row) -> bytes:
        """The event's JSON text. Raises: RowRefused."""
        head = ['"specversion":"1.0"']
        for path, name, text in self._envelope:
            value = text(row)
            if value is not None:
                head.append(f"{name}:{_encode(value).decode()}")
            elif path != "event.time":
                raise RowRefused(f"row {row.number}: {path}: found nothing, expected a text")
        data = [f"{name}:{value}" for name, text in self._data if (value := text(row)) is not None]
        return f'{{{",".join(head)},"data":{{{",".join(data)}}}}}'.encode()

    # Texts -------------------------------------------------------------------------------------------------------

    def _text(self, path: str, rule: Rule) -> Text:
        if rule.value is not None:
            constant = rule.value
            return lambda row: constant
        if rule.row is not None:
            return lambda row: str(row.number)
        if rule.hash == "row":
            return lambda row: _digest(row.text)
        if rule.template is not None:
            return self._template(path, rule)
        if rule.column is not None:
            return self._column(rule.column)
        joined = self._joined(path, rule.columns or list(rule.hash or ()))
        return joined if rule.columns else lambda row: _digest((joined(row) or "").encode())

    def _column(self, column: str) -> Text:
        place, nulls = self._places[column], self._nulls
        if self._json:
            return lambda row: _unless_null(_plain(row.values[place]), nulls)
        return lambda row: _unless_null(row.values[place], nulls)

    def _needed(self, path: str, column: str) -> Text:
        """A column that must not be null."""
        text = self._column(column)

        def needed(row: Row) -> str:
            found = text(row)
            if found is None:
                raise RowRefused(f"row {row.number}, column {column}: found nothing, {path} needs it")
            return found

        return needed

    def _joined(self, path: str, columns: Sequence[str]) -> Text:
        """Columns with a slash between. Their own slashes are escaped: different columns never join alike."""
        parts = [self._needed(path, column) for column in columns]
        return lambda row: "/".join((text(row) or "").replace("%", "%25").replace("/", "%2F") for text in parts)

    def _template(self, path: str, rule: Rule) -> Text:
        pieces = [(text, None if name is None else self._needed(path, name)) for text, name in rule.pieces()]
        return lambda row: "".join(text + ("" if needed is None else needed(row) or "") for text, needed in pieces)

    # Values of data ----------------------------------------------------------------------------------------------

    def _value(self, path: str, rule: Rule, text: Text) -> Text:
        """The JSON text of a value: letter by letter for a number."""
        kind = rule.kind or ("json" if self._json and rule.column else "text")
        if kind == "json" and rule.column is not None and self._json:
            place, nulls = self._places[rule.column], self._nulls
            return lambda row: None if _unless_null(_plain(row.values[place]), nulls) is None else row.values[place]
        if kind == "text":
            return lambda row: None if (found := text(row)) is None else _encode(found).decode()
        column = rule.column or path
        readers = {"number": _number, "boolean": _boolean, "json": _json_text}
        read = readers[kind]

        def value(row: Row) -> str | None:
            found = text(row)
            if found is None:
                return None
            said = read(found.strip())
            if said is None:
                raise RowRefused(f"row {row.number}, column {column}: found {found[:60]!r}, {path} expects a {kind}")
            return said

        return value

    # Times -------------------------------------------------------------------------------------------------------

    def _time(self, path: str, rule: Rule) -> Text:
        text, read = self._text(path, rule), _time_reader(rule)

        def time(row: Row) -> str | None:
            found = text(row)
            if found is None:
                return None
            try:
                return read(found.strip())
            except (ValueError, ArithmeticError) as error:
                raise RowRefused(f"row {row.number}, column {rule.column or path}: {path}: {error}") from None

        return time


def _time_reader(rule: Rule) -> Callable[[str], str]:
    """Text of the column -> RFC 3339. The reader raises: ValueError, ArithmeticError."""
    zone = load_zone(rule.timezone or "UTC")
    utc = (rule.timezone or "UTC") == "UTC"
    form = rule.format
    if form in UNIX:
        since, unit = parse_time(rule.since or "1970-01-01T00:00:00Z"), UNIX[form]

        def counted(text: str) -> str:
            if not _NUMBER.match(text):
                raise TimeError(f"found {text[:60]!r}, expected a number ({form})")
            return format_time(since + int(Decimal(text) * unit // 1))

        return counted

    def in_zone(naive: datetime) -> str:
        aware = naive if naive.tzinfo is not None else naive.replace(tzinfo=zone)
        return format_time(from_datetime(aware.astimezone(UTC)))

    if form is not None:
        return lambda text: in_zone(datetime.strptime(text, form))

    def plain(text: str) -> str:
        try:
            return format_time(parse_time(text))
        except TimeError:
            micros = parse_time(text + "Z") if len(text) > 10 else parse_time(text + "T00:00:00Z")
        return format_time(micros) if utc else in_zone(datetime.fromisoformat(format_time(micros)[:-1]))

    return plain


def _plain(value: str | None) -> str | None:
    """The text of a JSON value: of a text what it says, of anything else its JSON."""
    return _decode_text(value) if value is not None and value.startswith('"') else value


def _unless_null(value: str | None, nulls: frozenset[str]) -> str | None:
    return None if value in nulls else value


def _number(text: str) -> str | None:
    return text if _NUMBER.match(text) else None


def _boolean(text: str) -> str | None:
    return _BOOLEANS.get(text.lower())


def _json_text(text: str) -> str | None:
    try:
        msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return None
    return text


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:HASH_DIGITS]

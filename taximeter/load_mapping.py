"""The mapping of a file's columns to usage events, as a person writes it in YAML.

```yaml
format: csv                   # csv, tsv, ndjson or parquet; by default what the file's name says
nulls: ["", "NULL"]           # texts that stand for nothing; by default the empty one
event:
  id: {hash: row}             # or {hash: [a, b]}, {columns: [a, b]}, {row: number}, {column: a}, {template: "{a}-{b}"}
  source: my-export           # a text is a constant
  type: {template: "{kind}.request"}
  subject: {column: account}
  time: {column: at, timezone: Europe/Zurich}   # also format: "%d.%m.%Y %H:%M", unix, unix_ms or unix_us
data:
  tokens: {column: n, as: number}               # text, number, boolean or json; a null is left out
  region: eu-west
```
"""

from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any, Literal

import msgspec
import yaml

from schemas.faults import MISSING, Faults, join, read
from schemas.period import PeriodError, load_zone
from schemas.times import TimeError, parse_time

Format = Literal["csv", "tsv", "ndjson", "parquet"]
As = Literal["text", "number", "boolean", "json"]
UNIX = {"unix": 1_000_000, "unix_ms": 1_000, "unix_us": 1}
"""Formats of a time that count from `since`; microseconds in one of their units."""


class MappingError(ValueError):
    """A mapping that is refused, with every fault and its path."""

    def __init__(self, path: Path, faults: Faults) -> None:
        super().__init__("\n".join(f"{path}: {fault}" for fault in faults))
        self.faults = faults


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Rule(_Document, frozen=True, kw_only=True):
    """Where a value comes from: one of `column`, `value`, `template`, `hash`, `columns`, `row`; and how it is read."""

    column: str | None = None
    value: str | None = None
    template: str | None = None
    hash: str | list[str] | None = None
    columns: list[str] | None = None
    row: str | None = None
    kind: As | None = msgspec.field(default=None, name="as")
    timezone: str | None = None
    format: str | None = None
    since: str | None = None

    def pieces(self) -> list[tuple[str, str | None]]:
        """The template as (text, the column after it). Raises: ValueError."""
        return [(text, name) for text, name, _, _ in Formatter().parse(self.template or "")]

    def reads(self) -> list[str]:
        """The columns that it needs, `hash: row` aside."""
        found = [self.column] if self.column is not None else []
        found += self.columns or []
        found += self.hash if isinstance(self.hash, list) else []
        return found + [name for _, name in self.pieces() if name is not None]


class EventRules(_Document, frozen=True, kw_only=True):
    """The event's own fields. A text is a constant."""

    id: str | Rule
    source: str | Rule
    type: str | Rule
    subject: str | Rule
    time: str | Rule | None = None


class Mapping(_Document, frozen=True, kw_only=True):
    """The whole document."""

    event: EventRules
    data: dict[str, str | Rule] = {}
    format: Format | None = None
    compression: Literal["gzip", "none"] | None = None
    delimiter: str | None = None
    nulls: list[str] = msgspec.field(default_factory=lambda: [""])

    def rules(self) -> Iterator[tuple[str, Rule]]:
        """Every rule with its path in the document, constants as rules."""
        for name in EventRules.__struct_fields__:
            said = getattr(self.event, name)
            if said is not None:
                yield f"event.{name}", as_rule(said)
        for name, said in self.data.items():
            yield f"data.{name}", as_rule(said)


def as_rule(said: str | Rule) -> Rule:
    """A constant as the rule that says so."""
    return Rule(value=said) if isinstance(said, str) else said


def read_mapping(path: Path) -> Mapping:
    """The mapping of a file. Raises: MappingError, OSError."""
    faults = Faults()
    try:
        # Every scalar stays its text: a mapping says itself what is a number.
        value = yaml.load(path.read_bytes(), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        faults.add(place, f"not YAML: {getattr(error, 'problem', None) or error}")
        raise MappingError(path, faults) from None
    mapping = read(Mapping, value, "", faults)
    if mapping is not MISSING:
        _check(mapping, faults)
    if faults:
        raise MappingError(path, faults)
    found: Mapping = mapping
    return found


def _check(mapping: Mapping, faults: Faults) -> None:
    if mapping.delimiter is not None and len(mapping.delimiter) != 1:
        faults.add("delimiter", f"found {mapping.delimiter!r}, expected one character")
    for path, rule in mapping.rules():
        _check_rule(path, rule, faults)


def _check_rule(path: str, rule: Rule, faults: Faults) -> None:
    sources = ("column", "value", "template", "hash", "columns", "row")
    given = [name for name in sources if getattr(rule, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        faults.add(path, f"found {found}, expected one of {', '.join(sources)}")
    if isinstance(rule.hash, str) and rule.hash != "row":
        faults.add(join(path, "hash"), f"found {rule.hash!r}, expected row or a list of columns")
    if rule.row is not None and rule.row != "number":
        faults.add(join(path, "row"), f"found {rule.row!r}, expected number")
    if path.startswith("event.") and rule.kind not in (None, "text"):
        faults.add(join(path, "as"), f"found {rule.kind!r}, expected nothing: an event's own fields are texts")
    _check_template(path, rule, faults)
    _check_time(path, rule, faults)


def _check_template(path: str, rule: Rule, faults: Faults) -> None:
    try:
        if rule.template is not None and not any(name for _, name in rule.pieces()):
            faults.add(join(path, "template"), f"found {rule.template!r}, expected a column such as {{account}} in it")
    except ValueError as error:
        faults.add(join(path, "template"), f"found {rule.template!r}: {error}")


def _check_time(path: str, rule: Rule, faults: Faults) -> None:
    told: dict[str, Any] = {name: getattr(rule, name) for name in ("timezone", "format", "since")}
    if path != "event.time":
        for name, value in told.items():
            if value is not None:
                faults.add(join(path, name), "only event.time has one")
        return
    try:
        load_zone(rule.timezone or "UTC")
    except PeriodError as error:
        faults.add(join(path, "timezone"), str(error))
    if rule.format is not None and rule.format not in UNIX and "%" not in rule.format:
        expected = f"{', '.join(UNIX)} or a pattern such as %Y-%m-%d %H:%M:%S"
        faults.add(join(path, "format"), f"found {rule.format!r}, expected {expected}")
    if rule.since is not None:
        if rule.format not in UNIX:
            faults.add(join(path, "since"), f"only a format of {', '.join(UNIX)} counts from a time")
        try:
            parse_time(rule.since)
        except TimeError as error:
            faults.add(join(path, "since"), str(error))

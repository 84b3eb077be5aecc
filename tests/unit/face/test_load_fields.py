"""A row becomes an event: each kind of rule, numbers letter by letter, and faults that name key, row and column."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from taximeter.load_fields import EventMaker, RowRefused
from taximeter.load_mapping import MappingError, read_mapping
from taximeter.load_rows import Row

EVENT = {"id": {"row": "number"}, "source": "s", "type": "t", "subject": {"column": "who"}}


def maker(tmp_path: Path, json_values: bool = False, **mapping: Any) -> EventMaker:
    path = tmp_path / "mapping.yaml"
    path.write_text(yaml.safe_dump({"event": EVENT, **mapping}, sort_keys=False))
    return EventMaker(read_mapping(path), json_values)


def make(maker: EventMaker, text: bytes = b"", **values: str | None) -> str:
    return maker.make(Row(7, [values.get(column) for column in maker.columns], text)).decode()


@pytest.mark.parametrize(
    "number", ["0.1", "9007199254740993", "1e-9", "1.0", "-0", "123456789012345678901234.000000000001"]
)
def test_number_keeps_its_text(tmp_path: Path, number: str) -> None:
    found = maker(tmp_path, data={"n": {"column": "n", "as": "number"}})
    assert make(found, who="a", n=number).endswith(f'"data":{{"n":{number}}}}}')


@pytest.mark.parametrize("text", ["1,000", "abc", ".5", "+1", "01", "NaN", "1 2"])
def test_what_is_no_number_is_refused_by_row_and_column(tmp_path: Path, text: str) -> None:
    found = maker(tmp_path, data={"tokens": {"column": "n", "as": "number"}})
    with pytest.raises(RowRefused, match=r"row 7, column n: found .*data\.tokens expects a number"):
        make(found, who="a", n=text)


def test_nulls_are_left_out(tmp_path: Path) -> None:
    rules = {"a": {"column": "a"}, "b": {"column": "b", "as": "number"}, "c": "fixed"}
    found = maker(tmp_path, nulls=["", "NULL"], data=rules)
    assert json.loads(make(found, who="x", a="", b="NULL"))["data"] == {"c": "fixed"}
    assert json.loads(make(maker(tmp_path, data=rules), who="x", a="NULL"))["data"] == {"a": "NULL", "c": "fixed"}


def test_missing_subject_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RowRefused, match=r"row 7: event\.subject: found nothing"):
        make(maker(tmp_path), who="")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"row": "number"}, "7"),
        ({"hash": "row"}, hashlib.sha256(b"whole,row").hexdigest()[:32]),
        ({"hash": ["a", "b"]}, hashlib.sha256(b"1/2").hexdigest()[:32]),
        ({"columns": ["a", "b"]}, "1/2"),
        ({"column": "a"}, "1"),
        ({"template": "x-{a}:{b}"}, "x-1:2"),
        ("constant", "constant"),
    ],
)
def test_identity(tmp_path: Path, rule: Any, expected: str) -> None:
    found = maker(tmp_path, event={**EVENT, "id": rule})
    assert json.loads(make(found, b"whole,row", who="x", a="1", b="2"))["id"] == expected


@pytest.mark.parametrize("rule", ["columns", "hash"])
def test_rows_that_differ_have_different_identities(tmp_path: Path, rule: str) -> None:
    found = maker(tmp_path, event={**EVENT, "id": {rule: ["a", "b"]}})
    pairs = [("1/2", "3"), ("1", "2/3"), ("1%2F2", "3"), ("1", "2%2F3"), ("1%252F2", "3")]
    ids = {json.loads(make(found, who="x", a=a, b=b))["id"] for a, b in pairs}
    assert len(ids) == len(pairs)


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        ({}, "2024-11-15 16:57:50", "2024-11-15T16:57:50Z"),
        ({}, "2023-11-16 18:15:46.6805909", "2023-11-16T18:15:46.68059Z"),
        ({}, "2024-11-15", "2024-11-15T00:00:00Z"),
        ({}, "2024-11-15T16:57:50+02:00", "2024-11-15T14:57:50Z"),
        ({"timezone": "Europe/Zurich"}, "2024-07-01 00:30:00", "2024-06-30T22:30:00Z"),
        ({"timezone": "Europe/Zurich", "format": "%d.%m.%Y %H:%M"}, "01.12.2024 00:30", "2024-11-30T23:30:00Z"),
        ({"format": "unix"}, "1700000000.25", "2023-11-14T22:13:20.25Z"),
        ({"format": "unix_ms"}, "1700000000123", "2023-11-14T22:13:20.123Z"),
        ({"format": "unix", "since": "2023-01-01T00:00:00Z"}, "86400", "2023-01-02T00:00:00Z"),
    ],
)
def test_time(tmp_path: Path, rule: Any, text: str, expected: str) -> None:
    found = maker(tmp_path, event={**EVENT, "time": {"column": "at", **rule}})
    assert json.loads(make(found, who="x", at=text))["time"] == expected


def test_time_that_is_none_is_refused_by_row_and_column(tmp_path: Path) -> None:
    found = maker(tmp_path, event={**EVENT, "time": {"column": "at"}})
    with pytest.raises(RowRefused, match=r"row 7, column at: event\.time: found 'yesterdayZ?"):
        make(found, who="x", at="yesterday")
    assert "time" not in json.loads(make(found, who="x", at=""))


def test_booleans_and_json(tmp_path: Path) -> None:
    found = maker(tmp_path, data={"b": {"column": "b", "as": "boolean"}, "j": {"column": "j", "as": "json"}})
    assert json.loads(make(found, who="x", b="Yes", j='{"a":[1]}'))["data"] == {"b": True, "j": {"a": [1]}}
    with pytest.raises(RowRefused, match="expects a boolean"):
        make(found, who="x", b="maybe")


def test_json_values_stay_as_they_are(tmp_path: Path) -> None:
    rules = {"n": {"column": "n"}, "t": {"column": "n", "as": "text"}, "o": {"column": "o"}}
    found = maker(tmp_path, True, data=rules)
    event = make(found, who='"x"', n="1.10", o='{"a":1}')
    assert event.endswith('"data":{"n":1.10,"t":"1.10","o":{"a":1}}}')
    assert json.loads(event)["subject"] == "x"


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        (
            {"event": {**EVENT, "id": {"colum": "a"}}},
            "event.id.colum: unknown key: found 'colum' (did you mean 'column'?)",
        ),
        ({"event": {k: v for k, v in EVENT.items() if k != "subject"}}, "event.subject: missing"),
        (
            {"event": {**EVENT, "id": {"column": "a", "row": "number"}}},
            "event.id: found column and row, expected one of",
        ),
        (
            {"event": {**EVENT, "id": {"hash": "line"}}},
            "event.id.hash: found 'line', expected row or a list of columns",
        ),
        ({"event": {**EVENT, "type": {"template": "x"}}}, "event.type.template: found 'x', expected a column"),
        ({"event": {**EVENT, "type": {"template": "x{"}}}, "event.type.template: found 'x{'"),
        ({"event": {**EVENT, "time": {"column": "a", "timezone": "Mars/Base"}}}, "event.time.timezone: "),
        ({"event": {**EVENT, "time": {"column": "a", "format": "iso"}}}, "event.time.format: found 'iso'"),
        ({"data": {"n": {"column": "n", "as": "float"}}}, "data.n.as: found 'float', expected one of"),
        ({"data": {"n": {"column": "n", "format": "%Y"}}}, "data.n.format: only event.time has one"),
        ({"format": "xml"}, "format: found 'xml', expected one of"),
        ({"delimiter": "::"}, "delimiter: found '::', expected one character"),
    ],
)
def test_mapping_faults_name_their_key(tmp_path: Path, mapping: Any, said: str) -> None:
    with pytest.raises(MappingError) as refused:
        maker(tmp_path, **mapping)
    assert said in str(refused.value)


def test_all_mapping_faults_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(MappingError) as refused:
        maker(tmp_path, format="xml", data={"n": {"kolumn": "n"}})
    assert len(refused.value.faults) == 2

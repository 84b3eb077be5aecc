"""What a meter's document says beyond its types, and what the engine and the door make of it."""

from typing import Any

import pytest

from ingest.route import View
from rating.catalogue import load_catalogue
from rating.convert import Conversion
from rating.meters import check_meter, read_convert, read_value
from schemas.catalogue import Catalogue, Meter, read_catalogue
from schemas.faults import Faults, Number, read


def meter(**keys: Any) -> Meter:
    faults = Faults()
    document = {"event": "use", "aggregate": "sum", "value": "$.n", **keys}
    found = read(Meter, {key: value for key, value in document.items() if value is not None}, "", faults)
    assert not faults, faults
    return found


def faults_of(**keys: Any) -> list[str]:
    faults, document = Faults(), meter(**keys)
    read_value(document, "m", faults)
    check_meter(document, "m", faults)
    read_convert(document, "m", faults)
    return [str(fault) for fault in faults]


GAUGE = {"aggregate": "time_weighted"}
RANK = {"aggregate": "percentile", "percentile": "95"}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"value": "$.in + 3 * $.out"},
        {"aggregate": "count", "value": None},
        {"aggregate": "count", "value": None, "convert": {"divide": "1000", "round": "up"}},
        {"aggregate": "unique_count", "convert": {"divide": "1000"}},
        {**GAUGE, "key": "$.disk", "unit": "period", "reads": "change", "align": "day"},
        {**GAUGE, "value": "$.a + $.b", "convert": {"multiply": "2", "per": "event"}},
        {
            **RANK,
            "value": "max($.in, $.out)",
            "convert": {"divide": "8", "per": "event", "round": "up", "digits": Number("-3")},
        },
        {**RANK, "percentile": "100"},
        {**RANK, "percentile": "0.000000000001"},
    ],
)
def test_meters_without_fault(keys: dict[str, Any]) -> None:
    assert faults_of(**keys) == []


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"value": None}, "m.value: missing: sum reads a value, such as $.tokens"),
        ({"aggregate": "count"}, "m.value: found '$.n', expected none: count reads no value"),
        (
            {"value": "$.n +"},
            "m.value: found the end at character 6 of '$.n +', expected a path, a number or a function",
        ),
        (
            {"value": "tokens"},
            "m.value: found the word 'tokens' at character 1 of 'tokens', expected a path such as $.tokens",
        ),
        (
            {"aggregate": "unique_count", "value": "$.a + $.b"},
            "m.value: found an expression, expected one path: unique_count compares values as texts",
        ),
        ({"convert": {}}, "m.convert: found neither, expected one of divide and multiply"),
        ({"convert": {"divide": "2", "multiply": "3"}}, "m.convert: found both, expected one of divide and multiply"),
        ({"convert": {"divide": "0"}}, "m.convert.divide: found 0, expected more than nought"),
        ({"convert": {"multiply": "-1"}}, "m.convert.multiply: found -1, expected more than nought"),
        (
            {"convert": {"divide": "2", "digits": Number("2")}},
            "m.convert.digits: found 2 without round, expected round: up, down or half_up",
        ),
        (
            {"aggregate": "count", "value": None, "convert": {"divide": "2", "per": "event"}},
            "m.convert.per: found event, expected total: count reads no number of an event",
        ),
        (
            {"aggregate": "unique_count", "convert": {"divide": "2", "per": "event"}},
            "m.convert.per: found event, expected total: unique_count reads no number of an event",
        ),
        ({"key": "$.disk"}, "m.key: found '$.disk' with sum, expected it only with time_weighted"),
        ({"unit": "day"}, "m.unit: found 'day' with sum, expected it only with time_weighted"),
        ({"reads": "change"}, "m.reads: found 'change' with sum, expected it only with time_weighted"),
        ({"align": "day"}, "m.align: found 'day' with sum, expected it only with time_weighted"),
        ({**GAUGE, "key": "$.disk + 1"}, "m.key: found ' + 1' at character 7 of '$.disk + 1', expected .name or [0]"),
        ({"percentile": "95"}, "m.percentile: found 95 with sum, expected it only with percentile"),
        ({"aggregate": "percentile"}, 'm.percentile: missing: which one, such as percentile: "95"'),
        ({**RANK, "percentile": "0"}, "m.percentile: found 0, expected more than 0 and at most 100"),
        ({**RANK, "percentile": "100.1"}, "m.percentile: found 100.1, expected more than 0 and at most 100"),
    ],
)
def test_faults_are_named_with_their_path(keys: dict[str, Any], fault: str) -> None:
    assert faults_of(**keys) == [fault]


BOOK = """
meters:
  cost: {event: use, aggregate: sum, value: "$.in + 3 * $.out", convert: {divide: "1000", per: event}}
  disk: {event: resized, aggregate: time_weighted, value: $.gib, key: $.disk, convert: {divide: 2, round: up}}
  line: {event: sample, aggregate: percentile, value: "max($.in, $.up)", percentile: "95", where: {$.ok: true}}
  own: {event: sale, aggregate: count}
price_books:
  b:
    currency: USD
    charges:
      own: {meter: own, price: {model: matrix, by: [], cells: [], otherwise: {model: dynamic, amount: $.price}}}
"""
METERS = BOOK[: BOOK.index("price_books")]


def test_the_engine_reads_the_paths_of_expressions_and_keys() -> None:
    compiled = load_catalogue(METERS)
    assert compiled.paths == ("$.disk", "$.gib", "$.in", "$.ok", "$.out", "$.up")
    cost, disk, line, own = compiled.meters
    assert (cost.value, cost.expression and cost.expression.text) == (None, "$.in + 3 * $.out")
    assert (disk.value, disk.expression, disk.key) == ("$.gib", None, "$.disk")
    assert (cost.convert_event, cost.convert_total) == (Conversion.by(1, 1000), None)
    assert (disk.convert_event, disk.convert_total) == (None, Conversion.by(1, 2, 0, "up"))
    assert (line.percentile, own.convert_event, own.convert_total) == (95 * 10**12, None, None)


def documents(text: str) -> Catalogue:
    catalogue, faults = read_catalogue(text)
    assert catalogue is not None and not faults
    return catalogue


def test_the_door_packs_the_same_paths_and_those_of_prices() -> None:
    assert sorted(View.of(documents(METERS)).paths) == ["$.disk", "$.gib", "$.in", "$.ok", "$.out", "$.up"]
    assert "$.price" in View.of(documents(BOOK)).paths


def test_the_door_leaves_to_the_engine_what_it_cannot_read() -> None:
    assert View.of(documents("meters: {m: {event: e, aggregate: sum, value: '$.a +'}}")).paths == ()

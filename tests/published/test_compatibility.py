"""Consumers of an earlier day read what is said today, and today's types read what was said then."""

import copy
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import fastavro
import pytest
from jsonschema import Draft202012Validator

from schemas import topics
from schemas.avro import bare, from_datum, to_datum
from taximeter.publish import published
from tests.published.sampling import KINDS, SAMPLES, VERSIONS, decode, said

OPEN = {"Rejection.code"}
"""Lists that may grow within a version: consumers are told to expect words there that they do not know."""

WHAT_TO_DO = """
Consumers of version {version} rely on it. Either take the change back, or publish a version beside the old one: a new
name in taximeter/publish.py, what it is for in docs/consumers.md, and its samples by
`python -m tests.published.sampling NUMBER`. The files of {version} are kept for ever."""


def kept(version: str, kind: str) -> dict[str, Any]:
    """The JSON Schema as that version's consumers have it."""
    found: dict[str, Any] = json.loads((SAMPLES / version / f"{kind}.schema.json").read_text())
    return found


def today(kind: str) -> dict[str, Any]:
    """The JSON Schema of the code, published under the newest number."""
    found: dict[str, Any] = json.loads(published()[f"{kind}.{VERSIONS[-1]}.json"])
    return found


def breaks(then: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """What a reader of `then` would stumble over in outputs that are described by `now`."""
    for name, old in then["$defs"].items():
        new = now["$defs"].get(name)
        if new is None:
            yield f"{name}: the type is gone"
            continue
        for lost in sorted(set(old["required"]) - set(new["required"])):
            yield f"{name}.{lost}: it need no longer be there"
        for field, was in old["properties"].items():
            place = f"{name}.{field}"
            if field not in new["properties"]:
                yield f"{place}: it is gone"
            elif (found := _form(new["properties"][field], place)) != (expected := _form(was, place)):
                yield f"{place}: found {found}, expected {expected}"


def _form(schema: Any, place: str) -> Any:
    """What a reader relies on: no descriptions, no order, and of an open list only that it is one."""
    if isinstance(schema, dict):
        if place in OPEN and "enum" in schema:
            return {"enum": "open"}
        return {key: _form(value, place) for key, value in schema.items() if key not in ("description", "title")}
    return sorted((_form(one, place) for one in schema), key=repr) if isinstance(schema, list) else schema


def test_there_is_a_version() -> None:
    assert VERSIONS and VERSIONS[0] == "v1"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_said_then_is_read_today(version: str, kind: str) -> None:
    samples = json.loads((SAMPLES / version / f"{kind}.json").read_text())
    assert samples
    for sample in samples:
        Draft202012Validator(kept(version, kind)).validate(sample)
        Draft202012Validator(today(kind)).validate(sample)
        decode(kind, json.dumps(sample).encode())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_said_today_is_read_by_consumers_of_then(version: str, kind: str) -> None:
    found = list(breaks(kept(version, kind), today(kind)))
    assert not found, "\n".join(found) + WHAT_TO_DO.format(version=version)
    validator = Draft202012Validator(kept(version, kind))
    assert said()[kind]
    for output in said()[kind]:
        error = next(validator.iter_errors(output), None)
        assert error is None, f"{error.json_path}: {error.message}" + WHAT_TO_DO.format(version=version)


AVRO = {"line-item": topics.LINE_ITEMS, "invoice": topics.INVOICES, "alert": topics.ALERTS}


@pytest.mark.parametrize("kind", AVRO)
@pytest.mark.parametrize("version", VERSIONS)
def test_avro_is_read_both_ways(version: str, kind: str) -> None:
    topic = AVRO[kind]
    then, now = (
        fastavro.parse_schema(bare(json.loads(text)))
        for text in ((SAMPLES / version / f"{kind}.avsc").read_text(), published()[f"{kind}.{VERSIONS[-1]}.avsc"])
    )
    for output in said()[kind] + (said()["reconciliation-alert"] if kind == "alert" else []):
        value = json.dumps(output, separators=(",", ":"), ensure_ascii=False).encode()
        for writer, reader in ((then, now), (now, then), (now, now)):
            written = io.BytesIO()
            fastavro.schemaless_writer(written, writer, to_datum(topic, value))
            written.seek(0)
            try:
                datum = fastavro.schemaless_reader(written, writer, reader)
            except fastavro.read.SchemaResolutionError as error:
                raise AssertionError(f"{error}" + WHAT_TO_DO.format(version=version)) from error
            if reader is now:
                assert from_datum(topic, datum) == value


def _change(change: Callable[[dict[str, Any]], Any]) -> list[str]:
    schema = today("invoice")
    change((changed := copy.deepcopy(schema))["$defs"])
    return list(breaks(schema, changed))


def test_what_would_break_a_consumer_is_found() -> None:
    assert _change(lambda types: types["Invoice"]["properties"].pop("tax_lines")) == ["Invoice.tax_lines: it is gone"]
    assert _change(lambda types: types["Invoice"]["required"].remove("total"))
    assert _change(lambda types: types["InvoiceLine"]["properties"]["amount"].update(type="number"))
    assert _change(lambda types: types["Invoice"]["properties"]["kind"]["enum"].append("refund"))
    assert _change(lambda types: types.pop("TaxLine")) == ["TaxLine: the type is gone"]
    assert _change(lambda types: types["Invoice"]["properties"]["total"].update(anyOf=[{"type": "null"}]))


def test_what_breaks_nobody_is_let_through() -> None:
    assert _change(lambda types: types["Invoice"]["properties"].update(note={"type": "string"})) == []
    assert _change(lambda types: types["Invoice"]["required"].append("tax_lines")) == []
    assert _change(lambda types: types["Invoice"].update(description="Other words.")) == []
    assert _change(lambda types: types.update(Note={"properties": {}, "required": []})) == []
    rejection = today("rejection")
    grown = copy.deepcopy(rejection)
    grown["$defs"]["Rejection"]["properties"]["code"]["enum"].append("too_strange")
    assert list(breaks(rejection, grown)) == []

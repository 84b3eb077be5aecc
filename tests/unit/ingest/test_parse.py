"""What clients send: content types, modes, compression, and what is kept of an event."""

import base64
import gzip
import json
import zlib
from typing import Any

import pyarrow as pa
import pytest

from ingest.content import BodyRefused, inflate
from ingest.parse import parse
from schemas.limits import (
    BATCH_EVENTS_MAX,
    EVENT_BYTES_MAX,
    EVENT_DEPTH_MAX,
    EVENT_FIELDS_MAX,
    EVENT_TEXT_LENGTH_MAX,
    EXTENSIONS_MAX,
)
from tests.unit.ingest.doors import JSON, event, text

ONE, TWO = text(event()), text([event(), event(id="e2")])


@pytest.mark.parametrize(
    ("content_type", "body", "count"),
    [
        ("application/cloudevents+json", ONE, 1),
        ("Application/CloudEvents+JSON; charset=UTF-8", ONE, 1),
        ("application/cloudevents-batch+json", TWO, 2),
        ("application/cloudevents-batch+json;charset=utf-8", b"[]", 0),
        ("application/json", ONE, 1),
        ("application/json", TWO, 2),
        ("application/json", b" \n" + TWO + b"\r\n", 2),
        ('APPLICATION/JSON; Charset="utf-8"', TWO, 2),
        (None, ONE, 1),
        ("", TWO, 2),
        ("application/x-ndjson", ONE + b"\n" + ONE, 2),
        ("application/ndjson", ONE + b"\r\n\r\n" + ONE + b"\r\n", 2),
        ("application/jsonl", b"\n  \n", 0),
        ("application/x-ndjson", b"", 0),
    ],
)
def test_content_types(content_type: str | None, body: bytes, count: int) -> None:
    headers = [] if content_type is None else [(b"Content-Type", content_type.encode())]
    parsed = parse(body, headers)
    assert (len(parsed.events.id), parsed.refused, parsed.total) == (count, [], count)


def headers_of(**more: str) -> list[tuple[bytes, bytes]]:
    made = {"ce-specversion": "1.0", "ce-id": "e1", "ce-source": "gateway", "ce-type": "t", "CE-Subject": "acme"}
    return [(name.encode(), value.encode()) for name, value in (made | more).items()]


@pytest.mark.parametrize("content_type", [None, "application/json", "application/vnd.acme+json; charset=utf-8"])
def test_binary_mode(content_type: str | None) -> None:
    headers = headers_of(**{"ce-time": "2026-11-21T04:14:52.786055+00:00", "ce-region": "eu%2D1%20%E2%82%AC"})
    headers += [(b"content-type", content_type.encode())] if content_type else []
    events = parse(b' {"value": 5}\n', headers).events
    assert (events.id, events.subject, events.data) == (["e1"], ["acme"], [b'{"value": 5}'])
    assert events.time == ["2026-11-21T04:14:52.786055+00:00"]
    assert json.loads(events.extensions[0] or "") == {"region": "eu-1 €"}


def test_binary_mode_takes_raw_headers_and_no_data() -> None:
    events = parse(b"", headers_of(**{"CE-Subject": "Zürich 100%"})).events
    assert (events.subject, events.data, events.time) == (["Zürich 100%"], [b"{}"], [None])


@pytest.mark.parametrize(
    ("more", "body", "code", "path"),
    [
        ({"ce-id": ""}, b"{}", "invalid_event", "id"),
        ({"ce-specversion": "0.3"}, b"{}", "invalid_event", "specversion"),
        ({"ce-time": "now"}, b"{}", "invalid_time", "time"),
        ({"ce-Bad_Name": "x"}, b"{}", "invalid_event", "bad_name"),
        ({"ce-data": "{}"}, b"{}", "invalid_event", "data"),
        ({"ce-datacontenttype": "application/json"}, b"{}", "invalid_event", "datacontenttype"),
        ({"ce-source": "%FF"}, b"{}", "invalid_event", "source"),
        ({"Ce-Id": "e2"}, b"{}", "invalid_event", "id"),
        ({"content-type": "text/xml"}, b"<a/>", "invalid_data", "data"),
        ({"content-type": "text/xml"}, b"{}", "invalid_event", "datacontenttype"),
        ({}, b"[1]", "invalid_data", "data"),
        ({}, b'{"a":', "invalid_data", "data"),
        ({}, b"\xef\xbb\xbf{}", "invalid_data", "data"),
        ({}, b'{"a":NaN}', "invalid_data", "data"),
        ({}, b'{"a":1,"a":2}', "invalid_data", "data.a"),
        ({}, b'{"a":' * 40 + b"1" + b"}" * 40, "invalid_data", "data"),
    ],
)
def test_binary_mode_refuses(more: dict[str, str], body: bytes, code: str, path: str) -> None:
    parsed = parse(body, headers_of(**more))
    assert [(r.fault.code, r.fault.path) for r in parsed.refused] == [(code, path)]
    assert parsed.events.id == []


def test_gzip() -> None:
    squeezed = gzip.compress(TWO)
    for body in (squeezed, gzip.compress(TWO[:50]) + gzip.compress(TWO[50:]), squeezed + b"\0\0"):
        assert parse(body, [*JSON, (b"Content-Encoding", b"GZIP")]).events.id == ["e1", "e2"]


def zstd(body: bytes) -> bytes:
    return pa.Codec("zstd").compress(body, asbytes=True)


def test_deflate_and_zstd() -> None:
    for body, encoding in (
        (zlib.compress(TWO), b"deflate"),
        (zstd(TWO), b"zstd"),
        (zstd(TWO[:50]) + zstd(TWO[50:]), b"zstd"),
    ):
        assert parse(body, [*JSON, (b"content-encoding", encoding)]).events.id == ["e1", "e2"]


@pytest.mark.parametrize(
    ("body", "encoding", "status", "code"),
    [
        (b"no zlib", b"deflate", 400, "invalid_encoding"),
        (zlib.compress(b"x" * 1001), b"deflate", 413, "too_large"),
        (b"no zstd", b"zstd", 400, "invalid_encoding"),
        (zstd(b"x" * 100)[:-3], b"zstd", 400, "invalid_encoding"),
        (zstd(b"x" * 1000) + b"rest", b"zstd", 400, "invalid_encoding"),
        (zstd(b"x" * 1001), b"zstd", 413, "too_large"),
        (zstd(b"x" * 100_000_000), b"zstd", 413, "too_large"),
        (b"no gzip", b"gzip", 400, "invalid_encoding"),
        (b"", b"gzip", 400, "invalid_encoding"),
        (gzip.compress(b"x" * 100, mtime=0)[:-9], b"gzip", 400, "invalid_encoding"),
        (gzip.compress(b"x" * 1001, mtime=0), b"gzip", 413, "too_large"),
        (gzip.compress(b"x" * 600, mtime=0) * 2, b"gzip", 413, "too_large"),
        (b"x" * 1001, b"identity", 413, "too_large"),
        (b"x", b"br", 415, "unsupported_media_type"),
    ],
)
def test_encodings_that_are_refused(body: bytes, encoding: bytes, status: int, code: str) -> None:
    with pytest.raises(BodyRefused) as refused:
        inflate(body, [(b"content-encoding", encoding)], bytes_max=1000)
    assert (refused.value.status, refused.value.code) == (status, code)


def test_the_bound_of_inflating_is_inclusive() -> None:
    assert len(inflate(gzip.compress(b"x" * 1000), [(b"content-encoding", b"x-gzip")], bytes_max=1000)) == 1000


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x" * EVENT_TEXT_LENGTH_MAX},
        {"id": "é" * EVENT_TEXT_LENGTH_MAX},
        {"data": nested(EVENT_DEPTH_MAX)},
        {"data": {"a": "x" * (EVENT_BYTES_MAX - 9)}},
        {"data": {f"n{i}": i for i in range(EVENT_FIELDS_MAX)}},
        {"data": {"list": [{"": ":::"}] * (EVENT_FIELDS_MAX - 1)}},
        {"data": {"a": ["]" * 40, "[" * 40, {}]}},
        {f"x{i}": True for i in range(EXTENSIONS_MAX)},
        {"x" * 20: 1},
        {"data": None, "time": None, "datacontenttype": None, "region": None},
        {"datacontenttype": "Application/vnd.acme+JSON; charset=utf-8"},
        {"subject": 'quoted "é" \\ 😀'},
        {"data": {"big": 10**400, "list": [[], {}, None]}},
    ],
)
def test_what_is_just_within_bounds_is_taken(changes: dict[str, Any]) -> None:
    for body in (json.dumps([event(**changes)]).encode(), json.dumps([event(**changes)], ensure_ascii=False).encode()):
        parsed = parse(body, JSON)
        assert (parsed.refused, len(parsed.events.id)) == ([], 1)


def test_numbers_keep_their_text() -> None:
    data = b'{"a":0.10, "b":9007199254740993,"c":1e-9,"d":1e400,"e":-0}'
    body = ONE.replace(text(event()["data"]), data)
    assert parse(body, JSON).events.data == [data]


def test_extensions_are_kept_in_one_order() -> None:
    (kept,) = parse(text(event(zone="é\n", region=1, dry=False, dataschema="http://a/b")), JSON).events.extensions
    assert kept == '{"dry":false,"region":1,"zone":"é\\n","dataschema":"http://a/b"}'


def test_data_in_base64_is_data() -> None:
    encoded = base64.b64encode(b'{"tokens": 5}').decode()
    assert parse(text(event(data=..., data_base64=encoded)), JSON).events.data == [b'{"tokens": 5}']


def test_as_many_events_as_allowed() -> None:
    one = text(event())
    assert parse(b"[%b]" % b",".join([one] * BATCH_EVENTS_MAX), JSON).total == BATCH_EVENTS_MAX
    assert parse(b"\n".join([one] * BATCH_EVENTS_MAX), [(b"content-type", b"application/jsonl")]).refused == []

"""Every kind of wrong event has its code and its path, is published as a rejection, and harms no neighbour."""

import base64
from typing import Any

import msgspec
import pytest

from ingest.content import BodyRefused
from schemas.limits import (
    BATCH_EVENTS_MAX,
    EVENT_BYTES_MAX,
    EVENT_DEPTH_MAX,
    EVENT_FIELDS_MAX,
    EVENT_TEXT_LENGTH_MAX,
    EXTENSIONS_MAX,
)
from tests.unit.ingest.doors import JSON, LINES, ListLog, event, make_door, text

GOOD_TEXT = text(event(id="good"))


def raw(old: bytes, new: bytes, **changes: Any) -> bytes:
    """An event's text with one part replaced by what an encoder would not write."""
    encoded = text(event(**changes))
    assert old in encoded
    return encoded.replace(old, new)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


WRONG: dict[str, tuple[bytes, str, str | None]] = {
    "no id": (text(event(id=...)), "invalid_event", "id"),
    "null id": (text(event(id=None)), "invalid_event", "id"),
    "empty id": (text(event(id="")), "invalid_event", "id"),
    "number as id": (text(event(id=7)), "invalid_event", "id"),
    "object as id": (text(event(id={})), "invalid_event", "id"),
    "long id": (text(event(id="x" * (EVENT_TEXT_LENGTH_MAX + 1))), "too_large", "id"),
    "control character in id": (text(event(id="a\u0000b")), "invalid_event", "id"),
    "delete character in source": (text(event(source="a\x7f")), "invalid_event", "source"),
    "C1 character in type": (text(event(type="a\u0085")), "invalid_event", "type"),
    "no source": (text(event(source=...)), "invalid_event", "source"),
    "empty source": (text(event(source="")), "invalid_event", "source"),
    "no type": (text(event(type=...)), "invalid_event", "type"),
    "flag as type": (text(event(type=True)), "invalid_event", "type"),
    "no subject": (text(event(subject=...)), "invalid_event", "subject"),
    "empty subject": (text(event(subject="")), "invalid_event", "subject"),
    "list as subject": (text(event(subject=["acme"])), "invalid_event", "subject"),
    "unclaimed subject that is no identifier": (text(event(subject="a b")), "invalid_event", "subject"),
    "unclaimed subject too long to be one": (text(event(subject="x" * 129)), "invalid_event", "subject"),
    "no specversion": (text(event(specversion=...)), "invalid_event", "specversion"),
    "specversion 0.3": (text(event(specversion="0.3")), "invalid_event", "specversion"),
    "specversion as number": (raw(b'"1.0"', b"1.0"), "invalid_event", "specversion"),
    "time is no time": (text(event(time="yesterday")), "invalid_time", "time"),
    "time without zone": (text(event(time="2026-11-21T09:59:00")), "invalid_time", "time"),
    "time as number": (text(event(time=1795000000)), "invalid_time", "time"),
    "empty time": (text(event(time="")), "invalid_time", "time"),
    "day that is not": (text(event(time="2026-02-30T00:00:00Z")), "invalid_time", "time"),
    "year before 1970": (text(event(time="1969-12-31T23:59:59Z")), "invalid_time", "time"),
    "moved before 1970 by its offset": (text(event(time="1970-01-01T00:00:00+05:00")), "invalid_time", "time"),
    "two days ahead": (text(event(time="2026-11-23T10:00:00Z")), "time_out_of_bounds", "time"),
    "list as data": (text(event(data=[1])), "invalid_data", "data"),
    "text as data": (text(event(data='{"tokens": 1}')), "invalid_data", "data"),
    "number as data": (text(event(data=1)), "invalid_data", "data"),
    "too deep data": (text(event(data=nested(EVENT_DEPTH_MAX + 1))), "invalid_data", "data"),
    "very deep data": (raw(b'"large"', b"[" * 5000 + b"]" * 5000), "invalid_data", "data"),
    "too large data": (text(event(data={"a": "x" * EVENT_BYTES_MAX})), "too_large", "data"),
    "too many names": (text(event(data={f"n{i}": i for i in range(EVENT_FIELDS_MAX + 1)})), "too_large", "data"),
    "too many names, nested": (
        text(event(data={"list": [{"": 1}] * EVENT_FIELDS_MAX})),
        "too_large",
        "data",
    ),
    "far too large data": (text(event(data={"a": "x" * 4 * EVENT_BYTES_MAX})), "too_large", "data"),
    "name twice in data": (raw(b'"tokens":5', b'"tokens":5,"tokens":5000'), "invalid_data", "data.tokens"),
    "name twice deep in data": (raw(b'"tokens":5', b'"a":[{"b":1,"b":1}]'), "invalid_data", "data.a[0].b"),
    "name twice, once by escape": (raw(b'"tokens":5', b'"tokens":5,"\\u0074okens":6'), "invalid_data", "data.tokens"),
    "id twice": (raw(b'"id":"e1"', b'"id":"e1","id":"e2"'), "invalid_json", "id"),
    "data twice": (raw(b'"data":', b'"data":{},"data":'), "invalid_json", "data"),
    "NaN in data": (raw(b"5", b"NaN"), "invalid_json", None),
    "Infinity in data": (raw(b"5", b"-Infinity"), "invalid_json", None),
    "number with leading nought": (raw(b"5", b"05"), "invalid_json", None),
    "lone surrogate in data": (raw(b"large", b"\\ud83d"), "invalid_json", None),
    "lone surrogate in id": (raw(b"e1", b"\\udc00"), "invalid_json", None),
    "invalid UTF-8 in data": (raw(b"large", b"\xff"), "invalid_json", None),
    "invalid UTF-8 in id": (raw(b"e1", b"\xc3("), "invalid_json", None),
    "encoded surrogate": (raw(b"large", b"\xed\xa0\x80"), "invalid_json", None),
    "control character in a text": (raw(b"large", b"a\x01b"), "invalid_json", None),
    "comma at the end": (raw(b'"large"', b'"large",'), "invalid_json", None),
    "data_base64 of no base64": (text(event(data=..., data_base64="%%")), "invalid_data", "data_base64"),
    "data_base64 of no JSON": (text(event(data=..., data_base64=b64(b"\x00\x01"))), "invalid_data", "data_base64"),
    "data_base64 of a list": (text(event(data=..., data_base64=b64(b"[1]"))), "invalid_data", "data_base64"),
    "data_base64 as number": (text(event(data=..., data_base64=5)), "invalid_data", "data_base64"),
    "name twice in data_base64": (
        text(event(data=..., data_base64=b64(b'{"a":1,"a":2}'))),
        "invalid_data",
        "data_base64.a",
    ),
    "data and data_base64": (text(event(data_base64=b64(b"{}"))), "invalid_data", "data_base64"),
    "XML": (text(event(datacontenttype="text/xml")), "invalid_event", "datacontenttype"),
    "number as datacontenttype": (text(event(datacontenttype=1)), "invalid_event", "datacontenttype"),
    "empty dataschema": (text(event(dataschema="")), "invalid_event", "dataschema"),
    "upper case extension": (text(event(Region="eu")), "invalid_event", "Region"),
    "extension with a dash": (text({**event(), "a-b": 1}), "invalid_event", "a-b"),
    "long extension name": (text({**event(), "x" * 21: 1}), "invalid_event", "x" * 21),
    "object as extension": (text(event(region={"name": "eu"})), "invalid_event", "region"),
    "too many extensions": (text(event(**{f"x{i}": i for i in range(EXTENSIONS_MAX + 1)})), "too_large", None),
    "too large extensions": (text(event(region="x" * 70_000)), "too_large", None),
    "a number for an event": (b"5", "invalid_event", None),
    "a text for an event": (b'"event"', "invalid_event", None),
    "null for an event": (b"null", "invalid_event", None),
    "a list for an event": (b"[{}]", "invalid_event", None),
    "an empty object": (b"{}", "invalid_event", "specversion"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_event_in_an_array_is_refused_alone(name: str) -> None:
    wrong, code, path = WRONG[name]
    log = ListLog()
    receipt = await make_door(log).take(b"[%b, %b]" % (GOOD_TEXT, wrong), JSON, "default")
    answer = receipt.answer()
    assert (answer.accepted, answer.rejected, len(answer.events)) == (1, 1, 1)
    verdict = answer.events[0]
    assert (verdict.verdict, verdict.code, verdict.path, verdict.index) == ("rejected", code, path, 1)
    assert verdict.message and verdict.message.startswith("found ")
    assert log.ids() == ["good"]
    _check_published(log, code, path, index=1)


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_line_is_refused_alone(name: str) -> None:
    wrong, code, path = WRONG[name]
    log = ListLog()
    body = b"\r\n".join([b"", GOOD_TEXT, b"  ", wrong, GOOD_TEXT.replace(b"good", b"better")])
    answer = (await make_door(log).take(body, LINES, "default")).answer()
    assert [(e.verdict, e.code, e.path, e.line) for e in answer.events] == [("rejected", code, path, 4)]
    assert log.ids() == ["good", "better"]
    _check_published(log, code, path, line=4)


@pytest.mark.parametrize("name", [name for name in WRONG if WRONG[name][0].startswith(b"{")])
async def test_a_wrong_event_alone_is_400(name: str) -> None:
    """With its verdict, or as a body that cannot be read where it is no JSON."""
    wrong, code, path = WRONG[name]
    log = ListLog()
    try:
        receipt = await make_door(log).take(wrong, JSON, "default")
    except BodyRefused as refused:
        assert (refused.status, refused.code, path) == (400, code, None)
        assert log.rejections == [] and code == "invalid_json"
    else:
        assert (receipt.status, code == "invalid_json" and path is None) == (400, False)
        assert [(e.code, e.path) for e in receipt.answer().events] == [(code, path)]
        _check_published(log, code, path, index=0)
    assert log.entries == []


def _check_published(log: ListLog, code: str, path: str | None, **where: int) -> None:
    (rejection,) = log.rejections
    assert (rejection.code, rejection.path, rejection.tenant) == (code, path, "default")
    assert {name: getattr(rejection.where, name) for name in where} == where
    document = msgspec.json.decode(msgspec.json.encode(rejection))
    assert document["event"] is not None or code == "invalid_event"


UNREADABLE: dict[str, tuple[bytes, str, int, str]] = {
    "nothing": (b"", "application/json", 400, "invalid_json"),
    "white space": (b" \n", "application/json", 400, "invalid_json"),
    "cut off": (text([event()])[:-1], "application/json", 400, "invalid_json"),
    "cut off in an event": (text([event(), event()])[:-20], "application/json", 400, "invalid_json"),
    "a number": (b"5", "application/json", 400, "invalid_json"),
    "byte order mark": (b"\xef\xbb\xbf" + text(event()), "application/json", 400, "invalid_json"),
    "UTF-16": (text(event()).decode().encode("utf-16"), "application/json", 400, "invalid_json"),
    "deep brackets": (b"[" * 100_000, "application/json", 400, "invalid_json"),
    "more behind": (text([event()]) + b"x", "application/json", 400, "invalid_json"),
    "two arrays": (text([event()]) * 2, "application/json", 400, "invalid_json"),
    "an array where one event is due": (text([event()]), "application/cloudevents+json", 400, "invalid_json"),
    "an event where an array is due": (text(event()), "application/cloudevents-batch+json", 400, "invalid_json"),
    "form": (b"a=b", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
    "text": (text(event()), "text/plain", 415, "unsupported_media_type"),
    "Avro": (text(event()), "application/cloudevents+avro", 415, "unsupported_media_type"),
    "another charset": (text(event()), "application/json; charset=utf-16", 415, "unsupported_media_type"),
    "too many events": (
        b"[" + b",".join([b"{}"] * (BATCH_EVENTS_MAX + 1)) + b"]",
        "application/json",
        413,
        "too_large",
    ),
    "too many lines": (b"{}\n" * (BATCH_EVENTS_MAX + 1), "application/x-ndjson", 413, "too_large"),
}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_body_that_cannot_be_read_is_refused_whole(name: str) -> None:
    body, content_type, status, code = UNREADABLE[name]
    log = ListLog()
    with pytest.raises(BodyRefused) as refused:
        await make_door(log).take(body, [(b"Content-Type", content_type.encode())], "default")
    assert (refused.value.status, refused.value.code) == (status, code)
    assert refused.value.detail.startswith("found ")
    assert log.entries == [] and log.rejections == []

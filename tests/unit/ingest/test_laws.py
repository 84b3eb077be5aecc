"""Laws of the parser: the fast and the slow path agree, columns agree with what they cache, times with one another."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import parse as parser
from ingest.columns import Events
from ingest.content import BodyRefused, Form
from ingest.envelope import WrongEvent, read_event
from ingest.json_text import depth_of, repeated_name, split_array
from ingest.parse import parse, parse_array, parse_lines, parse_texts
from ingest.times import check_time, parse_times
from schemas.identity import event_identities, event_identity, identity_hasher
from schemas.times import TimeError, parse_time
from tests.unit.ingest.doors import GOOD, event, text

texts = st.text(max_size=8).filter(lambda s: not any("\ud800" <= c <= "\udfff" for c in s))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=3), max_leaves=6)
moments = st.datetimes(datetime(1970, 1, 2), datetime(9998, 12, 30))
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-11))])
times = st.builds(lambda at, zone: at.replace(tzinfo=zone).isoformat(), moments, zones)


@st.composite
def odd_events(draw: st.DrawFn) -> dict[str, Any]:
    """Mostly good events, with something odd in some."""
    made: dict[str, Any] = {
        **GOOD,
        "id": draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5)),
        "data": draw(st.dictionaries(texts, values, max_size=3)),
        "time": draw(st.none() | times),
    }
    if draw(st.integers(0, 3)) == 0:
        name = draw(st.sampled_from([*GOOD, "datacontenttype", "dataschema", "region", "Region", "data_base64"]))
        made[name] = draw(values)
    if draw(st.integers(0, 5)) == 0:
        made.pop(draw(st.sampled_from(sorted(made))))
    return made


@st.composite
def encoded(draw: st.DrawFn) -> bytes:
    """An event's text, written by one of several encoders; at times with a name twice."""
    made = draw(odd_events())
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\t", " : ")]))
    written = json.dumps(made, ensure_ascii=draw(st.booleans()), separators=separators)
    if made and draw(st.integers(0, 5)) == 0:
        name = draw(st.sampled_from(sorted(made)))
        written = written[:-1] + separators[0] + json.dumps({name: draw(values)})[1:]
    return written.encode()


def slowly(bodies: list[bytes]) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """What the slow path says: the events' fields, and the faults."""
    events, faults = [], []
    for at, one in enumerate(bodies):
        try:
            events.append((at, *read_event(one)))
        except WrongEvent as wrong:
            faults.append((at, wrong.fault, wrong.id, wrong.source))
    return events, faults


def fields(events: Events) -> list[tuple[Any, ...]]:
    return list(zip(*events.lists(), strict=True))


@settings(max_examples=250, deadline=None)
@given(st.lists(encoded(), max_size=5))
def test_fast_and_slow_path_agree(bodies: list[bytes]) -> None:
    expected, faults = slowly(bodies)
    for parsed in (parse_texts(bodies), parse_array(b"[%b]" % b" , ".join(bodies)), parse_lines(b"\n".join(bodies))):
        assert fields(parsed.events) == expected
        assert [(r.at, r.fault, r.id, r.source) for r in parsed.refused] == faults
        assert [r.text for r in parsed.refused] == [bodies[at] for at, *_ in faults]
        assert parsed.total == len(bodies)


@settings(max_examples=100, deadline=None)
@given(st.lists(encoded(), min_size=1, max_size=3))
def test_plain_events_take_the_fast_path_only_if_the_slow_one_takes_them(bodies: list[bytes]) -> None:
    plain = parser._read_plain_texts(bodies)
    if plain is not None:
        assert (fields(plain), []) == slowly(bodies)


def test_a_plain_event_does_take_the_fast_path() -> None:
    assert parser._read_plain_texts([text(event()), json.dumps(event(data=...), indent=2).encode()]) is not None


def test_what_is_cut_in_two_lines_is_not_joined() -> None:
    """Two lines that are an event only together, and a line that holds two events: as many values as lines."""
    whole = text(event(data={"list": [{}, {}]}))
    head, tail = whole.split(b"{},{}", 1)
    body = b"\n".join([head + b"{}", b"{}" + tail, text(event(id="a")) + b"," + text(event(id="b"))])
    parsed = parse_lines(body)
    assert parsed.events.id == [] and [r.fault.code for r in parsed.refused] == ["invalid_json"] * 3
    double = parse_lines(text(event(id="a")) + text(event(id="b")))
    assert double.events.id == [] and len(double.refused) == 1


def test_one_wrong_line_does_not_slow_or_shift_the_others() -> None:
    lines = [text(event(id=f"e{i}")) for i in range(200)]
    lines[70] = b"{"
    parsed = parse_lines(b"\n".join(lines))
    assert parsed.events.at == [i for i in range(200) if i != 70]
    assert parsed.events.id == [f"e{i}" for i in range(200) if i != 70]
    assert [r.at for r in parsed.refused] == [70]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["application/json", "application/x-ndjson", ""]), st.booleans())
def test_no_bytes_crash_the_parser(body: bytes, content_type: str, binary: bool) -> None:
    headers = [(b"content-type", content_type.encode())] if content_type else []
    headers += [(b"ce-specversion", b"1.0"), (b"ce-id", body)] if binary else []
    try:
        parsed = parse(body, headers)
    except BodyRefused as refused:
        assert refused.status == 400
    else:
        assert len(parsed.events.id) + len(parsed.refused) == parsed.total


@settings(max_examples=200, deadline=None)
@given(encoded(), st.integers(0, 400), st.binary(min_size=1, max_size=2))
def test_no_mutation_crashes_the_parser(body: bytes, at: int, change: bytes) -> None:
    at = at % len(body)
    parse_texts([body[:at] + change + body[at + 1 :]])


@given(values)
def test_depth(value: Any) -> None:
    def depth(v: Any) -> int:
        below = v.values() if isinstance(v, dict) else v if isinstance(v, list) else None
        return 0 if below is None else 1 + max(map(depth, below), default=0)

    found = {"a": value}
    assert depth_of(text(found)) == depth(found)


@given(st.dictionaries(texts, values, max_size=4), st.booleans())
def test_no_name_stands_twice_in_what_an_encoder_wrote(value: dict[str, Any], ascii: bool) -> None:
    assert repeated_name(json.dumps(value, ensure_ascii=ascii).encode()) is None


@given(st.lists(values, min_size=1, max_size=4))
def test_splitting_finds_the_items_of_an_array(items: list[Any]) -> None:
    written = [json.dumps(item).encode() for item in items]
    assert split_array(b"[ %b ]" % b" , ".join(written)) == written


@settings(deadline=None)
@given(st.lists(st.none() | times, max_size=80), st.booleans())
def test_many_times_are_read_as_one_is(chosen: list[str | None], as_z: bool) -> None:
    chosen = [t.replace("+00:00", "Z") if t and as_z else t for t in chosen]
    assert parse_times(chosen) == [-1 if t is None else parse_time(t) for t in chosen]


ODD_TIMES = [
    "2026-12-31T23:59:60Z",
    "2026-02-29T00:00:00Z",
    "2024-02-29T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-00-01T00:00:00Z",
    "2026-01-00T00:00:00Z",
    "2026-01-32T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:60:00Z",
    "2026-01-01 00:00:00Z",
    "2026-01-01t00:00:00z",
    "9999-01-01T00:00:00Z",
    "1969-01-01T00:00:00Z",
    "2026-01-01T00:00:00.Z",
    "2026-01-01T00:00:00.123456789Z",
    "2026-01-01T00:00:00.1234567891Z",
    "2026-01-01T00:00:00,5Z",
    "2026-01-01T00:00:00-00:00",
    "2026-W01-1T00:00:00Z",
    "２026-01-01T00:00:00Z",
    "",
]


@pytest.mark.parametrize("odd", ODD_TIMES)
@pytest.mark.parametrize("among", ["2026-01-01T00:00:00Z", None])
def test_an_odd_time_among_many_is_read_as_alone(odd: str, among: str | None) -> None:
    many = [*([among or odd] * 40), odd]
    try:
        expected = check_time(odd)
    except TimeError:
        with pytest.raises(TimeError):
            parse_times(many)
    else:
        assert parse_times(many)[-1] == expected


@given(st.lists(st.tuples(texts, texts, texts), max_size=4))
def test_identities_of_many_are_those_of_each(parts: list[tuple[str, str, str]]) -> None:
    hashers = [identity_hasher("t", customer, source) for customer, source, _ in parts]
    expected = [event_identity("t", customer, source, id) for customer, source, id in parts]
    assert event_identities(hashers, [id for *_, id in parts]) == expected
    assert event_identities(hashers, [id for *_, id in parts]) == expected


def test_every_form_is_named() -> None:
    assert all(form.value for form in Form)

"""Laws of the compiled half of the door: for any input whatsoever it says what its twin in Python says, to the byte."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingest import parse as parser
from ingest.columns import Parsed, Rows
from ingest.content import BodyRefused
from ingest.pack import encode_packs
from ingest.parse import parse_array, parse_lines, parse_texts
from ingest.route import Router, View
from ingest.routed import Routed, refuse_unroutable
from ingest.table import SUBJECT
from schemas import paths
from schemas.identity import event_identity
from schemas.limits import EVENT_DEPTH_MAX, EVENT_TEXT_LENGTH_MAX, EXTENSIONS_MAX, PACK_EVENTS_MAX
from schemas.paths import Extractor, scalar_column
from schemas.times import DAY
from tests.unit.ingest.doors import GOOD, NOW, event, text
from tests.unit.ingest.test_laws import ODD_TIMES, encoded

PATHS = ["$.a", "$.b", "$.a.b", "$.a[0]", "$['c d']", "$.a[1].b", "$['']", "$.é", "$[0]"]
VIEW = View({"acme": "acme", "team a": "acme", "zürich": "other"}, PATHS)


@pytest.fixture(autouse=True, scope="module")
def few_events_too() -> Iterator[None]:
    """The compiled half reads even one event."""
    usual = parser._TABLE_EVENTS_MIN
    parser._TABLE_EVENTS_MIN = 0  # type: ignore[misc]
    yield
    parser._TABLE_EVENTS_MIN = usual  # type: ignore[misc]


@contextmanager
def in_python() -> Iterator[None]:
    """Without the compiled half."""
    compiled = parser._parse, paths._find
    assert None not in compiled
    parser._parse = paths._find = None
    try:
        yield
    finally:
        parser._parse, paths._find = compiled


def nested(depth: int, open: str = '{"a":', close: str = "}") -> str:
    return open * (depth - 1) + "{}" + close * (depth - 1)


NUMBERS = [
    *("0", "-0", "-0.0", "1e400", "-1e-400", "0.1e-7", "12345678901234567890123456789.5", "1" * 38, "9" * 39, "0e26"),
    *("0e27", "0E-99", "1E5", "1.0000000000000", "1e-12", "1e-13", "10e-13", "1e25", "1e26", "0.000000000001", "1e+2"),
    *("99999999999999999999999999.999999999999", "100000000000000000000000000", "123456789012345678", "1." + "0" * 40),
    *("170141183460469231731687303715884105727", "1e1000000", "0." + "0" * 36 + "1e30", "5" * 5000, "1.5", "7", "42"),
]
ODD = [
    *("01", "1.", ".5", "+1", "-", "1e", "1e+", "--1", "NaN", "-Infinity", "tru", "True", "nul", "{}", "[]", "[1,2]"),
    *('"x"', '""', '"é🚕"', r'"\n"', r'"\u00e9"', r'"\ud83d\ude00"', r'"\ud83d"', r'"\ude00\ud83d"', r'"\ud83dx"'),
    *(r'"\uD83D\uDE00"', r'"\x"', r'"\u12g4"', r'"\u123"', '"\x00"', '"\x1f"', '"\x7f"', '"\u0080"', '"\u009f"'),
    *('"\u00a0"', '"\\"', '"', "null", "true", "false", '{"b":1}', '{"b":1,"b":2}', '{"b":{"c":1,"c":2}}', "[[[]]]"),
    *('[{"b":1},{"b":"y"}]', '{"\\u0062":1}', '{"b":1,"\\u0062":2}', '"1.5"', '{"b":null}', "{,}", '{"b" 1}', "[1,]"),
    *(nested(EVENT_DEPTH_MAX - 1), nested(EVENT_DEPTH_MAX), nested(70), "[" * 31 + "]" * 31, "[" * 32 + "]" * 32),
    *("[" * 100_000, "/**/1", "1 2", "\ufeff1", json.dumps({f"n{i}": i for i in range(200)}), '"' + "y" * 300 + '"'),
]
ATTRIBUTES = [
    *('"e1"', '"é"', '"a\\u0062"', '"\\/x"', '""', '"' + "x" * EVENT_TEXT_LENGTH_MAX + '"', '"\x7f"', '"\u0085"', "1"),
    *('"' + "🚕" * EVENT_TEXT_LENGTH_MAX + '"', '"' + "é" * (EVENT_TEXT_LENGTH_MAX + 1) + '"', "null", '"a b"', "{}"),
    *('"1.0"', '"0.3"', '"application/json"', '"application/json; a=b"', '"2026-11-21T09:59:00.5+05:45"', '"zürich"'),
    *('"team a"', '"taximeter.void"', '"2026-11-23T09:59:00Z"', "[1]", "true", "-1.50", '"' + "x" * 40_000 + '"'),
]
NAMES = ["id", "source", "type", "subject", "specversion", "time", "datacontenttype", "dataschema", "data_base64"]
NAMES += ["region", "Region", "a1", "é", "", "x" * 20, "x" * 21, "traceparent", "i\\u0064", "dat", "times"]
WHITE = ["", "", "", " ", "\t\r\n ", "\x0b", "\u00a0"]


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """The text of an event that is nearly right, member by member; nothing is too odd to stand in one."""
    white = st.sampled_from(WHITE[: draw(st.sampled_from([3, 3, 5, 7]))])
    members = [f'"{name}":{json.dumps(value)}' for name, value in GOOD.items() if name != "data"]
    values = st.sampled_from(NUMBERS) | st.sampled_from(NUMBERS + ODD)
    names = st.sampled_from(["a", "b", "c d", "é", "", "a", "\\u0061", "abcdefgh", "abcdefgi", "abcdefghi"])
    inner = draw(
        st.lists(st.tuples(names, values), max_size=4, unique_by=draw(st.sampled_from([None, lambda m: m[0]])))
    )
    between = draw(white)
    members.append('"data":{' + ",".join(f'{between}"{name}"{between}:{between}{value}' for name, value in inner) + "}")
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
        member = f'"{name}":{draw(st.sampled_from(ATTRIBUTES))}'
        standing = [i for i, one in enumerate(members) if one.startswith(f'"{name}"')]
        if standing and draw(st.integers(0, 9)):
            members[standing[0]] = member
        else:
            members.append(member)
    if draw(st.integers(0, 9)) == 0:
        members.pop(draw(st.integers(0, len(members) - 1)))
    members = draw(st.permutations(members))
    around = draw(white)
    return (around + "{" + around + f"{between},{around}".join(members) + "}" + around).encode("utf-8", "surrogatepass")


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """An event's text with bytes changed, taken out or put in."""
    changes = [b"\x00", b"\xff", b"\xc2", b"\xed\xa0\x80", b'"', b"\\", b",", b"}", b"{", b"\n"]
    body = draw(documents() | encoded())
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 3]))):
        at, kind = draw(st.integers(0, len(body))), draw(st.integers(0, 3))
        change = draw(st.sampled_from(changes))
        if kind == 0:
            body = body[:at] + change + body[at + 1 :]
        elif kind == 1:
            body = body[:at] + change + body[at:]
        elif kind == 2:
            body = body[:at] + body[at + draw(st.integers(1, 9)) :]
        else:
            body = body[:at]
    return body


def said(read: Callable[[], Parsed]) -> Any:
    """All that is said of a body: the events, the refused, how many and on which lines; or why it is refused whole."""
    try:
        found = read()
    except BodyRefused as refused:
        return refused.status, refused.code, refused.detail
    return found.events.lists(), found.refused, found.total, found.lines


def packs(parsed: Parsed, partitions: int, max_ahead: int | None) -> Any:
    """What becomes of a body behind the parser: who is refused, every row, and the packs to the byte."""
    router = Router("tenant", VIEW, partitions)
    events, refused = refuse_unroutable(parsed, router, [NOW + i for i in range(parsed.total)], max_ahead)
    routed = Routed(events, router, [NOW + at for at in events.at])
    split = routed.by_partition()
    made = {one: encode_packs("tenant", rows, VIEW.extractor) for one, rows in split.items()}
    return events.lists(), refused, routed.rows.lists(), {one: rows.lists() for one, rows in split.items()}, made


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(mutated(), max_size=4), st.sampled_from([b",", b" ,\n", b",,", b"\n"]), st.binary(max_size=2))
@example([], b",", b"")
@example([b"{}" * 3], b",", b"")
@example([b"\xef\xbb\xbf{}"], b",", b"")
def test_every_body_is_read_as_by_the_twin(bodies: list[bytes], comma: bytes, tail: bytes) -> None:
    array, lines = b"[" + comma.join(bodies) + b"]" + tail, b"\n".join(bodies) + tail
    for read in (lambda: parse_array(array), lambda: parse_lines(lines), lambda: parse_texts(bodies)):
        found = said(read)
        with in_python():
            assert found == said(read)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(documents(), min_size=1, max_size=5), st.integers(1, 3), st.sampled_from([None, 0, DAY]))
def test_every_pack_is_made_as_by_the_twin(bodies: list[bytes], partitions: int, max_ahead: int | None) -> None:
    found = packs(parse_texts(bodies), partitions, max_ahead)
    with in_python():
        assert found == packs(parse_texts(bodies), partitions, max_ahead)


def routed(ids: Sequence[str], arrived: int = NOW) -> Rows:
    events = parse_texts([text(event(id=id, subject=f"c{i % 3}", region="eu")) for i, id in enumerate(ids)]).events
    return Routed(events, Router("tenant", VIEW, 1), [arrived] * len(ids)).rows


def test_parts_of_requests_are_packed_together_as_by_the_twin() -> None:
    def made() -> Any:
        first, second, third = routed(["a", "b\u0101", "c"]), routed([f'q"{i}' for i in range(5)]), routed(["z"])
        joined = Rows.joined([first, second.cut(1, 4), third.pick([0])])
        return joined.lists(), joined.data_bytes, encode_packs("tenant", joined, VIEW.extractor)

    found = made()
    with in_python():
        assert found == made()


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(min_size=1, max_size=3), st.booleans()), min_size=1, max_size=4), st.booleans())
def test_lists_and_a_table_are_joined_as_lists_are(few: list[tuple[str, bool]], is_first: bool) -> None:
    table = routed([f"e{i}" for i in range(9)])
    if table.table is None:
        pytest.skip("the library is left out")
    lists = [list(column) for column in table.pick([0] * len(few)).lists()]
    lists[Rows.NAMES.index("id")] = [id for id, _ in few]
    lists[Rows.NAMES.index("extensions")] = ['{"region":"é"}' if extended else None for _, extended in few]
    parts = [Rows(*lists), table] if is_first else [table, Rows(*lists)]
    joined, expected = Rows.joined(parts), Rows.joined([Rows(*part.lists()) for part in parts])
    assert joined.table is not None and expected.table is None
    assert joined == expected and joined.data_bytes == expected.data_bytes
    assert encode_packs("tenant", joined, VIEW.extractor) == encode_packs("tenant", expected, VIEW.extractor)


def test_a_table_outlives_the_body_and_is_not_changed_by_what_follows() -> None:
    parsed = parse_texts([text(event(id=f"e{i}", region="eu")) for i in range(50)])
    assert parsed.events.table is not None
    earlier = Routed(parsed.events, Router("one", VIEW, 1), [NOW] * 50).by_partition()[0]
    before = encode_packs("one", earlier, None)
    Routed(parsed.events, Router("two", VIEW, 1), [NOW + 1] * 50)
    del parsed
    [bytearray(b"x" * 10_000) for _ in range(100)]
    assert encode_packs("one", earlier, None) == before
    assert earlier.arrived == [NOW] * 50 and earlier.extensions == ['{"region":"eu"}'] * 50


def test_plain_events_are_taken_by_the_compiled_path() -> None:
    """With extensions, escapes in their data, white space, any offset, no time: none of them is left to the twin."""
    plain = [
        event(), event(region="eu", n=1.5, flag=True, gone=None), event(data={"a": 'é\n"', "b": [{"c": [1e300]}]}),
        event(time=...), event(time="2026-11-21T09:59:00.123456789-11:00"), event(datacontenttype="application/json"),
        event(data=...), event(id="é🚕"), {**dict.fromkeys("abcdefghij", "x"), **event()},
    ]  # fmt: skip
    for body in (text(plain), json.dumps(plain, indent=1, ensure_ascii=False).encode()):
        table = parser._read_table(body, parser._ARRAY, 100)
        assert table is not None and (table.sizes(parser.ID) > 0).all()


TIMES = st.sampled_from(ODD_TIMES) | st.from_regex(
    r"(19[67]\d|20[0-4]\d|99\d\d|2100)-(0\d|1[0-3])-([0-2]\d|3[0-2])[Tt ]([01]\d|2[0-5]):[0-6]\d:[0-6]\d"
    r"(\.\d{0,11})?(Z|z|[+-][0-2]\d:?[0-6]\d|)",
    fullmatch=True,
)


@settings(max_examples=500, deadline=None)
@given(st.lists(TIMES, min_size=1, max_size=5))
def test_times_are_read_as_by_the_twin(times: list[str]) -> None:
    bodies = [text(event(time=time)) for time in times]
    found = said(lambda: parse_texts(bodies))
    with in_python():
        assert found == said(lambda: parse_texts(bodies))


WRITTEN = st.from_regex(r"-?(0|[1-9][0-9]{0,41})(\.[0-9]{1,41})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


def shown(column: pa.Array) -> Any:
    """A column's type, what it says, and its buffers."""
    parts = [column] if column.type != pa.dictionary(pa.int32(), pa.string()) else [column.indices, column.dictionary]
    return column.type, column.to_pylist(), [one and one.to_pybytes() for part in parts for one in part.buffers()]


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from([*NUMBERS, "null", '"x"', '"\\n"', "true"]) | WRITTEN, min_size=1, max_size=4))
@example(["0e26"])
@example(["0e-50"])
@example(["1e25", "null"])
@example([str(10**26 - 1) + ".999999999999"])
def test_columns_are_those_of_the_twin(values: list[str]) -> None:
    table = parse_texts([text(event(data={"a": 0}))[:-3] + value.encode() + b"}}" for value in values]).events.table
    assert table is not None
    extractor = Extractor(["$.a", "$.b"])
    found = extractor.extract_at(table.address + 11 * 8, len(table), 24)
    assert found is not None
    assert shown(found["$.a"]) == shown(scalar_column([value.encode() for value in values]))
    assert shown(found["$.b"])[:2] == (pa.dictionary(pa.int32(), pa.string()), [None] * len(values))


@pytest.mark.parametrize("around", [0, 30, 500])
def test_identities_are_those_of_the_twin_at_every_length(around: int) -> None:
    """So that each end of a block of the digest is met."""
    ids = ["x" * size for size in range(1, EVENT_TEXT_LENGTH_MAX + 1, 1 if around == 30 else 7)]
    source = "s" * (around + 1)
    events = parse_texts([text(event(id=id, source=source)) for id in ids]).events
    rows = Routed(events, Router("tenant", VIEW, 1), [NOW] * len(ids)).rows
    assert rows.table is not None
    assert rows.identity == [event_identity("tenant", "acme", source, id) for id in ids]


def test_many_different_texts_are_numbered_in_their_order() -> None:
    subjects = [f"c{i * i % 997}" for i in range(3000)]
    table = parse_texts([text(event(subject=subject)) for subject in subjects]).events.table
    assert table is not None
    different, numbers = table.distinct(SUBJECT)
    assert [one.decode() for one in different] == list(dict.fromkeys(subjects))
    assert [different[number].decode() for number in numbers] == subjects


def test_a_body_of_more_than_a_pack_and_of_odd_events_among_plain_ones() -> None:
    bodies = [
        b"nothing" if i % 700 == 5 else text(event(id=f"e{i}", dataschema="s") if i % 97 == 3 else event(id=f"e{i}"))
        for i in range(PACK_EVENTS_MAX + 100)
    ]
    parsed = parse_texts(bodies)
    assert parsed.events.table is not None and len(parsed.refused) == 3
    found = packs(parsed, 2, DAY)
    with in_python():
        assert found == packs(parse_texts(bodies), 2, DAY)


@pytest.mark.parametrize("count", [EXTENSIONS_MAX, EXTENSIONS_MAX + 1, 64, 65])
def test_extensions_at_their_bound(count: int) -> None:
    bodies = [text({**event(), **{f"x{i * 7 % 101}": base64.b64encode(b"%d" % i).decode() for i in range(count)}})]
    found = said(lambda: parse_texts(bodies))
    with in_python():
        assert found == said(lambda: parse_texts(bodies))
    assert len(found[1]) == (count > EXTENSIONS_MAX)

"""What the door promises: a verdict for each event, and "accepted" only of what the log has."""

import asyncio
import ctypes
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest import route
from ingest.door import NotWhole
from ingest.memory import CompiledMemory, PlainMemory
from ingest.parse import parse
from ingest.route import NOWHERE, Router, View
from ingest.table import SUBJECT, Table
from native.library import is_loaded
from schemas.catalogue import read_catalogue
from schemas.entry import Entry, decode_tick
from schemas.event import VOID_TYPE
from schemas.identity import event_identity, partition_of
from schemas.limits import PACK_EVENTS_MAX
from schemas.times import DAY, parse_time
from streams.log import LogUnavailable, decode_position
from tests.unit.ingest.doors import JSON, LINES, NOW, ListLog, event, make_door, text


async def test_events_go_to_their_customers_partition() -> None:
    log = ListLog()
    subjects = ["team-a", "Team B!", "acme", "someone-else", "org:x/y@z"]
    body = text([event(id=f"e{i}", subject=subject) for i, subject in enumerate(subjects)])
    receipt = await make_door(log).take(body, JSON, "t1")
    found = {}
    for partition, pack in log.packs():
        assert pack.schema.metadata[b"tenant"] == b"t1"
        for row in pack.to_pylist():
            found[row["subject"]] = row["customer"]
            assert partition == partition_of("t1", row["customer"], log.partitions)
            assert row["identity"] == event_identity("t1", row["customer"], "gateway", row["id"])
            assert row["arrived"] == NOW and row["time"] == parse_time("2026-11-21T09:59:00Z")
    assert found == {"team-a": "acme", "Team B!": "acme"} | {s: s for s in subjects[2:]}
    assert decode_position(receipt.position) == {p: end for p, end in log.ends.items() if end}


async def test_an_event_without_a_time_has_that_of_its_arrival() -> None:
    log = ListLog()
    await make_door(log).take(text(event(time=...)), JSON, "default")
    assert log.packs()[0][1].column("time").to_pylist() == [NOW]


async def test_order_within_a_customer_is_that_of_the_request() -> None:
    log = ListLog(partitions=2)
    count = 2 * PACK_EVENTS_MAX + 10
    body = b"\n".join(text(event(id=f"e{i}")) for i in range(count))
    await make_door(log).take(body, LINES, "default")
    assert log.ids() == [f"e{i}" for i in range(count)]
    assert max(n for *_, n in log.entries) <= PACK_EVENTS_MAX


async def test_duplicates_are_told_and_still_sent() -> None:
    log = ListLog()
    door = make_door(log)
    first = await door.take(text([event(), event(id="e2", time=...)]), JSON, "default")
    assert (first.accepted, first.answer().events) == (2, [])
    again = [event(), event(id="e2", time=...), event(id="e3"), event(id="e3"), event(data={"tokens": 6})]
    answer = (await door.take(text(again), JSON, "default")).answer()
    assert (answer.accepted, answer.duplicates, answer.rejected) == (1, 4, 0)
    assert [(v.index, v.verdict, v.conflict) for v in answer.events] == [
        (0, "duplicate", False), (1, "duplicate", False), (3, "duplicate", False), (4, "duplicate", True),
    ]  # fmt: skip
    assert len(log.ids()) == 7
    assert (await door.take(text(event()), JSON, "other")).accepted == 1
    assert (await door.take(text(event(subject="globex")), JSON, "default")).accepted == 1


@pytest.mark.parametrize(
    ("changes", "conflict"),
    [
        ({}, False),
        ({"subject": "Team B!"}, True),
        ({"type": "other"}, True),
        ({"time": "2026-11-21T09:58:00Z"}, True),
        ({"time": ...}, True),
        ({"data": {"tokens": 5}}, True),
        ({"region": "eu"}, True),
    ],
)
async def test_what_makes_a_conflict(changes: dict[str, Any], conflict: bool) -> None:
    door = make_door(ListLog())
    await door.take(text(event(subject="team-a")), JSON, "default")
    receipt = await door.take(text(event(**({"subject": "team-a"} | changes))), JSON, "default")
    assert [(v.verdict, v.conflict) for v in receipt.answer().events] == [("duplicate", conflict)]


async def test_nothing_is_promised_and_nothing_remembered_while_the_log_is_down() -> None:
    log = ListLog()
    door = make_door(log)
    log.down = True
    for body in (text(event()), text([event(), {}]), text([{}])):
        with pytest.raises(LogUnavailable):
            await door.take(body, JSON, "default")
    with pytest.raises(LogUnavailable):
        await door.tick(NOW)
    log.down = False
    receipt = await door.take(text(event()), JSON, "default")
    assert (receipt.accepted, receipt.duplicates) == (1, {})


async def test_the_answer_waits_for_the_log() -> None:
    log = ListLog()
    log.gate = asyncio.Event()
    taking = asyncio.create_task(make_door(log).take(text(event()), JSON, "default"))
    done, _ = await asyncio.wait([taking], timeout=0.05)
    assert not done and not log.entries
    log.gate.set()
    assert (await taking).accepted == 1


async def test_requests_that_wait_share_a_pack() -> None:
    log = ListLog(partitions=1)
    log.gate = asyncio.Event()
    door = make_door(log)
    first = asyncio.create_task(door.take(text(event(id="first")), JSON, "default"))
    await asyncio.sleep(0.01)
    rest = [asyncio.create_task(door.take(text(event(id=f"e{i}")), JSON, "default")) for i in range(100)]
    other = asyncio.create_task(door.take(text(event()), JSON, "other tenant"))
    await asyncio.sleep(0.01)
    given_up = rest.pop(50)
    given_up.cancel()
    log.gate.set()
    receipts = await asyncio.gather(first, *rest, other)
    assert all(receipt.accepted == 1 for receipt in receipts)
    assert [n for *_, n in log.entries] == [1, 1, 100]
    assert {r.position for r in receipts[1:-1]} == {"0:102"}
    await door.drain()


async def test_requests_at_once_do_not_wait_for_a_timer() -> None:
    log = ListLog(partitions=1)
    door = make_door(log)
    await asyncio.gather(*(door.take(text(event(id=f"e{i}")), JSON, "default") for i in range(500)))
    assert len(log.entries) < 10 and len(set(log.ids())) == 500


@pytest.mark.parametrize("bound", [{"waiting_events_max": 11}, {"waiting_bytes_max": 11 * 28}])
async def test_a_full_queue_refuses_before_anything_is_taken(bound: dict[str, int]) -> None:
    log = ListLog()
    log.gate = asyncio.Event()
    door = make_door(log, **bound)
    waiting = asyncio.create_task(door.take(text([event(id=f"e{i}") for i in range(11)]), JSON, "default"))
    await asyncio.sleep(0.01)
    with pytest.raises(LogUnavailable):
        await door.take(text(event()), JSON, "default")
    log.gate.set()
    assert (await waiting).accepted == 11
    assert (await door.take(text(event(id="later")), JSON, "default")).accepted == 1


@pytest.mark.parametrize(
    ("max_ahead", "time", "type", "taken"),
    [
        (DAY, "2026-11-22T10:00:00Z", "t", True),
        (DAY, "2026-11-22T10:00:00.000001Z", "t", False),
        (None, "9998-01-01T00:00:00Z", "t", True),
        (0, "2026-11-21T10:00:00Z", "t", True),
        (DAY, "1970-01-01T00:00:00Z", "t", True),
    ],
)
async def test_time_bounds(max_ahead: int | None, time: str, type: str, taken: bool) -> None:
    log = ListLog()
    door = make_door(log, max_ahead=max_ahead)
    answer = (await door.take(text(event(time=time, type=type)), JSON, "default")).answer()
    assert answer.accepted == taken
    assert taken or (answer.events[0].code, answer.events[0].path) == ("time_out_of_bounds", "time")


async def test_a_void_names_what_it_takes_back() -> None:
    right = event(type=VOID_TYPE, data={"source": "gateway", "id": "e7", "reason": "counted twice"})
    wrong = event(id="e2", type=VOID_TYPE, data={"id": 7})
    answer = (await make_door(ListLog()).take(b"[%b,%b]" % (text(right), text(wrong)), JSON, "default")).answer()
    assert (answer.accepted, answer.rejected) == (1, 1)
    found = next(one for one in answer.events if one.code)
    assert (found.id, found.code, found.path) == ("e2", "invalid_data", "data")


async def test_a_rejection_shows_the_event() -> None:
    log = ListLog()
    wrong = [event(id=1), event(time="9000-01-01T00:00:00Z", region="eu"), event(subject="a b", data=...)]
    bodies = [text(wrong[0]), *map(text, wrong[1:]), text(event()).replace(b"5", b"1e999"), b'{"id":"a","id":"b"}']
    bodies[3] = bodies[3].replace(b'"id":"e1",', b"")
    await make_door(log).take(b"[%b]" % b",".join(bodies), JSON, "t1")
    shown = [msgspec.json.decode(msgspec.json.encode(rejection))["event"] for rejection in log.rejections]
    assert shown[0] == wrong[0] and shown[1] == wrong[1] and shown[2] == {**wrong[2], "data": {}}
    assert shown[3] == bodies[3].decode(), "a number that most readers cannot hold: as text"
    assert [r.where.index for r in log.rejections] == [0, 1, 2, 3, 4]


async def test_a_tick_goes_to_every_partition() -> None:
    log = ListLog(partitions=3)
    assert decode_position(await make_door(log).tick(NOW)) == {0: 1, 1: 1, 2: 1}
    assert [decode_tick(Entry(0, 1, value).payload) for _, value, _ in log.entries] == [NOW] * 3


async def test_a_new_view_is_used_at_once() -> None:
    log, views = ListLog(), [View({"s": "one"}), View({"s": "two"}, ["$.tokens"])]
    door = make_door(log)
    for view in views:
        door._views = lambda _, view=view: view  # type: ignore[misc]
        await door.take(text(event(subject="s")), JSON, "default")
    assert [pack.column("customer").to_pylist() for _, pack in log.packs()] == [["one"], ["two"]]
    assert "$.tokens" in log.packs()[1][1].schema.names


def test_the_view_of_a_catalogue() -> None:
    catalogue, faults = read_catalogue("""
        meters:
          tokens: {event: e, aggregate: sum, value: $.tokens, where: {$.ok: "true"}, dimensions: {model: $.model}}
          odd: {event: e, aggregate: sum, value: "$.a + $.b"}
          more: {event: e, aggregate: max, value: $.tokens}
        customers:
          acme: {subjects: [a, b]}
          globex: {subjects: [b, c]}
    """)
    assert catalogue is not None and not faults
    view = View.of(catalogue)
    assert view.subjects == {"a": "acme", "b": "acme", "c": "globex"}
    assert view.paths == ("$.tokens", "$.ok", "$.model", "$.a", "$.b")


_MEMORIES = [PlainMemory, CompiledMemory] if is_loaded() else [PlainMemory]
_known = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 1)), min_size=1, max_size=6), max_size=8)


@pytest.mark.parametrize("kind", _MEMORIES)
@settings(max_examples=200, deadline=None)
@given(_known, st.integers(1, 60))
def test_memory_is_bounded_and_never_invents(
    kind: type[PlainMemory | CompiledMemory], requests: list[list[tuple[int, int]]], size: int
) -> None:
    memory, first = kind(size), dict[bytes, int]()
    for request in requests:
        identity, content = [bytes(15) + bytes([i]) for i, _ in request], [c for _, c in request]
        seen = memory.look(identity, content)
        before = dict(first)
        for at, (key, now) in enumerate(zip(identity, content, strict=True)):
            assert at not in seen.duplicates or key in before
            if size >= 40:  # nothing is forgotten
                assert (at in seen.duplicates) == (key in before)
                assert (at in seen.conflicts) == (key in before and before[key] != now)
            before.setdefault(key, now)
        memory.remember(identity, content)
        first = before
        assert len(memory) <= max(size, 2)


@pytest.mark.skipif(not is_loaded(), reason="the compiled library is left out")
@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 1, 2**32 - 1])), max_size=40),
        max_size=12,
    ),
    st.integers(0, 70),
    st.sampled_from([b"\0", b"\xff"]),
    st.booleans(),
)
def test_the_compiled_memory_says_what_the_plain_one_says(
    requests: list[list[tuple[int, int]]], size: int, rest: bytes, columns: bool
) -> None:
    """Whether it is given lists or the columns of an array."""
    plain, compiled = PlainMemory(size), CompiledMemory(size)
    for request in requests:
        identity = [rest * 7 + bytes([i]) + rest * 7 + bytes([i & 3]) for i, _ in request]
        content = [c for _, c in request]
        rows = np.zeros((len(request), 5), np.int64)
        rows[:, 1:3] = np.frombuffer(b"".join(identity), np.int64).reshape(-1, 2)
        rows[:, 4] = content
        given = (rows[:, 1:3], rows[:, 4]) if columns else (identity, content)
        found, expected = compiled.look(*given), plain.look(identity, content)
        assert (found.duplicates, found.conflicts) == (expected.duplicates, expected.conflicts)
        compiled.remember(*given)
        plain.remember(identity, content)
        assert len(compiled) == len(plain)


async def test_a_request_is_taken_whole_or_not_at_all() -> None:
    log = ListLog()
    door = make_door(log)
    mixed = parse(text([event(id="a"), event(id="b", subject="not an id!"), event(id="c", subject=...)]), JSON)
    with pytest.raises(NotWhole) as refused:
        await door.take_parsed(mixed, "default", whole=True)
    receipt = refused.value.receipt
    assert [(one.at, one.fault.path) for one in receipt.refused] == [(1, "subject"), (2, "subject")]
    assert (log.entries, log.rejections, receipt.position, door.counts.requests) == ([], [], "", 0)
    assert (await door.take_parsed(mixed, "default")).accepted == 1
    good = parse(text([event(id="a"), event(id="d")]), JSON)
    with pytest.raises(NotWhole) as known:
        await door.take_parsed(good, "default", whole=True, new=True)
    assert known.value.receipt.duplicates == {0: False}
    assert log.ids() == ["a"]
    taken = await door.take_parsed(good, "default", whole=True)
    assert (taken.accepted, list(taken.duplicates)) == (1, [0])


def table_of(subjects: list[str]) -> Table:
    """A table of which only the subjects count."""
    table = Table.empty(len(subjects))
    table.put(slice(None), SUBJECT, [subject.encode() for subject in subjects])
    return table


@pytest.mark.skipif(not is_loaded(), reason="the compiled library is left out")
@given(st.lists(st.lists(st.integers(0, 300).map(lambda n: f"c{n}" if n % 7 else f"no customer {n}!"), max_size=90)))
@settings(deadline=None)
def test_a_table_of_routes_says_what_the_router_says(requests: list[list[str]]) -> None:
    """While it grows, when it begins anew, and of an earlier one afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(route, "_CACHED_MAX", 100)
        router = Router("tenant", View({"no customer 7!": "claimed", "c1": "c2"}), 5)
        found = [(subjects, router.places(table_of(subjects))) for subjects in requests]
    for subjects, (routes, rows, all_known) in found:
        places = [None if at == NOWHERE else routes.rows[at].tolist() for at in rows]
        said = [row and (ctypes.string_at(row[2], row[3]).decode(), row[4]) for row in places]
        assert all_known == (None not in said)
        assert said == router.routes(subjects)

"""The fast lane against the ordinary way: the same bytes in, the same bytes out, the same events in the log.

One law sends scripts of requests of every kind to two servers, one with the lane and one without. The rest is what a
law of answers cannot see: that the lane is taken at all, slow bodies, clients that do not read, the server's end.
"""

import asyncio
import gzip
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.identity import partition_of
from schemas.times import SECOND
from taximeter.access import lane
from taximeter.access.lane import BATCH_BYTES_MAX, BODY_BYTES_MAX
from taximeter.access.rates import RateSettings
from tests.access.wires import TEXTS, Server, Wire, settle, until
from tests.unit.ingest.doors import event, text

_LENGTH = re.compile(rb"content-length: (\d+)")
_POSITION = re.compile(rb'content-length: (\d+)(\r\n\r\n\{[^{}]*?)"position":"([^"]*)"')


def _without_position(answers: bytes) -> bytes:
    """The answers without the positions, neither in their bodies nor in the lengths of these."""
    return _POSITION.sub(lambda found: b"content-length: %d%b" % (int(found[1]) - len(found[3]), found[2]), answers)


def post(body: bytes, *headers: str, key: str | None = "good", kind: str | None = "application/json") -> bytes:
    """A request as a plain client sends it."""
    lines = ["POST /v1/events HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
    lines += [] if kind is None else [f"Content-Type: {kind}"]
    lines += [] if key is None else [f"Authorization: Bearer {TEXTS.get(key, key)}"]
    return "\r\n".join((*lines, *headers, "", "")).encode() + body


def _raw(*lines: str, body: bytes = b"", key: str = "good") -> bytes:
    return "\r\n".join((*lines, f"authorization: Bearer {TEXTS[key]}", "", "")).encode() + body


_ids = st.sampled_from(["a", "b", "c", "d", "ä", '"q"', "x" * 512])
_events = st.builds(
    event,
    id=_ids,
    subject=st.sampled_from(["acme", "team-a", "zeta", "Team B!", "nobody claims!"]),
    data=st.sampled_from([{"tokens": 5}, {"tokens": 6}, {}, {"tokens": 1.50, "x": {"y": [1]}}]),
    time=st.sampled_from([..., "2026-11-21T09:59:00Z", "2026-11-30T09:59:00Z", "yesterday", "1960-01-01T00:00:00Z"]),
    region=st.sampled_from([..., ..., "eu"]),
    type=st.sampled_from(["llm.request", "taximeter.void", ""]),
)
_bodies = st.one_of(
    _events.map(text),
    _events.map(lambda one: msgspec.json.format(text(one), indent=2)),
    _events.map(lambda one: b" \r\n" + text(one) + b"\n"),
    st.sampled_from(
        [
            b"{", b"{}", b"[]", b"1", b"\xff", b"{}{}", b'{"id":"a","id":"b"}', b" ", b"null", b'{"id":"\x00"}',
            text(event(id="e\x01")), text(event(data=[1])), text([event(id="in an array")]), text(event(id=1)),
            text(event(data={"x": "y" * BODY_BYTES_MAX})), text(event(id="y" * 513)), text(event()) + b"\n{}",
            text(event()).replace(b'"type"', b'"id":"twice","type"'), b"[" * 5000,
        ]
    ),
    st.lists(_events, max_size=12).map(text),
    st.lists(_events.map(text) | st.sampled_from([b"", b" ", b"{"]), max_size=12).map(b"\n".join),
    st.sampled_from([BODY_BYTES_MAX, BATCH_BYTES_MAX]).map(lambda size: text([event()]) + b" " * size),
)  # fmt: skip
_KINDS = (
    "application/json", "application/json", "application/cloudevents+json", None, "Application/JSON; charset=UTF-8",
    "application/json; charset=latin-1", "application/cloudevents-batch+json", "application/x-ndjson", "text/plain", "",
)  # fmt: skip
_plain = st.builds(
    post,
    _bodies,
    key=st.sampled_from(["good", "good", "good", "other", "asks", "ends", "ended", "revoked", "tmk_x_y", None]),
    kind=st.sampled_from(_KINDS),
)
_one = text(event(id="odd"))
_ODD = [
    post(_one, "X-Note: many words"),
    post(_one, "Connection: keep-alive"),
    post(_one, "Connection: close"),
    post(_one, "Expect: 100-continue"),
    post(_one, "Taximeter-Tenant: acme"),
    post(_one, "Content-Encoding: identity"),
    post(gzip.compress(_one, mtime=0), "Content-Encoding: gzip"),
    post(_one, "Content-Encoding: gzip"),
    post(b'{"tokens":1}', "ce-specversion: 1.0", "ce-id: b", "ce-source: s", "ce-type: t", "ce-subject: acme"),
    post(_one, "X-API-Key: " + TEXTS["good"], key=None),
    post(_one, "ORIGIN: http://elsewhere"),
    post(_one).replace(b"/v1/events", b"/v1/events?verdicts=all", 1),
    post(_one).replace(b"/v1/events", b"/v1/%65vents", 1),
    post(_one).replace(b"/v1/events", b"/v1/ticks", 1),
    post(_one).replace(b"POST", b"PUT", 1),
    post(_one).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    post(b""),
    _raw("GET /v1/events HTTP/1.1", "host: localhost"),
    _raw("HEAD /v1/events HTTP/1.1", "host: localhost"),
    _raw("GET /health/live HTTP/1.1", "host: localhost"),
    _raw("GET /nowhere HTTP/1.1", "host: localhost"),
    _raw(
        "POST /v1/events HTTP/1.1", "host: localhost", "content-type: application/json", "transfer-encoding: chunked",
        body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(_one), _one),
    ),
    post(b"x" * 20 + post(_one), key="revoked"),  # a body that looks like a request, behind a head that is refused
]  # fmt: skip
_BROKEN = [
    b"\r\n\r\n",
    b"GARBAGE\r\n\r\n",
    post(_one).replace(b"Content-Length:", b"Content-Length: 1\r\nContent-Length:", 1),
    post(_one).replace(b"Content-Length: ", b"Content-Length: -", 1),
    post(_one).replace(b"Host:", b"Host :", 1),
    post(_one).replace(b"\r\nHost", b"\nHost", 1),
    post(_one).replace(b"HTTP/1.1", b"HTTP/3.7", 1),
    post(_one, "Upgrade: websocket", "Connection: Upgrade"),
    post(_one, "Transfer-Encoding: chunked"),
    post(_one, "X-Long: " + "x" * 200_000),
]
_good = st.builds(event, id=_ids, subject=st.sampled_from(["acme", "team-a", "zeta"]), data=st.just({"tokens": 5}))
_usual = st.builds(post, st.one_of(_good.map(text), _bodies))


def _mostly(usual: st.SearchStrategy[Any], *rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Three of four are usual."""
    return st.sampled_from([True, True, True, False]).flatmap(lambda plain: usual if plain else st.one_of(*rare))


_requests = _mostly(_usual, _plain, st.sampled_from(_ODD))


class Script(msgspec.Struct):
    """What one client does, by turns: it sends bytes in some pieces, or something happens to the server."""

    steps: list[list[bytes] | str]
    keys: bool
    rate: int | None


def _pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


_EVENTS = ("revoke good", "revoke ends", "down", "up", "second", "ten seconds")
_cuts = st.lists(st.integers(0, 2000), max_size=3)
_alone = st.builds(_pieces, _mostly(_requests, _requests, st.sampled_from(_BROKEN)), _cuts)
_one_by_one = _mostly(_alone, st.sampled_from(_EVENTS))
_together = st.builds(
    lambda some, cuts: _pieces(b"".join(some), cuts), st.lists(_requests, min_size=1, max_size=6), _cuts
)
_many = _mostly(_together, st.sampled_from(_EVENTS))


def _scripts(step: st.SearchStrategy[list[bytes] | str]) -> st.SearchStrategy[Script]:
    steps = st.lists(step, min_size=1, max_size=8)
    return st.builds(Script, steps=steps, keys=st.sampled_from([True, True, False]), rate=st.sampled_from([None, 3]))


def _happen(server: Server, what: str) -> None:
    if what.startswith("revoke "):
        server.revoke(what.removeprefix("revoke ")) if not server.ring.empty else None
    elif what in ("down", "up"):
        server.log.down = what == "down"
    else:
        seconds = 1 if what == "second" else 10
        server.now += seconds * SECOND
        server.ns += seconds * 10**9


async def _play(script: Script, fast: bool) -> tuple[list[bytes], bool, Server]:
    """What came back after each step, and whether the connection was closed at the end."""
    rates = RateSettings(script.rate, burst_s=1)
    server = Server(fast=fast, keys=script.keys, rates=rates)
    if script.keys:
        server.revoke("revoked")
    wire, _ = server.connect()
    back: list[bytes] = []
    for step in script.steps:
        if isinstance(step, str):
            _happen(server, step)
            continue
        before = len(wire.sent)
        for piece in step:
            wire.feed(piece)
            await settle(5)
        await settle(400)
        back.append(wire.sent[before:])
    assert server.bodies.held == 0 or not wire.closed, "what was counted is given back"
    return back, wire.closed, server


def _by_partition(server: Server) -> dict[int, list[str]]:
    """The ids in each partition, in their order."""
    found: dict[int, list[str]] = {}
    for partition, pack in server.log.packs():
        found.setdefault(partition, []).extend(pack.column("id").to_pylist())
    return found


async def _compare(script: Script, exact: bool) -> None:
    ordinary, closed, slow = await _play(script, False)
    found, gone, fast = await _play(script, True)
    if not exact:  # requests of one burst share a position, which is that of the last
        ordinary, found = (list(map(_without_position, parts)) for parts in (ordinary, found))
    assert found == ordinary
    assert gone == closed
    assert _by_partition(fast) == _by_partition(slow)
    assert fast.log.rejections == slow.log.rejections
    assert fast.door.counts == slow.door.counts
    assert fast.answered() == slow.answered()
    assert fast.bodies.held == slow.bodies.held
    assert fast.log.ends == slow.log.ends


@settings(deadline=None, max_examples=150)
@given(_scripts(_one_by_one))
def test_one_request_at_a_time_is_answered_the_same_to_the_byte(script: Script) -> None:
    asyncio.run(_compare(script, exact=True))


@settings(deadline=None, max_examples=150)
@given(_scripts(_many))
def test_pipelined_requests_are_answered_the_same_in_their_order(script: Script) -> None:
    asyncio.run(_compare(script, exact=False))


# What a law of answers cannot see --------------------------------------------------------------------------------


async def _talk(wire: Wire, data: bytes) -> bytes:
    before = len(wire.sent)
    wire.feed(data)
    await settle(400)
    return wire.sent[before:]


def _statuses(sent: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d{3})", sent)]


async def test_what_many_connections_send_goes_into_one_pack_and_each_is_answered_at_once() -> None:
    server = Server(fast=True)
    wires = [server.connect()[0] for _ in range(40)]
    for n, wire in enumerate(wires):
        wire.feed(post(text(event(id=f"e{n}"))) + post(text(event(id=f"f{n}"))))
    await settle()
    assert len(server.log.entries) == 1 and server.log.entries[0][2] == 80
    for n, wire in enumerate(wires):
        assert re.findall(rb'"id":"(\w+)"', wire.sent) == [b"e%d" % n, b"f%d" % n]
        assert wire.writes == 1, "two answers, one write"


async def test_a_batch_in_many_pieces_passes_by_the_application_and_is_answered_by_its_receipt() -> None:
    server = Server(fast=True)
    wire, connection = server.connect()
    wrong = event(id="wrong", subject="nobody claims!")
    for body, status, taken in (
        (text([event(id=f"e{n}") for n in range(500)]), 200, 500),
        (text([wrong, event(id="right")]), 200, 1),
        (text([wrong]), 400, 0),
    ):
        request = post(body)
        for at in range(0, len(request), 5000):
            wire.feed(request[at : at + 5000])
        before = wire.sent
        await settle()
        assert _statuses(wire.sent.removeprefix(before)) == [status] and b'"accepted":%d,' % taken in wire.sent
    assert connection.cycle is None, "uvicorn has seen no request"
    assert [events for *_, events in server.log.entries] == [500, 1] and len(server.log.rejections) == 2
    assert server.bodies.held == 0


async def test_while_a_group_is_on_its_way_the_next_gathers() -> None:
    server = Server(fast=True)
    server.log.gate = asyncio.Event()
    wires = [server.connect()[0] for _ in range(10)]
    for n, wire in enumerate(wires):
        wire.feed(post(text(event(id=f"e{n}"))))
        await settle(3)
    server.log.gate.set()
    await settle()
    assert [events for *_, events in server.log.entries] == [1, 9]
    assert all(_statuses(wire.sent) == [200] for wire in wires)


async def test_a_partition_that_stands_still_holds_up_nobody_elses_events() -> None:
    server = Server(fast=True)
    append, stands = server.log.append, asyncio.Event()
    here, there = (next(f"c{n}" for n in range(99) if partition_of("default", f"c{n}", 2) == at) for at in (0, 1))

    async def standing(partition: int, value: bytes, events: int) -> int:
        if partition == 1:
            await stands.wait()
        return await append(partition, value, events)

    server.log.append = standing  # type: ignore[method-assign]
    wires = [server.connect()[0] for _ in range(3)]
    wires[0].feed(post(text(event(id="1", subject=there))))
    wires[1].feed(post(text(event(id="2", subject=here))))
    await settle()
    assert _statuses(wires[1].sent) == [200], "of one group"
    wires[2].feed(post(text(event(id="3", subject=here))))
    await until(lambda: _statuses(wires[2].sent) == [200])
    assert wires[0].sent == b"", "and it waits for what it is in"
    stands.set()
    await settle()
    assert _statuses(wires[0].sent) == [200]


async def test_a_log_that_takes_nothing_is_said_at_once_and_costs_no_second_try() -> None:
    server = Server(fast=True)
    server.log.down = True
    wire, _ = server.connect()
    sent = await _talk(wire, post(text(event())) * 3)
    assert _statuses(sent) == [503] * 3 and sent.count(b"retry-after: 1\r\n") == 3 and not wire.closed
    server.log.down = False
    assert _statuses(await _talk(wire, post(text(event())))) == [200]
    assert server.door.counts.requests == 1


async def test_a_body_behind_its_head_is_waited_for_a_moment_and_then_watched_like_any_other() -> None:
    server = Server(fast=True, slow_s=0.3)
    request = post(text(event()))
    head = request.index(b"\r\n\r\n") + 4
    wire, _ = server.connect()
    wire.feed(request[:head])
    await settle()
    assert server.bodies.held == len(request) - head, "it is counted before it comes"
    wire.feed(request[head:])
    await settle()
    assert _statuses(wire.sent) == [200] and server.bodies.held == 0
    slow, _ = server.connect()
    slow.feed(request[:-1])
    await until(lambda: slow.closed)
    assert _statuses(slow.sent) == [408] and b'"too_slow"' in slow.sent and server.bodies.held == 0


async def test_small_bodies_count_for_the_bound_of_all() -> None:
    server = Server(fast=True)
    assert server.bodies.take(2**20 - 200)
    wire, _ = server.connect()
    wire.feed(post(text(event(data={"x": "y" * 200}))))
    await settle()
    assert _statuses(wire.sent) == [503] and b'"busy"' in wire.sent
    server.bodies.give_back(2**20 - 200)
    assert _statuses(await _talk(wire, post(text(event())))) == [200] and server.bodies.held == 0


async def test_a_client_that_does_not_read_its_answers_is_not_read_either() -> None:
    server = Server(fast=True)
    wire, connection = server.connect()
    connection.pause_writing()
    wire.feed(post(text(event(id="a"))))
    await settle()
    for n in range(5):
        wire.feed(post(text(event(id=f"b{n}"))))
        await settle()
    assert _statuses(wire.sent) == [200] and len(wire.unread) == 5, "the rest stays with the system"
    connection.resume_writing()
    await settle(400)
    assert _statuses(wire.sent) == [200] * 6


async def test_a_client_that_goes_away_leaves_nothing_behind() -> None:
    server = Server(fast=True)
    server.log.gate = asyncio.Event()
    wire, _ = server.connect()
    wire.feed(post(text(event())))
    await settle()
    wire.close()
    await settle()
    server.log.gate.set()
    await settle()
    assert wire.sent == b"" and server.bodies.held == 0 and server.log.ids() == ["e1"]


async def test_at_the_servers_end_what_is_at_hand_is_answered() -> None:
    server = Server(fast=True)
    server.log.gate = asyncio.Event()
    wire, connection = server.connect()
    wire.feed(post(text(event())))
    await settle()
    connection.shutdown()
    assert not wire.closed
    server.log.gate.set()
    await settle()
    assert _statuses(wire.sent) == [200] and wire.closed and b"connection: close\r\n" in wire.sent
    idle, connection = server.connect()
    connection.shutdown()
    assert idle.closed


@pytest.mark.parametrize("after", [b"", post(text(event())), post(b"{"), post(text(event())) + b"\r\n"])
async def test_an_idle_connection_is_closed_and_one_that_is_used_is_not(after: bytes) -> None:
    server = Server(fast=True, slow_s=0.2)
    wire, _ = server.connect()
    if after:
        for _ in range(6):
            assert _statuses(await _talk(wire, after)) in ([200], [400])
            await asyncio.sleep(0.1)
    assert not wire.closed or not after
    await until(lambda: wire.closed)


async def test_a_revoked_key_ends_with_its_next_request() -> None:
    server = Server(fast=True)
    wire, _ = server.connect()
    assert _statuses(await _talk(wire, post(text(event())))) == [200]
    server.revoke("good")
    assert _statuses(await _talk(wire, post(text(event())))) == [401]


async def test_an_expired_key_ends_to_the_microsecond() -> None:
    server = Server(fast=True)
    wire, _ = server.connect()
    server.now += SECOND - 1
    assert _statuses(await _talk(wire, post(text(event()), key="ends"))) == [200]
    server.now += 1
    assert _statuses(await _talk(wire, post(text(event()), key="ends"))) == [401]


async def test_heads_that_never_come_again_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "_HEADS_MAX", 50)
    server = Server(fast=True)
    wire, connection = server.connect()
    for n in range(120):
        wire.feed(post(text(event(id=str(n))), f"traceparent: {n}"))
        await settle(12)
    assert len(server.log.ids()) == 120 and connection.lane is not None
    assert len(connection.lane._heads) <= 50


async def test_the_body_of_a_refused_request_is_no_request_whatever_it_says() -> None:
    server = Server(fast=True)
    wire, _ = server.connect()
    hidden = post(text(event(id="hidden")))
    whole = post(b"x" * 20 + hidden, key="asks")
    assert _statuses(await _talk(wire, whole[: -len(hidden)])) == [403], "before its body has come"
    assert await _talk(wire, hidden) == b"" and server.log.ids() == []
    assert _statuses(await _talk(wire, post(text(event())))) == [200] and server.log.ids() == ["e1"]

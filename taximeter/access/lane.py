"""The fast lane: what a `POST /v1/events` with one event needs of the layer in front of the routes, and nothing else.

Only what is beyond doubt goes here: a plain head, a key that may, a rate that is kept, a small body that is one JSON
object. Of everything else the lane says "not here", and the request goes the ordinary way as if there were no lane.
So every refusal is worded in one place; the lane itself answers 200, and 503 where the log takes nothing.

Heads are read by the same parser as uvicorn's, once: a client sends the same bytes again and again, and what they said
before they say again. Whether the key in them still may is asked each time.
"""

from collections.abc import Sequence
from typing import Final

import httptools

from ingest.app import EVENTS_PATH, PROBLEM, unavailable
from ingest.content import BodyRefused, Form, form_of, header
from ingest.door import OverRate
from ingest.singles import Done, Singles
from schemas.limits import HEADERS_MAX
from streams.log import LogUnavailable
from taximeter.access.bodies import Bodies
from taximeter.access.gate import Gate, Passed, Refused
from taximeter.access.layer import with_waits
from taximeter.access.rates import Rates
from taximeter.request_counts import RequestCounts

BODY_BYTES_MAX: Final = 16 * 1024
"""Bytes of a body in the fast lane."""
_HEAD_BYTES_MAX: Final = 4096
_HEADS_MAX: Final = 4096
_METHOD: Final = "POST"
_BEGIN: Final = f"{_METHOD} {EVENTS_PATH} HTTP/1.1\r\n".encode()
_END: Final = b"\r\n\r\n"
_NOT_HERE: Final = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"te", b"trailer"})
"""Headers that a plain head does not have."""
_KEEP_ALIVE: Final = "keep-alive"
_LENGTH_DIGITS: Final = 9

_Headers = list[tuple[bytes, bytes]]


class Head:
    """A request's head that may go the fast lane: its headers (names in lower case), its bytes, the body's length."""

    __slots__ = ("headers", "length", "passed", "size")

    def __init__(self, headers: _Headers, size: int, length: int) -> None:
        self.headers = headers
        self.size = size
        self.length = length
        self.passed: Passed | None = None


class Lane:
    """Of one server, on its event loop."""

    def __init__(self, singles: Singles, gate: Gate, bodies: Bodies, rates: Rates, counts: RequestCounts) -> None:
        self.bodies = bodies
        self._singles = singles
        self._gate = gate
        self._rates = rates
        self._counts = counts
        self._heads: dict[bytes, Head | None] = {}
        self._before: tuple[_Headers, bytes] = [], b""

    def head(self, data: bytes, at: int) -> Head | None:
        """The head that begins at `at`; None where it is not whole, or not for this lane."""
        if not data.startswith(_BEGIN, at):
            return None
        end = data.find(_END, at, at + _HEAD_BYTES_MAX)
        if end < 0:
            return None
        text = data[at : end + len(_END)]
        try:
            return self._heads[text]
        except KeyError:
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            found = self._heads[text] = _read(text)
            return found

    def admit(self, head: Head) -> str | None:
        """The tenant of a request that may come in now; None where the ordinary way has to say why it may not."""
        try:
            head.passed = passed = self._gate.admit_again(head.passed, _METHOD, EVENTS_PATH, head.headers)
            self._rates.check(passed.access.tenant)
        except (Refused, OverRate):
            return None
        return passed.access.tenant

    def is_bounded(self, tenant: str) -> bool:
        """Whether the tenant has a rate, so that the order of its requests decides which are let in."""
        return self._rates.bounded and self._rates.standing(tenant) is not None

    def add(self, tenant: str, texts: Sequence[bytes], done: Done) -> None:
        """See `Singles.add`."""
        self._singles.add(tenant, texts, done)

    def answer(
        self, found: bytes | LogUnavailable, tenant: str, before: _Headers, seconds: float
    ) -> tuple[bytes, bytes]:
        """An answer's head without its last line, and its body, as they go over the wire. `before`: the headers that
        the server puts into each; `seconds`: how long the request has waited for it."""
        if isinstance(found, bytes):
            self._counts.note(_METHOD, EVENTS_PATH, 200, seconds)
            if self._before[0] is not before:
                self._before = before, b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\n" % _lines(before)
            return b"%bcontent-length: %d\r\n" % (self._before[1], len(found)), found
        self._counts.note(_METHOD, EVENTS_PATH, 503, seconds)
        body, wait = unavailable(self._singles.door, found)
        said = [(b"content-type", PROBLEM), (b"content-length", b"%d" % len(body)), wait]
        waits = with_waits(said, EVENTS_PATH, self._rates.standing(tenant))
        return b"HTTP/1.1 503 Service Unavailable\r\n%b" % _lines([*before, *waits]), body


class _Reader:
    """What the parser calls."""

    def __init__(self) -> None:
        self.headers: _Headers = []
        self.whole = False
        self.more = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.whole = True

    def on_body(self, _: bytes) -> None:
        self.more = True


def _read(text: bytes) -> Head | None:
    """What a head says, if it is plain."""
    reader = _Reader()
    try:
        httptools.HttpRequestParser(reader).feed_data(text)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    names = {name for name, _ in reader.headers}
    length = header(reader.headers, b"content-length") or ""
    plain = (
        reader.whole
        and not reader.more
        and len(reader.headers) <= HEADERS_MAX
        and len(names) == len(reader.headers)
        and names.isdisjoint(_NOT_HERE)
        and not any(name.startswith(b"ce-") for name in names)
        and (header(reader.headers, b"connection") or _KEEP_ALIVE).lower() == _KEEP_ALIVE
        and length.isdigit()
        and len(length) <= _LENGTH_DIGITS
        and 0 < int(length) <= BODY_BYTES_MAX
        and _may_be_one(reader.headers)
    )
    return Head(reader.headers, len(text), int(length)) if plain else None


def _may_be_one(headers: _Headers) -> bool:
    """Whether the body may be one event."""
    try:
        return form_of(headers) in (Form.ONE, Form.EITHER)
    except BodyRefused:
        return False


def _lines(headers: _Headers) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in headers)

"""The fast lane: what a `POST /v1/events` needs of the layer in front of the routes, and nothing else.

Only what is beyond doubt goes here: a plain head, a key that may, a rate that is kept, a body that is not huge. A small
one that is one JSON object is taken together with others; any other by itself. Of everything else the lane says "not
here", and the request goes the ordinary way as if there were no lane. So every refusal of a request is worded in one
place; the lane itself answers what a receipt says, and 503 where the log takes nothing.

Heads are read by the same parser as uvicorn's, once: a client sends the same bytes again and again, and what they said
before they say again. Whether the key in them still may is asked each time.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

import httptools
import msgspec

from ingest.app import EVENTS_PATH, PROBLEM, unavailable
from ingest.content import BodyRefused, Form, form_of, header
from ingest.door import OverRate, Single
from ingest.receipt import Receipt
from ingest.singles import Done, Singles
from schemas.limits import HEADERS_MAX
from streams.log import LogUnavailable
from taximeter.access.bodies import Bodies
from taximeter.access.gate import Gate, Passed, Refused
from taximeter.access.layer import with_waits
from taximeter.access.rates import Rates
from taximeter.request_counts import RequestCounts

BODY_BYTES_MAX: Final = 16 * 1024
"""Bytes of a body that is taken together with others."""
BATCH_BYTES_MAX: Final = 1024 * 1024
"""Bytes of any body in the fast lane."""
_HEAD_BYTES_MAX: Final = 4096
_HEADS_MAX: Final = 4096
_METHOD: Final = "POST"
_BEGIN: Final = f"{_METHOD} {EVENTS_PATH} HTTP/1.1\r\n".encode()
_END: Final = b"\r\n\r\n"
_NOT_HERE: Final = frozenset({b"transfer-encoding", b"content-encoding", b"expect", b"upgrade", b"te", b"trailer"})
"""Headers that a plain head does not have."""
_KEEP_ALIVE: Final = "keep-alive"
_LENGTH_DIGITS: Final = 9
_PHRASES: Final = {200: b"OK", 400: b"Bad Request"}

_Headers = list[tuple[bytes, bytes]]

Found = Single | Receipt
"""What became of a request; None: nothing was done with it, the ordinary way has to look at it."""

_logger = logging.getLogger(__name__)


class Head:
    """A request's head that may go the fast lane: its headers (names in lower case), its bytes, the body's length, and
    whether the body may be one event that is taken together with others."""

    __slots__ = ("headers", "length", "may_be_one", "passed", "size")

    def __init__(self, headers: _Headers, size: int, length: int, may_be_one: bool) -> None:
        self.headers = headers
        self.size = size
        self.length = length
        self.may_be_one = may_be_one
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
        self._before: tuple[_Headers, dict[int, bytes]] = [], {}
        self._tasks: set[asyncio.Task[None]] = set()

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

    def take(self, tenant: str, headers: _Headers, body: bytes, done: Callable[[Found], None]) -> None:
        """Takes one request's body of any form; `done` is called with what became of it."""
        task = asyncio.get_running_loop().create_task(self._take(tenant, headers, body, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, tenant: str, headers: _Headers, body: bytes, done: Callable[[Found], None]) -> None:
        found: Found = None
        try:
            found = await self._singles.door.take(body, headers, tenant)
        except (BodyRefused, OverRate):
            pass  # said the ordinary way
        except LogUnavailable as error:
            found = error
        except Exception:
            _logger.exception("a request could not be taken in the fast lane: it goes the ordinary way")
        done(found)

    def answer(
        self, found: bytes | LogUnavailable | Receipt, tenant: str, before: _Headers, seconds: float
    ) -> tuple[bytes, bytes]:
        """An answer's head without its last line, and its body, as they go over the wire. `before`: the headers that
        the server puts into each; `seconds`: how long the request has waited for it."""
        if not isinstance(found, LogUnavailable):
            if isinstance(found, Receipt):
                status, body = found.status, msgspec.json.encode(found.answer())
            else:
                status, body = 200, found
            self._counts.note(_METHOD, EVENTS_PATH, status, seconds)
            if self._before[0] is not before:
                self._before = before, {status: _first(status, before) for status in _PHRASES}
            return b"%bcontent-length: %d\r\n" % (self._before[1][status], len(body)), body
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
    length, form = header(reader.headers, b"content-length") or "", _form(reader.headers)
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
        and 0 < int(length) <= BATCH_BYTES_MAX
        and form is not None
    )
    if not plain:
        return None
    may_be_one = form in (Form.ONE, Form.EITHER) and int(length) <= BODY_BYTES_MAX
    return Head(reader.headers, len(text), int(length), may_be_one)


def _form(headers: _Headers) -> Form | None:
    """The form of the body; None where it is none that the door reads."""
    try:
        return form_of(headers)
    except BodyRefused:
        return None


def _first(status: int, before: _Headers) -> bytes:
    """An answer's lines up to its length."""
    lines = b"HTTP/1.1 %d %b\r\n%bcontent-type: application/json\r\n"
    return lines % (status, _PHRASES[status], _lines(before))


def _lines(headers: _Headers) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in headers)

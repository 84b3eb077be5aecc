"""A connection with a fast lane: events are taken without a scope or a route, and where each request brings one event
without a task for each.

What a client has sent by now is a *burst*: all the plain requests with one event at the front of it, or one request of
another form. They go to the lane together and are answered in one write. What follows them waits until then, unread. A
request of the burst that the lane leaves to the ordinary way is given to uvicorn's parser, in its turn, as the client
sent it.

Who reads the bytes next is decided only between two requests, when uvicorn's parser is at rest (`_between`).
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from taximeter.access.connection import Connection
from taximeter.access.lane import Found, Head, Lane

_CLOSE: Final = b"connection: close\r\n\r\n"
_MOMENT_S: Final = 1.0
"""So long a body may come behind its head. After that it goes the ordinary way, where slow ones are watched."""
_WHITE: Final = b" \t\r\n"


class _Burst:
    """Requests at hand: what the client sent, where each begins in it, and how many are answered."""

    __slots__ = ("answered", "begun", "data", "found", "size", "starts", "tenant")

    def __init__(self, data: bytes, starts: Sequence[int], tenant: str, size: int, begun: float) -> None:
        self.data = data
        self.starts = starts
        self.tenant = tenant
        self.size = size
        self.begun = begun
        self.found: Sequence[Found] = ()
        self.answered = 0


class _Front(NamedTuple):
    """What was found at the front of some bytes: plain requests of one tenant."""

    tenant: str
    head: Head
    """Of the last one."""
    together: bool
    """Whether the texts are events that may be taken together with others; else there is one, a body of any form."""
    texts: list[bytes]
    starts: list[int]
    """Where each begins, and where the last one ends."""
    size: int
    """Bytes of the bodies; without texts, of the one that is not whole."""


class FastConnection(Connection):
    """`lane`: of the server; None: there is none, and this is a `Connection`."""

    lane: Lane | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._burst: _Burst | None = None
        self._rest = b""  # what has been read and belongs to nobody yet
        self._late: asyncio.TimerHandle | None = None  # runs while `_rest` waits for the rest of a body
        self._held = 0  # what that body counts for meanwhile
        self._more: list[bytes] = []  # what has come of it behind `_rest`
        self._missing = 0  # the bytes of it that have not
        self._in_message = False
        self._upgraded = False
        self._moving = False  # since the timer began a request has come here
        self._ending = False
        self._stuck = False

    # What comes in ----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._burst is not None:
            self._rest += data
            self.flow.pause_reading()
        elif self._late is not None:
            self._more.append(data)
            self._missing -= len(data)
            if self._missing <= 0:
                self._read(self._all())
        elif self._between():
            self._read(self._rest + data)
        else:
            super().data_received(data)

    def _between(self) -> bool:
        """Whether the next byte is the first of a request, and nothing is at hand."""
        return self.lane is not None and not self._in_message and not self._upgraded and self._is_idle()

    def _all(self) -> bytes:
        """All that waits for the rest of a body, which is nobody's then."""
        data = b"".join((self._rest, *self._more))
        self._rest = b""
        self._more.clear()
        return data

    def _read(self, data: bytes) -> None:
        """Takes the next burst; where none is at the front, the bytes are uvicorn's."""
        lane = self.lane
        assert lane is not None
        self._stop_being_late()
        self._unset_keepalive_if_required()
        front = _front(lane, data)
        if front is None or not lane.bodies.take(front.size):
            self._rest = b""
            self._leave(data)
        elif not front.texts:
            self._rest, self._held, self._moving = data, front.size, True
            self._missing = front.head.size + front.head.length - len(data)
            self._late = self.loop.call_later(_MOMENT_S, self._too_late)
        else:
            self._rest, self._moving = data[front.starts[-1] :], True
            self._burst = _Burst(data, front.starts, front.tenant, front.size, self.loop.time())
            if front.together:
                lane.add(front.tenant, front.texts, self._found)
            else:
                lane.take(front.tenant, front.head.headers, front.texts[0], lambda found: self._found((found,)))

    def _leave(self, data: bytes) -> None:
        """Gives bytes to uvicorn's parser."""
        if self._moving:
            self._moving = False
            self._stop_waiting()  # what it finds begins now
        super().data_received(data)

    def _too_late(self) -> None:
        self._stop_being_late()
        data = self._all()
        if not self.transport.is_closing():
            self._leave(data)

    def _stop_being_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
            assert self.lane is not None
            self.lane.bodies.give_back(self._held)

    # What goes out ----------------------------------------------------------------------------------------------

    def _found(self, found: Sequence[Found]) -> None:
        burst = self._burst
        assert burst is not None and self.lane is not None
        self.lane.bodies.give_back(burst.size)
        burst.found = found
        self._go_on()

    def _go_on(self) -> None:
        """Answers what can be answered; has uvicorn answer what the lane has left to it; then reads on."""
        burst, lane = self._burst, self.lane
        assert burst is not None and lane is not None
        if self.transport.is_closing():
            self._burst, self._rest = None, b""
            return
        parts: list[bytes] = []
        seconds, count = self.loop.time() - burst.begun, len(burst.found)
        while burst.answered < count:
            found = burst.found[burst.answered]
            burst.answered += 1
            if found is None:
                self._write(parts)
                self._leave(burst.data[burst.starts[burst.answered - 1] : burst.starts[burst.answered]])
                return
            self.server_state.total_requests += 1
            ends = self._ending and burst.answered == count
            head, body = lane.answer(found, burst.tenant, self.server_state.default_headers, seconds)
            parts += head, _CLOSE if ends else b"\r\n", body
        self._write(parts)
        if self._ending:
            self.transport.close()
        elif self.flow.write_paused:
            self._stuck = True
            self.flow.pause_reading()
        else:
            self._next()

    def _write(self, parts: list[bytes]) -> None:
        if parts:
            self.transport.write(b"".join(parts))

    def _next(self) -> None:
        self._burst = None
        self.flow.resume_reading()
        if self._timer is None:
            self._wait()
        if self._rest:
            self._read(self._rest)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._burst is not None:
            self._unset_keepalive_if_required()
            self._go_on()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck:
            self._stuck = False
            self._next()

    # The rest ---------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._upgraded = self._upgraded or self.parser.should_upgrade()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_message = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_being_late()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._burst is not None:
            self._ending = True
            return
        if self._late is not None:
            self._too_late()
        super().shutdown()

    def _too_slow(self) -> None:
        if self._moving or self._burst is not None or self._late is not None:
            self._moving = False
            self._wait()
        else:
            super()._too_slow()


def _front(lane: Lane, data: bytes) -> _Front | None:
    """The plain requests at the front, whole ones of one tenant, or the one that goes by itself. None where there are
    none; without texts where there is the head of one, which may come in, and its body is not whole."""
    tenant, texts, starts, size, at = "", list[bytes](), [0], 0, 0
    last: Head | None = None
    while at < len(data) and (head := lane.head(data, at)) is not None and (found := lane.admit(head)) is not None:
        if texts and found != tenant:
            break
        begin = at + head.size
        end = begin + head.length
        if end > len(data):
            if not texts:
                return _Front(found, head, True, [], starts, head.length)
            break
        body = data[begin:end]
        text = body.strip(_WHITE)
        if not (head.may_be_one and text.startswith(b"{")):
            if not texts:
                return _Front(found, head, False, [body], [0, end], head.length)
            break
        tenant, last = found, head
        texts.append(text)
        starts.append(end)
        size += head.length
        at = end
        if lane.is_bounded(tenant):
            break  # who comes after one that is refused may still find room: they go one by one
    return None if last is None else _Front(tenant, last, True, texts, starts, size)

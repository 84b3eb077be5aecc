"""One connection to a client: uvicorn's, with bounds on the headers and on how long they may take.

uvicorn reads headers of any size, waits for the first request for ever, and never ends a request that trickles in.
"""

import array
import asyncio
import contextlib
import fcntl
import termios
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ingest.compat.errors import Failure, problem
from schemas.limits import ADDRESS_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX

_PHRASES: Final = {
    400: b"Bad Request",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
}
_TOO_LARGE: Final = {
    414: f"an address of more than {ADDRESS_BYTES_MAX} bytes",
    431: f"headers of more than {HEADER_BYTES_MAX} bytes, or more than {HEADERS_MAX} of them",
}


_LOOK_S: Final = 0.05


class Connection(HttpToolsProtocol):
    """`slow_s`: how long headers may take from a connection's, or their request's, first byte to their last."""

    slow_s: float = 20.0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_headers = False
        self._too_much = 0
        self._uncounted = 0  # bytes since the last thing that the parser has given away
        self._moved = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        super().shutdown()
        if self.scheme == "https" and self.transport.is_closing():
            self._stop_waiting()
            self._timer = self.loop.call_later(_LOOK_S, self._let_go)

    def _let_go(self) -> None:
        """Ends a closed TLS connection as soon as its client's machine has all that was sent. The client need not say
        goodbye: one that keeps an idle connection reads nothing, and would hold the server up until it does."""
        if _is_received(self.transport):
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(_LOOK_S, self._let_go)

    def data_received(self, data: bytes) -> None:
        self._moved = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        # Headers that are not whole, and trailers: the parser holds them where nothing else counts them.
        self._uncounted = 0 if self._moved else self._uncounted + len(data)
        if self._uncounted > HEADER_BYTES_MAX:
            self._too_large(431)
        elif self._timer is None and (self._in_headers or self._is_idle()):
            self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_headers = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > ADDRESS_BYTES_MAX:
            self._stop_parsing(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > HEADERS_MAX:
            self._stop_parsing(431)

    def on_headers_complete(self) -> None:
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEADER_BYTES_MAX:
            self._stop_parsing(431)
        self._in_headers, self._moved = False, True
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._moved = True
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        if self._too_much:
            self._too_large(self._too_much)
        else:
            self._end_with(400, "invalid_http", "found no request of HTTP/1.1, expected one")

    def _stop_parsing(self, status: int) -> None:
        """For the parser's callbacks: it stops, and `send_400_response` is called. Raises: ValueError."""
        self._too_much = status
        raise ValueError(_TOO_LARGE[status])

    def _wait(self) -> None:
        self._timer = self.loop.call_later(self.slow_s, self._too_slow)

    def _is_idle(self) -> bool:
        """Whether no request is at hand. There is no cycle before the first one."""
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            return
        if self._in_headers:
            self._end_with(408, "too_slow", f"found headers that were not whole after {self.slow_s:g} s")
        elif self._is_idle():
            self.transport.close()

    def _too_large(self, status: int) -> None:
        self._end_with(status, "too_large", f"found {_TOO_LARGE[status]}, expected at most so much")

    def _end_with(self, status: int, code: str, detail: str) -> None:
        media_type, content = problem(Failure(status, code, detail))
        head = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, _PHRASES[status], media_type, len(content)) + content)
        self.transport.close()


def _is_received(transport: asyncio.Transport) -> bool:
    """Whether the other machine has acknowledged all that was written; a system that cannot say counts as one that has.

    What the transport below TLS still holds need not be asked for: it hands on as much as the system takes, so it holds
    nothing once the system has nothing left to send."""
    if transport.get_write_buffer_size():
        return False
    unsent = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, unsent)
    return unsent[0] == 0

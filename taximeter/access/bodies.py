"""Reads requests' bodies: whole, within bounds, and no slower than a client with a bad line would send them.

All bodies that are being read and worked on share one bound, so that memory does not grow with the number of clients. A
body whose length is said before is counted whole from the beginning. What a refused client still sends is read and
dropped, for as long as a slow client may take: were the connection closed, it would never see the answer.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from starlette.types import Receive

from ingest.compat.errors import Failure
from schemas.limits import BODY_BYTES_MAX
from taximeter.access.gate import Refused

_BYTES_PER_S: Final = 16 * 1024
"""The slowest line that is put up with: so much buys another second."""
_LOOKS: Final = 20
"""How often within a slow client's time is looked."""


class Gone(Exception):
    """The client went away before its request was whole."""


@dataclass(slots=True)
class Held:
    """What one request has taken of the bound."""

    bytes: int = 0


class Bodies:
    """Reads and counts, on one event loop. `bytes_max`: of all bodies at once; `slow_s`: how long a client may send
    nothing worth it."""

    def __init__(self, bytes_max: int, slow_s: float) -> None:
        self._bytes_max = bytes_max
        self._slow_s = slow_s
        self.held = 0
        """Bytes of the bodies that are being read or worked on."""
        # A timer for each request would cost as much as all else here: one looks at all of them now and then.
        self._until: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._looking = False

    async def read(self, receive: Receive, declared: int | None, held: Held) -> bytes:
        """The whole body; what it takes is in `held` until `release`. Raises: Refused (408, 413, 503), Gone."""
        if declared is not None:
            _check_size(declared)
            self._hold(held, declared)
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        until = self._until[task] = loop.time() + self._slow_s
        if not self._looking:
            self._looking = True
            loop.call_later(self._slow_s / _LOOKS, self._look, loop)
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                part: bytes = message.get("body", b"")
                size += len(part)
                _check_size(size)
                if size > held.bytes:
                    self._hold(held, size - held.bytes)
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts) if len(parts) > 1 else part
                until += len(part) / _BYTES_PER_S
                self._until[task] = min(until, loop.time() + self._slow_s)
        except asyncio.CancelledError:
            if task not in self._late or task.uncancel() > 0:
                raise
            detail = f"found {size} bytes of a body that came too slowly, expected it whole: send it again"
            raise Refused(Failure(408, "too_slow", detail), close=True) from None
        finally:
            del self._until[task]
            self._late.discard(task)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends the reading of what has come too slowly."""
        now = loop.time()
        for task, until in self._until.items():
            if until < now and task not in self._late:
                self._late.add(task)
                task.cancel()
        self._looking = bool(self._until)
        if self._looking:
            loop.call_later(self._slow_s / _LOOKS, self._look, loop)

    def take(self, size: int) -> bool:
        """Counts a body that has been read otherwise, until `give_back`; False where there is no room for it."""
        if self.held + size > self._bytes_max:
            return False
        self.held += size
        return True

    def give_back(self, size: int) -> None:
        """The request of a body that `take` has counted is answered."""
        self.held -= size

    def release(self, held: Held) -> None:
        """The request is answered."""
        self.held -= held.bytes
        held.bytes = 0

    def _hold(self, held: Held, more: int) -> None:
        if self.held + more > self._bytes_max:
            detail = (
                f"nothing of this request was taken, send it again: the bodies at hand fill {self._bytes_max} bytes"
            )
            raise Refused(Failure(503, "busy", detail))
        self.held += more
        held.bytes += more


def _check_size(size: int) -> None:
    if size > BODY_BYTES_MAX:
        detail = f"found a body of more than {BODY_BYTES_MAX} bytes, expected at most as many"
        raise Refused(Failure(413, "too_large", detail))

"""Requests with one event each, many of them together: what has come meanwhile is read, routed and appended as one.

A request by itself costs the door much more than its event does. So a tenant's requests wait for each other: they go as
soon as the sockets at hand have been read, or, while a group of the tenant is on its way to the disk, when that one is
through. A group that takes long holds up nobody for more than `PATIENCE_S`, and none of a group waits for a partition
that is not its own. What is done with a group is `Door.take_singles`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from ingest.door import Door, Single
from schemas.limits import PACK_EVENTS_MAX
from streams.log import LogUnavailable

PATIENCE_S: Final = 0.02
_UNKNOWN: Final = b""
"""Not known yet: no answer is empty."""

_logger = logging.getLogger(__name__)

Done = Callable[[Sequence[Single]], None]
"""Called with what became of the texts that were added together, in their order."""


class _Added:
    """Texts that are answered together, and what became of them so far."""

    __slots__ = ("begin", "done", "found", "missing", "texts")

    def __init__(self, texts: Sequence[bytes], done: Done) -> None:
        self.texts = texts
        self.done = done
        self.begin = 0
        """The place of the first in its group."""
        self.found: list[Single] = [_UNKNOWN] * len(texts)
        self.missing = len(texts)

    def settle(self, at: int, found: Single) -> None:
        """One of them is known."""
        self.found[at - self.begin] = found
        self.missing -= 1
        if not self.missing:
            try:
                self.done(self.found)
            except Exception:  # of one client: the others' answers are to go out
                _logger.exception("an answer could not be given")


class _Tenant:
    """What waits of one tenant."""

    __slots__ = ("name", "patient_until", "scheduled", "under_way", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: list[_Added] = []
        self.under_way = 0
        self.patient_until = 0.0
        """When the last group that went off holds up nobody any more (the loop's time)."""
        self.scheduled = False


class Singles:
    """Gathers, on the event loop that it is made on."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._loop = asyncio.get_running_loop()
        self._tenants: dict[str, _Tenant] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, tenant: str, texts: Sequence[bytes], done: Done) -> None:
        """Takes the bodies of some requests, each one event's JSON text without white space around it."""
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = _Tenant(tenant)
        found.waiting.append(_Added(texts, done))
        if not found.scheduled and (not found.under_way or self._loop.time() >= found.patient_until):
            found.scheduled = True
            self._loop.call_soon(self._flush, found)

    def _flush(self, tenant: _Tenant) -> None:
        tenant.scheduled = False
        if tenant.waiting:
            tenant.under_way += 1
            task = self._loop.create_task(self._take(tenant, _first(tenant.waiting)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, tenant: _Tenant, group: list[_Added]) -> None:
        tenant.patient_until = self._loop.time() + PATIENCE_S
        late = self._loop.call_later(PATIENCE_S, self._flush, tenant)
        owners: list[_Added] = []
        for one in group:
            one.begin = len(owners)
            owners += [one] * len(one.texts)
        left: Single = None
        try:
            texts = [text for one in group for text in one.texts]
            await self.door.take_singles(texts, tenant.name, lambda at, found: owners[at].settle(at, found))
        except LogUnavailable as error:
            left = error
        except Exception:
            _logger.exception("requests could not be taken together: each goes by itself")
        late.cancel()
        for at, owner in enumerate(owners):
            if owner.found[at - owner.begin] == _UNKNOWN:
                owner.settle(at, left)
        tenant.under_way -= 1
        self._flush(tenant)
        if not tenant.under_way:
            self._tenants.pop(tenant.name, None)


def _first(waiting: list[_Added]) -> list[_Added]:
    """Takes from the front what makes about one pack."""
    count = events = 0
    while count < len(waiting) and events < PACK_EVENTS_MAX:
        events += len(waiting[count].texts)
        count += 1
    group = waiting[:count]
    del waiting[:count]
    return group

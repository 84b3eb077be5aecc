"""Requests with one event each, many of them together: what has come meanwhile is read, routed and appended as one.

A request by itself costs the door much more than its event does. So a tenant's requests wait for each other, though
never for a timer: they go as soon as the sockets at hand have been read, and while `UNDER_WAY_MAX` groups of the
tenant are on their way to the disk, more gather. What is done with a group is `Door.take_singles`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from ingest.door import Door, Single
from schemas.limits import PACK_EVENTS_MAX
from streams.log import LogUnavailable

UNDER_WAY_MAX: Final = 1
"""One group waits for the disk while the next is read. More would make them smaller, and smaller ones cost more."""

_logger = logging.getLogger(__name__)

Done = Callable[[Sequence[Single]], None]
"""Called with what became of the texts that were added together, in their order."""


class _Added(NamedTuple):
    texts: Sequence[bytes]
    done: Done


class _Tenant:
    """What waits of one tenant."""

    __slots__ = ("name", "scheduled", "under_way", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.waiting: list[_Added] = []
        self.under_way = 0
        self.scheduled = False


class Singles:
    """Gathers, on one event loop."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._tenants: dict[str, _Tenant] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, tenant: str, texts: Sequence[bytes], done: Done) -> None:
        """Takes the bodies of some requests, each one event's JSON text without white space around it."""
        found = self._tenants.get(tenant)
        if found is None:
            found = self._tenants[tenant] = _Tenant(tenant)
        found.waiting.append(_Added(texts, done))
        if not found.scheduled and found.under_way < UNDER_WAY_MAX:
            found.scheduled = True
            asyncio.get_running_loop().call_soon(self._flush, found)

    def _flush(self, tenant: _Tenant) -> None:
        tenant.scheduled = False
        while tenant.waiting and tenant.under_way < UNDER_WAY_MAX:
            tenant.under_way += 1
            task = asyncio.get_running_loop().create_task(self._take(tenant, _first(tenant.waiting)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, tenant: _Tenant, group: list[_Added]) -> None:
        texts = [text for one in group for text in one.texts]
        found: Sequence[Single]
        try:
            found = await self.door.take_singles(texts, tenant.name)
        except LogUnavailable as error:
            found = [error] * len(texts)
        except Exception:
            _logger.exception("requests could not be taken together: each goes by itself")
            found = [None] * len(texts)
        tenant.under_way -= 1
        at = 0
        for one in group:
            try:
                one.done(found[at : at + len(one.texts)])
            except Exception:  # of one client: the others' answers are to go out
                _logger.exception("an answer could not be given")
            at += len(one.texts)
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

"""Questions that rate a customer again: how many at once, how much each, and what is remembered of them.

An engine that was fed up to now is kept, and fed on when the customer is asked about again. So only the first question
rates everything; how many events it may rate is bounded, and how many questions may wait.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

from rating.engine import RatingSettings
from rating.retell.bill import TooManySteps
from rating.retell.inputs import EVENTS_MAX, TooManyEvents, at_moment, read_inputs
from rating.retell.moment import NOW, Moment
from rating.retell.retold import Retold
from rating.spend.parameters import Problem
from rating.spend.store import SpendStore
from rating.spend.view import SpendView
from schemas.identity import partition_of
from schemas.numbers import NumberError
from schemas.output import decode_alert
from schemas.times import parse_time

AT_ONCE: Final = 2
WAITING_MAX: Final = 32
KEPT_MAX: Final = 256
"""Engines that are kept."""
KEPT_EVENTS_MAX: Final = 2_000_000
"""Events that all kept engines together were fed: each takes about 150 bytes."""

_Key = tuple[str, str, Moment]


@dataclass(slots=True)
class _Turn:
    """Who has an engine, and how many wait for it."""

    lock: Lock = field(default_factory=Lock)
    users: int = 0


class Retellings:
    """The kept engines of one view. Queries run in threads of their own, so that spend is answered meanwhile."""

    def __init__(self, view: SpendView, settings: RatingSettings, events_max: int = EVENTS_MAX) -> None:
        """`settings`: those of the engine that bills. `events_max`: events that one question may rate."""
        self.view = view
        self.settings = settings
        self.events_max = events_max
        self._kept: OrderedDict[_Key, Retold] = OrderedDict()
        self._turns: dict[_Key, _Turn] = {}
        self._lock = Lock()
        self._threads = ThreadPoolExecutor(AT_ONCE, "retell")
        self._waiting = 0

    async def ask(self, query: Callable[[SpendStore], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Runs a query when its turn comes. Raises: Problem, and what the query raises."""
        if self._waiting >= WAITING_MAX:
            detail = f"found {self._waiting} questions waiting, expected fewer than {WAITING_MAX}: try again later"
            raise Problem(503, "Service Unavailable", "busy", detail)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _explained, query, self.view.store)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Nothing is asked any more."""
        self._threads.shutdown(cancel_futures=True)

    @contextmanager
    def told(self, tenant: str, customer: str, moment: Moment = NOW) -> Iterator[Retold]:
        """The customer's engine at a moment, for nobody else meanwhile; it must not be changed (`Retold.copy`). No
        other is asked for inside.

        Raises: Problem, TooManyEvents.
        """
        key = tenant, customer, moment
        with self._lock:
            turn = self._turns.setdefault(key, _Turn())
            turn.users += 1
        try:
            with turn.lock:
                yield self._fed(key)
        finally:
            with self._lock:
                turn.users -= 1
                if not turn.users:
                    del self._turns[key]

    def _fed(self, key: _Key) -> Retold:
        tenant, customer, moment = key
        partition = partition_of(tenant, customer, self.view.partitions)
        self._check_kept(partition)
        end = self.view.through("both")[partition]
        with self._lock:
            found = self._kept.pop(key, None)
        if found is None or (moment.past and found.through != end):
            found = Retold(self.settings, tenant, customer, partition)
        if found.through < end:
            self._feed(found, moment, end)
        self._keep(key, found)
        return found

    def _feed(self, found: Retold, moment: Moment, end: int) -> None:
        """Feeds an engine what came up to `end`, less what a moment leaves out; then it is that moment."""
        store, place = self.view.store, (found.tenant, found.customer, found.partition)
        stop = None if moment.known_at is None else store.first_after(found.partition, moment.known_at)
        named = _named(store, found.tenant, found.customer)
        clock = -1
        for inputs, until in read_inputs(store, *place, found.through, end, self.events_max):
            known = at_moment(inputs, Moment(None, moment.known_at), stop)
            clock = max([clock, *known.tick_time[-1:].tolist()])
            found.take(at_moment(known, Moment(moment.as_of), None), until, named)
        if moment.as_of is not None and moment.as_of <= clock:
            found.tick(moment.as_of)

    def _keep(self, key: _Key, found: Retold) -> None:
        with self._lock:
            self._kept[key] = found
            events = sum(one.events for one in self._kept.values())
            while len(self._kept) > 1 and (len(self._kept) > KEPT_MAX or events > KEPT_EVENTS_MAX):
                events -= self._kept.popitem(last=False)[1].events

    def _check_kept(self, partition: int) -> None:
        """Raises: Problem where the store has not seen a partition's log from its beginning."""
        progress = self.view.store.progress().get(partition)
        if progress is not None and progress.source > 0:
            detail = (
                f"the events of partition {partition} are kept from offset {progress.source} on, expected from 0: "
                "what came before it was no longer in the log when the spend store was built, so a customer cannot be "
                "rated again from the beginning"
            )
            raise Problem(410, "Gone", "not_kept", detail, kept_from={str(partition): progress.source})


def _named(store: SpendStore, tenant: str, customer: str) -> list[int]:
    """The ticks that the engine has given as the reason of an alert, and so perhaps of an invoice."""
    alerts = map(decode_alert, store.alerts_at_ticks(tenant, customer))
    ticks = [getattr(alert, "because", None) for alert in alerts]
    return [parse_time(because.tick) for because in ticks if because is not None and because.tick is not None]


def _explained(query: Callable[[SpendStore], Mapping[str, Any]], store: SpendStore) -> Mapping[str, Any]:
    try:
        return query(store)
    except TooManyEvents as error:
        detail = f"{error}: what it has spent is answered without rating again (`/spend`, `/v1/line-items`)"
        raise Problem(422, "Too many events", "too_many_events", detail, limit=error.limit) from None
    except TooManySteps as error:
        raise Problem(422, "Too far ahead", "too_far_ahead", str(error)) from None
    except NumberError as error:
        raise Problem(422, "Too large", "out_of_range", f"an amount would not fit: {error}") from None

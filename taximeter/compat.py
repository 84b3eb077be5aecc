"""What the doors of other dialects stand on (`ingest.compat.backend.Backend`): our door, catalogue and queries."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from starlette.routing import BaseRoute

from ingest.columns import Parsed
from ingest.compat import backend as compat
from ingest.compat.lago.app import lago_door
from ingest.compat.openmeter.app import openmeter_routes
from ingest.compat.stripe.app import stripe_door
from ingest.door import Door, now
from ingest.receipt import Receipt
from rating.spend import usage_http
from rating.spend.parameters import Problem
from rating.spend.store import EventFilter, SpendStore, Whose
from rating.spend.usage import Question, read_meters, unusable
from rating.spend.view import Of, PositionNotReached, SpendView
from schemas.catalogue import Catalogue, Filed, Meter
from schemas.event import VOID_TYPE
from schemas.faults import encode_document
from schemas.identity import partition_of
from schemas.output import LineItem
from schemas.times import parse_time
from streams.log import decode_position
from taximeter.documents import CatalogueInForce, Catalogues, Write

_WAIT_S: Final = 10.0
"""How long a question waits for what its tenant was told is taken."""
_PAGE: Final = 1000
_MISSING: Final = "no value that can be counted"
_NO_DOOR: Final = "this process takes nothing: send it to `taximeter ingest`, or `taximeter serve`"
_NO_STORE: Final = "this process keeps no store: ask `taximeter spend`, or `taximeter serve`"
_T = TypeVar("_T")


def compat_routes(backend: compat.Backend) -> list[BaseRoute]:
    """The doors of all dialects, each one under its prefix."""
    return [*openmeter_routes(backend), lago_door(backend), stripe_door(backend)]


class CompatBackend:
    """The `Backend` of a process.

    `door` and `write`: None where it takes nothing. `view`: None where it has no store. `catch_up`: waits for what
    other processes have changed.
    """

    def __init__(
        self,
        door: Door | None,
        catalogues: Catalogues,
        write: Write | None,
        view: SpendView | None,
        catch_up: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self._door = door
        self._catalogues = catalogues
        self._write = write
        self._view = view
        self._catch_up = catch_up
        self._given: dict[str, dict[int, int]] = {}
        self._encoded: dict[str, tuple[Catalogue, bytes]] = {}

    # Taking -------------------------------------------------------------------------------------

    async def take(self, tenant: str, parsed: Parsed, *, whole: bool = False, new: bool = False) -> Receipt:
        """Takes events; raises as `Backend.take`."""
        if self._door is None:
            raise compat.NoDoor(_NO_DOOR)
        receipt = await self._door.take_parsed(parsed, tenant, whole=whole, new=new)
        self._give(tenant, decode_position(receipt.position))
        return receipt

    @property
    def retry_after_seconds(self) -> int:
        """What a client is told to wait where the log takes nothing."""
        return 1 if self._door is None else self._door.settings.retry_after_seconds

    def now(self) -> int:
        """The door's clock."""
        return now() if self._door is None else self._door.clock()

    # Documents ----------------------------------------------------------------------------------

    def _of(self, tenant: str) -> CatalogueInForce:
        return self._catalogues.of(tenant)

    async def catalogue(self, tenant: str) -> Catalogue:
        """The documents in force."""
        if self._catch_up is not None:
            await self._catch_up()
        return self._of(tenant).catalogue

    def known(self, tenant: str) -> Catalogue:
        """The documents in force, as far as this process has read them."""
        return self._of(tenant).catalogue

    def filed(self, tenant: str, kind: str, id: str) -> list[Filed]:
        """A document's versions."""
        return self._of(tenant).versions(kind, id)

    async def apply(self, tenant: str, fresh: Catalogue) -> None:
        """Brings documents into force."""
        if self._write is None:
            raise compat.NoDoor(_NO_DOOR)
        applied = await self._of(tenant).apply(fresh, self._write)
        self._give(tenant, applied.position)

    def _meters(self, tenant: str) -> bytes:
        """The meters in force as JSON: what a question is answered by, whatever the store has read."""
        catalogue = self._of(tenant).catalogue
        known = self._encoded.get(tenant)
        if known is None or known[0] is not catalogue:
            known = self._encoded[tenant] = catalogue, encode_document({"meters": catalogue.meters})
        return known[1]

    # Questions ----------------------------------------------------------------------------------

    async def usage(self, tenant: str, question: compat.UsageQuestion) -> list[compat.UsageRow]:
        """Usage by windows."""
        customers = question.customers
        view = self._served()
        asked = usage_http.UsageQuestion(
            whose=Whose(tenant, customers, question.subjects),
            meter=question.meter,
            question=Question(
                question.unit,
                question.zone,
                question.first,
                question.last,
                question.group_by,
                filters=question.filters,
            ),
            partition=partition_of(tenant, customers[0], view.partitions) if len(customers) == 1 else None,
        )

        meters = self._meters(tenant)

        def query(store: SpendStore) -> Mapping[str, Any]:
            return usage_http.answer_usage(store, asked, meters)

        answer = await self._ask(tenant, query, "usage")
        return [
            compat.UsageRow(parse_time(one.start), parse_time(one.end), one.dimensions, one.value, one.events)
            for one in answer["windows"]
        ]

    async def kept_events(self, tenant: str, question: compat.EventsQuestion) -> compat.EventsPage:
        """Kept events, and what the meters in force cannot count of them."""
        named = set(EventFilter._fields) & set(question._fields)
        where = EventFilter(**{name: getattr(question, name) for name in named})
        meters = self._meters(tenant)

        def query(store: SpendStore) -> Mapping[str, Any]:
            after = usage_http.place_of(question.after)
            whose = Whose(tenant, question.customers, question.subjects)
            answer = usage_http.answer_events(store, whose, where, after, question.limit)
            return {**answer, "said": _rejections(answer["events"], read_meters(meters))}

        answer = await self._ask(tenant, query, "usage")
        events = [
            compat.KeptEvent(one["event"], one["customer"], parse_time(one["arrived"]), said)
            for one, said in zip(answer["events"], answer["said"], strict=True)
        ]
        return compat.EventsPage(events, answer["next_cursor"])

    async def line_items(self, tenant: str, customer: str, subscription: str | None = None) -> list[LineItem]:
        """Line items, the latest period first."""
        where: dict[str, str | int] = {"tenant": tenant, "customer": customer}
        if subscription is not None:
            where["subscription"] = subscription

        def query(store: SpendStore) -> list[LineItem]:
            found: list[bytes] = []
            rows = store.page("line_items", where, None, _PAGE)
            while rows:
                found += [row.body for row in rows]
                rows = store.page("line_items", where, rows[-1].place, _PAGE) if len(rows) == _PAGE else []
            return compat.decode_line_items(found)

        return await self._ask(tenant, query, "spend")

    def _served(self) -> SpendView:
        if self._view is None:
            raise compat.NoQueries(_NO_STORE)
        return self._view

    async def _ask(self, tenant: str, query: Callable[[SpendStore], _T], of: Of) -> _T:
        """Runs a query that sees all that the tenant was told is taken. Raises: Late, QueryRefused, NoQueries."""
        view = self._served()
        try:
            given = self._given.get(tenant)
            if given:
                await view.wait_for(dict(given), _WAIT_S, of)
            return await view.ask(query)
        except PositionNotReached as missed:
            raise compat.Late(f"the queries have not come to include what was taken: {missed}") from None
        except Problem as problem:
            name, code = str(problem.body.get("parameter", "")), str(problem.body["code"])
            raise compat.QueryRefused(problem.status, code, name, str(problem)) from None

    def _give(self, tenant: str, position: Mapping[int, int]) -> None:
        """Remembers the greatest position that a tenant was given, by partition."""
        given = self._given.setdefault(tenant, {}) if position else {}
        for partition, offset in position.items():
            given[partition] = max(offset, given.get(partition, 0))


def _rejections(shown: Sequence[Mapping[str, Any]], meters: Mapping[str, Meter]) -> list[str | None]:
    """What the meters cannot count of each shown event, as a text; None where nothing is wrong."""
    said: list[list[str]] = [[] for _ in shown]
    events = [one["event"] for one in shown]
    for name, meter in meters.items():
        own = [at for at, event in enumerate(events) if event["type"] == meter.event]
        if own:
            wrong = unusable(meter, [bytes(events[at]["data"]) for at in own])
            for at, is_wrong in zip(own, wrong.tolist(), strict=True):
                if is_wrong:
                    said[at].append(f"meter {name}: {_MISSING} at {meter.value}")
    counted = {meter.event for meter in meters.values()} | {VOID_TYPE}
    for at, event in enumerate(events):
        if event["type"] not in counted:
            said[at].append(f"no meter counts events of type {event['type']}")
    return ["; ".join(one) if one else None for one in said]

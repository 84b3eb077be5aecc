"""Stripe's routes, under `/stripe`. v1 takes forms, v2 JSON."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from secrets import token_hex
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from ingest.compat.answering import Answer, Dialect, json_response, members_of, plain_of, read_content
from ingest.compat.backend import Backend
from ingest.compat.errors import stripe
from ingest.compat.stripe.answers import invalid, missing, stripe_id
from ingest.compat.stripe.events import STREAM_MAX, MeterEvent, cancel, meters_by_event, read_event, subject_of, take
from ingest.compat.stripe.forms import parse_form
from ingest.compat.stripe.meters import URL, Meters
from ingest.compat.stripe.replays import Replays
from ingest.compat.stripe.sessions import Sessions
from ingest.compat.stripe.summaries import read_asked, summaries
from schemas.access import tenant_of
from schemas.limits import BODY_BYTES_MAX
from schemas.times import SECOND, format_time

PREFIX: Final = "/stripe"
_FORM: Final = ("application/x-www-form-urlencoded",)
_JSON: Final = ("application/json",)


class Told(NamedTuple):
    """A request that was read. `derived`: the identifier of an event that brings none; `id`: that of the path."""

    tenant: str
    members: Mapping[str, Any]
    derived: str
    id: str


Doing = Callable[[Told], Awaitable[Mapping[str, Any]]]
"""Does what a request asks for; gives the members of the answer."""


def stripe_door(backend: Backend, sessions: Sessions | None = None) -> Mount:
    """The door, to be mounted among an application's routes."""
    dialect = Dialect(PREFIX, stripe, _wait)
    door = StripeDoor(backend, sessions or Sessions())
    posts: list[tuple[str, Answer]] = [
        ("/v1/billing/meter_events", door.posted(door.create_v1, _FORM)),
        ("/v1/billing/meter_event_adjustments", door.posted(door.cancel_v1, _FORM)),
        (URL, door.posted(door.create_meter, _FORM)),
        (URL + "/{id}", door.posted(door.rename_meter, _FORM)),
        (URL + "/{id}/deactivate", door.posted(door.deactivate_meter, _FORM)),
        (URL + "/{id}/reactivate", door.posted(door.reactivate_meter, _FORM)),
        ("/v2/billing/meter_events", door.posted(door.create_v2, _JSON)),
        ("/v2/billing/meter_event_adjustments", door.posted(door.cancel_v2, _JSON)),
        ("/v2/billing/meter_event_session", door.posted(door.open_session, _JSON)),
        ("/v2/billing/meter_event_stream", door.posted(door.create_stream, _JSON, door.tenant_of_session)),
    ]
    gets: list[tuple[str, Answer]] = [
        (URL, door.list_meters),
        (URL + "/{id}", door.find_meter),
        (URL + "/{id}/event_summaries", door.list_summaries),
    ]
    table = [*(("POST", *row) for row in posts), *(("GET", *row) for row in gets)]
    return dialect.mount(table, lambda: backend.retry_after_seconds)


def _wait(seconds: int) -> Mapping[str, str]:
    """Stripe's client tries again where it is told so; it passes `retry-after` over."""
    return {"retry-after": str(seconds), "stripe-should-retry": "true"}


class StripeDoor:
    """The answers."""

    def __init__(self, backend: Backend, sessions: Sessions) -> None:
        self._backend = backend
        self._sessions = sessions
        self._meters = Meters(backend)
        self._replays = Replays(backend.now)

    # Requests -----------------------------------------------------------------------------------

    def posted(
        self,
        doing: Doing,
        media_types: tuple[str, ...],
        tenant_from: Callable[[Request], str] = lambda request: tenant_of(request.scope),
    ) -> Answer:
        """An answer to a POST that is done once for each idempotency key."""

        async def answer(request: Request) -> Response:
            tenant = tenant_from(request)
            body = await read_content(request, BODY_BYTES_MAX, media_types)
            key = request.headers.get("idempotency-key")
            derived = stripe_id("evt", tenant, key) if key else f"evt_{token_hex(16)}"
            told = Told(tenant, {}, derived, request.path_params.get("id", ""))
            if not key:
                return json_response(await doing(told._replace(members=_members(body, media_types))))
            done = self._replays.begin(tenant, key, request.url.path, body)
            if done is not None:
                return Response(done, media_type="application/json", headers={"idempotent-replayed": "true"})
            try:
                found = await doing(told._replace(members=_members(body, media_types)))
            except BaseException:
                self._replays.forget(tenant, key)
                raise
            response = json_response(found)
            self._replays.end(tenant, key, bytes(response.body))
            return response

        return answer

    def tenant_of_session(self, request: Request) -> str:
        """The tenant of the session that a request is sent in. Raises: Refused (401)."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self._sessions.tenant_of(token.strip() if scheme.lower() == "bearer" else "", self._backend.now())

    # Events -------------------------------------------------------------------------------------

    async def create_v1(self, told: Told) -> Mapping[str, Any]:
        """`POST /v1/billing/meter_events`."""
        event, now = await self._create(told, seconds=True)
        return {
            "object": "billing.meter_event",
            "created": now // SECOND,
            "event_name": event.name,
            "identifier": event.identifier,
            "livemode": False,
            "payload": event.payload,
            "timestamp": (now if event.micros is None else event.micros) // SECOND,
        }

    async def create_v2(self, told: Told) -> Mapping[str, Any]:
        """`POST /v2/billing/meter_events`."""
        event, now = await self._create(told, seconds=False)
        return {
            "object": "v2.billing.meter_event",
            "created": format_time(now),
            "event_name": event.name,
            "identifier": event.identifier,
            "livemode": False,
            "payload": event.payload,
            "timestamp": format_time(now if event.micros is None else event.micros),
        }

    async def _create(self, told: Told, seconds: bool) -> tuple[MeterEvent, int]:
        now = self._backend.now()
        event = read_event(told.members, told.derived, now, seconds)
        await take(self._backend, told.tenant, [event], await self._subjects(told.tenant, [event], [""]))
        return event, now

    async def _subjects(self, tenant: str, events: Sequence[MeterEvent], places: Sequence[str]) -> list[str]:
        """Whose the events are. Other processes are asked for their documents only where a meter is not known here."""
        meters = meters_by_event(self._backend.known(tenant))
        if any(event.name not in meters for event in events):
            meters = meters_by_event(await self._backend.catalogue(tenant))
        return [subject_of(event, meters, place) for event, place in zip(events, places, strict=True)]

    async def create_stream(self, told: Told) -> Mapping[str, Any]:
        """`POST /v2/billing/meter_event_stream`: up to `STREAM_MAX` events, all of them or none."""
        sent = told.members.get("events")
        if not isinstance(sent, list) or not all(isinstance(one, dict) for one in sent) or not sent:
            raise missing("events")
        if len(sent) > STREAM_MAX:
            raise invalid(f"found {len(sent)} events, expected at most {STREAM_MAX}", "events")
        now, places = self._backend.now(), [f"events[{at}]." for at in range(len(sent))]
        events = [
            read_event(one, f"{told.derived}_{at}", now, False, place)
            for at, (one, place) in enumerate(zip(sent, places, strict=True))
        ]
        await take(self._backend, told.tenant, events, await self._subjects(told.tenant, events, places))
        return {}

    async def open_session(self, told: Told) -> Mapping[str, Any]:
        """`POST /v2/billing/meter_event_session`."""
        session = self._sessions.open(told.tenant, self._backend.now())
        return {
            "object": "v2.billing.meter_event_session",
            "id": session.id,
            "authentication_token": session.token,
            "created": format_time(session.created),
            "expires_at": format_time(session.expires),
            "livemode": False,
        }

    # Adjustments --------------------------------------------------------------------------------

    async def cancel_v1(self, told: Told) -> Mapping[str, Any]:
        """`POST /v1/billing/meter_event_adjustments`."""
        return await self._cancel(told, "billing.meter_event_adjustment")

    async def cancel_v2(self, told: Told) -> Mapping[str, Any]:
        """`POST /v2/billing/meter_event_adjustments`."""
        found = await self._cancel(told, "v2.billing.meter_event_adjustment")
        created = format_time(self._backend.now())
        return {**found, "id": stripe_id("mtr_adj", told.tenant, told.derived), "created": created}

    async def _cancel(self, told: Told, object: str) -> dict[str, Any]:
        name, identifier = await cancel(self._backend, told.tenant, told.members)
        return {
            "object": object,
            "cancel": {"identifier": identifier},
            "event_name": name,
            "livemode": False,
            "status": "pending",
            "type": "cancel",
        }

    # Meters -------------------------------------------------------------------------------------

    async def create_meter(self, told: Told) -> Mapping[str, Any]:
        """`POST /v1/billing/meters`."""
        return await self._meters.create(told.tenant, told.members)

    async def rename_meter(self, told: Told) -> Mapping[str, Any]:
        """`POST /v1/billing/meters/{id}`: another `display_name`."""
        return await self._meters.rename(told.tenant, told.id, told.members)

    async def deactivate_meter(self, told: Told) -> Mapping[str, Any]:
        """`POST /v1/billing/meters/{id}/deactivate`: it takes no more events."""
        return await self._meters.archive(told.tenant, told.id, True)

    async def reactivate_meter(self, told: Told) -> Mapping[str, Any]:
        """`POST /v1/billing/meters/{id}/reactivate`."""
        return await self._meters.archive(told.tenant, told.id, False)

    async def list_meters(self, request: Request) -> Response:
        """`GET /v1/billing/meters`."""
        return json_response(await self._meters.list(tenant_of(request.scope), request.query_params))

    async def find_meter(self, request: Request) -> Response:
        """`GET /v1/billing/meters/{id}`."""
        tenant = tenant_of(request.scope)
        return json_response(self._meters.shown(tenant, *await self._meters.find(tenant, request.path_params["id"])))

    async def list_summaries(self, request: Request) -> Response:
        """`GET /v1/billing/meters/{id}/event_summaries`."""
        tenant = tenant_of(request.scope)
        name, _ = await self._meters.find(tenant, request.path_params["id"])
        asked = read_asked(request.query_params)
        return json_response(await summaries(self._backend, tenant, name, asked, request.query_params))


def _members(body: bytes, media_types: tuple[str, ...]) -> Mapping[str, Any]:
    """The members of a form, or of a JSON object. Raises: Refused, BodyRefused."""
    if media_types is _FORM:
        return parse_form(body)
    members_of(body or b"{}")  # an object, and no name twice
    found: dict[str, Any] = plain_of(body or b"{}")
    return found

"""Stripe's routes, under `/stripe`. v1 takes forms, v2 JSON."""

from collections.abc import Awaitable, Callable, Mapping
from secrets import token_hex
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from ingest.compat.answering import Answer, Dialect, json_response, members_of, plain_of, read_content
from ingest.compat.backend import Backend
from ingest.compat.errors import stripe
from ingest.compat.stripe.answers import invalid, missing, stripe_id
from ingest.compat.stripe.events import STREAM_MAX, MeterEvent, cancel, read_event, subject_of, take
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

Doing = Callable[[str, Mapping[str, Any], str], Awaitable[Mapping[str, Any]]]
"""Does what a request asks for: tenant, the body's members, and the identifier of an event that brings none."""


def stripe_door(backend: Backend, sessions: Sessions | None = None) -> Mount:
    """The door, to be mounted among an application's routes."""
    dialect = Dialect(PREFIX, stripe, _wait)
    door = StripeDoor(backend, sessions or Sessions())
    posts: list[tuple[str, Answer]] = [
        ("/v1/billing/meter_events", door.posted(door.create_v1, _FORM)),
        ("/v1/billing/meter_event_adjustments", door.posted(door.cancel_v1, _FORM)),
        (URL, door.posted(door.create_meter, _FORM)),
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
    return dialect.mount(
        [
            Route(path, dialect.guarded(answer, lambda: backend.retry_after_seconds), methods=[method])
            for method, path, answer in table
        ]
    )


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
            if not key:
                return json_response(await self._do(doing, tenant, body, media_types, f"evt_{token_hex(16)}"))
            done = self._replays.begin(tenant, key, request.url.path, body)
            if done is not None:
                return Response(done, media_type="application/json", headers={"idempotent-replayed": "true"})
            try:
                found = await self._do(doing, tenant, body, media_types, stripe_id("evt", tenant, key))
            except BaseException:
                self._replays.forget(tenant, key)
                raise
            response = json_response(found)
            self._replays.end(tenant, key, bytes(response.body))
            return response

        return answer

    async def _do(
        self, doing: Doing, tenant: str, body: bytes, media_types: tuple[str, ...], derived: str
    ) -> Mapping[str, Any]:
        members = parse_form(body) if media_types is _FORM else _object(body)
        return await doing(tenant, members, derived)

    def tenant_of_session(self, request: Request) -> str:
        """The tenant of the session that a request is sent in. Raises: Refused (401)."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return self._sessions.tenant_of(token.strip() if scheme.lower() == "bearer" else "", self._backend.now())

    # Events -------------------------------------------------------------------------------------

    async def create_v1(self, tenant: str, members: Mapping[str, Any], derived: str) -> Mapping[str, Any]:
        """`POST /v1/billing/meter_events`."""
        event, now = await self._create(tenant, members, derived, seconds=True)
        return {
            "object": "billing.meter_event",
            "created": now // SECOND,
            "event_name": event.name,
            "identifier": event.identifier,
            "livemode": False,
            "payload": event.payload,
            "timestamp": (now if event.micros is None else event.micros) // SECOND,
        }

    async def create_v2(self, tenant: str, members: Mapping[str, Any], derived: str) -> Mapping[str, Any]:
        """`POST /v2/billing/meter_events`."""
        event, now = await self._create(tenant, members, derived, seconds=False)
        return {
            "object": "v2.billing.meter_event",
            "created": format_time(now),
            "event_name": event.name,
            "identifier": event.identifier,
            "livemode": False,
            "payload": event.payload,
            "timestamp": format_time(now if event.micros is None else event.micros),
        }

    async def _create(
        self, tenant: str, members: Mapping[str, Any], derived: str, seconds: bool
    ) -> tuple[MeterEvent, int]:
        now = self._backend.now()
        event = read_event(members, derived, now, seconds)
        subject = subject_of(event, await self._backend.catalogue(tenant))
        await take(self._backend, tenant, [event], [subject])
        return event, now

    async def create_stream(self, tenant: str, members: Mapping[str, Any], derived: str) -> Mapping[str, Any]:
        """`POST /v2/billing/meter_event_stream`: up to `STREAM_MAX` events, all of them or none."""
        sent = members.get("events")
        if not isinstance(sent, list) or not all(isinstance(one, dict) for one in sent) or not sent:
            raise missing("events")
        if len(sent) > STREAM_MAX:
            raise invalid(f"found {len(sent)} events, expected at most {STREAM_MAX}", "events")
        catalogue, now = await self._backend.catalogue(tenant), self._backend.now()
        events = [read_event(one, f"{derived}_{at}", now, False, f"events[{at}].") for at, one in enumerate(sent)]
        subjects = [subject_of(event, catalogue, f"events[{at}].") for at, event in enumerate(events)]
        await take(self._backend, tenant, events, subjects)
        return {}

    async def open_session(self, tenant: str, members: Mapping[str, Any], derived: str) -> Mapping[str, Any]:
        """`POST /v2/billing/meter_event_session`."""
        session = self._sessions.open(tenant, self._backend.now())
        return {
            "object": "v2.billing.meter_event_session",
            "id": session.id,
            "authentication_token": session.token,
            "created": format_time(session.created),
            "expires_at": format_time(session.expires),
            "livemode": False,
        }

    # Adjustments --------------------------------------------------------------------------------

    async def cancel_v1(self, tenant: str, members: Mapping[str, Any], derived: str) -> Mapping[str, Any]:
        """`POST /v1/billing/meter_event_adjustments`."""
        return await self._cancel(tenant, members, "billing.meter_event_adjustment")

    async def cancel_v2(self, tenant: str, members: Mapping[str, Any], derived: str) -> Mapping[str, Any]:
        """`POST /v2/billing/meter_event_adjustments`."""
        found = await self._cancel(tenant, members, "v2.billing.meter_event_adjustment")
        created = format_time(self._backend.now())
        return {**found, "id": stripe_id("mtr_adj", tenant, derived), "created": created}

    async def _cancel(self, tenant: str, members: Mapping[str, Any], object: str) -> dict[str, Any]:
        name, identifier = await cancel(self._backend, tenant, members)
        return {
            "object": object,
            "cancel": {"identifier": identifier},
            "event_name": name,
            "livemode": False,
            "status": "pending",
            "type": "cancel",
        }

    # Meters -------------------------------------------------------------------------------------

    async def create_meter(self, tenant: str, members: Mapping[str, Any], derived: str) -> Mapping[str, Any]:
        """`POST /v1/billing/meters`."""
        return await self._meters.create(tenant, members)

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


def _object(body: bytes) -> dict[str, Any]:
    """The plain members of a JSON object. Raises: BodyRefused."""
    members_of(body or b"{}")
    found: dict[str, Any] = plain_of(body or b"{}")
    return found

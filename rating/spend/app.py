"""The HTTP questions about spend, usage and outputs: routes for a larger application to mount.

Every answer holds `through`: for each partition, the position up to which the source is included (at least). With
`position` (the token that the door gave) a question waits, at most `wait_ms`, until its answer includes that. Errors
are `application/problem+json`. Listings are newest first and go on at `next_cursor`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rating.spend.costs import costs
from rating.spend.live import LiveStreams
from rating.spend.parameters import WAIT_MS_DEFAULT, WAIT_MS_MAX, Parameters, Problem, cursor_of, invalid
from rating.spend.ranking_http import answer_ranking, read_ranking
from rating.spend.rejections import read_listing, read_one
from rating.spend.spending import SpendQuery
from rating.spend.store import Listing, SpendStore
from rating.spend.tables import FORMATS, MEDIA_TYPES, Format, encode, listing_of
from rating.spend.usage_http import answer_events, answer_usage, read_events, read_usage
from rating.spend.view import Of, PositionNotReached, SpendView
from schemas.identity import partition_of
from schemas.output import InvoiceKind
from streams.log import encode_position

_LOG = logging.getLogger(__name__)
INVOICE_KINDS: Final = InvoiceKind.__args__  # type: ignore[attr-defined]

Query = Callable[[SpendStore], Mapping[str, Any]]
"""What is left of a request once its parameters have been read: runs in a thread, gives the members of the answer."""
Reader = Callable[[Parameters, SpendView], Query]


OF_CUSTOMER: Final = ("spend", "usage", "costs", "live")
"""The last segment of the paths below a customer."""
PAST: Final = ("as_of", "as_known_at")
"""The parameters of questions about a past moment."""


def events_route(view: SpendView) -> Route:
    """The listing of kept events. Where a door has the same path, this route stands before it, and takes GET only."""
    return Route("/v1/events", _endpoint(view, _events, "usage"), methods=["GET"])


def routes(view: SpendView) -> list[Route]:
    """The routes. Paths that hold an identifier take it whole, slashes included."""
    return [
        *LiveStreams(view).routes(),
        events_route(view),
        Route("/v1/customers/{customer:path}/spend", _endpoint(view, _spend, "now"), methods=["GET"]),
        Route("/v1/customers/{customer:path}/usage", _endpoint(view, _usage, "usage"), methods=["GET"]),
        Route("/v1/customers/{customer:path}/costs", _endpoint(view, _costs, "spend"), methods=["GET"]),
        Route("/v1/spend", _endpoint(view, _ranking, "spend"), methods=["GET"]),
        Route("/v1/usage", _endpoint(view, _usage_of_all, "usage"), methods=["GET"]),
        Route("/v1/line-items", _endpoint(view, _line_items, "spend"), methods=["GET"]),
        Route("/v1/invoices", _endpoint(view, _invoices, "spend"), methods=["GET"]),
        Route("/v1/invoices/{id:path}", _endpoint(view, _invoice, "spend"), methods=["GET"]),
        Route("/v1/rejections", _endpoint(view, _rejections, "spend"), methods=["GET"]),
        Route("/v1/rejections/{id}", _endpoint(view, _rejection, "spend"), methods=["GET"]),
        Route("/v1/alerts", _endpoint(view, _alerts, "spend"), methods=["GET"]),
    ]


Ask = Callable[[Query], Awaitable[Mapping[str, Any]]]
"""Runs a query in some thread. Raises: Problem, and what the query raises."""


def question(view: SpendView, path: str, read: Reader, of: Of, ask: Ask) -> Route:
    """The route of a question of another package, with the same parameters and problems as all of them."""
    return Route(path, _endpoint(view, read, of, ask), methods=["GET"])


def _endpoint(
    view: SpendView, read: Reader, of: Of, ask: Ask | None = None
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            parameters = Parameters(request)
            query = read(parameters, view)
            position = parameters.position(view)
            wait_ms = parameters.whole("wait_ms", WAIT_MS_DEFAULT, 0, WAIT_MS_MAX)
            format = _format(parameters, request)
            parameters.finish()
            if position:
                await view.wait_for(position, wait_ms / 1000, of)
            # Taken before the query, so the answer includes it for certain, and perhaps more.
            through = view.through(of)
            body = {**await (ask or view.ask)(query), "through": through}
            if format != "json":
                return await asyncio.to_thread(_table, format, body)
            return _json(200, body, "application/json")
        except PositionNotReached as missed:
            return _problem(_not_reached(missed, wait_ms))
        except Problem as problem:
            return _problem(problem)
        except Exception as error:
            _LOG.exception("no answer to %s", request.scope["route"].path)  # a path itself names customers
            return _problem(Problem(500, "Internal error", "internal_error", f"{type(error).__name__}: {error}"))

    return answer


def _refuse_past(parameters: Parameters) -> None:
    """Questions about a past moment are taken by `rating.retell.http`, whose routes stand before these."""
    for name in PAST:
        if parameters.text(name) is not None:
            raise invalid(name, "found a time, expected none: this server does not rate again")


def _spend(parameters: Parameters, view: SpendView) -> Query:
    _refuse_past(parameters)
    return SpendQuery(parameters.tenant, parameters.path["customer"], parameters.period())


def _usage(parameters: Parameters, view: SpendView) -> Query:
    _refuse_past(parameters)
    return _of_usage(parameters, view, parameters.path["customer"])


def _usage_of_all(parameters: Parameters, view: SpendView) -> Query:
    return _of_usage(parameters, view, None)


def _of_usage(parameters: Parameters, view: SpendView, customer: str | None) -> Query:
    asked = read_usage(parameters, parameters.tenant, view.partitions, customer)
    return lambda store: answer_usage(store, asked, store.catalogue(parameters.tenant, asked.partition or 0))


def _ranking(parameters: Parameters, view: SpendView) -> Query:
    asked = read_ranking(parameters, parameters.tenant)
    return lambda store: answer_ranking(store, asked)


def _costs(parameters: Parameters, view: SpendView) -> Query:
    tenant, customer = parameters.tenant, parameters.path["customer"]
    by, period = parameters.text("by", "subject") or "subject", parameters.period()
    partition = partition_of(tenant, customer, view.partitions)
    return lambda store: costs(store, tenant, customer, by, period, store.catalogue(tenant, partition), partition)


def _events(parameters: Parameters, view: SpendView) -> Query:
    whose, where, after, limit = read_events(parameters, parameters.tenant)
    return lambda store: answer_events(store, whose, where, after, limit)


def _line_items(parameters: Parameters, view: SpendView) -> Query:
    where = _where(parameters, "customer", "subscription", "charge")
    period = parameters.time("period")
    if period is not None:
        where["period_start"] = period
    return _page(parameters, "line_items", where)


def _invoices(parameters: Parameters, view: SpendView) -> Query:
    where = _where(parameters, "customer")
    kind = parameters.choice("kind", INVOICE_KINDS)
    if kind is not None:
        where["kind"] = kind
    return _page(parameters, "invoices", where)


def _invoice(parameters: Parameters, view: SpendView) -> Query:
    tenant, id = parameters.tenant, parameters.path["id"]

    def query(store: SpendStore) -> Mapping[str, Any]:
        found = store.invoice(tenant, id)
        if found is None:
            raise Problem(
                404, "Unknown invoice", "unknown_invoice", f"found {id[:200]!r}, expected the id of an invoice"
            )
        return {"invoice": msgspec.Raw(found)}

    return query


def _rejections(parameters: Parameters, view: SpendView) -> Query:
    return read_listing(parameters, parameters.tenant)


def _rejection(parameters: Parameters, view: SpendView) -> Query:
    return read_one(parameters, parameters.tenant)


def _alerts(parameters: Parameters, view: SpendView) -> Query:
    return _page(parameters, "alerts", _where(parameters, "customer"))


def _where(parameters: Parameters, *names: str) -> dict[str, str | int]:
    found = {name: parameters.text(name) for name in names}
    where: dict[str, str | int] = {name: text for name, text in found.items() if text is not None}
    return where | {"tenant": parameters.tenant}


def _page(parameters: Parameters, listing: Listing, where: Mapping[str, str | int]) -> Query:
    limit, after = parameters.limit(), parameters.after(listing)

    def query(store: SpendStore) -> Mapping[str, Any]:
        rows = store.page(listing, where, after, limit + 1)  # one more says whether there is another page
        more = len(rows) > limit
        return {
            listing: [msgspec.Raw(row.body) for row in rows[:limit]],
            "next_cursor": cursor_of(listing, rows[limit - 1].place) if more else None,
        }

    return query


def _format(parameters: Parameters, request: Request) -> Format:
    """`format`, else what the client says that it takes: the one that is no JSON, where it takes no JSON."""
    accepted = request.headers.get("accept", "")
    taken = next((name for name, media in MEDIA_TYPES.items() if media in accepted and "json" not in accepted), "json")
    return cast(Format, parameters.choice("format", FORMATS, taken))


def _table(format: Format, body: Mapping[str, Any]) -> Response:
    """The answer's rows; what else it says stands in headers."""
    listing = listing_of(body)
    if listing is None:
        raise invalid("format", f"found {format!r}, expected json: this answer is no table")
    headers = {"taximeter-through": msgspec.json.encode(body["through"]).decode()}
    if body.get("next_cursor") is not None:
        headers["taximeter-next-cursor"] = body["next_cursor"]
    return Response(encode(format, listing, body[listing]), 200, headers, MEDIA_TYPES[format])


def _not_reached(missed: PositionNotReached, wait_ms: int) -> Problem:
    asked, included = encode_position(missed.asked), encode_position(missed.included)
    return Problem(
        504,
        "Position not reached",
        "position_not_reached",
        f"position: asked for {asked}, after {wait_ms} ms the answer would include {included}",
        asked=missed.asked,
        through=missed.included,
    )


def _problem(problem: Problem) -> Response:
    return _json(problem.status, problem.body, "application/problem+json")


def _json(status: int, body: Mapping[str, Any], media_type: str) -> Response:
    return Response(msgspec.json.encode(body), status, media_type=media_type)

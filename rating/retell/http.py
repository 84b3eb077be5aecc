"""The questions that rate a customer again, over HTTP: routes for a larger application to mount.

They take what all questions take (`position`, `wait_ms`, `tenant`), and `as_of` and `as_known_at`. Routes of questions
that are answered without rating where nothing is left out (`/spend`, `/usage`) are matched only where one of the two is
given, and stand before those of `rating.spend.app`.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from rating.retell.bill import CLOSINGS, draft_bill
from rating.retell.compare import CURRENT, PREVIOUS, Choice, compare
from rating.retell.forecast import METHODS, HistoryTooShort, forecast
from rating.retell.moment import Moment
from rating.retell.past import catalogue_at, spend_of
from rating.retell.remaining import remaining
from rating.retell.retold import Retold
from rating.retell.series import TooManyMoments, spend_series, windows_of
from rating.retell.service import Retellings
from rating.spend.app import Query, question
from rating.spend.parameters import Parameters, Problem, invalid
from rating.spend.store import SpendStore
from rating.spend.usage_http import answer_usage, read_usage
from rating.spend.view import SpendView
from rating.spend.windows import UNITS, Unit
from schemas.times import TimeError, format_time, parse_time

QUESTIONS = ("bill", "remaining", "forecast", "compare", "series")
"""The last part of the paths below a customer that this package answers."""
_PAST = (b"as_of=", b"as_known_at=")

Answer = Callable[[Retold], Any]
"""What an engine's state comes to: a Struct."""


def retell_routes(retellings: Retellings) -> list[BaseRoute]:
    """The routes."""
    readers = {"bill": _bill, "remaining": _remaining, "forecast": _forecast, "compare": _compare, "series": _series}
    found: list[BaseRoute] = []
    for name, read in {**readers, "spend": _spend, "usage": _usage}.items():
        path = "/v1/customers/{customer:path}/" + name
        route = question(retellings.view, path, _reader(read, retellings), "both", retellings.ask)
        found.append(route if name in readers else _OfThePast(route))
    return found


class _OfThePast(BaseRoute):
    """A route that is taken only where a past moment is asked for."""

    def __init__(self, route: Route) -> None:
        self._route = route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As the route, or not at all."""
        query = scope.get("query_string", b"").split(b"&")
        asked = any(part.startswith(_PAST) for part in query)
        return self._route.matches(scope) if asked else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Any, send: Any) -> None:
        """Answers the request."""
        await self._route.handle(scope, receive, send)


Read = Callable[[Parameters, Retellings], Query]


def _reader(read: Read, retellings: Retellings) -> Callable[[Parameters, SpendView], Query]:
    return lambda parameters, _: read(parameters, retellings)


def _who(parameters: Parameters) -> tuple[str, str]:
    return parameters.tenant, parameters.path["customer"]


def read_moment(parameters: Parameters) -> Moment:
    """The two times of a question. Raises: Problem."""
    return Moment(parameters.time("as_of"), parameters.time("as_known_at"))


def _telling(parameters: Parameters, retellings: Retellings, answer: Answer) -> Query:
    """A question about one customer's engine, with the moment that it is about."""
    (tenant, customer), moment = _who(parameters), read_moment(parameters)

    def query(_: SpendStore) -> Mapping[str, Any]:
        with retellings.told(tenant, customer, moment) as retold:
            return {**msgspec.to_builtins(answer(retold)), **_shown(moment)}

    return query


def _shown(moment: Moment) -> dict[str, str]:
    times = {"as_of": moment.as_of, "as_known_at": moment.known_at}
    return {name: format_time(time) for name, time in times.items() if time is not None}


def _bill(parameters: Parameters, retellings: Retellings) -> Query:
    closing = parameters.choice("closing", CLOSINGS, "end")
    return _telling(parameters, retellings, lambda retold: draft_bill(retold, closing))  # type: ignore[arg-type]


def _remaining(parameters: Parameters, retellings: Retellings) -> Query:
    return _telling(parameters, retellings, remaining)


def _forecast(parameters: Parameters, retellings: Retellings) -> Query:
    method = parameters.choice("method", METHODS, "auto") or "auto"

    def answer(retold: Retold) -> Any:
        try:
            return forecast(retold, method)
        except HistoryTooShort as error:
            raise Problem(422, "History too short", "history_too_short", f"method: {error}") from None

    return _telling(parameters, retellings, answer)


def _compare(parameters: Parameters, retellings: Retellings) -> Query:
    (tenant, customer), moment = _who(parameters), read_moment(parameters)
    period = _choice(parameters, "period", CURRENT)
    other = _choice(parameters, "with", PREVIOUS)

    def query(_: SpendStore) -> Mapping[str, Any]:
        def past(as_of: int) -> Retold:
            with retellings.told(tenant, customer, moment._replace(as_of=as_of)) as then:
                return then

        with retellings.told(tenant, customer, moment) as retold:
            mine = retold.copy()
        found = compare(mine, period, other, past)
        return {"customer": customer, "comparisons": msgspec.to_builtins(found), **_shown(moment)}

    return query


def _series(parameters: Parameters, retellings: Retellings) -> Query:
    (tenant, customer), moment = _who(parameters), read_moment(parameters)
    unit = cast(Unit, parameters.choice("window", UNITS, "day"))
    zone, first, last = parameters.zone("timezone"), parameters.time("from"), parameters.time("to")
    if first is not None and last is not None and first > last:
        raise invalid("from", "found a time after `to`, expected one at or before it")

    def query(_: SpendStore) -> Mapping[str, Any]:
        def past(as_of: int) -> Retold:
            with retellings.told(tenant, customer, moment._replace(as_of=as_of)) as then:
                return then

        with retellings.told(tenant, customer, moment) as retold:
            try:
                windows = windows_of(retold, unit, zone, first, last)
            except TooManyMoments as error:
                raise Problem(422, "Too many windows", "too_many_windows", str(error)) from None
        found = spend_series(windows, past)
        return {"customer": customer, "window": unit, "timezone": zone, "series": found, **_shown(moment)}

    return query


def _choice(parameters: Parameters, name: str, default: str) -> Choice:
    found = parameters.text(name, default) or default
    if found in (CURRENT, PREVIOUS):
        return found
    try:
        return parse_time(found)
    except TimeError:
        raise invalid(name, f"found {found!r}, expected current, previous or the start of a period") from None


def _spend(parameters: Parameters, retellings: Retellings) -> Query:
    (tenant, customer), moment, period = _who(parameters), read_moment(parameters), parameters.period()

    def query(_: SpendStore) -> Mapping[str, Any]:
        with retellings.told(tenant, customer, moment) as retold:
            found = msgspec.structs.asdict(spend_of(retold, period))
        # Of spend itself `as_of` says up to which event it goes: where a moment was asked for, the moment.
        return {**found, **_shown(moment)}

    return query


def _usage(parameters: Parameters, retellings: Retellings) -> Query:
    (tenant, customer), moment = _who(parameters), read_moment(parameters)
    asked = read_usage(parameters, tenant, retellings.view.partitions, customer)
    last = [time for time in (asked.question.last, moment.as_of) if time is not None]
    asked = msgspec.structs.replace(asked, question=asked.question._replace(last=min(last, default=None)))

    def query(store: SpendStore) -> Mapping[str, Any]:
        def newest() -> int | None:
            with retellings.told(tenant, customer, moment) as retold:
                return retold.now if retold.now > 0 else None

        catalogue = catalogue_at(store, tenant, asked.partition or 0, moment)
        return {**answer_usage(store, asked, catalogue, moment.known_at, newest), **_shown(moment)}

    return query

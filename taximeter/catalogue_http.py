"""The catalogue over HTTP: every kind of document under its own path, the catalogue as a whole, and simulations.

A document is written with PUT and read with GET; it has a version, which is also its `ETag`. What would take force is
checked against everything in force, and refused whole with every fault. Documents are never deleted.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from ingest.app import Disconnected
from ingest.content import BodyRefused
from rating.retell.http import QUESTIONS
from rating.spend.app import OF_CUSTOMER
from rating.spend.parameters import LIMIT_DEFAULT, LIMIT_MAX, Parameters, Problem, invalid
from schemas.catalogue import KINDS, Catalogue, CatalogueError, Filed
from schemas.faults import MISSING, Faults, describe, encode_document, read
from schemas.identity import IDENTIFIER
from schemas.limits import CATALOGUE_BYTES_MAX, DOCUMENT_BYTES_MAX
from schemas.plain import read_plain
from streams.log import LogUnavailable, encode_position
from taximeter.bodies import read_document
from taximeter.documents import DEFAULT_SUBSCRIPTION, Applied, CatalogueInForce, Catalogues, Change, Write, owner_of
from taximeter.plain import differences
from taximeter.simulate_http import Simulations

SEGMENTS: Final = {kind.replace("_", "-"): kind for kind in KINDS}
"""Segment of the path -> kind of document."""

_LOG = logging.getLogger(__name__)
_ALL: Final = ("GET", "HEAD", "PUT", "POST", "PATCH", "DELETE")
_FAULTS_MAX: Final = 1_000
_CHANGES_MAX: Final = 1_000
_FLAGS: Final = ("true", "false")
_RETRY_AFTER: Final = {"retry-after": "1"}
_STAYS: Final = (
    "documents stay in force, because what has been billed by them must be explained: end a subscription by its `end`, "
    "a credit grant by `expires_at`, and leave out of a price book's next version what it no longer asks"
)

Answer = Callable[[Request], Awaitable[Response]]


class CatalogueApi:
    """The routes. `write` brings a change onto the log; `catch_up` waits for what other processes have changed."""

    def __init__(
        self, catalogues: Catalogues, write: Write, catch_up: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        self._catalogues = catalogues
        self._write = write
        self._catch_up = catch_up
        self._simulations = Simulations(catalogues)

    def routes(self) -> list[BaseRoute]:
        """To be mounted before the queries' routes: a customer's id is told from its `/spend` by the raw path."""
        found: list[BaseRoute] = []
        for segment, kind in SEGMENTS.items():
            found.append(Route(f"/v1/{segment}", self._listing(kind), methods=["GET"]))
            found.append(_DocumentRoute(f"/v1/{segment}/", guarded(self._document(kind))))
        only = {"id": "default", "versions": False}
        single = self._document(DEFAULT_SUBSCRIPTION)
        for path, given in (("", only), ("/versions", only | {"versions": True})):
            found.append(Route(f"/v1/default-subscription{path}", guarded(_given(single, given)), methods=_ALL))
        found.append(Route("/v1/catalogue", guarded(self._whole), methods=_ALL))
        found.append(Route("/v1/simulate", guarded(self._simulations.answer), methods=["POST"]))
        return found

    # One document -------------------------------------------------------------------------------

    def _document(self, kind: str) -> Answer:
        async def answer(request: Request) -> Response:
            id, versions = request.path_params["id"], request.path_params["versions"]
            if versions:
                _allow(request, "GET")
                return self._versions(request, kind, id)
            _allow(request, "GET", "PUT")
            if request.method == "PUT":
                return await self._put(request, kind, id)
            return self._get(request, kind, id)

        return answer

    def _get(self, request: Request, kind: str, id: str) -> Response:
        parameters = Parameters(request)
        asked = parameters.whole("version", 0, 1, 2**31) if parameters.text("version") else 0
        parameters.finish()
        versions = self._known(parameters, kind, id)
        found = {filed.version: filed for filed in versions}.get(asked) if asked else versions[-1]
        if found is None:
            kept = f"{versions[0].version} to {versions[-1].version}"
            raise Problem(404, "Unknown version", "unknown_version", f"version: found {asked}, expected one of {kept}")
        tag = _tag(found)
        if _matches(request, "if-none-match", tag):
            return Response(None, 304, {"etag": tag})
        return _json(200, _shown(found), {"etag": tag})

    def _versions(self, request: Request, kind: str, id: str) -> Response:
        parameters = Parameters(request)
        parameters.finish()
        versions = self._known(parameters, kind, id)
        shown = []
        for before, filed in zip([None, *versions], versions, strict=False):
            one: dict[str, Any] = {"version": filed.version, "changed": filed.changed}
            if before is not None:
                one["changes"] = _changes(before, filed)
            shown.append(one)
        return _json(200, {"kind": kind, "id": id, "versions": shown[::-1]})

    def _known(self, parameters: Parameters, kind: str, id: str) -> list[Filed]:
        versions = self._catalogues.of(parameters.tenant).versions(kind, id)
        if not versions:
            raise Problem(404, "Unknown document", "unknown_document", f"{kind}: found no document {id[:128]!r}")
        return versions

    async def _put(self, request: Request, kind: str, id: str) -> Response:
        parameters = Parameters(request)
        dry_run = parameters.choice("dry_run", _FLAGS) == "true"
        parameters.finish()
        if not IDENTIFIER.match(id):
            raise invalid("id", f"found {id[:128]!r}, expected 1 to 128 letters, digits and . _ - : @ /")
        fresh = _catalogue_with(kind, id, await read_document(request, DOCUMENT_BYTES_MAX))
        await self._caught_up()
        in_force = self._catalogues.of(parameters.tenant)

        def expect() -> None:
            found = in_force.get(kind, id)
            _check_preconditions(request, None if found is None else _tag(found))

        try:
            applied = await in_force.apply(fresh, self._write, expect, dry_run)
        except CatalogueError as error:
            raise _refused(_faults_within(error.faults, fresh, in_force.catalogue)) from None
        (change,) = applied.changes
        status = 201 if change.change == "created" and not dry_run else 200
        body = {**_said(change), "document": change.now.document, **_outcome(applied, dry_run)}
        return _json(status, body, {} if dry_run else {"etag": _tag(change.now)})

    async def _caught_up(self) -> None:
        if self._catch_up is not None:
            await self._catch_up()

    # Many ---------------------------------------------------------------------------------------

    def _listing(self, kind: str) -> Answer:
        async def answer(request: Request) -> Response:
            parameters = Parameters(request)
            limit = parameters.whole("limit", LIMIT_DEFAULT, 1, LIMIT_MAX)
            after = parameters.text("after") or ""
            parameters.finish()
            in_force = self._catalogues.of(parameters.tenant)
            ids = [id for id in in_force.ids(kind) if id > after]
            found = (in_force.get(kind, id) for id in ids[:limit])
            rows = [_shown(filed) for filed in found if filed is not None]
            return _json(200, {kind: rows, "next_after": ids[limit - 1] if len(ids) > limit else None})

        return guarded(answer)

    async def _whole(self, request: Request) -> Response:
        _allow(request, "GET", "PUT")
        if request.method == "PUT":
            return await self._put_whole(request)
        parameters = Parameters(request)
        parameters.finish()
        in_force = self._catalogues.of(parameters.tenant)
        catalogue, tag = in_force.catalogue, f'"{in_force.tag}"'
        if _matches(request, "if-none-match", tag):
            return Response(None, 304, {"etag": tag})
        versions: dict[str, Any] = {kind: _versions_of(in_force, kind) for kind in KINDS if getattr(catalogue, kind)}
        default = in_force.get(DEFAULT_SUBSCRIPTION, "default")
        if default is not None:
            versions[DEFAULT_SUBSCRIPTION] = default.version
        return _json(200, {"catalogue": catalogue, "versions": versions}, {"etag": tag})

    async def _put_whole(self, request: Request) -> Response:
        parameters = Parameters(request)
        dry_run = parameters.choice("dry_run", _FLAGS) == "true"
        parameters.finish()
        faults = Faults()
        value = await read_document(request, CATALOGUE_BYTES_MAX)
        fresh = read(Catalogue, {} if value is None else value, "", faults)
        if fresh is MISSING:
            raise _refused([{"path": fault.path, "message": fault.message} for fault in faults])
        await self._caught_up()
        in_force = self._catalogues.of(parameters.tenant)

        def expect() -> None:
            _check_preconditions(request, f'"{in_force.tag}"')

        try:
            applied = await in_force.apply(fresh, self._write, expect, dry_run)
        except CatalogueError as error:
            raise _refused([{"path": fault.path, "message": fault.message} for fault in error.faults]) from None
        changed = [_said(change) for change in applied.changes if change.change != "unchanged"]
        body = {"documents": changed, "unchanged": len(applied.changes) - len(changed), **_outcome(applied, dry_run)}
        return _json(200, body, {} if dry_run else {"etag": f'"{in_force.tag}"'})


# Paths --------------------------------------------------------------------------------------------


class _DocumentRoute(BaseRoute):
    """`prefix` and an id, slashes included, percent-encoded or plain; then perhaps a plain `/versions`.

    A plain `/spend` (or another of `OF_CUSTOMER`) behind a customer is left to the queries; as a part of an id it is
    percent-encoded.
    """

    def __init__(self, prefix: str, answer: Answer) -> None:
        self._prefix = prefix
        self._answer = answer
        self._others = (*OF_CUSTOMER, *QUESTIONS) if prefix == "/v1/customers/" else ()

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Every method: which of them are taken is answered with an explanation."""
        if scope["type"] != "http":
            return Match.NONE, {}
        raw = (scope.get("raw_path") or quote(scope["path"]).encode()).decode("latin-1").partition("?")[0]
        rest = raw.removeprefix(self._prefix)
        if not rest or rest == raw:
            return Match.NONE, {}
        front, slash, last = rest.rpartition("/")
        if slash and last in self._others:
            return Match.NONE, {}
        versions = bool(slash) and last == "versions"
        found = {"id": unquote(front if versions else rest), "versions": versions}
        return Match.FULL, {"endpoint": self, "path_params": found}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the request."""
        response = await self._answer(Request(scope, receive))
        await response(scope, receive, send)


def _given(answer: Answer, path_params: Mapping[str, Any]) -> Answer:
    async def with_them(request: Request) -> Response:
        request.scope["path_params"] = dict(path_params)
        return await answer(request)

    return with_them


def guarded(answer: Answer) -> Answer:
    """The answer, or the problem that kept it from being given."""

    async def guarded(request: Request) -> Response:
        try:
            return await answer(request)
        except Problem as problem:
            allow = problem.body.pop("allow", None)
            return _problem(problem, {"allow": str(allow)} if allow else {})
        except BodyRefused as refused:
            return _problem(Problem(refused.status, "Body refused", refused.code, refused.detail))
        except LogUnavailable as error:
            detail = f"nothing of this request was promised, send it again: {error}"
            return _problem(Problem(503, "Service Unavailable", "unavailable", detail), _RETRY_AFTER)
        except Disconnected:
            return Response(None, 400)
        except Exception as error:
            _LOG.exception("no answer to %s", getattr(request.scope.get("route"), "path", "a request"))
            return _problem(Problem(500, "Internal error", "internal_error", f"{type(error).__name__}: {error}"))

    return guarded


def _allow(request: Request, *methods: str) -> None:
    if request.method in methods or (request.method == "HEAD" and "GET" in methods):
        return
    allow = ", ".join(methods)
    why = f": {_STAYS}" if request.method == "DELETE" else ""
    detail = f"{request.method} is not allowed here, expected {allow}{why}"
    raise Problem(405, "Method Not Allowed", "method_not_allowed", detail, allow=allow)


# Preconditions ------------------------------------------------------------------------------------


def _tag(filed: Filed) -> str:
    return f'"{filed.version}"'


def _matches(request: Request, name: str, tag: str | None) -> bool:
    """Whether one of a header's entity tags is that of what is in force; `*` is any."""
    value = request.headers.get(name)
    if value is None or tag is None:
        return False
    tags = [one.strip().removeprefix("W/") for one in value.split(",")]
    return "*" in tags or tag in tags or tag.strip('"') in tags


def _check_preconditions(request: Request, tag: str | None) -> None:
    """Raises: Problem (412) where what is in force is not what the client says that it knows."""
    found = "nothing" if tag is None else f"version {tag}"
    if (asked := request.headers.get("if-match")) is not None and not _matches(request, "if-match", tag):
        detail = f"If-Match: found {found} in force, expected {asked[:80]}: read it again, and change that"
        raise Problem(412, "Precondition Failed", "version_mismatch", detail)
    if (asked := request.headers.get("if-none-match")) is not None and _matches(request, "if-none-match", tag):
        detail = f"If-None-Match: found {found} in force, expected none of {asked[:80]}"
        raise Problem(412, "Precondition Failed", "version_mismatch", detail)


# Bodies -------------------------------------------------------------------------------------------


def _catalogue_with(kind: str, id: str, value: Any) -> Catalogue:
    """A catalogue of one document. Raises: Problem with every fault in its form."""
    faults = Faults()
    plain = {DEFAULT_SUBSCRIPTION: value} if kind == DEFAULT_SUBSCRIPTION else {kind: {id: value}}
    if not isinstance(value, dict):
        raise _refused([{"path": "", "message": f"found {describe(value)}, expected a mapping"}])
    catalogue = read(Catalogue, plain, "", faults)
    if catalogue is MISSING:
        lead = kind if kind == DEFAULT_SUBSCRIPTION else f"{kind}.{id}"
        raise _refused([{"path": f.path.removeprefix(lead).removeprefix("."), "message": f.message} for f in faults])
    found: Catalogue = catalogue
    return found


def _faults_within(faults: Faults, fresh: Catalogue, in_force: Catalogue) -> list[dict[str, str]]:
    """Faults with their path inside the document sent; those in other documents name that one."""
    found = []
    for fault in faults:
        own, other = owner_of(fault.path, fresh), owner_of(fault.path, in_force)
        if own is not None:
            found.append({"path": own[2], "message": fault.message})
        elif other is not None:
            found.append({"document": f"{other[0]}/{other[1]}", "path": other[2], "message": fault.message})
        else:
            found.append({"document": fault.path, "path": "", "message": fault.message})
    return found


def _refused(faults: Sequence[dict[str, str]]) -> Problem:
    first = faults[0]
    where = ": ".join(filter(None, (first.get("document"), first["path"]))) or "(document)"
    more = "" if len(faults) == 1 else f" (and {len(faults) - 1} more)"
    detail = f"{where}: {first['message']}{more}"
    return Problem(422, "Catalogue refused", "invalid_catalogue", detail, faults=list(faults[:_FAULTS_MAX]))


# Answers ------------------------------------------------------------------------------------------


def _versions_of(in_force: CatalogueInForce, kind: str) -> dict[str, int | None]:
    found = ((id, in_force.get(kind, id)) for id in getattr(in_force.catalogue, kind))
    return {id: filed.version for id, filed in found if filed is not None}


def _shown(filed: Filed) -> dict[str, Any]:
    return {
        "kind": filed.kind,
        "id": filed.id,
        "version": filed.version,
        "changed": filed.changed,
        "document": filed.document,
    }


def _said(change: Change) -> dict[str, Any]:
    now = change.now
    said: dict[str, Any] = {"kind": now.kind, "id": now.id, "version": now.version, "change": change.change}
    if change.change == "changed" and change.before is not None:
        said["changes"] = _changes(change.before, now)
    return said


def _changes(before: Filed, after: Filed) -> list[dict[str, Any]]:
    was, now = (read_plain(bytes(filed.document), Faults()) for filed in (before, after))
    return differences(was, now)[:_CHANGES_MAX]


def _outcome(applied: Applied, dry_run: bool) -> dict[str, Any]:
    return {"dry_run": True} if dry_run else {"position": encode_position(applied.position)}


def _problem(problem: Problem, headers: dict[str, str] | None = None) -> Response:
    body = msgspec.json.encode(problem.body)
    return Response(body, problem.status, headers, "application/problem+json")


def _json(status: int, body: Mapping[str, Any], headers: dict[str, str] | None = None) -> Response:
    return Response(encode_document(body), status, headers, "application/json")

"""What stands in front of the routes in these tests: who asks is what a request's headers say."""

from starlette.types import ASGIApp, Receive, Scope, Send

from schemas.access import DEFAULT_TENANT, SCOPE_NAME, Access


class Front:
    """`as-tenant`: whose request it is; `as-key`: the id of the key that it came with, none by default."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            tenant = headers.get("as-tenant", DEFAULT_TENANT)
            scope = {**scope, SCOPE_NAME: Access(tenant=tenant, key=headers.get("as-key"))}
        await self._app(scope, receive, send)

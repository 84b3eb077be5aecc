"""Bills every call of an ASGI application (Starlette, FastAPI, Quart, Django): who called, what, how much came back.

Try it: `taximeter serve --catalogue examples/api.yaml`, then
`uvicorn --factory examples.asgi_middleware:make_app --port 9000` and `curl -H 'x-customer: acme' localhost:9000/hello`.
"""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from taximeter import AsyncClient

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]


class Metered:
    """Records an `api.call` when a response has ended. A call without the header `x-customer` is not billed."""

    def __init__(self, app: Application, client: AsyncClient) -> None:
        self._app = app
        self._client = client

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        customer = headers.get(b"x-customer", b"").decode("latin-1")
        if scope["type"] != "http" or not customer:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status, size = 500, 0

        async def counted(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            # Does not wait: the client sends it with others, again and again if it must.
            self._client.record(
                "api.call",
                subject=customer,
                data={
                    "path": scope["path"],
                    "method": scope["method"],
                    "status": status,
                    "bytes": size,
                    "ms": round((time.perf_counter() - began) * 1000),
                },
            )


async def hello(request: Request) -> PlainTextResponse:
    """Something worth paying for."""
    return PlainTextResponse("hello\n")


def make_app(url: str = "", **options: Any) -> Application:
    """The application, metered. `options`: those of the client, such as `buffer="unsent"`."""
    client = AsyncClient(url or os.environ.get("TAXIMETER_URL", "http://127.0.0.1:8080"), source="api", **options)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with client:  # sends what is left when the server stops
            yield

    return Metered(Starlette(routes=[Route("/hello", hello)], lifespan=lifespan), client)

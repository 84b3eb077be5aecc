"""The routes for people and machines that watch: `GET /metrics`, `GET /v1/status`."""

import asyncio
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from taximeter.metrics import CONTENT_TYPE, Measured, render

STATUS_PATH = "/v1/status"
METRICS_PATH = "/metrics"


def watch_routes(measure: Callable[[], Measured]) -> list[Route]:
    """`measure` may read the log: it is called in a thread."""

    async def metrics(_: Request) -> Response:
        return Response(await asyncio.to_thread(lambda: render(measure())), media_type=CONTENT_TYPE)

    async def status(_: Request) -> Response:
        found = await asyncio.to_thread(measure)
        return Response(msgspec.json.encode(found.status), media_type="application/json")

    return [Route(METRICS_PATH, metrics, methods=["GET"]), Route(STATUS_PATH, status, methods=["GET"])]

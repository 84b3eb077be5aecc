"""`/openapi.json`, and `/docs`: a page to read and try it, whose files all come from here."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from taximeter.openapi.document import make_document
from taximeter.openapi.operations import OPERATIONS

_FILES: Final = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
_PAGE: Final = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Taximeter API</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START: Final = (
    b'SwaggerUIBundle({url: "openapi.json", dom_id: "#page", deepLinking: true, tryItOutEnabled: true,'
    b" persistAuthorization: true, validatorUrl: null});\n"
)
_HEADERS: Final = {
    "cache-control": "max-age=3600",
    "content-security-policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'",
}


def openapi_routes(served: Callable[[], Sequence[BaseRoute]]) -> list[Route]:
    """The routes. `served`: all routes of the application, once it is made."""

    @lru_cache(maxsize=1)
    def document() -> bytes:
        return orjson.dumps(make_document(OPERATIONS, served()))

    async def show(_: Request) -> Response:
        return Response(document(), media_type="application/json")

    async def page(_: Request) -> Response:
        return Response(_PAGE, media_type="text/html", headers=_HEADERS)

    async def start(_: Request) -> Response:
        return Response(_START, media_type="text/javascript", headers=_HEADERS)

    return [
        Route("/openapi.json", show, methods=["GET"]),
        Route("/docs", page, methods=["GET"]),
        Route("/docs/start.js", start, methods=["GET"]),
        *(Route(f"/docs/{name}", _file(name, media), methods=["GET"]) for name, media in _FILES.items()),
    ]


def _file(name: str, media: str) -> Callable[[Request], Response]:
    def answer(_: Request) -> Response:
        return Response(_read(name), media_type=media, headers=_HEADERS)

    return answer


@lru_cache(maxsize=8)
def _read(name: str) -> bytes:
    return (files("swagger_ui") / "static" / name).read_bytes()

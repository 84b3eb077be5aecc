"""Request bodies that hold documents: JSON or YAML, of a bounded size, gzip too."""

import asyncio
from typing import Any, Final

from starlette.requests import Request

from ingest.app import read_body
from ingest.content import BodyRefused, inflate, too_large
from schemas.faults import MISSING, Faults
from schemas.limits import YAML_BYTES_MAX
from schemas.plain import read_json, read_plain

_YAML: Final = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
_JSON: Final = ("application/json",)


async def read_text(request: Request, bytes_max: int, types: tuple[str, ...] = (*_JSON, *_YAML)) -> bytes:
    """The body's text. Raises: BodyRefused (413, 415, 400 for a broken encoding), Disconnected."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type not in types and not media_type.endswith("+json"):
        detail = f"found the content type {media_type!r}, expected {', '.join(types)}"
        raise BodyRefused(415, "unsupported_media_type", detail)
    body = await read_body(request.scope, request.receive, bytes_max)
    return inflate(body, request.scope["headers"], bytes_max)


async def read_document(request: Request, bytes_max: int) -> Any:
    """The plain value of a JSON or YAML body. Raises: BodyRefused, Disconnected."""
    text = await read_text(request, bytes_max)
    faults = Faults()
    json = "json" in request.headers.get("content-type", "")
    if not json and len(text) > YAML_BYTES_MAX:
        raise too_large(YAML_BYTES_MAX)
    value = await asyncio.to_thread(read_json if json else read_plain, text, faults)
    if value is MISSING:
        place, message = faults[0]
        raise BodyRefused(400, "invalid_document", f"{place}: {message}" if place else message)
    return value

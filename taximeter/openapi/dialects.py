"""The doors of other systems: which methods and paths are there. What goes in and out is their own documentation's.

Read from the mounted routes, so that nothing is served unsaid.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from starlette.routing import BaseRoute, Mount, Route

_TAGS: Final = {"/openmeter": "OpenMeter", "/lago": "Lago", "/stripe": "Stripe"}
_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_ABOUT: Final = "As {name} has it: its own clients work with this prefix as the base URL (docs/compat.md)."


def dialect_paths(routes: Iterable[BaseRoute]) -> dict[str, dict[str, Any]]:
    """Path -> method -> operation, of every mounted dialect."""
    found: dict[str, dict[str, Any]] = {}
    for prefix, route in _routes(routes):
        path = prefix + _PARAMETER.sub(r"{\1}", route.path)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            found.setdefault(path, {})[method.lower()] = _operation(_TAGS[prefix], method, path)
    return found


def _routes(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, Route]]:
    for mount in routes:
        if isinstance(mount, Mount) and mount.path in _TAGS:
            for route in mount.routes:
                if isinstance(route, Route):
                    yield mount.path, route


def _operation(name: str, method: str, path: str) -> dict[str, Any]:
    words = [word for word in re.split(r"\W+", path) if word]
    found: dict[str, Any] = {
        "operationId": method.lower() + "".join(word[0].upper() + word[1:] for word in words),
        "summary": f"{method} {path}",
        "description": _ABOUT.format(name=name),
        "tags": [name],
        "parameters": [
            {"name": parameter, "in": "path", "required": True, "schema": {"type": "string"}}
            for parameter in _PARAMETER.findall(path)
        ],
        "responses": {
            "2XX": {"description": "Done."},
            "default": {"description": f"Refused, or not now, in the form that {name}'s clients read."},
        },
        "security": [{"key": []}, {}],
    }
    if method in ("POST", "PUT", "PATCH"):
        found["requestBody"] = {"content": {"*/*": {"schema": {}}}}
    return found

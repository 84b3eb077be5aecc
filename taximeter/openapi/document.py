"""Operations -> the OpenAPI document of what one process serves."""

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Final

import msgspec
from starlette.routing import BaseRoute, Match

from ingest.app import Problem
from taximeter.openapi.dialects import dialect_paths
from taximeter.openapi.operation import Content, Operation, Parameter

PROBLEMS: Final = {
    500: "A fault of ours; it is in the log.",
    400: "Something in the request is wrong; `detail` names it, says what was found and what was expected.",
    401: "No key, or one that is unknown, has expired or was revoked.",
    403: "The key is not for this: another scope, or another tenant.",
    404: "No such thing.",
    405: "Another method is expected.",
    408: "The request did not come in time.",
    409: "It stands in contradiction to what is there.",
    410: "What it would take to answer is no longer kept; `detail` says what is.",
    412: "`If-Match` or `If-None-Match` does not hold.",
    413: "Too large, or too many.",
    415: "Another content type, charset or encoding is expected.",
    422: "Understood, and refused, with every reason.",
    429: "More than this tenant's rate. `Retry-After` says when to come again.",
    501: "Not here: `detail` says where.",
    503: "Nothing was promised. `Retry-After` says when to send the same again.",
    504: "The position was not reached in time.",
}
_PROBLEM_TYPE: Final = "application/problem+json"
_NAMES: Final = re.compile(r"\{(\w+)\}")
_ABOUT: Final = """Usage metering and real-time rating.

Send usage events to `/v1/events`; ask what they have come to under `/v1/customers/{customer}/…`. Every answer about
spend and usage says in `through` up to which position of the log it is true, and takes `position` (the token that the
door's answer gave) to wait for. Decimals are texts, exact; times are RFC 3339 in UTC. Errors: RFC 9457."""


def make_document(operations: Iterable[Operation], routes: Sequence[BaseRoute]) -> dict[str, Any]:
    """The document of those operations that the routes serve."""
    served = [operation for operation in operations if is_served(operation, routes)]
    types = list(dict.fromkeys(kind for operation in served for kind in _types_of(operation)))
    _, components = msgspec.json.schema_components([Problem, *types], ref_template="#/components/schemas/{name}")
    # A problem has members of its own beside those that all have, and where no part of the program speaks, no `code`.
    components["Problem"]["additionalProperties"] = True
    components["Problem"]["required"] = [name for name in components["Problem"]["required"] if name != "code"]
    paths: dict[str, dict[str, Any]] = {}
    for operation in served:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    dialects = dialect_paths(routes)
    tags = [operation.tag for operation in served] + [
        one["tags"][0] for path in dialects.values() for one in path.values()
    ]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Taximeter",
            "version": version("taximeter"),
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(tags)],
        "paths": paths | dialects,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key. On a loopback address the server may be open.",
                }
            },
        },
    }


def is_served(operation: Operation, routes: Sequence[BaseRoute]) -> bool:
    """Whether some route takes the operation's method on its path."""
    path = operation.sample or _NAMES.sub(r"\1", operation.path)
    scope = {"type": "http", "method": operation.method.upper(), "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


def _operation(operation: Operation) -> dict[str, Any]:
    names = {parameter.name for parameter in operation.parameters if parameter.where == "path"}
    unsaid = [name for name in _NAMES.findall(operation.path) if name not in names]
    if unsaid:
        raise ValueError(f"{operation.id}: the path's {unsaid[0]!r} is not among its parameters")
    found: dict[str, Any] = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": {
            str(status): _answer(answer.description, answer.content) for status, answer in operation.answers.items()
        },
    }
    if operation.description:
        found["description"] = operation.description
    if operation.body is not None:
        found["requestBody"] = {"content": _content(operation.body), "required": True}
    guarded = () if operation.scope is None else (401, 403, 429)
    for status in sorted({*operation.problems, *guarded}):
        found["responses"].setdefault(str(status), _answer(PROBLEMS[status], Content({_PROBLEM_TYPE: Problem})))
    if operation.scope is not None:
        found["security"] = [{"key": []}, {}]
        found["x-scope"] = operation.scope
    return found


def _parameter(parameter: Parameter) -> dict[str, Any]:
    found = {
        "name": parameter.name,
        "in": parameter.where,
        "description": parameter.description,
        "schema": {"type": "array", "items": parameter.schema} if parameter.repeated else _schema(parameter.schema),
        "required": parameter.required or parameter.where == "path",
    }
    return found | ({"style": "form", "explode": True} if parameter.repeated else {})


def _answer(description: str, content: Content | None) -> dict[str, Any]:
    return {"description": description} | ({} if content is None else {"content": _content(content)})


def _content(content: Content) -> dict[str, Any]:
    example = {} if content.example is None else {"example": content.example}
    return {media: {"schema": _schema(schema), **example} for media, schema in content.types.items()}


def _schema(schema: Any) -> Any:
    if isinstance(schema, type):
        return {"$ref": f"#/components/schemas/{schema.__name__}"}
    if isinstance(schema, Mapping):
        return {name: _schema(value) for name, value in schema.items()}
    return [_schema(value) for value in schema] if isinstance(schema, list) else schema


def _types_of(operation: Operation) -> Iterable[type]:
    bodies = [operation.body, *(answer.content for answer in operation.answers.values())]
    for body in bodies:
        if body is not None:
            for schema in body.types.values():
                yield from _types_in(schema)


def _types_in(schema: Any) -> Iterable[type]:
    if isinstance(schema, type):
        yield schema
    elif isinstance(schema, Mapping | list):
        for value in schema.values() if isinstance(schema, Mapping) else schema:
            yield from _types_in(value)

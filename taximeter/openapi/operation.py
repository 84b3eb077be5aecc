"""The words in which an operation is described, and the small language of schemas that they use.

A schema is a plain JSON Schema (2020-12), or a class of ours, which stands as a reference to its component.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from schemas.access import KeyScope

Schema = Any
"""A mapping (JSON Schema) or a class (msgspec.Struct)."""

TEXT: Final = {"type": "string"}
MAYBE_TEXT: Final = {"type": ["string", "null"]}
WHOLE: Final = {"type": "integer"}
YES_NO: Final = {"type": "boolean"}
TIME: Final = {"type": "string", "format": "date-time"}
DECIMAL: Final = {"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "description": "An exact decimal."}
ANYTHING: Final[dict[str, Any]] = {}
OBJECT: Final = {"type": "object"}
ID: Final = {"type": "string", "minLength": 1, "maxLength": 128, "pattern": r"^[A-Za-z0-9._\-:@/]+$"}


def listed(items: Schema) -> Schema:
    """An array of these."""
    return {"type": "array", "items": items}


def one_of(*values: str) -> Schema:
    """A text out of a closed list."""
    return {"type": "string", "enum": list(values)}


def whole(least: int, most: int, default: int | None = None) -> Schema:
    """A whole number within bounds."""
    found: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    return found if default is None else found | {"default": default}


def members(**schemas: Schema) -> Schema:
    """An object that has these members, all of them."""
    return {"type": "object", "properties": schemas, "required": list(schemas)}


def some(**schemas: Schema) -> Schema:
    """An object that may have these members and no others."""
    return {"type": "object", "properties": schemas, "additionalProperties": False}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a query, a path or a header. `repeated`: it may stand several times."""

    name: str
    schema: Schema
    description: str
    where: Literal["query", "path", "header"] = "query"
    required: bool = False
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Content:
    """A body: media type -> schema; with an example, where one helps."""

    types: Mapping[str, Schema]
    example: Any = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a status means, and the body that comes with it."""

    description: str
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `scope`: what a key must be for; None: no key is asked. `problems`: statuses that come
    with a problem.
    """

    method: Literal["get", "put", "post", "delete"]
    path: str
    id: str
    summary: str
    tag: str
    scope: KeyScope | None
    answers: Mapping[int, Answer]
    description: str = ""
    parameters: Sequence[Parameter] = ()
    body: Content | None = None
    problems: Sequence[int] = field(default=(400,))
    sample: str | None = None
    """A path that this operation's route matches; by default the path with its parameters' names as values."""


TENANT: Final = Parameter("tenant", ID, "Whose business; with a key it can only be the key's own.")


def json_answer(description: str, schema: Schema, example: Any = None) -> Answer:
    """An answer in JSON."""
    return Answer(description, Content({"application/json": schema}, example))

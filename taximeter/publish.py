"""Writes the published schemas: `python -m taximeter.publish`. A test fails where they have drifted from the code.

JSON Schema for every JSON document, made from the very classes that read and write them; Avro schemas of the outputs
that can stand in Avro; the packed batch's Arrow schema as text. A change that breaks a reader is a new version beside
the old one.
"""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from rating.prices import MODELS
from schemas import topics
from schemas.avro import schema_of
from schemas.catalogue import Catalogue, Charge, Filed
from schemas.event import UsageEvent, pack_schema
from schemas.output import Alert, Invoice, LineItem, ReconciliationAlert
from schemas.rejection import Rejection

FOLDER: Final = Path(__file__).parent.parent / "schemas" / "published"
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DOCUMENTS: Final[dict[str, Any]] = {
    "usage-event": UsageEvent,
    "line-item": LineItem,
    "invoice": Invoice,
    "alert": Alert,
    "reconciliation-alert": ReconciliationAlert,
    "rejection": Rejection,
    "catalogue": Catalogue,
    "catalogue-document": Filed,
}
_AVRO: Final = {"line-item": topics.LINE_ITEMS, "invoice": topics.INVOICES, "alert": topics.ALERTS}


def published() -> dict[str, bytes]:
    """File name -> content, of everything that is published."""
    files = {f"{name}.v1.json": _json(name, kind) for name, kind in _DOCUMENTS.items()}
    files |= {f"{name}.v1.avsc": _plain(schema_of(topic)) for name, topic in _AVRO.items()}
    files["events-pack.v1.txt"] = pack_schema("TENANT").to_string(show_schema_metadata=True).encode() + b"\n"
    return files


def _json(name: str, kind: Any) -> bytes:
    (reference,), definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    schema: dict[str, Any] = {"$schema": _DIALECT, "$id": f"urn:taximeter:{name}:1", **reference, "$defs": definitions}
    if kind is Catalogue:
        _add_prices(definitions)
        _everywhere(schema, _accept_numbers)
    if kind is UsageEvent:
        definitions["UsageEvent"]["additionalProperties"] = True
    _everywhere(schema, _tidy)
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def _plain(schema: Any) -> bytes:
    """Avro's own order: of a record's fields it has a meaning."""
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2) + b"\n"


def _add_prices(definitions: dict[str, Any]) -> None:
    """Each price model's own parameters, told apart by `model`."""
    choices = []
    for name, model in sorted(MODELS.items()):
        _, found = msgspec.json.schema_components([model], ref_template="#/$defs/{name}")
        definitions.update(found)
        own = definitions[model.__name__]
        own["properties"] = {"model": {"const": name}, **own["properties"]}
        own["required"] = ["model", *own.get("required", [])]
        choices.append({"$ref": f"#/$defs/{model.__name__}"})
    price = {"oneOf": choices}
    definitions[Charge.__name__]["properties"]["price"] = price
    for outer, inner in (("Matrix", "MatrixCell"), ("Schedule", "ScheduleWindow")):
        definitions[inner]["properties"]["price"] = price
        definitions[outer]["properties"]["otherwise"] = {"anyOf": [price, {"type": "null"}]}


def _accept_numbers(node: dict[str, Any]) -> None:
    if node.get("format") == "decimal":
        node["type"] = ["string", "number"]


def _tidy(node: dict[str, Any]) -> None:
    if isinstance(node.get("description"), str):
        node["description"] = inspect.cleandoc(node["description"])


def _everywhere(node: Any, change: Callable[[dict[str, Any]], None]) -> None:
    if isinstance(node, dict):
        change(node)
    for below in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _everywhere(below, change)


def main() -> None:
    """Writes every file, and names what has changed."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in published().items():
        path = FOLDER / name
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
            print(f"wrote {name}", file=sys.stderr)


if __name__ == "__main__":
    main()

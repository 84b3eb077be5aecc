"""What the engine of today says, and samples of it that are kept for ever: `python -m tests.published.sampling 2`.

The command writes `schemas/published/samples/v2/`: today's JSON Schemas, and real outputs in which every field has a
value, every kind stands and every null that there is anywhere in the golden cases. It is run once, when a new version
is published beside the old one; it overwrites nothing.
"""

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

from rating.reconcile import _alert
from schemas.output import Alert, Invoice, LineItem, ReconciliationAlert, decode_alert
from schemas.rejection import Rejection
from schemas.times import parse_time
from taximeter.publish import FOLDER, published
from taximeter.rate_file import rate_events
from tests.golden.golden import read_case

ROOT: Final = Path(__file__).resolve().parents[2]
KINDS: Final[dict[str, Any]] = {
    "line-item": LineItem,
    "invoice": Invoice,
    "alert": Alert,
    "reconciliation-alert": ReconciliationAlert,
    "rejection": Rejection,
}
"""What others read. What others write (events, catalogues) is tried by the tests of the door."""

_NAMED: Final = {"kind", "status", "code", "tiers[].channel"}
"""Fields of which every value is worth a sample."""
SAMPLES: Final = FOLDER / "samples"
VERSIONS: Final = sorted(path.name for path in SAMPLES.iterdir()) if SAMPLES.exists() else []


@cache
def said() -> dict[str, list[Any]]:
    """Kind -> what the engine of today says in the golden cases, as JSON objects."""
    found: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    for path in sorted((ROOT / "tests" / "golden").glob("*/*.txt")):
        case = read_case(path)
        events = [one.encode() for one in case.events if isinstance(one, str)]
        rated = rate_events(case.catalogue, events, parse_time(case.as_of) if case.as_of else None)
        for kind in ("line-item", "invoice", "alert", "rejection"):
            for output in getattr(rated, kind.replace("-", "_") + "s"):
                found[kind].append(orjson.loads(msgspec.json.encode(output)))
    found["reconciliation-alert"].append(orjson.loads(_alert(2, 4711, "accepted.customers", "120", "119").value))
    return found


def decode(kind: str, value: bytes) -> Any:
    """An output as the types of today read it."""
    return decode_alert(value) if "alert" in kind else msgspec.json.decode(value, type=KINDS[kind])


def paths(value: Any, path: str = "") -> Iterator[str]:
    """What there is to see in an output: `lines[].amount`, `kind=period`, `meter=None`."""
    if isinstance(value, dict) and not value:
        yield path
    elif isinstance(value, dict):
        for key, below in value.items():
            if key not in ("dimensions", "event"):  # what customers name; an event as it came
                yield from paths(below, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list):
        for below in value:
            yield from paths(below, f"{path}[]")
    else:
        yield f"{path}={value}" if value is None or path in _NAMED else path


def choose(outputs: list[Any]) -> list[Any]:
    """The fewest, about, in which there is everything to see that there is in all."""
    left = {place for output in outputs for place in paths(output)}
    chosen = []
    while left:
        best = max(outputs, key=lambda output: (len(left.intersection(paths(output))), -len(orjson.dumps(output))))
        left -= set(paths(best))
        chosen.append(best)
    return chosen


def write(version: int) -> None:
    """Makes the folder of a version. Raises: FileExistsError."""
    folder = SAMPLES / f"v{version}"
    folder.mkdir(parents=True)
    for kind in KINDS:
        (folder / f"{kind}.schema.json").write_bytes(published()[f"{kind}.v{version}.json"])
        if f"{kind}.v{version}.avsc" in published():
            (folder / f"{kind}.avsc").write_bytes(published()[f"{kind}.v{version}.avsc"])
        lines = b",\n".join(orjson.dumps(one) for one in choose(said()[kind]))
        (folder / f"{kind}.json").write_bytes(b"[\n" + lines + b"\n]\n")


if __name__ == "__main__":
    write(int(sys.argv[1]))

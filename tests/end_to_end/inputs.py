"""What is sent: the trace, its price book, and parts of it as files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.alibaba.trace import HERE

BOOK = HERE / "book.yaml"
MAPPING = HERE / "mapping.yaml"


@dataclass(frozen=True)
class Trace:
    """The file, its rows as CloudEvents, and the events' ids."""

    path: Path
    events: list[str]
    ids: list[str]


def write_events(path: Path, events: Sequence[str]) -> Path:
    """Events as an NDJSON file."""
    path.write_text("".join(f"{event}\n" for event in events))
    return path

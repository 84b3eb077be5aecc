"""The Alibaba trace as CloudEvents, by `mapping.yaml`: what `taximeter load` makes of it."""

import csv
import gzip
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
NAME = "alibaba-genai-2026-requests.csv.gz"


def find_trace() -> Path:
    """The trace's file. Raises: FileNotFoundError, which says what is missing and where it was sought."""
    folder = Path(os.environ.get("TAXIMETER_SHARED_DATA") or HERE.parents[1] / ".." / "shared" / "data")
    path = folder / NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"the usage trace {NAME} is missing: sought it in {folder}. "
            "Put it there or set TAXIMETER_SHARED_DATA to the folder that holds it (alibaba/clusterdata, "
            "cluster-trace-v2026-GenAI/lora_request_trace.csv, compressed with gzip)."
        )
    return path


def read_events(path: Path) -> tuple[list[str], list[str]]:
    """(CloudEvents as JSON texts, in the order of the rows; their ids)."""
    mapping = yaml.safe_load((HERE / "mapping.yaml").read_text())
    events, ids = [], []
    with gzip.open(path, "rt", newline="") as lines:
        header = next(csv.reader(lines))
        for line in lines:
            row = dict(zip(header, next(csv.reader([line])), strict=True))
            name = hashlib.sha256(line.rstrip("\r\n").encode()).hexdigest()[:32]
            events.append(_event(mapping, row, name))
            ids.append(name)
    return events, ids


def _event(mapping: dict[str, Any], row: dict[str, str], name: str) -> str:
    said = mapping["event"]
    envelope = {
        "specversion": "1.0",
        "id": name,
        "source": said["source"],
        "type": said["type"],
        "subject": row[said["subject"]["column"]],
        "time": row[said["time"]["column"]].replace(" ", "T") + "Z",
    }
    data = []
    for key, how in mapping["data"].items():
        value = row[how["column"]]
        if value not in mapping["nulls"]:
            data.append(f"{json.dumps(key)}: {value if how.get('as') == 'number' else json.dumps(value)}")
    return json.dumps(envelope)[:-1] + ', "data": {' + ", ".join(data) + "}}"

"""Real usage traces as CloudEvents: read where they lie, repeated with shifted times, so that each event is a new one.

`TAXIMETER_SHARED_DATA` names the folder that holds them, by default `../shared/data` from the repository; its README
says where they come from. The repository holds no copy. Who uses what, they do not say, but for `alibaba_genai`: the
others are dealt to customers by a seeded power law.
"""

import csv
import gzip
import os
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import count as numbers
from itertools import islice
from pathlib import Path
from typing import Final

from schemas.times import DAY, HOUR, format_time, parse_time
from tests.alibaba.trace import HERE, read_events

ROOT: Final = Path(__file__).resolve().parent.parent
GENAI: Final = "alibaba-genai-2026-requests.csv.gz"
GENAI_BOOK: Final = (HERE / "book.yaml").read_text()
GENAI_DAYS: Final = 24
"""The days that it spans: so far the times of each repetition lie behind those of the one before."""
CUSTOMERS: Final = 500


def find(name: str) -> Path:
    """A trace's file. Raises: FileNotFoundError, which says what is missing and where it was sought."""
    folder = Path(os.environ.get("TAXIMETER_SHARED_DATA") or ROOT / ".." / "shared" / "data")
    if not (folder / name).is_file():
        raise FileNotFoundError(
            f"the usage trace {name} is missing: sought it in {folder.resolve()}. "
            "TAXIMETER_SHARED_DATA names the folder that holds it."
        )
    return folder / name


def alibaba_genai(count: int) -> Iterator[bytes]:
    """As tests/alibaba reads it: exact duplicates of rows have the same id, within a repetition."""
    texts, ids = read_events(find(GENAI))
    rows = [(text, id, text.split('"time": "', 1)[1][:19]) for text, id in zip(texts, ids, strict=True)]

    def repeated() -> Iterator[bytes]:
        for again in numbers():
            for text, id, time in rows:
                yield text.replace(id, f"{id}-{again}", 1).replace(time, shifted(time, again), 1).encode()

    return islice(repeated(), count)


def shifted(time: str, again: int) -> str:
    """A time of `alibaba_genai` in its repetition `again`, to the second."""
    return (datetime.fromisoformat(time) + timedelta(days=again * GENAI_DAYS)).isoformat(time[10], "seconds")


def alibaba_gpu(count: int) -> Iterator[bytes]:
    """Each pod's GPU seconds when it ends, in the order of their ends; the trace's first second is `2026-11-01`."""
    first = parse_time("2026-11-01T00:00:00Z")
    rows = []
    for row in _rows("alibaba-gpu-2023-pods.csv.gz"):
        if row["deletion_time"] and row["scheduled_time"]:
            end = int(float(row["deletion_time"]))
            seconds = (end - int(float(row["scheduled_time"]))) * max(1, int(row["num_gpu"]))
            rows.append((first + end * 1_000_000, f'{{"seconds":{seconds},"gpu":"{row["gpu_spec"] or "none"}"}}'))
    rows.sort()
    return _repeated("gpu.session", rows, DAY, count)


def azure_llm(count: int) -> Iterator[bytes]:
    """Each request's tokens, in and out, as an event each; the two services are two models."""
    rows = []
    for name in ("code", "conv"):
        for row in _rows(f"azure-llm-2023-{name}.csv.gz"):
            time = parse_time(row["TIMESTAMP"][:26].replace(" ", "T") + "Z")
            for kind, column in (("input", "ContextTokens"), ("output", "GeneratedTokens")):
                rows.append((time, f'{{"tokens":{row[column]},"model":"{name}","kind":"{kind}"}}'))
    rows.sort()
    return _repeated("llm.request", rows, HOUR, count)


def _rows(name: str) -> list[dict[str, str]]:
    with gzip.open(find(name), "rt", newline="", encoding="utf-8-sig") as lines:
        return list(csv.DictReader(lines))


def _repeated(kind: str, rows: list[tuple[int, str]], shift: int, count: int) -> Iterator[bytes]:
    """The rows (time, data) again and again, each time `shift` microseconds later."""
    dice = random.Random(17)
    owners = dice.choices(range(CUSTOMERS), [1 / rank for rank in range(1, CUSTOMERS + 1)], k=count)
    repeated = ((time + again * shift, data) for again in numbers() for time, data in rows)
    for i, (owner, (time, data)) in enumerate(zip(owners, repeated, strict=False)):
        yield (
            f'{{"specversion":"1.0","id":"trace-{i:012d}","source":"/bench/trace","type":"{kind}",'
            f'"subject":"customer-{owner:06d}","time":"{format_time(time)}","data":{data}}}'
        ).encode()

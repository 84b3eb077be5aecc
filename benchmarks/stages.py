"""What an event costs in each stage of the embedded program: `python -m benchmarks.stages [--workload NAME]`

One pass from request bodies to the spend store, stage by stage in one process, in steps of 64 requests with 1,000
events each. Microseconds of CPU an event, those of background threads included, over the second half of the events:
by then most bills and lines exist. HTTP and waiting for the disk are not in it. At the end the lines that the log
holds, and those that the store holds, are held against `benchmarks.expected`: a wrong result is no result.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

os.environ.setdefault("POLARS_MAX_THREADS", "1")

import duckdb

from benchmarks.book import Book, Wrong
from benchmarks.expected import about, expected, summed
from benchmarks.result import CPU_MICROS, append, figure, print_table
from benchmarks.stopwatch import STAGES, Stopwatch
from benchmarks.workload import START, WORKLOADS, compiled
from ingest.pack import encode_packs
from ingest.parse import parse
from ingest.route import Router, View
from ingest.routed import Routed
from rating.engine import RatingProcessor
from rating.spend.duckdb_store import DuckdbStore
from schemas import topics
from schemas.entry import CATALOGUE, EVENTS, encode_entry
from schemas.faults import encode_document
from streams.embedded.log import SqliteLog
from streams.journal import Batch
from streams.log import TopicRecord
from streams.processor import Output
from taximeter.process import spare_the_collector

BODY_EVENTS: Final = 1000
STEP_BODIES: Final = 64
HEADERS: Final = [(b"content-type", b"application/cloudevents-batch+json")]
NAMES: Final = ("parse and validate", "pack", "append", "read", *STAGES, "rest of the engine", "journal", "store")
"""`append`: to the log, durably. `journal`: a step's record and its outputs, durably, in one transaction."""


class _Taken:
    """CPU seconds by stage."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is done within belongs to this stage."""
        began = time.process_time()
        yield
        self.seconds[name] += time.process_time() - began


def measure(workload: str, count: int, folder: Path) -> dict[str, float]:
    """Microseconds an event, by stage. Raises: Wrong; FileNotFoundError, where a trace is missing."""
    chosen, catalogue = WORKLOADS[workload], compiled(workload)
    texts = list(chosen.events(count))
    starts = range(0, count, BODY_EVENTS)
    bodies = [b"[" + b",".join(texts[start : start + BODY_EVENTS]) + b"]" for start in starts]
    right = expected(chosen.cost, texts)
    view = View.of(catalogue.documents)
    router = Router("default", view, 1)
    log, store = SqliteLog(folder / "log", 1), DuckdbStore(folder / "spend.duckdb")
    engine = RatingProcessor().open(0, None)
    log.append_blocking(0, encode_entry(CATALOGUE, encode_document(catalogue.documents)), 0)
    log.open_epoch(0, 1, "stages")
    watch, taken, book = Stopwatch(), _Taken(), Book()
    position = seen = half = 0
    for start in range(0, len(bodies), STEP_BODIES):
        if start >= len(bodies) / 2 > half:
            half, taken = start, _Taken()
        for body in bodies[start : start + STEP_BODIES]:
            with taken.stage("parse and validate"):
                parsed = parse(body, HEADERS)
            assert not parsed.refused, parsed.refused[0]
            with taken.stage("pack"):
                rows = Routed(parsed.events, router, START).by_partition()[0]
                packs = encode_packs("default", rows, view.extractor)
            with taken.stage("append"):
                for pack, events in packs:
                    log.append_blocking(0, encode_entry(EVENTS, pack), events)
        with taken.stage("read"):
            entries = log.read_entries(0, position, entries_max=1000, events_max=10**6, bytes_max=2**30)
        before = dict(watch.taken)
        with taken.stage("engine"):
            step = engine.process(entries)
        for name in STAGES:
            taken.seconds[name] += watch.taken[name] - before[name]
        with taken.stage("journal"):
            log.commit_step(0, Batch(1, position, entries[-1].end, step.summary), 1, entries[-1].end, step.outputs)
        position = entries[-1].end
        records = list(_records(log, seen))
        seen += len(records)
        with taken.stage("store"):
            store.apply(records)
        book.add([Output(topics.LINE_ITEMS, record.key, record.value) for record in records])
    store.close()
    log.close()
    book.check(right)
    with duckdb.connect(folder / "spend.duckdb", read_only=True) as database:
        lines = database.execute("select charge, events, amount from line_items_latest").fetchall()
    if summed(lines) != right:
        raise Wrong(f"the store: found {summed(lines)}, expected {right}")
    seconds = taken.seconds
    seconds["rest of the engine"] = seconds["engine"] - sum(seconds[name] for name in STAGES)
    return {name: seconds[name] / (count - half * BODY_EVENTS) * 1e6 for name in NAMES}


def _records(log: SqliteLog, seen: int) -> Iterator[TopicRecord]:
    """The line items in the log from an offset on."""
    while records := log.read_records(topics.LINE_ITEMS, 0, seen):
        yield from records
        seen = records[-1].end


def main() -> None:
    """Prints the stages. Status 1: something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=384_000)
    parser.add_argument("--workload", choices=sorted(WORKLOADS.keys() - {"every-model"}), default="default")
    parser.add_argument("--folder", type=Path, help="where log and store are made (default: a temporary folder)")
    parser.add_argument("--json", type=Path, help="append the figures to this file")
    options = parser.parse_args()
    spare_the_collector()
    try:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            micros = measure(options.workload, options.events, Path(folder))
    except (FileNotFoundError, Wrong) as error:
        sys.exit(str(error))
    checked = f"lines in the log and in the store; {about(WORKLOADS[options.workload].cost)}"
    settings = {"events": options.events, "packs a step": STEP_BODIES}
    figures = [
        figure("stages", options.workload, name, CPU_MICROS, [value], checked=checked, settings=settings)
        for name, value in (*micros.items(), ("together", sum(micros.values())))
    ]
    print_table(figures)
    if options.json:
        append(options.json, figures)


if __name__ == "__main__":
    main()

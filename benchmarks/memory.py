"""Memory as events come: `python -m benchmarks.memory [--events 2000000] [--points 4]`

An engine takes events of 20,000 customers, in steps of 64 packs: once with a folder, as hosts have one (identities and
the ledger's rows go to disk), and once without. At each point the memory of the process is read, without files that are
mapped. What it grows by after the first point is divided by the events since: customers and lines are there by then.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

os.environ.setdefault("POLARS_MAX_THREADS", "1")

from benchmarks.deduplicate import resident
from benchmarks.result import CPU_MICROS, append, figure, print_table
from benchmarks.workload import compiled, events, packs
from rating.engine import RatingProcessor, RatingSettings
from schemas.entry import CATALOGUE, Entry, encode_entry
from schemas.faults import encode_document
from taximeter.process import keep_freed_memory, spare_the_collector

STEP_PACKS: Final = 64
ON_DISK: Final = "on disk"
WAYS: Final = (ON_DISK, "in memory")


def child(way: str, count: int, points: int) -> None:
    """Prints as JSON: memory at each point, CPU seconds of all steps, rows of the ledger and their bytes on disk."""
    spare_the_collector()
    keep_freed_memory()
    book, found, seconds, position = compiled(), [], 0.0, 1
    with tempfile.TemporaryDirectory() as folder:
        settings = RatingSettings(folder=Path(folder) if way == ON_DISK else None)
        with closing(RatingProcessor(settings)) as processor:
            engine = processor.open(0, None)
            engine.process([Entry(0, 1, encode_entry(CATALOGUE, encode_document(book.documents)))])
            for point in range(points):
                log = packs(events(count // points, start=point * count), book)
                while step := [
                    Entry(entry.offset - 1 + position, entry.end - 1 + position, entry.value)
                    for entry in islice(log, STEP_PACKS)
                ]:
                    began = time.process_time()
                    engine.process(step)
                    seconds += time.process_time() - began
                position = engine.tenants.totals.position
                found.append(resident())
            rows, disk = len(engine.state.ledger), engine.tenants.shelf.file_bytes
    print(json.dumps({"resident": found, "seconds": seconds, "rows": rows, "disk": disk}))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--points", type=int, default=4)
    parser.add_argument("--json", type=Path, help="append the figures to this file")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.events, options.points)
        return
    figures = []
    for way in WAYS:
        asked = ["--child", way, "--events", str(options.events), "--points", str(options.points)]
        ran = subprocess.run([sys.executable, "-m", "benchmarks.memory", *asked], check=True, stdout=subprocess.PIPE)
        told = json.loads(ran.stdout)
        each = options.events // options.points
        for point, held in enumerate(told["resident"], 1):
            name = f"memory after {point * each:,} events, {way}"
            figures.append(figure("memory", "default", name, "MiB", [held / 2**20]))
        grown = (told["resident"][-1] - told["resident"][0]) / (options.events - each)
        figures.append(figure("memory", "default", f"growth, {way}", "bytes an event", [grown]))
        micros = told["seconds"] / options.events * 1e6
        figures.append(figure("memory", "default", f"cost, {way}", CPU_MICROS, [micros]))
        if way == ON_DISK:
            name = "disk of a contribution"
            figures.append(figure("memory", "default", name, "bytes", [told["disk"] / told["rows"]]))
    print_table(figures)
    if options.json:
        append(options.json, figures)


if __name__ == "__main__":
    main()

"""How long a start takes: `python -m benchmarks.restore [--lines N ...] [--tail STEPS]`.

Makes an engine that holds so many live lines, writes its snapshot and a tail of steps behind it, and restores both in a
process of its own, as a host does: from the start of the process to a state that can go on. The tail is what a crash
leaves: the steps since the last snapshot, which are replayed. How long it is, is a setting of the hosts.

What the restored engine says in its tail, and the totals it comes to, are byte for byte those of the engine that never
stopped. Else there is no result.
"""

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

from benchmarks.result import Figure, append, figure, print_table

STEP_PACKS: Final = 16
"""Packs of 1,000 events in a step of the tail."""


def prepare(folder: Path, lines: int, steps: int) -> tuple[int, list[str]]:
    """Writes a snapshot of an engine with that many lines, and the entries of a tail. Returns the lines, and what the
    engine comes to at the snapshot and after the tail (`digest`)."""
    from benchmarks.workload import compiled, events, packs
    from rating.engine import RatingEngine, RatingProcessor
    from schemas.entry import CATALOGUE, Entry, encode_entry
    from schemas.faults import encode_document
    from streams.snapshots import Snapshot, SnapshotStore

    catalogue = compiled("own-keys")
    engine = RatingProcessor().open(0, None)
    assert isinstance(engine, RatingEngine)
    engine.process([Entry(0, 1, encode_entry(CATALOGUE, encode_document(catalogue.documents)))])
    made, position = 0, 1
    while engine.state.lines.size < lines:
        count = min(50_000, max(100, (lines - engine.state.lines.size) // 3))  # an event makes one line or two
        part = list(packs(events(count, customers=0, start=made), catalogue))
        engine.process([Entry(e.offset - 1 + position, e.end - 1 + position, e.value) for e in part])
        made += count
        position += count
    state = engine.snapshot()
    SnapshotStore(folder / "snapshots").save("rating", 0, Snapshot(position, 0, 1, state, engine.files()))
    held, outputs = int(engine.state.lines.size), list[Any]()
    digests = [digest(engine, outputs)]
    tail = packs(events(steps * STEP_PACKS * 1000, seed=8), catalogue)
    for number in range(steps):
        entries = [Entry(position - 1 + e.offset, position - 1 + e.end, e.value) for e in islice(tail, STEP_PACKS)]
        with (folder / f"{number:04d}.step").open("wb") as file:
            for entry in entries:
                file.write(len(entry.value).to_bytes(4, "big") + entry.value)
        outputs += engine.process(entries).outputs
    return held, [*digests, digest(engine, outputs)]


def digest(engine: Any, outputs: Iterable[Sequence[str | bytes]]) -> str:
    """What it has said, and what its totals are."""
    found = hashlib.sha256(repr(engine.tenants.totals.as_counts()).encode())
    for output in outputs:
        for part in output:
            found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()


def restore(folder: Path) -> None:
    """In a process of its own: prints how many seconds each part took, as JSON."""
    began = time.perf_counter()
    from rating.engine import RatingProcessor
    from schemas.entry import Entry
    from streams.snapshots import SnapshotStore
    from taximeter.process import spare_the_collector

    spare_the_collector()
    imported = time.perf_counter()
    store = SnapshotStore(folder / "snapshots")
    snapshot = store.load("rating", 0)
    assert snapshot is not None
    read = time.perf_counter()
    engine = RatingProcessor().open(0, snapshot.state, partial(store.fetch, "rating", 0))
    opened = time.perf_counter()
    position, events, outputs = snapshot.position, 0, []
    for path in sorted(folder.glob("*.step")):
        raw, at, entries = path.read_bytes(), 0, []
        while at < len(raw):
            size = int.from_bytes(raw[at : at + 4], "big")
            entries.append(Entry(position, position + 1000, raw[at + 4 : at + 4 + size]))
            position, at = position + 1000, at + 4 + size
        step = engine.process(entries)
        events += step.summary.events
        outputs += step.outputs
    done, cpu = time.perf_counter(), time.process_time()
    found = digest(engine, outputs)
    print(
        json.dumps(
            {
                "import": imported - began,
                "read": read - imported,
                "load": opened - read,
                "replay": done - opened,
                "events": events,
                "cpu": cpu,
                "digest": found,
                "digesting": time.perf_counter() - done,
                "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def measure(folder: Path, held: int, right: str, repeat: int) -> list[Figure]:
    """Prints a line of the table: the median of some starts. Exits, if one came to something else."""
    runs = []
    for _ in range(repeat):
        began = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.restore", "--child", str(folder)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        took, run = time.perf_counter() - began, json.loads(answer.stdout)
        if run["digest"] != right:
            sys.exit(f"{held:,} lines: a wrong result is no result\nfound {run['digest']}, expected {right}")
        runs.append({"all": took - run["digesting"], **run})
    run = sorted(runs, key=lambda run: run["all"])[len(runs) // 2]
    size = sum(path.stat().st_size for path in (folder / "snapshots").rglob("*") if path.is_file())
    start = run["all"] - run["read"] - run["load"] - run["replay"]
    print(
        f"{held:>12,}{run['events']:>12,}{size / 1e6:>12,.1f}{start:>9.2f}{run['read']:>9.2f}{run['load']:>9.2f}"
        f"{run['replay']:>9.2f}{run['all']:>9.2f}{run['cpu']:>9.2f}{run['memory']:>11,.0f}",
        flush=True,
    )
    say = partial(
        figure,
        "restore",
        f"{float(f'{held:.1g}'):,.0f} lines",
        checked="totals and outputs, byte for byte: an engine that never stopped",
        settings={"lines": held, "snapshot MB": round(size / 1e6, 1), "tail events": run["events"]},
    )
    if run["events"]:
        return [say("catch-up", "events/s", [run["events"] / run["replay"] for run in runs])]
    return [
        say("from start to ready", "s", [run["all"] for run in runs]),
        say("of CPU, from start to ready", "s", [run["cpu"] for run in runs]),
        say("memory when ready", "MiB", [run["memory"] for run in runs]),
    ]


def main() -> None:
    """Measures each number of lines, without a tail and with one. Status 1: something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=[100_000])
    parser.add_argument("--tail", type=int, default=20, help="steps of 16,000 events")
    parser.add_argument("--repeat", type=int, default=3, help="starts of each")
    parser.add_argument("--json", type=Path, help="append the figures to this file")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        restore(options.child)
        return
    print("                                        seconds, the median; cpu: of all, in the process")
    print("  live lines tail events snapshot MB  process     read     load   replay      all      cpu  memory MB")
    figures = []
    for lines in options.lines:
        with tempfile.TemporaryDirectory(prefix="restore-") as name:
            folder = Path(name)
            held, (ready, caught_up) = prepare(folder, lines, options.tail)
            steps = [(path, path.rename(folder / f"{path.stem}.kept")) for path in folder.glob("*.step")]
            figures += measure(folder, held, ready, options.repeat)
            for path, kept in steps:
                kept.rename(path)
            if steps:
                figures += measure(folder, held, caught_up, options.repeat)
    print()
    print_table(figures)
    if options.json:
        append(options.json, figures)


if __name__ == "__main__":
    main()

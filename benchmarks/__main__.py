"""All benchmarks, each in a process of its own, one after the other: `make bench`, `python -m benchmarks`.

Short by default (about a quarter of an hour); `--long` makes figures to quote, `--only engine,growth` some of them.
With `--rounds 3` all of them run three times in turns, so that what disturbs the machine disturbs all alike; medians
are over all runs. At the end stands one table, with the targets beside it; the figures go on record in
docs/evidence/speed.jsonl, and the page and the plots beside it are made anew from the newest ones on record.

A benchmark that fails, or finds its result wrong, has no figures; the exit status says how many did.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from benchmarks.load_figures import load_figures
from benchmarks.report import write_report
from benchmarks.result import RECORD, Figure, append, print_table, read, together
from benchmarks.workload import WORKLOADS

_WARM_UP_S: Final = "30"
"""Before times are taken at a load: Java compiles a broker's hot code in that time."""


class Job(NamedTuple):
    """A module of this folder, and what it is asked: in short, and at length. `on_record`: it takes `--json FILE`.
    `loads`: it says how many events a second it takes, and then runs again at these percents of that."""

    name: str
    short: str
    long: str
    on_record: bool = True
    loads: tuple[float, ...] = ()


def _engine() -> Iterator[Job]:
    asked = "--workload default --packs 16 64 256 --repeat 3 --events"
    yield Job("engine", f"{asked} 600000", f"{asked} 3000000")
    for workload in list(WORKLOADS)[1:]:
        asked = f"--workload {workload} --packs 64 --repeat 3 --events"
        yield Job("engine", f"{asked} 256000", f"{asked} 1500000")


JOBS: Final = (
    *_engine(),
    Job("stages", "--events 256000", "--events 1024000"),
    Job(
        "deduplicate",
        "--keys 100000,1000000 --events 500000",
        "--keys 100000,1000000,10000000,100000000 --events 2000000",
    ),
    Job("growth", "--keys 100000,1000000", "--keys 100000,1000000,10000000 --turns 10"),
    Job("memory", "--events 1000000", "--events 10000000 --points 10"),
    Job("restore", "--lines 100000", "--lines 100000 1000000"),
    Job("door", "--seconds 3 --repeat 1", "--seconds 20 --repeat 3"),
    Job("door", "--inside --seconds 1", "--inside --seconds 10", on_record=False),
    Job("sqlite_log", "--seconds 2", "--seconds 10", on_record=False),
    Job("spend_store", "200000", "1000000", on_record=False),
    Job(
        "query",
        "--lines 40000 --customers 800 --seconds 5 --raw 0",
        "--lines 1000000 --seconds 30 --loads 10 25 50 75 90",
    ),
    Job("embedded", "--seconds 20", "--seconds 120", loads=(25, 50, 75)),
    Job(
        "pipeline",
        "--seconds 30 --partitions 2 --hot-broker",
        "--seconds 300 --partitions 2 --hot-broker",
        loads=(25, 50, 75),
    ),
    Job("rivals", "--only taximeter,faust,quix,bytewax --events 60000 --repeat 1", "--events 1000000 --repeat 3"),
)


def main() -> int:
    """Runs them, whichever fails. Returns the number of those that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="figures to quote: takes hours, and 16 GiB")
    parser.add_argument("--only", default="", help="modules, with commas; engine:hot is one workload of the engine")
    parser.add_argument("--rounds", type=int, default=1, help="of all of them, in turns")
    parser.add_argument("--record", type=Path, default=RECORD, help="the file that the figures are appended to")
    options = parser.parse_args()
    chosen = [job for job in JOBS if not options.only or set(_names(job)) & set(options.only.split(","))]
    if not chosen:
        parser.error(f"--only {options.only}: found none of them, expected some of {sorted({j.name for j in JOBS})}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    began = time.monotonic()
    figures: list[Figure] = []
    failed: list[str] = []
    try:
        for number in range(options.rounds):
            for job in chosen:
                asked = job.long if options.long else job.short
                print(f"\n== {job.name} {asked} (round {number + 1} of {options.rounds})", flush=True)
                found = run(job, asked.split())
                if found is None:
                    failed.append(f"{job.name} {asked}")
                else:
                    figures += found
    except KeyboardInterrupt:  # what there is by now counts
        failed.append("the rest: interrupted")
    figures = together(figures)
    print(f"\n== all, in {(time.monotonic() - began) / 60:.0f} minutes\n")
    print_table(figures)
    if figures:
        append(options.record, figures)
        write_report(read(options.record), options.record.parent)
    for name in failed:
        print(f"FAILED: {name}", file=sys.stderr)
    return len(failed)


def run(job: Job, asked: list[str]) -> list[Figure] | None:
    """Runs one in a process of its own. Returns its figures; None, if it failed."""
    if find_spec(f"benchmarks.{job.name}") is None:
        print("left out: there is no such module here", flush=True)
        return []
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "figures"
        made.touch()
        command = [sys.executable, "-m", f"benchmarks.{job.name}", *asked]
        command += ["--json", str(made)] if job.on_record else []
        if subprocess.run(command, check=False).returncode:
            return None
        if not job.loads:
            return _read(made)
        full = json.loads(made.read_bytes())
        figures = load_figures(job.name, full)
        for load in job.loads:
            made.unlink()
            at = ["--rate", f"{full['rated_per_s'] * load / 100:.0f}", "--warm-up", _WARM_UP_S]
            if subprocess.run([*command, *at], check=False).returncode:
                return None
            figures += load_figures(job.name, json.loads(made.read_bytes()), load)
        return figures


def _read(made: Path) -> list[Figure] | None:
    """The figures; None where the file holds something else."""
    try:
        return read(made)
    except msgspec.MsgspecError as error:
        print(f"found no figures as benchmarks.result has them: {error}", file=sys.stderr)
        return None


def _names(job: Job) -> Iterator[str]:
    """What `--only` may call it."""
    yield job.name
    words = job.short.split()
    if words[0] == "--workload":
        yield f"{job.name}:{words[1]}"


if __name__ == "__main__":
    sys.exit(main())

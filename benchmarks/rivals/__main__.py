"""The same job in what a user would choose instead: `python -m benchmarks.rivals [--only quix,faust] [--events N]`

Same events, same broker, same run; one partition, one process each. A contender is started at the beginning of a topic
that already holds its events, twice: over 20,000 and over all of them. The difference counts, so starting up does not.
Every run is held against what must come of it, to the nano-dollar and the event; one that is wrong is no result.

Rounds go through all contenders in turn (`--repeat`), so that a noisy minute does not hit one of them alone.
"""

import argparse
import functools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.result import Figure, append, figure, print_table
from benchmarks.rivals import job, taximeter
from benchmarks.rivals.contenders import BUILD, HERE, Contender, NotInstalled, Place, environment, streaming
from benchmarks.rivals.watch import Contestant, Taken, WrongResult, drop_topics, fill, make_topics, watch
from infra.kafka.broker import Broker

SHORT: Final = 20_000
PACKS: Final = "taximeter"
JSON: Final = "taximeter-json"
CHECKED: Final = "every line's quantity, events and amount, by an independent pass in whole numbers"
BATCH: Final = {
    "polars": "Polars, one query from the JSON",
    "polars-arrow": "Polars, one query, columns in Arrow",
    "duckdb": "DuckDB, one query from the JSON",
    "duckdb-arrow": "DuckDB, one query, columns in Arrow",
}
NO_STREAM: Final = "being a stream: no state, no duplicates of tomorrow, no changes; all again for each answer"


class Run(NamedTuple):
    """What an event took: CPU microseconds and seconds; the memory of the process at most, in bytes."""

    cpu_us: float
    seconds: float
    memory: int


class Entrant(NamedTuple):
    """One line of the table. `run` does the job once: over how many events, in which folder."""

    name: str
    title: str
    version: str
    events: int
    lacks: str
    run: Callable[[str, int, Path], dict[str, Run]]


@functools.cache
def _events(count: int) -> tuple[tuple[bytes, ...], job.Lines]:
    texts = tuple(job.stored(count, BUILD / "data").read_bytes().splitlines())
    return texts, job.expected(texts)


def _slope(short: Taken, long: Taken, events: int) -> Run:
    more = events - SHORT
    return Run((long.cpu - short.cpu) / more * 1e6, (long.seconds - short.seconds) / more, long.memory)


def _stream(contender: Contender, bootstrap: str, events: int, folder: Path) -> dict[str, Run]:
    """Twice over Kafka. Raises: WrongResult, NotInstalled."""
    contender.install()
    found = []
    for count in (SHORT, events):
        texts, wanted = _events(count)
        prefix = f"{contender.name}-{count}-{folder.name}."
        place = Place(bootstrap, f"{prefix}usage", f"{prefix}lines", folder / str(count))
        place.folder.mkdir()
        make_topics(bootstrap, place.source, place.out)
        fill(bootstrap, place.source, texts)
        with Contestant(contender.command(place), environment() | contender.environment(place), place.folder) as one:
            found.append(watch(one, bootstrap, place.out, wanted, contender.read))
        drop_topics(bootstrap, prefix)
    return {contender.name: _slope(*found, events)}


def _own(packed: bool, bootstrap: str, events: int, folder: Path) -> dict[str, Run]:
    """Taximeter: `packed` by its door, whose CPU is added, or one event a message. Raises: WrongResult."""
    found, door = [], 0.0
    for count in (SHORT, events):
        texts, wanted = _events(count)
        prefix, own = f"taximeter-{count}-{folder.name}.", folder / str(count)
        own.mkdir()
        if packed:
            at_door, taken = taximeter.over_packs(bootstrap, prefix, own, texts, wanted)
            door = at_door.cpu / count * 1e6
        else:
            taken = taximeter.over_json(bootstrap, prefix, own, texts, wanted)
        found.append(taken)
        drop_topics(bootstrap, prefix)
    worker = _slope(*found, events)
    if not packed:
        return {JSON: worker}
    return {PACKS: worker._replace(cpu_us=worker.cpu_us + door), f"{PACKS}-worker": worker}


def _batch(name: str, _: str, events: int, folder: Path) -> dict[str, Run]:
    """One process that times itself, from JSON and from Arrow. Raises: WrongResult."""
    _, wanted = _events(events)
    out = folder / "lines.ndjson"
    command = [sys.executable, str(HERE / f"{name}_query.py"), str(job.stored(events, BUILD / "data")), str(out)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise WrongResult(done.stderr.strip().splitlines()[-1])
    if wrong := job.difference(job.read_plain(out.read_bytes().splitlines()), wanted):
        raise WrongResult(wrong)
    read, rate, memory = map(json.loads, done.stdout.splitlines())
    alone = Run(rate["cpu"] / events * 1e6, rate["seconds"] / events, memory["bytes"])
    both = alone.cpu_us + read["cpu"] / events * 1e6, alone.seconds + read["seconds"] / events
    return {name: Run(*both, alone.memory), f"{name}-arrow": alone}


def _entrants() -> Iterator[Entrant]:
    version = f"taximeter {metadata.version('taximeter')}"
    yield Entrant(PACKS, "Taximeter, packs of its door", version, 500_000, "", functools.partial(_own, True))
    yield Entrant(JSON, "Taximeter, an event a message", version, 100_000, "", functools.partial(_own, False))
    for one in streaming():
        run = functools.partial(_stream, one)
        yield Entrant(one.name, one.title, one.version, one.events, one.lacks, run)
    for name in ("polars", "duckdb"):
        run = functools.partial(_batch, name)
        yield Entrant(name, BATCH[name], f"{name} {metadata.version(name)}", 500_000, NO_STREAM, run)


def main() -> int:
    """Runs the rounds and prints the tables. Returns 1 where a result is wrong."""
    entrants = {one.name: one for one in _entrants()}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals", description=__doc__.split("\n")[0])
    parser.add_argument("--only", default=",".join(entrants), help=f"some of: {', '.join(entrants)}")
    parser.add_argument("--events", type=int, help="for each (default: by its speed)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds")
    parser.add_argument("--json", type=Path, help="append the figures to this file, a line each")
    options = parser.parse_args()
    names = options.only.split(",")
    if unknown := set(names) - set(entrants):
        parser.error(f"found {', '.join(sorted(unknown))}, expected some of {', '.join(entrants)}")
    if options.events is not None and options.events <= SHORT:
        parser.error(f"found --events {options.events}, expected more than {SHORT}, which starting up is measured with")
    found: dict[str, list[Run]] = defaultdict(list)
    counts: dict[str, int] = {}
    out: dict[str, str] = {}
    wrong = False
    with tempfile.TemporaryDirectory(prefix="rivals-") as root, Broker(Path(root) / "kafka") as broker:
        for number in range(options.repeat):
            for name in [name for name in names if name not in out]:
                one, folder = entrants[name], Path(root) / f"{name}-{number}"
                folder.mkdir()
                count = options.events or one.events
                try:
                    for what, run in one.run(broker.bootstrap, count, folder).items():
                        found[what].append(run)
                        counts[what] = count
                        print(f"{what:<24}{run.cpu_us:>10.2f} us of CPU an event", file=sys.stderr, flush=True)
                except NotInstalled as error:
                    out[name] = f"did not install: {error}"
                except WrongResult as error:
                    out[name], wrong = f"no result: {error}", True
                shutil.rmtree(folder, ignore_errors=True)
    print(table(entrants, found, counts, out))
    figures = list(_figures(entrants, found, counts))
    print()
    print_table(figures)
    if options.json is not None:
        append(options.json, figures)
    return int(wrong)


def table(
    entrants: dict[str, Entrant], found: dict[str, list[Run]], counts: dict[str, int], out: dict[str, str]
) -> str:
    """The contenders side by side, as Markdown; ratios are of CPU, to Taximeter by packs and an event a message."""
    lines = [
        "| | CPU an event | to Taximeter | to it, an event a message | events/s by the clock | memory | events |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, runs in found.items():
        run = _middle(runs)
        ratios = [f"{run.cpu_us / _middle(found[own]).cpu_us:.2f}" if own in found else "" for own in (PACKS, JSON)]
        cells = [_title(name, entrants), f"{run.cpu_us:.2f} µs", *ratios, f"{1 / run.seconds:,.0f}"]
        lines.append(f"| {' | '.join(cells)} | {run.memory / 2**20:,.0f} MiB | {counts[name]:,} |")
    lines += ["", "| | version | what it does not do |", "|---|---|---|"]
    lines += [f"| {one.title} | {one.version} | {one.lacks} |" for one in entrants.values() if one.name in found]
    return "\n".join([*lines, "", *(f"{name}: {why}" for name, why in out.items())])


def _title(name: str, entrants: dict[str, Entrant]) -> str:
    if name == f"{PACKS}-worker":
        return "Taximeter, packs, the worker alone"
    return BATCH.get(name) or entrants[name].title


def _middle(runs: list[Run]) -> Run:
    """Medians, each by itself."""
    cpu, seconds, memory = zip(*runs, strict=True)
    return Run(statistics.median(cpu), statistics.median(seconds), int(statistics.median(memory)))


def _figures(entrants: dict[str, Entrant], found: dict[str, list[Run]], counts: dict[str, int]) -> Iterator[Figure]:
    for name, runs in found.items():
        more = {"checked": CHECKED, "settings": {"events": counts[name]}}
        if name in entrants:
            more["versions"] = {"contender": entrants[name].version}
        yield figure("rivals", name, "CPU of an event", "us", [run.cpu_us for run in runs], **more)
        yield figure("rivals", name, "by the clock", "events/s", [1 / run.seconds for run in runs], **more)
        yield figure("rivals", name, "memory", "MiB", [run.memory / 2**20 for run in runs], **more)
        if name != PACKS and PACKS in found:
            ratios = [run.cpu_us / own.cpu_us for run, own in zip(runs, found[PACKS], strict=False)]
            yield figure("rivals", name, "times as fast", "times", ratios, **more)


if __name__ == "__main__":
    sys.exit(main())
